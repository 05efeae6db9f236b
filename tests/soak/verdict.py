"""What must hold when a soak is over: the lake against every truth that was ever served."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path

from fincon.sandbox.world import World
from tests.conftest import GROUPS, KEY, NOT_TRUTH, OBJECTS, Row, canonical, fincon, rows, truth

State = dict[str, dict[tuple[str, ...], list[Row]]]
"""Table → object → the rows of its version."""


def grouped(state: dict[str, list[Row]]) -> State:
    """The rows of each object together, in a canonical order."""
    found: State = {table: {} for table in OBJECTS}
    for table in OBJECTS:
        for row in state[table]:
            found[table].setdefault(tuple(row[k] for k in GROUPS[table]), []).append(row)
        found[table] = {key: canonical(group) for key, group in found[table].items()}
    return found


def business(row: Row) -> Row:
    """The columns that a truth has too."""
    return {k: v for k, v in row.items() if k not in NOT_TRUTH}


def wrong_at_the_end(
    data: Path, worlds: Sequence[World], whole: Sequence[int], *, events: bool = False
) -> Iterator[str]:
    """What is wrong with the lake. ``worlds`` are those served, oldest first; the last was seen whole.

    ``whole`` are the places of the others that some run saw whole: begun and ended at that clock. With ``events``,
    versions may be of any time between.
    """
    truths = [grouped(truth(world)) for world in worlds]
    yield from _wrong_now(data, truths, whole)
    yield from _wrong_history(data, worlds, events=events)
    yield from _wrong_on_disk(data)
    checked = fincon("--data", str(data), "check", cwd=data.parent)
    if checked.returncode:
        yield f"fincon check: {checked.stdout}{checked.stderr}"


def _wrong_now(data: Path, truths: Sequence[State], whole: Sequence[int]) -> Iterator[str]:
    """The latest state: the last truth; of what is gone there, what some run saw, no older than a whole run saw it."""
    now = grouped({table: [business(row) for row in rows(data, f"FROM {table}")] for table in OBJECTS})
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


def _wrong_history(data: Path, worlds: Sequence[World], *, events: bool) -> Iterator[str]:
    """Each version is what was true by the clock it names, differs from the one before, and overlaps with none.

    With ``events`` it may be the same as the one before: what an event tells of may have been listed already.
    """
    clocks = {world.clock for world in worlds}

    @cache
    def true_at(clock: datetime) -> State:
        return grouped(truth(worlds[0].at(clock)))

    for table in OBJECTS:
        versions: dict[tuple[str, ...], dict[datetime, list[Row]]] = {}
        for row in rows(data, f"FROM history.{table} ORDER BY valid_from"):
            start, end = row.pop("valid_from"), row.pop("valid_to")
            key = tuple(row[k] for k in GROUPS[table])
            versions.setdefault(key, {}).setdefault(start, []).append({"valid_to": end, **row})
        for key, by_start in versions.items():
            found = []
            for start, group in by_start.items():
                found.append((start, {row.pop("valid_to") for row in group}, canonical(map(business, group))))
                if len({str(row) for row in found[-1][2]}) < len(group):
                    yield f"{table} {key} has a row twice at {start}"
                clock = start.replace(microsecond=0)
                served = events or clock in clocks
                if not served or true_at(clock)[table].get(key) != found[-1][2]:
                    yield f"{table} {key} at {start} is {found[-1][2]}, which was not so"
            for (_, ends, one), (start, _, other) in pairwise(found):
                if ends != {start}:
                    yield f"{table} {key}: a version ends at {ends}, the next begins at {start}"
                if one == other and not events:
                    yield f"{table} {key} has the same version again at {start}"
            if found[-1][1] != {None}:
                yield f"{table} {key}: its last version ends"
    for table in ("rejects", "erasures"):
        if found := rows(data, f"FROM {table}"):
            yield f"{table}: {found[:3]}"


def _wrong_on_disk(data: Path) -> Iterator[str]:
    """What a kill may leave behind, and a key that got into a file."""
    for pattern in (".staging-*", ".*.part*", "lake/*/*.part", "snapshots/*.part"):
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
