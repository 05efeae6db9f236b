"""A world of bank accounts linked through Stripe: a pure function of a seed, a clock and two sizes.

Nothing is stored and nothing is drawn at random: an id resolves to a number by arithmetic, and the number
is hashed into whatever the object holds at the world's time. A world of a million accounts costs no more
than one of ten.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any

from fincon.sandbox import expected_rows as truth
from fincon.sandbox import objects
from fincon.sandbox.accounts import Accounts
from fincon.sandbox.events import Events, Key
from fincon.sandbox.model import Json, Owner, Session, Transaction


@lru_cache(maxsize=64)
def _objects_of(seed: int, accounts: int, sessions: int) -> Accounts:
    return Accounts(seed, accounts, sessions)


@dataclass(frozen=True)
class World:
    """Everything that Stripe knows at `clock`.

    `accounts` and `sessions` are their numbers at the base time, 2026-06-01T00:00Z; as the clock moves on,
    more are linked. `connected` is how many accounts a Connect platform has (see `sandbox.connect`); where
    they are `alike`, each is a copy of the platform's own world, ids included.
    """

    seed: int = 1
    clock: datetime = datetime(2026, 6, 1, 12, tzinfo=UTC)
    accounts: int = 1000
    sessions: int = 300
    connected: int = 0
    alike: bool = False

    def __post_init__(self) -> None:
        if self.clock.tzinfo is None:
            raise ValueError("The world's clock needs a time zone")
        if self.accounts < 1 or self.sessions < 0:
            raise ValueError("A world needs at least one account, and no fewer than no sessions")

    def at(self, clock: datetime) -> World:
        """Give the same world at another time."""
        return replace(self, clock=clock)

    @cached_property
    def time(self) -> int:
        """The clock in Unix seconds."""
        return int(self.clock.timestamp())

    @cached_property
    def things(self) -> Accounts:
        """The builder of this world's objects, shared by all its times."""
        return _objects_of(self.seed, self.accounts, self.sessions)

    @cached_property
    def account_count(self) -> int:
        """How many accounts there are at this time."""
        return self.things.schedule.count(self.time)

    @cached_property
    def session_count(self) -> int:
        """How many sessions there are at this time."""
        return self.things.membership.session_count(self.account_count)

    # -- ids

    def account_id(self, index: int) -> str:
        """Give the id of the account of an index; 0 is the oldest."""
        return self.things.ids.account.encode(index)

    def account_index(self, account_id: str) -> int | None:
        """Give the index of an account's id, or None if there is no such account (yet)."""
        index = self.things.ids.account.decode(account_id)
        return index if index is not None and index < self.account_count else None

    def session_ids(self) -> list[str]:
        """Give the ids of all sessions, oldest first."""
        return [self.things.ids.session.encode(position) for position in range(self.session_count)]

    def session(self, session_id: str) -> Session | None:
        """Give a session, or None if there is no such session (yet)."""
        position = self.things.ids.session.decode(session_id)
        if position is None or position >= self.session_count:
            return None
        return self._session(position)

    def _session(self, position: int) -> Session:
        return self.things.session(position - self.sessions, self.account_count)

    def holder_accounts(self, kind: str, holder_id: str) -> list[int] | None:
        """Give the indexes of a holder's accounts, newest first; None if there is no such holder."""
        ids = self.things.ids
        number = (ids.customer if kind == "customer" else ids.holder_account).decode(holder_id)
        if number is not None and kind != "customer":
            number, is_customer = divmod(number, 2)
            if bool(is_customer) != (kind == "customer_account"):
                return None
        if number is None:
            return None
        return self.things.membership.holder_accounts(kind, number, self.account_count) or None

    # -- objects as JSON

    def account_json(self, index: int, expand: Collection[str] = (), time: int | None = None) -> Json:
        """Give an account as Stripe writes it, now or at another time."""
        time = self.time if time is None else time
        owners = self.things.owners(index, time) if "ownership" in expand else ()
        return objects.account(self.things.account(index, time), expand, owners)

    def session_json(self, session: Session, expand: Collection[str] = ()) -> Json:
        """Give a session as Stripe writes it, with its first accounts."""
        inner = {path.removeprefix("accounts.data.") for path in expand if path.startswith("accounts.data.")}
        return objects.session(session, lambda index: self.account_json(index, inner), expand)

    def owners(self, index: int) -> list[Owner]:
        """Give the owners of an account."""
        return self.things.owners(index, self.time)

    def transactions(self, index: int) -> list[Transaction]:
        """Give the transactions of an account, newest first."""
        return self.things.transactions(index, self.time)

    @cached_property
    def events(self) -> Events:
        """The events of the last thirty days."""
        return Events(self.things, self.time)

    def event_json(self, key: Key) -> Json:
        """Give an event as Stripe writes it, with the account as it was."""
        return objects.event(self.events.event(key), self.account_json(key.account, time=key.time))

    # -- truth

    def truth(self) -> dict[str, list[dict[str, Any]]]:
        """Give the rows of every table of the contract when all was fetched now."""
        indexes = range(self.account_count)
        return truth.tables(
            (self._session(position) for position in range(self.session_count)),
            (self.things.account(index, self.time) for index in reversed(indexes)),
            {index: self.account_id(index) for index in indexes},
        )

    def owners_truth(self) -> list[dict[str, Any]]:
        """Give the rows of `owners` when all was fetched now."""
        return [truth.owner_row(owner) for index in range(self.account_count) for owner in self.owners(index)]

    def transactions_truth(self) -> list[dict[str, Any]]:
        """Give the rows of `transactions` when all was fetched now."""
        return [
            truth.transaction_row(one)
            for index in range(self.account_count)
            for one in self.transactions(index)
        ]
