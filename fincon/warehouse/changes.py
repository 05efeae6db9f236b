"""Tell every version that came into the lake, in order, from a place on: for those who feed another system."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fincon.errors import UsageError
from fincon.transforms.schemas import OBJECT_TABLES, Table
from fincon.warehouse.read_only import ReadOnlyConnection

BATCH_ROWS = 1_000

RUNS = "SELECT run_id, finished_at FROM lake.runs ORDER BY sequence NULLS FIRST, finished_at, run_id"
"""In the order in which they came: a run that is published later is later in it."""

CURSOR = re.compile(r"(?P<run_id>[^/\s]+)/(?P<table>\w+)/(?P<microseconds>-?\d+)/(?P<rank>[0-9a-f]{64})")


class Place(NamedTuple):
    """Where a version stands in the order: within its run by table, then time, then a hash of what it is of.

    It names the version, not its number, so that it stays where it is whatever is erased before it.
    """

    run_id: str
    table: str
    microseconds: int
    rank: str

    def __str__(self) -> str:
        return f"{self.run_id}/{self.table}/{self.microseconds}/{self.rank}"


class Change(NamedTuple):
    """A row of a version, and the place to go on from once it is dealt with."""

    cursor: str
    table: str
    row: dict[str, Any]


def changes(connection: ReadOnlyConnection, since: str = "") -> Iterator[Change]:
    """Yield the versions that came after ``since``: a cursor, a run, or a time; all of them where it is empty.

    Raises:
        UsageError: it is none of these, or names a run that is not in the lake.
    """
    runs = connection.execute(RUNS).fetchall()
    pending, place = _pending(runs, since)
    holding = _runs_by_table(connection)
    for run_id in pending:
        for table in OBJECT_TABLES:
            if run_id in holding[table.name] and not (place and _is_before(table, run_id, place)):
                within = place if place and (place.run_id, place.table) == (run_id, table.name) else None
                yield from _rows(connection, table, run_id, within)


def _pending(runs: list[tuple[str, datetime]], since: str) -> tuple[list[str], Place | None]:
    """Return the runs to tell of, and the place to go on from within the first of them."""
    ids = [run_id for run_id, _ in runs]
    if not since:
        return ids, None
    if since in ids:
        return ids[ids.index(since) + 1 :], None
    if found := CURSOR.fullmatch(since):
        place = Place(found["run_id"], found["table"], int(found["microseconds"]), found["rank"])
        if place.run_id in ids and place.table in {table.name for table in OBJECT_TABLES}:
            return ids[ids.index(place.run_id) :], place
        raise UsageError(
            f"{since} is no cursor of this lake.", "It is of another data folder: begin without --since."
        )
    try:
        time = datetime.fromisoformat(since)
    except ValueError as error:
        raise UsageError(
            f"{since!r} is no cursor, no run of this lake, and no time.",
            "Give the cursor of the last line, a run as `fincon status` shows it, or 2026-11-01T12:00:00Z.",
        ) from error
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return [run_id for run_id, finished_at in runs if finished_at > time], None


def _runs_by_table(connection: ReadOnlyConnection) -> dict[str, set[str]]:
    """Return table → the runs that brought rows of it, so that the others are not asked for."""
    return {
        table.name: {
            run_id
            for (run_id,) in connection.execute(f"SELECT DISTINCT run_id FROM lake.{table.name}").fetchall()
        }
        for table in OBJECT_TABLES
    }


def _is_before(table: Table, run_id: str, place: Place) -> bool:
    names = [one.name for one in OBJECT_TABLES]
    return run_id == place.run_id and names.index(table.name) < names.index(place.table)


def _rows(connection: ReadOnlyConnection, table: Table, run_id: str, after: Place | None) -> Iterator[Change]:
    """Yield the rows that a run brought to a table, in order, those after a place alone."""
    names = [column.name for column in table.columns]
    key = ", ".join(f"{name}::VARCHAR" for name in (*table.full_key, *table.group_key))
    beyond = "AND (microseconds, rank) > ($microseconds, $rank)" if after else ""
    values: dict[str, Any] = {"run_id": run_id}
    if after:
        values |= {"microseconds": after.microseconds, "rank": after.rank}
    cursor = connection.execute(
        f"""
        SELECT microseconds, rank, {", ".join(names)}
        FROM (
            SELECT *, epoch_us(observed_at) AS microseconds, sha256([{key}]::VARCHAR) AS rank
            FROM lake.{table.name}
            WHERE run_id = $run_id
        )
        WHERE true {beyond}
        ORDER BY microseconds, rank""",
        values,
    )
    while rows := cursor.fetchmany(BATCH_ROWS):
        for microseconds, rank, *row in rows:
            place = Place(run_id, table.name, microseconds, rank)
            yield Change(str(place), table.name, dict(zip(names, row, strict=True)))
