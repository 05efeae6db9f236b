"""``python -m tests.moving_worlds --seeds 50``: Stripe moves on between syncs, and the lake is the truth. Exits 1 if it is not.

In each world events are rendered in an older version than the one asked for, every object has a new attribute from some day
on, accounts leave the list and come back or do not, refreshes become null, and authorizations end.
"""

# ruff: noqa: S311, T201

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox import expected_rows
from fincon.sandbox.events import OF_AUTHORIZATIONS
from fincon.sandbox.evolution import DAHLIA, LISTED, OLD, SINCE, Evolution
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.transforms.event_times import COUNT_FROM, SECOND
from fincon.warehouse.connection import connect
from tests.conftest import OBJECTS, START, Row, canonical, rows_of, settings_for

BEFORE_ALL = "2020-08-27"
"""A version in which an account has no institution's name: an event's object cannot be read, and is fetched."""

NOT_COMPARED = {"stripe_account", "observed_at", "run_id", "account_holder_id", "absent_since", "major_amount"} | {
    f"{kind}_amount" for kind in ("current", "available", "used")
}  # fmt: skip

TABLES = (*OBJECTS, "transactions", "owners", "authorizations")

SYNCS = 6


@dataclass
class MovingWorld:
    """A world of a seed, synced into ``data`` as it moves on."""

    data: Path
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = dice = random.Random(self.seed)
        self.evolution = Evolution(
            default_version=dice.choice((BEFORE_ALL, OLD, OLD, DAHLIA)),
            every_event=True,
            leaving=25,
            ending=25,
            grows_at=START + timedelta(days=dice.randrange(1, 15)),
            bank_account_tokens=True,
            refuses_ownership=dice.random() < 0.3,
            inline_owners=dice.choice((1, 2, 10)),
        )
        self.by_events = self.seed % 2 == 0
        """Whether all syncs but the first and the last read events; else each lists every account."""

    def run(self) -> "MovingWorld":
        """Sync and compare until the world has moved on often enough, or something is wrong."""
        world = World(seed=self.seed, clock=START, accounts=40, sessions=10, evolution=self.evolution)
        with running(world) as sandbox:
            for number in range(SYNCS):
                events = self.by_events and 0 < number < SYNCS - 1
                self._sync(sandbox, events=events)
                self.wrong += [
                    f"sync {number} at {sandbox.world.clock}: {line}"
                    for line in self._wrong(sandbox, events=events)
                ]
                if self.wrong:
                    break
                sandbox.advance(timedelta(minutes=self.dice.randint(1, 6 * 24 * 60)))
        with connect(self.data) as views:
            counts = (f"SELECT count(*) AS n FROM history.{table}" for table in TABLES)
            self.counts["versions"] = sum(rows_of(views, query)[0]["n"] for query in counts)
        return self

    def _sync(self, sandbox: Sandbox, *, events: bool) -> None:
        asked = SyncRequest(
            session_ids=tuple(sandbox.world.session_ids()),
            refetch="all",
            events=events,
            transactions=True,
            owners=True,
            pii="keep",
        )
        result = run_sync(settings_for(sandbox.url, self.data), asked)
        self.counts["syncs"] += 1
        self.counts["requests"] += result.run["requests"]
        self.wrong += [f"check {name}: {count} rows" for name, count in result.failed_checks.items()]

    def _wrong(self, sandbox: Sandbox, *, events: bool) -> Iterator[str]:
        world = sandbox.world
        with connect(self.data) as views:
            self.rows = partial(rows_of, views)
            yield from self._wrong_rejects(world)
            yield from self._wrong_versions(world)
            yield from self._wrong_features(world, events=events)
            if self.by_events:
                yield from self._wrong_authorizations(world)
            if not events:
                yield from self._wrong_latest(world)

    def _wrong_rejects(self, world: World) -> Iterator[str]:
        """Nothing is rejected but what an event says in no readable shape, and accounts that are gone when asked for."""
        for row in self.rows("FROM rejects"):
            index = world.account_index(row["object_id"])
            seen_at = int(row["observed_at"].timestamp())
            is_gone = index is not None and world.things.presence(index, seen_at) != LISTED
            is_old = self.evolution.default_version == BEFORE_ALL and "institution_name" in row["reason"]
            if row["object_type"] != "account" or not (is_old or is_gone):
                yield f"rejected: {row}"

    def _wrong_latest(self, world: World) -> Iterator[str]:
        """After a whole listing the latest state is the truth, and who is not listed any more says so."""
        truth = world.truth()
        listed = {row["account_id"] for row in truth["accounts"]}
        for table, expected in truth.items():
            found = self.rows(f"FROM {table}")
            if table in ("accounts", "balances", "refreshes"):
                found = [row for row in found if row["account_id"] in listed]
            yield from _differences(table, expected, found)
        absent = self.rows("SELECT account_id FROM accounts WHERE absent_since IS NOT NULL")
        known = {row["account_id"] for row in self.rows("SELECT account_id FROM accounts")}
        told = {row["account_id"] for row in absent}
        self.counts["accounts gone"] = max(self.counts["accounts gone"], len(told))
        if told != known - listed:
            yield f"absent are {sorted(told)}, and should be {sorted(known - listed)}"

    def _wrong_versions(self, world: World) -> Iterator[str]:
        """Every version of an account, which is listed then, is what was true at the second that it names."""
        old = [name for name, since in SINCE.items() if since > self.evolution.default_version]
        before: dict[str, Row] = {}
        for row in self.rows("FROM history.accounts ORDER BY account_id, valid_from"):
            account_id, at = row["account_id"], row["valid_from"]
            last, before[account_id] = before.get(account_id), row
            if row["absent_since"] is not None:
                if last and _business(row) != _business(last):
                    yield f"account {account_id} is absent from {at}, and more has changed"
                continue
            expected = self._account(world, account_id, at)
            micros = at.microsecond
            if micros % SECOND >= COUNT_FROM:
                self.counts["versions of accounts by events"] += 1
                # What an event of another version leaves away stays as it was known; a null may be left away as well.
                for name, value in expected.items():
                    if name in old or (value is None and row[name] is not None):
                        expected[name] = last[name] if last else None
            yield from _differences(f"account {account_id} at {at}", [expected], [row])

    def _account(self, world: World, account_id: str, at: datetime) -> Row:
        index = world.account_index(account_id)
        assert index is not None
        return expected_rows.account_row(world.things.account(index, int(at.timestamp())))

    def _wrong_features(self, world: World, *, events: bool) -> Iterator[str]:
        """Transactions and owners are the truth, of accounts that are listed and whose refresh has not ended."""
        for table, feature, truth in (
            ("transactions", "transaction", world.transactions_truth()),
            ("owners", "ownership", world.owners_truth()),
        ):
            live = {
                row["account_id"]
                for row in world.truth()["refreshes"]
                if row["feature"] == feature
                and not (events and self._may_be_silent(world, row["account_id"]))
            }
            expected = [{**row, "extra": None} for row in truth if row["account_id"] in live]
            found = [
                {**row, "extra": None} for row in self.rows(f"FROM {table}") if row["account_id"] in live
            ]
            yield from _differences(table, expected, found)

    def _may_be_silent(self, world: World, account_id: str) -> bool:
        """Whether an account was off the list at some time, when no event of it is sent."""
        index = world.account_index(account_id)
        assert index is not None
        hours = range(int(START.timestamp()), world.time, 3600)
        return any(world.things.presence(index, hour) != LISTED for hour in (*hours, world.time))

    def _wrong_authorizations(self, world: World) -> Iterator[str]:
        """Each authorization of which an event came since the first sync is as the last of them told it."""
        first = int(START.timestamp()) + 1
        until = world.time
        latest: dict[str, Row] = {}
        for key in world.events.walk(first, until, OF_AUTHORIZATIONS, newest_first=False):
            row = expected_rows.authorization_row(world.things.authorization(key.account, key.time))
            latest[row["authorization_id"]] = row
        self.counts["authorizations"] = len(latest)
        found = [row for row in self.rows("FROM authorizations") if row["authorization_id"] in latest]
        yield from _differences("authorizations", _without_nulls(latest.values()), _without_nulls(found))


def _business(row: Row) -> Row:
    return {k: v for k, v in row.items() if k not in NOT_COMPARED and not k.startswith("valid_")}


def _without_nulls(found: Collection[Row]) -> list[Row]:
    """Leave away what is null in ``status_details``: the truth does not name it."""
    details = [{k: v for k, v in (row["status_details"] or {}).items() if v is not None} for row in found]
    return [{**row, "status_details": said} for row, said in zip(found, details, strict=True)]


def _differences(what: str, expected: list[Row], found: list[Row]) -> Iterator[str]:
    """Say which rows differ, by the columns that the truth has."""
    names = expected[0].keys() if expected else ()
    one = canonical({name: row[name] for name in names} for row in expected)
    other = canonical({name: row[name] for name in names} for row in found)
    if one != other:
        missing = [row for row in one if row not in other]
        more = [row for row in other if row not in one]
        yield f"{what}: {len(missing)} should be there, as {missing[:1]}; {len(more)} should not, as {more[:1]}"


def main() -> int:
    """Run the worlds one after another, then say what they did."""
    parser = argparse.ArgumentParser(prog="python -m tests.moving_worlds", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="how many worlds")
    parser.add_argument("--first", type=int, default=1, help="the seed of the first")
    chosen = parser.parse_args()
    began, counts, wrong = time.monotonic(), Counter[str](), list[str]()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        with tempfile.TemporaryDirectory(prefix="fincon-moving-") as folder:
            world = MovingWorld(Path(folder) / "data", seed).run()
        counts += world.counts
        wrong += [f"world {seed}: {line}" for line in world.wrong]
        for line in world.wrong:
            print(f"world {seed}: {line}"[:2000], file=sys.stderr, flush=True)
    print(f"{'worlds':<32}{chosen.seeds:>10,}")
    for name, value in counts.items():
        print(f"{name:<32}{value:>10,}")
    print(f"{'seconds':<32}{time.monotonic() - began:>10,.0f}")
    print(f"{'wrong':<32}{len(wrong):>10,}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
