"""The lake: one Delta table for each table of `transforms.schemas`.

A version is appended only where an object changed, and a run's rows are in a table once, however often they
are loaded.
"""

import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

import duckdb
import msgspec
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError

from fincon.errors import RunFailed, reason_of
from fincon.lake.staging import stage, staged_files
from fincon.lake.version_sql import (
    changed_sql,
    latest_sql,
    parquet,
    reconcile_sql,
    semi_join_objects,
    share,
    text,
)
from fincon.settings import query_memory
from fincon.storage.data_folder import (
    STAGING,
    DataFolder,
    cut_short,
    delta_options,
    delta_settings,
    ensure_lock_held,
    make,
    querying,
)
from fincon.storage.s3 import DataPath
from fincon.transforms.page import Origin, Page
from fincon.transforms.reconcile import Sums
from fincon.transforms.schemas import (
    ACCOUNTS,
    BALANCES,
    OBJECT_TABLES,
    REJECTS,
    RUNS,
    SESSIONS,
    TABLES,
    Table,
)

LOADED, FORGOTTEN = 1, 0
"""What a table's log says of a run: its rows are in; or they were, and are out again."""

ALONE = CommitProperties(max_commit_retries=0)
"""There is one writer: a commit that finds another's in its way is not tried again behind it."""

WRITER = WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=61_440)
"""A row group is held in memory until it is written."""

ROWS_A_SHARE = 100_000
"""So many rows are compared at a time, for which `fincon.settings.MEMORY_MB` is enough: see `Lake.shares`."""

ROWS_A_BATCH = 10_000
"""Rows that DuckDB hands over at a time; delta-rs holds a few such batches."""

QUERY_THREADS = 2
"""Each needs memory of its own, some 40 MB for the widest query, however many cores there are."""

SPILL = f"{STAGING}duckdb-"
"""How the folder begins into which it spills; each process has its own."""


class Snapshot(msgspec.Struct, frozen=True):
    """The latest state of a table when its files were ``covers``, as the files ``base``; relative to the data folder."""

    covers: list[str]
    base: list[str]


class LatestFiles(NamedTuple):
    """Where the latest state of a table is: ``base`` has each object once, ``tail`` came since, ``active`` is all."""

    base: list[str]
    tail: list[str]
    active: list[str]

    def sql(self, table: Table, part: Callable[[str], str]) -> str:
        """The query for it, of the objects alone that ``part`` leaves of a relation."""
        base, tail = (part(parquet(files)) if files else "" for files in (self.base, self.tail))
        return latest_sql(table, base, tail)


class Lake:
    """The Delta tables under ``folder`` (``lake/`` of the data folder)."""

    def __init__(self, folder: DataPath) -> None:
        self.folder = folder
        self.data = DataFolder(folder.parent)
        self.snapshots = self.data.snapshots
        self.work = self.data.work
        self._tables: dict[str, DeltaTable] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.rest()

    def rest(self) -> None:
        """Give back the memory that queries took; the next query takes its own."""
        if "_duckdb" in vars(self):
            self._duckdb.close()
            del self._duckdb

    @cached_property
    def _duckdb(self) -> duckdb.DuckDBPyConnection:
        """One DuckDB for all queries, in bounded memory: to start one takes longer than most of them."""
        spill = str(self.work / (SPILL + secrets.token_hex(4)))
        return querying(
            self.folder,
            threads=QUERY_THREADS,
            memory_limit=query_memory(),
            temp_directory=spill,
            preserve_insertion_order=False,  # which takes memory, and no table of ours has an order
        )

    @contextmanager
    def query(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for queries over `files`."""
        with self._duckdb.cursor() as query:
            query.execute("SET TimeZone = 'UTC'")
            yield query

    def table(self, table: Table) -> DeltaTable:
        """The Delta table, created empty where it is not there yet. It is opened once: nobody else changes it.

        Raises:
            RunFailed: its log cannot be read.
        """
        if table.name not in self._tables:
            self._tables[table.name] = self._open(table)
        return self._tables[table.name]

    def _open(self, table: Table) -> DeltaTable:
        path = self.folder / table.name
        options = delta_options(path)
        try:
            if not DeltaTable.is_deltatable(str(path), options):
                make(path)
                return DeltaTable.create(
                    str(path),
                    table.schema,
                    mode="ignore",
                    name=table.name,
                    description=table.meaning,
                    configuration=delta_settings(path),
                    storage_options=options,
                )
            if cut := cut_short(path / "_delta_log"):
                raise ValueError(f"{cut} is empty")  # noqa: TRY301 - delta-rs takes it for a commit of nothing
            return DeltaTable(str(path), storage_options=options)
        except (DeltaError, ValueError, OSError) as error:
            reason = reason_of(error)
            if reason == "No space left on device":
                raise
            raise RunFailed(
                f"The table {path} cannot be read: {reason}",
                "Its log is damaged: restore it from a backup. Nothing was written, and the views still answer.",
            ) from error

    def files(self, table: Table) -> list[str]:
        """The Parquet files that hold the table now, as absolute paths."""
        return [unquote(uri.removeprefix("file://")) for uri in self.table(table).file_uris()]

    def holds(self, table: Table, run_id: str) -> bool:
        """Whether the run's rows are in the table."""
        return self.table(table).transaction_version(run_id) == LOADED

    def append(self, table: Table, rows: pa.RecordBatchReader | pa.Table, run_ids: Sequence[str]) -> None:
        """Add rows in one commit that is marked as the runs', none of which is in yet."""
        delta = self.table(table)
        ensure_lock_held(self.folder)
        write_deltalake(
            delta,
            rows,
            mode="append",
            writer_properties=WRITER,
            commit_properties=_mark(run_ids, LOADED),
        )

    def load_staged(self, folder: Path, origins: Sequence[Origin]) -> dict[str, dict[str, int]]:
        """What runs have staged under ``folder``: what changed, into every table but ``runs``, one commit a table.

        Run → how many sessions and accounts it saw, and how many objects were rejected. Loading a run again
        changes nothing.
        """
        with self.query() as query:
            for table in OBJECT_TABLES:
                delta = self.table(table)
                new = [o for o in origins if delta.transaction_version(o.run_id) != LOADED]
                parts = staged_files(folder, table, origins)
                if parts and new:
                    staged = parquet(parts)
                    if len(new) < len(origins):
                        staged = f"(FROM {staged} WHERE run_id IN ({_listed(o.run_id for o in new)}))"
                    self.append(table, self._changed(query, table, staged, new), [o.run_id for o in new])
            self._reconcile(query, staged_files(folder, BALANCES, origins), origins)
            counted = {
                name: self._count(query, staged_files(folder, table, origins), table, what)
                for name, table, what in (
                    ("sessions_seen", SESSIONS, "*"),
                    ("accounts_seen", ACCOUNTS, "DISTINCT account_id"),
                    ("rejected", REJECTS, "*"),
                )
            }
        return {o.run_id: {name: by.get(o.run_id, 0) for name, by in counted.items()} for o in origins}

    def staged_rejects(self, folder: Path, origin: Origin) -> list[tuple[str, str | None]]:
        """(object_type, raw) of the rejects that a run staged in ``folder``."""
        parts = staged_files(folder, REJECTS, [origin])
        if not parts:
            return []
        with self.query() as query:
            return query.execute(f"SELECT object_type, raw FROM {parquet(parts)}").fetchall()

    def staged_sums(self, folder: Path, origin: Origin) -> Sums:
        """The sums over the balances that a run staged in ``folder``: every row, however often an account was seen."""
        parts = staged_files(folder, BALANCES, [origin])
        if not parts:
            return Counter()
        columns = ("current", "available", "used")
        summed = ", ".join(f"coalesce(sum({name}), 0)::HUGEINT" for name in columns)
        with self.query() as query:
            found = query.execute(
                f"SELECT currency, count(*), {summed} FROM {parquet(parts)} GROUP BY currency"
            ).fetchall()
        return Counter(
            {
                (currency, name): int(value)
                for currency, *values in found
                for name, value in zip(("rows", *columns), values, strict=True)
            }
        )

    def current(self, table: Table) -> "LatestFiles":
        """The files from which the latest state is read: a snapshot of it, and what came since."""
        active = self.files(table)
        snapshot = self.snapshots_taken().get(table.name)
        if snapshot:
            base, covers = self.absolute(snapshot.base), set(self.absolute(snapshot.covers))
            if covers <= set(active) and all((self.folder.parent / file).exists() for file in snapshot.base):
                return LatestFiles(base, sorted(set(active) - covers), active)
        return LatestFiles([], active, active)

    def absolute(self, files: list[str]) -> list[str]:
        """Files of the data folder, as a `Snapshot` names them, by their whole paths."""
        return [str(self.folder.parent / file) for file in files]

    def snapshots_taken(self) -> dict[str, "Snapshot"]:
        """Table → its last snapshot."""
        try:
            return msgspec.json.decode(self.data.snapshot_index.read_bytes(), type=dict[str, Snapshot])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}  # it is derived: without it the latest state is read from all versions

    def shares(self, query: duckdb.DuckDBPyConnection, relation: str) -> range:
        """The numbers of the shares in which a relation is worked through, so that memory does not grow with it."""
        rows = value(query, f"SELECT count(*) FROM {relation}")
        return range(max(1, -(-rows // ROWS_A_SHARE)))

    def _changed(
        self, query: duckdb.DuckDBPyConnection, table: Table, staged: str, origins: Sequence[Origin]
    ) -> pa.RecordBatchReader:
        """The rows of versions that differ from the one before, share by share."""
        late = self._late(query, table, staged, origins)
        numbers = self.shares(query, staged)

        def reader(number: int) -> pa.RecordBatchReader:
            part = share(staged, table, number, len(numbers))
            known = self._compared_with(table, part, origins, late=late)
            return query.sql(changed_sql(table, part, known)).to_arrow_reader(ROWS_A_BATCH)

        first = reader(0)
        rest = (batch for number in numbers[1:] for batch in reader(number))
        return pa.RecordBatchReader.from_batches(first.schema, chain(first, rest))

    def _late(
        self, query: duckdb.DuckDBPyConnection, table: Table, staged: str, origins: Sequence[Origin]
    ) -> bool:
        """Whether something newer than staged rows is known: they come from events, or Stripe's clock was set back."""
        files = self.files(table)
        if not files:
            return False
        known = f"(SELECT max(observed_at) FROM {parquet(files)} WHERE {_own(origins)})"
        return bool(value(query, f"SELECT (SELECT min(observed_at) FROM {staged}) <= {known}"))

    def _compared_with(self, table: Table, staged: str, origins: Sequence[Origin], *, late: bool) -> str:
        """The versions that staged rows are compared with: of their objects the latest, or all where some are ``late``."""
        now = self.current(table)

        def own(relation: str) -> str:
            mine = (
                f"(FROM {relation} WHERE {_own(origins)})"  # other Stripe accounts' files are hardly touched
            )
            return semi_join_objects(mine, table, staged)

        if not now.active:
            return ""
        return own(parquet(now.active)) if late else f"({now.sql(table, own)})"

    def _reconcile(
        self, query: duckdb.DuckDBPyConnection, staged: list[str], origins: Sequence[Origin]
    ) -> None:
        """Compare the runs' balances with the lake's, per currency and to the unit.

        Raises:
            RunFailed: they differ. No run is finished, and readers stay on the ones before.
        """
        if not staged:
            return
        now = self.current(BALANCES)
        numbers = self.shares(query, parquet(staged))
        for number in numbers:
            seen = share(parquet(staged), BALANCES, number, len(numbers))
            known = now.sql(BALANCES, partial(semi_join_objects, table=BALANCES, staged=seen))
            for currency, on_pages, held in query.execute(reconcile_sql(seen, known)).fetchall():
                raise RunFailed(
                    f"Run {', '.join(o.run_id for o in origins[:3])}: the balances in {currency} add up to {on_pages}"
                    f" on its pages and to {held} in the lake.",
                    "This is a bug in fincon; the views still answer with the run before. Please report it.",
                )

    def _count(
        self, query: duckdb.DuckDBPyConnection, files: list[str], table: Table, what: str
    ) -> Counter[str]:
        """Run → how many, of rows or of objects."""
        counted: Counter[str] = Counter()
        numbers = self.shares(query, parquet(files)) if files else range(0)
        for number in numbers:
            part = share(parquet(files), table, number, len(numbers))
            found = query.execute(f"SELECT run_id, count({what}) FROM {part} GROUP BY ALL").fetchall()
            counted.update(dict(found))
        return counted

    def finish(self, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write the runs' rows: from here on theirs count. The rows, with ``rows_added`` from the tables."""
        ids = [run["run_id"] for run in runs]
        added = self._rows_of(ids)
        now = datetime.now(UTC)
        rows = [{**run, "rows_added": added.get(run["run_id"], 0), "observed_at": now} for run in runs]
        delta = self.table(RUNS)
        new = [row for row in rows if delta.transaction_version(row["run_id"]) != LOADED]
        if new:
            table = pa.Table.from_pylist(new, schema=RUNS.schema)
            self.append(RUNS, table, [row["run_id"] for row in new])
        return rows

    def forget(self, run_id: str) -> None:
        """Take a run's rows out of every table again: its load can never be finished."""
        for table in OBJECT_TABLES:
            if self.holds(table, run_id):
                delta = self.table(table)
                ensure_lock_held(self.folder)
                delta.delete(f"run_id = '{run_id}'", commit_properties=_mark([run_id], FORGOTTEN))

    def records(self, table: Table, *columns: str) -> list[tuple[Any, ...]]:
        """Columns of an append-only table, oldest rows first."""
        files = self.files(table)
        if not files:
            return []
        with self.query() as query:
            return query.execute(
                f"SELECT {', '.join(columns)} FROM read_parquet(?) ORDER BY observed_at", [files]
            ).fetchall()

    def add_records(self, table: Table, records: list[dict[str, Any]]) -> None:
        """Rows into an append-only table."""
        rows = pa.Table.from_pylist(records, schema=table.schema)
        delta = self.table(table)
        ensure_lock_held(self.folder)
        write_deltalake(delta, rows, mode="append", writer_properties=WRITER, commit_properties=ALONE)

    def fence_previous_writer(self) -> None:
        """A commit to every table, so that none which another writer began before can follow."""
        for table in TABLES:
            delta = self.table(table)
            delta.create_write_transaction([], "append", delta.schema())
            delta.update_incremental()

    def run_ids(self) -> set[str]:
        """The runs that are finished."""
        return {run_id for (run_id,) in self.records(RUNS, "run_id")}

    def rows_in(self, files: list[str]) -> int:
        """How many rows Parquet files have, by their footers."""
        with self.query() as query:
            return int(value(query, f"SELECT count(*) FROM {parquet(files)}")) if files else 0

    def _rows_of(self, run_ids: Sequence[str]) -> dict[str, int]:
        """Run → how many rows of objects it brought."""
        filled = [parquet(files) for table in OBJECT_TABLES if (files := self.files(table))]
        if not filled:
            return {}
        rows = " UNION ALL ".join(f"SELECT run_id FROM {files}" for files in filled)
        where = f"WHERE run_id IN ({_listed(run_ids)})"
        with self.query() as query:
            return dict(
                query.execute(f"SELECT run_id, count(*) FROM ({rows}) {where} GROUP BY ALL").fetchall()
            )

    def load(self, pages: Iterable[Page], run_id: str, stripe_account: str = "") -> dict[str, int]:
        """Pages into the tables, staged and loaded at once; the pages of a session must stand together."""
        origin = Origin(run_id, stripe_account)
        with self.staging() as folder:
            stage(pages, origin, folder)
            return self.load_staged(folder, [origin])[run_id]

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder beside the lake that is gone when the load ends."""
        make(self.folder)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=self.work) as folder:
            yield Path(folder)


def _mark(run_ids: Sequence[str], version: int) -> CommitProperties:
    now = int(datetime.now(UTC).timestamp() * 1000)
    marks = [Transaction(run_id, version, now) for run_id in run_ids]
    return CommitProperties(max_commit_retries=0, app_transactions=marks)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(text(value) for value in sorted(values))


def _own(origins: Sequence[Origin]) -> str:
    """SQL that is true of rows of the same Stripe accounts."""
    return f"stripe_account IN ({_listed({o.stripe_account for o in origins})})"


def value(query: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The one value of a query. All rows are taken, for an unfinished result keeps its connection busy."""
    return query.execute(sql).fetchall()[0][0]
