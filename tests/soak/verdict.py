"""What must hold when a soak is over: the lake against every truth that was ever served."""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path

from fincon.sandbox.world import World
from tests.at_rest import files_holding
from tests.conftest import GROUPS, KEY, NOT_TRUTH, OBJECTS, Row, canonical, fincon, rows, truth

State = dict[str, dict[tuple[str, ...], list[Row]]]
"""Table → object → the rows of its version."""

PERSONAL = ("display_name", "last4", "extra")
"""Columns of which a choice about personal data leaves a hash, or nothing."""

COUNTED = ("account_count", "position")
"""What a session says of how many accounts it collected: without those that were erased, once it is fetched again."""


@dataclass(frozen=True)
class Seen:
    """What was served of one Stripe account, and what has gone from it since."""

    worlds: Sequence[World]
    """Those served, oldest first; the last was seen whole."""
    whole: Sequence[int]
    """The places of those that some run saw whole: begun and ended at that clock."""
    erased: frozenset[str] | set[str] = frozenset()
    """The accounts, sessions and customers who were erased."""
    stripe_account: str = ""
    """Whose rows are compared; all where it is empty."""

    def rows(self, data: Path, source: str) -> list[Row]:
        """The rows of this Stripe account."""
        whose = f"WHERE stripe_account = '{self.stripe_account}'" if self.stripe_account else ""
        return rows(data, f"FROM {source} {whose}")

    def truth(self, world: World) -> dict[str, list[Row]]:
        """What a world says, without who was erased."""
        gone = self.gone(world)
        return {
            table: [row for row in found if not {row.get("account_id"), row.get("session_id")} & gone]
            for table, found in _truth(world).items()
        }

    def marred(self) -> set[str]:
        """The sessions that collected an account which was erased."""
        return {
            row["session_id"]
            for world in (self.worlds if self.erased else ())
            for row in _truth(world)["session_accounts"]
            if row["account_id"] in self.gone(world)
        }

    def gone(self, world: World) -> set[str]:
        """Who was erased, with the accounts and sessions of those who were."""
        found, gone = _truth(world), {*self.erased}
        for table, key in (("accounts", "account_id"), ("sessions", "session_id")):
            gone |= {row[key] for row in found[table] if row["account_holder_customer_id"] in self.erased}
        return gone


@cache
def _truth(world: World) -> dict[str, list[Row]]:
    return truth(world)


def grouped(state: dict[str, list[Row]]) -> State:
    """The rows of each object together, in a canonical order."""
    found: State = {table: {} for table in OBJECTS}
    for table in OBJECTS:
        for row in state[table]:
            found[table].setdefault(tuple(row[k] for k in GROUPS[table]), []).append(row)
        found[table] = {key: canonical(group) for key, group in found[table].items()}
    return found


def wrong_at_the_end(data: Path, seen: Seen, *, events: bool = False, choices: bool = False) -> Iterator[str]:
    """What is wrong with the lake. With ``events``, versions may be of any time between.

    With ``choices``, what personal data became is not compared: `in_clear` looks for it.
    """
    marred = seen.marred()

    def business(row: Row) -> Row:
        left_out = {*NOT_TRUTH, *(PERSONAL if choices else ())}
        left_out |= {*COUNTED} if row.get("session_id") in marred else set()
        return {k: v for k, v in row.items() if k not in left_out}

    @cache
    def said(world: World) -> State:
        return grouped({table: [*map(business, found)] for table, found in seen.truth(world).items()})

    now = grouped({table: [*map(business, seen.rows(data, table))] for table in OBJECTS})
    yield from _wrong_now(now, [said(world) for world in seen.worlds], seen.whole)
    clocks = {world.clock for world in seen.worlds}
    for table in OBJECTS:
        for key, found in _versions(seen.rows(data, f"history.{table}"), table, business).items():
            may_be_the_same = events or choices or key[0] in marred
            yield from _wrong_versions(f"{table} {key}", found, may_be_the_same=may_be_the_same)
            for start, _, group in found:
                clock = start.replace(microsecond=0)
                served = events or clock in clocks
                if not served or said(seen.worlds[0].at(clock))[table].get(key) != group:
                    yield f"{table} {key} at {start} is {group}, which was not so"


def _wrong_now(now: State, truths: Sequence[State], whole: Sequence[int]) -> Iterator[str]:
    """The latest state: the last truth; of what is gone there, what some run saw, no older than a whole run saw it."""
    for table in OBJECTS:
        for key, group in truths[-1][table].items():
            if now[table].get(key) != group:
                yield f"{table} {key} is {now[table].get(key)}, and should be {group}"
        seen = {key: place for place in whole for key in truths[place][table]}
        for key in seen.keys() - now[table].keys():
            yield f"{table} {key} was seen and is lost"
        for key in now[table].keys() - truths[-1][table].keys():
            if not any(it[table].get(key) == now[table][key] for it in truths[seen.get(key, 0) :]):
                yield f"{table} {key} is {now[table][key]}, which is too old or never was"


Version = tuple[datetime, set[datetime | None], list[Row]]
"""Valid from, until when as each of its rows says it, and the rows."""


def _versions(
    found: list[Row], table: str, business: Callable[[Row], Row]
) -> dict[tuple[str, ...], list[Version]]:
    """The versions of each object, oldest first."""
    by_start: dict[tuple[str, ...], dict[datetime, list[Row]]] = {}
    for row in found:
        of_object = by_start.setdefault(tuple(row[k] for k in GROUPS[table]), {})
        of_object.setdefault(row["valid_from"], []).append(row)
    own = ("valid_from", "valid_to")
    return {
        key: [
            (start, {row["valid_to"] for row in group},
             canonical(business({k: v for k, v in row.items() if k not in own}) for row in group))
            for start, group in sorted(versions.items())
        ]
        for key, versions in by_start.items()
    }  # fmt: skip


def _wrong_versions(name: str, found: list[Version], *, may_be_the_same: bool) -> Iterator[str]:
    """Each version differs from the one before, and overlaps with none."""
    for start, _, group in found:
        if len({str(row) for row in group}) < len(group):
            yield f"{name} has a row twice at {start}"
    for (_, ends, one), (start, _, other) in pairwise(found):
        if ends != {start}:
            yield f"{name}: a version ends at {ends}, the next begins at {start}"
        if one == other and not may_be_the_same:
            yield f"{name} has the same version again at {start}"
    if found[-1][1] != {None}:
        yield f"{name}: its last version ends"


def in_clear(data: Path, worlds: Iterable[World]) -> Iterator[str]:
    """What people are called, wherever it is still on disk."""
    names: set[str] = set()
    for world in worlds:
        names |= {row["display_name"] for row in _truth(world)["accounts"] if row["display_name"]}
        names |= {row["email"] for row in world.owners_truth() if row["email"]}
    for path, name in files_holding(data, names):
        yield f"{name} is in clear in {path.relative_to(data)}"


def wrong_on_disk(data: Path, erased: Iterable[str]) -> Iterator[str]:
    """What the checks find; what a kill may leave behind; who was erased, or a key that got into a file."""
    checked = fincon("--data", str(data), "check", cwd=data.parent)
    if checked.returncode:
        yield f"fincon check: {checked.stdout}{checked.stderr}"
    if found := rows(data, "FROM rejects"):
        yield f"rejects: {found[:3]}"
    for path, name in files_holding(data, erased):
        yield f"{name}, who was erased, is in {path.relative_to(data)}"
    for pattern in (".staging-*", ".*.part*", "lake/*/*.part", "snapshots/*.part", ".erasing", "loading/*"):
        for path in data.glob(pattern):
            yield f"left behind: {path.relative_to(data)}"
    with (data / ".lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield "the lock is still held"
    for path in data.rglob("*"):
        if path.is_file() and KEY.encode() in path.read_bytes():
            yield f"the key is in {path.relative_to(data)}"
        if path.stat().st_mode & 0o077 and path.stat().st_uid == os.getuid():
            yield f"others may read {path.relative_to(data)}"
