"""Keep a lake quick to read: snapshots of the latest state, and few files."""

import secrets
from datetime import UTC, datetime, timedelta

import duckdb
import msgspec
import pyarrow.parquet as pq

from fincon.lake.panics import panics_as_errors
from fincon.lake.tables import COMMIT_ONCE, ROWS_A_BATCH, WRITER, Lake, single_value
from fincon.lake.version_sql import LatestFiles as LatestFiles
from fincon.lake.version_sql import partition_clauses, table_sql
from fincon.storage.data_folder import DELTA_SETTINGS, UNREADABLE, atomic_write, make_folder
from fincon.transforms.schemas import LOGS, OBJECT_TABLES, TABLES, Table

SNAPSHOT_ROWS = 20_000
"""Versions since the last snapshot that are cheaper to read than a new snapshot is to write."""

A_FILE_COUNTS = 1_000
"""To open a file takes as long as to read so many versions: many small runs are a reason for a snapshot too."""

SMALL_FILE_BYTES = 16_000_000
"""Files under this size are merged when a snapshot is taken; `compact` merges larger ones too."""


class Snapshot(msgspec.Struct, frozen=True):
    """The latest state of a table when its files were ``covers``, as the files ``base``; relative to the data folder."""

    covers: list[str]
    base: list[str]


def latest_files(lake: Lake, table: Table) -> LatestFiles:
    """Return the files from which the latest state of a table is read."""
    files = lake.files(table)
    taken = snapshots_taken(lake).get(table.name)
    if taken:
        snapshot, covers = _absolute(lake, taken.base), set(_absolute(lake, taken.covers))
        if covers <= set(files) and all(_is_there(lake, file) for file in taken.base):
            return LatestFiles(snapshot, sorted(set(files) - covers), files)
    return LatestFiles([], files, files)


def _is_there(lake: Lake, file: str) -> bool:
    """Return whether a snapshot's file is there: one that is part of its table is, as long as that has it."""
    if file not in lake.files_seen and (lake.folder.parent / file).exists():
        lake.files_seen.add(file)
    return file in lake.files_seen


def latest_files_by_table(lake: Lake) -> dict[str, LatestFiles]:
    """Return the name of every table with its `latest_files`: what the views are made of."""
    return {table.name: latest_files(lake, table) for table in TABLES}


def snapshots_taken(lake: Lake) -> dict[str, Snapshot]:
    """Return the name of each table that has one with its last snapshot: read once, for nobody else writes it."""
    if lake.snapshots_read is None:
        try:
            content = lake.data.snapshot_index.read_bytes()
            lake.snapshots_read = msgspec.json.decode(content, type=dict[str, Snapshot])
        except UNREADABLE:
            lake.snapshots_read = {}  # it is derived: without it the latest state is read from all versions
    return dict(lake.snapshots_read)


def renew_snapshots(lake: Lake, *, always: bool = False) -> None:
    """Take a new snapshot of each table's latest state where what came since has grown past a quarter of it.

    The small files that runs left are merged then, so that a run never reads more of them than came since.
    """
    snapshots = snapshots_taken(lake)
    for table in OBJECT_TABLES:
        now = latest_files(lake, table)
        since = lake.count_table_rows(table, now.since)
        cost = since + len(now.since) * A_FILE_COUNTS
        if since and (always or cost > max(SNAPSHOT_ROWS, _rows_of_snapshot(lake, cost, now) // 4)):
            taken = _take_snapshot(lake, table, now)
            if taken != now.since:
                _merge(lake, table, SMALL_FILE_BYTES)
            snapshots[table.name] = Snapshot(_relative(lake, lake.files(table)), _relative(lake, taken))
    for table in LOGS:
        if len(lake.files(table)) * A_FILE_COUNTS > SNAPSHOT_ROWS:
            _merge(lake, table, SMALL_FILE_BYTES)
    if snapshots != snapshots_taken(lake):
        write_snapshots(lake, snapshots)


def _rows_of_snapshot(lake: Lake, cost: int, now: LatestFiles) -> int:
    """Return how many rows a snapshot has; 0 where what came since costs so little that nobody needs to know."""
    return lake.count_rows(now.snapshot) if cost > SNAPSHOT_ROWS else 0


def write_snapshots(lake: Lake, snapshots: dict[str, Snapshot]) -> None:
    """Write which snapshot each table has, in place of what was known."""
    make_folder(lake.snapshots)
    with atomic_write(lake.data.snapshot_index) as part:
        part.write_bytes(msgspec.json.encode(snapshots))
    lake.snapshots_read = dict(snapshots)


def _take_snapshot(lake: Lake, table: Table, now: LatestFiles) -> list[str]:
    """Return the latest state as files: the table's own where each object has one version, else a copy that is written."""
    clauses = partition_clauses(table, lake.count_rows(now.snapshot + now.since))
    with lake.query() as query:
        if not now.snapshot and all(_has_each_once(query, table, now.since, clause) for clause in clauses):
            return now.since
        make_folder(lake.snapshots)
        path = lake.snapshots / f"{table.name}-{secrets.token_hex(8)}.parquet"
        schema = query.sql(now.sql(table)).limit(0).to_arrow_table().schema
        with (
            atomic_write(path) as part,
            pq.ParquetWriter(part, schema, compression="zstd", compression_level=1) as writer,
        ):
            for clause in clauses:
                for batch in query.sql(now.sql(table, clause)).to_arrow_reader(ROWS_A_BATCH):
                    writer.write_batch(batch)
        return [str(path)]


def _has_each_once(query: duckdb.DuckDBPyConnection, table: Table, files: list[str], clause: str) -> bool:
    """Return whether each object that a ``clause`` leaves has one version.

    Objects are told apart by a number, in half the time: of two with the same one it says no, and a copy is written.
    """
    rows = "DISTINCT" if table.group_key else ""  # a version is a row, where it is not several
    versions = f"SELECT {rows} hash({', '.join(table.full_key)}) AS object, observed_at FROM {table_sql(table, files, clause)}"
    return bool(single_value(query, f"SELECT count(*) = count(DISTINCT object) FROM ({versions})"))


@panics_as_errors()
def _merge(lake: Lake, table: Table, under_bytes: int | None = None) -> None:
    """Merge a table's files, the small ones alone if asked. Views made before go on reading the old ones until `compact`."""
    with lake.committing(table) as delta:
        delta.optimize.compact(
            target_size=under_bytes, writer_properties=WRITER, commit_properties=COMMIT_ONCE
        )


def _set_as_new(lake: Lake, table: Table) -> None:
    """Set of a table what is set of a new one, and was not when an older fincon made it; what somebody has set stays."""
    there = lake.table(table).metadata().configuration
    if lacking := {name: value for name, value in DELTA_SETTINGS.items() if name not in there}:
        with lake.committing(table) as delta:
            delta.alter.set_table_properties(lacking, commit_properties=COMMIT_ONCE)


@panics_as_errors()
def compact(lake: Lake, retention: timedelta) -> dict[str, tuple[int, int]]:
    """Merge small files, and remove those that no table has needed for ``retention``; views made before read them until then.

    Returns how many files each table had and has.
    """
    sizes = {}
    for table in TABLES:
        _set_as_new(lake, table)
        delta = lake.table(table)
        before = len(delta.file_uris())
        if before > 1:
            _merge(lake, table)
        hours = int(retention.total_seconds() // 3600)
        delta.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=True)
        delta.create_checkpoint()
        delta.cleanup_metadata()
        sizes[table.name] = (before, len(lake.files(table)))
    renew_snapshots(lake, always=True)
    _drop_old_snapshots(lake, datetime.now(UTC) - retention)
    return sizes


def _drop_old_snapshots(lake: Lake, before: datetime) -> None:
    needed = {path for taken in snapshots_taken(lake).values() for path in _absolute(lake, taken.base)}
    for path in lake.snapshots.glob("*.parquet"):
        if str(path) not in needed and path.stat().st_mtime <= before.timestamp():
            path.unlink()


def _absolute(lake: Lake, files: list[str]) -> list[str]:
    return [str(lake.folder.parent / file) for file in files]


def _relative(lake: Lake, files: list[str]) -> list[str]:
    return [file.removeprefix(f"{lake.folder.parent}/") for file in files]
