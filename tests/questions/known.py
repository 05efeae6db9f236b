"""Remember what was seen of a world, sync after sync, from its model: a later sight replaces an earlier, what is gone stays."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from fincon.pipeline.rates import Pair
from fincon.sandbox.world import World
from tests.conftest import Row


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What was known of an account at a sync."""

    at: datetime
    account: Row
    is_listed: bool


class Known:
    """What a lake must know of a world. Times are those of the syncs: the sandbox's clock stands while it is read."""

    def __init__(self, rates: Mapping[Pair, Decimal]) -> None:
        """Begin with nothing but the rates that a person gave."""
        self.rates = rates
        self.accounts: dict[str, Row] = {}
        self.listed: set[str] = set()
        self.sights: dict[str, list[Sight]] = {}
        self.balances: dict[str, list[tuple[datetime, list[Row]]]] = {}
        self.refreshes: dict[tuple[str, str], list[tuple[datetime, Row | None]]] = {}
        self.transactions: dict[str, Row] = {}
        self.owners: dict[str, list[Row]] = {}
        self.sessions: dict[str, Row] = {}
        self.links: dict[str, list[str]] = {}
        self.times: list[datetime] = []

    def see(self, world: World) -> None:
        """Take in what a whole sync sees at the world's clock."""
        now = world.clock
        self.times.append(now)
        truth = world.truth()
        rows = {row["account_id"]: row for row in truth["accounts"]}
        self.listed = set(rows)
        self.accounts |= rows
        for name, account in self.accounts.items():
            self.sights.setdefault(name, []).append(Sight(at=now, account=account, is_listed=name in rows))
        balances: dict[str, list[Row]] = {}
        for row in truth["balances"]:
            balances.setdefault(row["account_id"], []).append(row)
        for name, found in balances.items():
            versions = self.balances.setdefault(name, [])
            if not versions or versions[-1][1] != found:
                versions.append((now, found))
        told = {(row["account_id"], row["feature"]): row for row in truth["refreshes"]}
        for key in {*told, *(key for key in self.refreshes if key[0] in rows)}:
            self.refreshes.setdefault(key, []).append((now, told.get(key)))
        for row in world.transactions_truth():  # asked for where Stripe tells of a refresh, of owners too
            if (row["account_id"], "transaction") in told:
                self.transactions[row["transaction_id"]] = row
        owners: dict[str, list[Row]] = {}
        for row in world.owners_truth():
            if (row["account_id"], "ownership") in told:
                owners.setdefault(row["account_id"], []).append(row)
        self.owners |= owners
        for row in truth["sessions"]:
            self.sessions[row["session_id"]] = row
            self.links[row["session_id"]] = []
        for row in truth["session_accounts"]:
            self.links[row["session_id"]].append(row["account_id"])

    def holder(self, account: Row) -> str | None:
        """Give the one id of a holder that is set."""
        kinds = ("customer", "account", "customer_account")
        return next((v for kind in kinds if (v := account[f"account_holder_{kind}_id"])), None)

    def balance_rows(self) -> list[tuple[Row, Row]]:
        """Give the latest balance rows, each with its account."""
        return [
            (row, self.accounts[name]) for name, versions in self.balances.items() for row in versions[-1][1]
        ]

    def newest_balance_at(self) -> datetime:
        """Give when a balance was last seen to be another."""
        return max(
            (at for versions in self.balances.values() for at, _ in versions),
            default=datetime.max.replace(tzinfo=UTC),
        )

    def latest_refresh(self, account_id: str, feature: str) -> Row | None:
        """Give the last attempt of a feature; None where there is none."""
        found: list[tuple[datetime, Any]] = self.refreshes.get((account_id, feature), [])
        return found[-1][1] if found else None
