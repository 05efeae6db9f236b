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
from fincon.sandbox.events import OF_AUTHORIZATIONS, Events, Key
from fincon.sandbox.evolution import ABSENT, DELETED, LISTED, STANDING_STILL, Evolution
from fincon.sandbox.model import Json, Owner, Session, Transaction
from fincon.sandbox.timeline import BASE


@lru_cache(maxsize=64)
def _objects_of(seed: int, accounts: int, sessions: int, evolution: Evolution, base: int) -> Accounts:
    return Accounts(seed, accounts, sessions, evolution, base)


@lru_cache(maxsize=64)
def _in_version(world: World, version: str) -> World:
    return replace(world, version=version)


@dataclass(frozen=True)
class World:
    """Everything that Stripe knows at `clock`.

    `accounts` and `sessions` are their numbers at the time `base` (Unix seconds); as the clock moves on, more are
    linked, in a day 0.5 % of the accounts. `connected` is how many accounts a Connect platform has (see
    `sandbox.connect`); where they are `alike`, each is a copy of the platform's own world, ids included. `evolution`
    is what moves on. Answers and `truth` are in `version`: in that of a request's header, where it has one.
    """

    seed: int = 1
    clock: datetime = datetime(2026, 6, 1, 12, tzinfo=UTC)
    accounts: int = 1000
    sessions: int = 300
    connected: int = 0
    alike: bool = False
    evolution: Evolution = STANDING_STILL
    version: str = objects.API_VERSION
    base: int = BASE

    def __post_init__(self) -> None:
        if self.clock.tzinfo is None:
            raise ValueError("The world's clock needs a time zone")
        if self.accounts < 1 or self.sessions < 0:
            raise ValueError("A world needs at least one account, and no fewer than no sessions")

    @classmethod
    def beginning(cls, clock: datetime, **of: Any) -> World:
        """Give a world that has just so many accounts and sessions at its first moment."""
        return cls(clock=clock, base=int(clock.timestamp()) + 1, **of)

    def at(self, clock: datetime) -> World:
        """Give the same world at another time."""
        return replace(self, clock=clock)

    def in_version(self, version: str) -> World:
        """Give the same world as a version renders it."""
        return self if version == self.version else _in_version(self, version)

    @cached_property
    def time(self) -> int:
        """The clock in Unix seconds."""
        return int(self.clock.timestamp())

    @cached_property
    def things(self) -> Accounts:
        """The builder of this world's objects, shared by all its times."""
        return _objects_of(self.seed, self.accounts, self.sessions, self.evolution, self.base)

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
        return self.things.session(position - self.sessions, self.account_count, self.time)

    def presence(self, index: int) -> str:
        """Tell whether an account is in lists now, is shown there as deleted, or is in none."""
        return self.things.presence(index, self.time)

    @cached_property
    def listed(self) -> list[int]:
        """The indexes that the list of accounts shows, newest first."""
        return [i for i in reversed(range(self.account_count)) if self.presence(i) != ABSENT]

    def gone(self) -> set[str]:
        """Give the ids of the accounts that a whole listing does not show any more, or shows as deleted."""
        indexes = range(self.account_count)
        return {self.account_id(index) for index in indexes if self.presence(index) != LISTED}

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
        found = self.things.membership.holder_accounts(kind, number, self.account_count)
        return [index for index in found if self.presence(index) != ABSENT] if found else None

    # -- objects as JSON

    def account_json(
        self, index: int, expand: Collection[str] = (), time: int | None = None, version: str = ""
    ) -> Json:
        """Give an account as Stripe writes it, now or at another time, in the world's version or another."""
        time = self.time if time is None else time
        if self.things.presence(index, time) == DELETED:
            return objects.deleted(self.account_id(index))
        owners = self.things.owners(index, time) if "ownership" in expand else ()
        account = self.things.account(index, time)
        return objects.account(account, expand, owners, self.evolution.inline_owners, version or self.version)

    def session_json(self, session: Session, expand: Collection[str] = ()) -> Json:
        """Give a session as Stripe writes it, with its first accounts."""
        inner = {path.removeprefix("accounts.data.") for path in expand if path.startswith("accounts.data.")}
        return objects.session(session, lambda index: self.account_json(index, inner), expand, self.version)

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
        """Give an event as Stripe writes it: with its subject as it was, in the Stripe account's own version."""
        version = self.evolution.default_version
        if key.type in OF_AUTHORIZATIONS:
            subject = objects.authorization(self.things.authorization(key.account, key.time))
        else:
            subject = self.account_json(key.account, time=key.time, version=version)
        return objects.event(self.events.event(key), subject, version)

    # -- truth

    def truth(self) -> dict[str, list[dict[str, Any]]]:
        """Give the rows of every table of the contract when all was fetched now, in the world's version."""
        indexes = range(self.account_count)
        return truth.tables(
            (self._session(position) for position in range(self.session_count)),
            (
                self.things.account(index, self.time)
                for index in reversed(indexes)
                if self.presence(index) == LISTED
            ),
            {index: self.account_id(index) for index in indexes},
            self.version,
        )

    def authorizations_truth(self) -> list[dict[str, Any]]:
        """Give the rows of `authorizations` when the events of the last thirty days were read now."""
        latest = {}
        for key in self.events.walk(0, self.time, OF_AUTHORIZATIONS, newest_first=False):
            row = truth.authorization_row(self.things.authorization(key.account, key.time))
            latest[row["authorization_id"]] = row
        return list(latest.values())

    def readable(self, index: int) -> bool:
        """Whether an account's transactions and owners can be asked for at all."""
        return self.presence(index) == LISTED

    def owners_truth(self) -> list[dict[str, Any]]:
        """Give the rows of `owners` when all was fetched now."""
        indexes = filter(self.readable, range(self.account_count))
        return [truth.owner_row(owner) for index in indexes for owner in self.owners(index)]

    def transactions_truth(self) -> list[dict[str, Any]]:
        """Give the rows of `transactions` when all was fetched now."""
        return [
            truth.transaction_row(one)
            for index in filter(self.readable, range(self.account_count))
            if self.refusal(index) is None
            for one in self.transactions(index)
        ]

    def refusal(self, index: int) -> str | None:
        """Give Stripe's code for transactions that it does not tell; None where it tells them."""
        if not self.evolution.refuses_unreadable:
            return None
        account = self.things.account(index, self.time)
        if account.status in ("inactive", "disconnected"):
            return "account_inactive"
        refresh = account.refreshes[2]
        return "never_refreshed" if refresh is None or refresh[3] is None else None
