"""What keeps a lake quick to read: snapshots of the latest state, and few files."""

import secrets
from datetime import UTC, datetime, timedelta
from functools import partial

import duckdb
import msgspec
import pyarrow.parquet as pq

from fincon.lake.tables import ALONE, ROWS_A_BATCH, WRITER, Lake, LatestFiles, Snapshot, value
from fincon.lake.version_sql import parquet, share
from fincon.storage.data_folder import atomic_write, ensure_lock_held, make
from fincon.transforms.schemas import LOGS, OBJECT_TABLES, TABLES, Table

SNAPSHOT_ROWS = 20_000
"""Versions since the last snapshot that are cheaper to read than a new snapshot is to write."""

A_FILE_COUNTS = 1_000
"""To open a file takes as long as to read so many versions: many small runs are a reason for a snapshot too."""

SMALL_FILE_BYTES = 16_000_000
"""Files under this size are merged when a snapshot is taken; `compact` merges larger ones too."""


def renew_snapshots(lake: Lake, *, always: bool = False) -> None:
    """Take a new snapshot of each table's latest state where what came since has grown past a quarter of it.

    The small files that runs left are merged then, so that a run never reads more of them than came since.
    """
    snapshots = lake.snapshots_taken()
    for table in OBJECT_TABLES:
        now = lake.current(table)
        since, before = lake.rows_in(now.tail), lake.rows_in(now.base)
        cost = since + len(now.tail) * A_FILE_COUNTS
        if since and (always or cost > max(SNAPSHOT_ROWS, before // 4)):
            base = _snapshot(lake, table, now)
            if base != now.tail:
                _merge(lake, table, SMALL_FILE_BYTES)
            snapshots[table.name] = Snapshot(_relative(lake, lake.files(table)), _relative(lake, base))
    for table in LOGS:
        if len(lake.files(table)) * A_FILE_COUNTS > SNAPSHOT_ROWS:
            _merge(lake, table, SMALL_FILE_BYTES)
    make(lake.snapshots)
    with atomic_write(lake.data.snapshot_index) as part:
        part.write_bytes(msgspec.json.encode(snapshots))


def _snapshot(lake: Lake, table: Table, now: LatestFiles) -> list[str]:
    """The latest state as files: the table's own where each object has one version, else a copy."""
    with lake.query() as query:
        numbers = lake.shares(query, parquet(now.base + now.tail))
        if not now.base and all(_once(query, table, now.tail, number, len(numbers)) for number in numbers):
            return now.tail
        make(lake.snapshots)
        path = lake.snapshots / f"{table.name}-{secrets.token_hex(8)}.parquet"
        schema = query.sql(now.sql(table, str)).limit(0).to_arrow_table().schema
        with (
            atomic_write(path) as part,
            pq.ParquetWriter(part, schema, compression="zstd", compression_level=1) as writer,
        ):
            for number in numbers:
                latest = now.sql(table, partial(share, table=table, number=number, of=len(numbers)))
                for batch in query.sql(latest).to_arrow_reader(ROWS_A_BATCH):
                    writer.write_batch(batch)
        return [str(path)]


def _once(query: duckdb.DuckDBPyConnection, table: Table, files: list[str], number: int, of: int) -> bool:
    """Whether each object of a share has one version."""
    key = ", ".join(table.full_key)
    versions = f"SELECT DISTINCT {key}, observed_at FROM {share(parquet(files), table, number, of)}"
    return bool(value(query, f"SELECT count(*) = count(DISTINCT ({key})) FROM ({versions})"))


def _merge(lake: Lake, table: Table, under_bytes: int | None = None) -> None:
    """Merge a table's files, the small ones alone if asked. Views made before go on reading the old ones until `compact`."""
    ensure_lock_held(lake.folder)
    lake.table(table).optimize.compact(
        target_size=under_bytes, writer_properties=WRITER, commit_properties=ALONE
    )


def compact(lake: Lake, retention: timedelta) -> dict[str, tuple[int, int]]:
    """Merge small files, and remove those that no table has needed for ``retention``.

    How many files each table had and has. Views made before go on reading the old files until then.
    """
    sizes = {}
    for table in TABLES:
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
    needed = {path for snapshot in lake.snapshots_taken().values() for path in lake.absolute(snapshot.base)}
    for path in lake.snapshots.glob("*.parquet"):
        if str(path) not in needed and path.stat().st_mtime <= before.timestamp():
            path.unlink()


def _relative(lake: Lake, files: list[str]) -> list[str]:
    return [file.removeprefix(f"{lake.folder.parent}/") for file in files]
