"""Open, read and commit to the lake: one Delta table for each table of `transforms.schemas`."""

import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

import duckdb
import msgspec
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError
from deltalake.table import TableMerger

from fincon.errors import RunFailed, reason_of
from fincon.lake.added_file import add_as_it_is, write_added_file
from fincon.lake.log_copies import LogCopy, open_copies
from fincon.lake.panics import panics_as_errors
from fincon.lake.table_logs import LOG, FileStats, Logs, is_as_noted, stats_of_files, tags_of, take_noted
from fincon.lake.version_sql import NULLABLE_KEYS, read_parquet_sql, table_sql
from fincon.settings import part_of_run_memory, run_memory
from fincon.storage.data_folder import (
    DELTA_SETTINGS,
    STAGING,
    DataFolder,
    atomic_write,
    cut_short,
    delta_options,
    drop_cut_checkpoint,
    ensure_lock_held,
    make_folder,
    open_duckdb,
    settle,
)
from fincon.storage.memory import give_memory_back
from fincon.storage.s3 import DataPath, S3Path
from fincon.transforms.schemas import RUNS, SEQUENCE, TABLES, Table

LOADED, REMOVED = 1, 0
"""What a table's log says of a run: its rows are in; or they were, and are out again."""

COMMIT_ONCE = CommitProperties(max_commit_retries=0)
"""There is one writer: a commit that finds another's in its way is not tried again behind it."""

WRITER = WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=61_440)
"""A row group is held in memory until it is written."""

ROWS_A_BATCH = 5_000
"""Rows that DuckDB hands over at a time; delta-rs holds a few such batches."""

UNUSABLE = (OSError, ValueError, pa.ArrowException, duckdb.Error)
"""What reading a file that is damaged, or writing one on a full disk, may end with."""

QUERY_THREADS = 2
"""Each needs memory of its own, some 40 MB for the widest query, however many cores there are."""

SOME_BYTES = 250_000
"""Over so many staged bytes, some 3,000 accounts, it pays to ask on all threads."""

KEPT_OPEN_BYTES = 4_000_000
"""Over so many, some 30,000 accounts, queries take memory that is worth giving back."""

GIVEN_BACK_BYTES = 8_000_000
"""Over so many, some 40,000 accounts, what was freed is worth giving back to the system, which has to be asked for it again."""

MANY_ROWS = 50_000
"""Over so many rows, queries beside what other threads ask take memory that is worth giving back."""

IN_PART = 2_000_000
"""So many rows are asked in a part of the memory that a run has."""

SPILL = f"{STAGING}duckdb-"
"""How the folder begins into which it spills; each process has its own."""


class _Copied(NamedTuple):
    """What DuckDB holds of an append-only table: of which files, and what it answered to which columns."""

    files: list[str]
    records: dict[tuple[str, ...], list[tuple[Any, ...]]]


class Lake:
    """The Delta tables under ``folder`` (``lake/`` of the data folder)."""

    def __init__(self, folder: DataPath) -> None:
        self.folder = folder
        self.data = DataFolder(folder.parent)
        self.snapshots = self.data.snapshots
        self.work = self.data.work
        self._tables: dict[str, DeltaTable] = {}
        self._files: dict[str, tuple[int, dict[str, FileStats]]] = {}
        self.is_recalled = False
        """Whether `recall` found what this machine noted."""
        self._log_copies: dict[str, LogCopy] = {}
        """Of tables that are logs, as long as nothing but their copies is written to."""
        self._duckdb: duckdb.DuckDBPyConnection | None = None
        self._loads_much = False
        self._loads_some = False
        """Whether so much is loaded that it is asked on all threads."""
        self._starting = threading.Lock()
        self.asking_much = threading.Lock()
        """Held while something is asked that takes a good part of the memory, which all threads have together."""
        self._copies: dict[str, _Copied] = {}
        self._copying = threading.Lock()
        self.files_seen: set[str] = set()
        """Files of snapshots that are there: only who erases or compacts removes any, when no table names them any more."""
        self.snapshots_read: Any = None
        """What `lake.snapshots` has read of snapshots.json; None where it has not, or wrote it since."""
        self.being_loaded = ""
        """The first of the runs whose load is under way (`lake.take_back`)."""
        self.sightings_read: pa.Table | Path | None = None
        """Likewise what `lake.sightings` has found."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release_memory()

    def release_memory(self) -> None:
        """Give back the memory that queries took; the next query takes its own."""
        if self._duckdb:
            self._duckdb.close()
            self._duckdb = None
            self._copies.clear()
        if self._loads_much:
            give_memory_back()

    def release_memory_after(self, staged: Sequence[str]) -> None:
        """Give memory back after queries over much: the next ones take as much again, beside what the last ones left."""
        size = sum(Path(file).stat().st_size for file in staged)
        self._loads_much = self._loads_much or size > GIVEN_BACK_BYTES
        # After little it is not worth the 25 ms that it takes to start DuckDB again.
        if size > KEPT_OPEN_BYTES:
            self.release_memory()

    def threads(self) -> int:
        """Return on how many threads it pays to ask: over few rows a second one costs half as much again, for nothing."""
        are_known = self.is_recalled or len(self._tables) == len(TABLES)
        return 1 if are_known and not self._loads_some and self.has_at_most(MANY_ROWS) else QUERY_THREADS

    def has_at_most(self, rows: int) -> bool:
        """Tell whether all tables together have no more ``rows``, by what their logs say."""
        counts = [stats.rows for table in TABLES for stats in self.file_stats(table).values()]
        return None not in counts and sum(filter(None, counts)) <= rows

    def expect(self, staged: Sequence[str]) -> None:
        """Ask on all threads from here on, if so much is to be loaded that it pays."""
        if sum(Path(file).stat().st_size for file in staged) > SOME_BYTES:
            self._loads_some = True
            if self._duckdb:
                self._duckdb.execute(f"SET threads = {QUERY_THREADS}")

    def _start(self, memory: str, threads: int = QUERY_THREADS) -> duckdb.DuckDBPyConnection:
        return open_duckdb(
            self.folder,
            threads=threads,
            memory_limit=memory,
            temp_directory=str(self.work / (SPILL + secrets.token_hex(4))),
            preserve_insertion_order=False,  # which takes memory, and no table of ours has an order
        )

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """Open a connection to one DuckDB for all queries, in bounded memory: to start one takes longer than most of them."""
        with self._starting:  # threads that fetch ask for what is due at the same time
            self._duckdb = self._duckdb or self._start(run_memory(), self.threads())
            return self._duckdb.cursor()

    @contextmanager
    def query(self, rows: int = 0) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection for queries over `files`, and close it again.

        Where they are over so many ``rows`` that their memory is worth giving back, it is to a DuckDB of its own, in less.
        """
        if rows <= MANY_ROWS:
            connection = self._cursor()
        else:
            give_memory_back()
            connection = self._start(part_of_run_memory() if rows <= IN_PART else run_memory())
        with connection as query:
            query.execute("SET TimeZone = 'UTC'")
            yield query
        if rows > MANY_ROWS:
            give_memory_back()

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Make a folder beside the lake that is gone when the load ends."""
        make_folder(self.folder)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=self.work) as folder:
            yield Path(folder)

    def table(self, table: Table) -> DeltaTable:
        """Return the Delta table, created empty where it is not there yet. It is opened once: nobody else changes it.

        Raises:
            RunFailed: its log cannot be read.
        """
        if table.name not in self._tables:
            self._log_copies.pop(table.name, None)  # which would not have what is committed from here on
            self._tables[table.name] = self._open(table)
        return self._tables[table.name]

    @panics_as_errors()
    def _open(self, table: Table) -> DeltaTable:
        path = self.folder / table.name
        options = delta_options(path)
        try:
            if DeltaTable.is_deltatable(str(path), options):
                if cut := cut_short(path / LOG):
                    raise ValueError(f"{cut} is empty")  # noqa: TRY301 - delta-rs takes it for a commit of nothing
                drop_cut_checkpoint(path / LOG)
                return DeltaTable(str(path), storage_options=options)
        except (DeltaError, ValueError, OSError) as error:
            raise RunFailed(
                f"The table {path} cannot be read: {reason_of(error)}",
                "Its log is damaged: restore the data folder from a backup. What was fetched is kept; the views still answer.",
            ) from error
        make_folder(path)
        created = DeltaTable.create(
            str(path),
            table.schema,
            mode="ignore",
            name=table.name,
            description=table.meaning,
            configuration=DELTA_SETTINGS,
            storage_options=options,
        )
        settle(*map(Path, _files_here(path)))
        return created

    def reopen(self, table: Table) -> None:
        """Open a table anew when it is needed next: what its log began with is gone."""
        self._tables.pop(table.name, None)
        self._log_copies.pop(table.name, None)
        self._files.pop(table.name, None)
        self.is_recalled = False

    def files(self, table: Table) -> list[str]:
        """Return the Parquet files that hold the table now, as absolute paths."""
        return list(self.file_stats(table))

    def file_stats(self, table: Table) -> dict[str, "FileStats"]:
        """Return each of a table's `files` with what its log says of it: read once, for in a bucket each look is a request."""
        if self.is_recalled and table.name not in self._tables:
            return self._files[table.name][1]
        delta = self.table(table)
        version, found = self._files.get(table.name, (-1, {}))
        if version != delta.version():
            paths = [unquote(uri.removeprefix("file://")) for uri in delta.file_uris()]
            found = dict(stats_of_files(delta, paths))
            self._files[table.name] = delta.version(), found
        return found

    def count_rows(self, files: Sequence[str]) -> int:
        """Return how many rows Parquet files have, by their footers."""
        with self.query() as query:
            return int(single_value(query, f"SELECT count(*) FROM {read_parquet_sql(files)}")) if files else 0

    def count_table_rows(self, table: Table, files: Sequence[str]) -> int:
        """Return how many rows some of a table's `files` have: as its log says, or else their footers."""
        counts = [self.file_stats(table)[file].rows for file in files]
        return self.count_rows(files) if None in counts else sum(filter(None, counts))

    def contains_run(self, table: Table, run_id: str) -> bool:
        """Return whether the run's rows are in the table, as its log says."""
        return self.table(table).transaction_version(run_id) == LOADED

    def append(
        self,
        table: Table,
        rows: pa.RecordBatchReader | pa.Table | None,
        run_ids: Sequence[str],
        files: Mapping[Path, str] = MappingProxyType({}),
    ) -> None:
        """Add rows in one commit that is marked as the runs', none of which is in yet.

        ``files`` are Parquet files that are added as they are, each with what `lake.added_file` said of its rows.
        """
        self._write(table, rows, marked(run_ids, LOADED), files)

    @panics_as_errors()
    def remove_versions(self, table: Table, versions: pa.Table) -> None:
        """Take versions, named by the table's key and ``observed_at``, out of it. Files that older views read stay."""
        if versions.num_rows:
            with self._merging(table, versions) as merge:
                merge.when_matched_delete().execute()

    @panics_as_errors()
    def add_versions(self, table: Table, rows: pa.Table) -> None:
        """Add the rows of those versions of which the table has none."""
        if rows.num_rows:
            with self._merging(table, rows.cast(plain_schema(table))) as merge:
                merge.when_not_matched_insert_all().execute()

    @panics_as_errors()
    def correct_versions(self, table: Table, rows: pa.Table) -> None:
        """Put rows in the place of those of the same key and ``observed_at``. Files that older views read stay."""
        if rows.num_rows:
            with self._merging(table, rows.cast(plain_schema(table))) as merge:
                merge.when_matched_update_all().execute()

    @contextmanager
    def _merging(self, table: Table, versions: pa.Table) -> Iterator[TableMerger]:
        known_by = [name for name in (*table.full_key, "observed_at") if name in versions.column_names]
        same = (
            f"(version.{name} {'IS NOT DISTINCT FROM' if name in NULLABLE_KEYS else '='} source.{name})"
            for name in known_by
        )
        with self.committing(table) as delta:
            yield delta.merge(
                versions,
                " AND ".join(same),
                source_alias="source",
                target_alias="version",
                writer_properties=WRITER,
                commit_properties=COMMIT_ONCE,
            )

    def records(self, table: Table, *columns: str) -> list[tuple[Any, ...]]:
        """Return columns of an append-only table, oldest rows first."""
        files = self.files(table)
        if not files:
            return []
        with self._copying:  # once, and each of its columns once: a run asks for them a dozen times
            copy = self._copies.get(table.name)
            if copy is None or copy.files != files:
                with self.query() as query:
                    query.execute(
                        f"CREATE OR REPLACE TABLE copied_{table.name} AS FROM {table_sql(table, files)}"
                    )
                copy = self._copies[table.name] = _Copied(files, {})
            if columns not in copy.records:
                with self.query() as query:
                    copy.records[columns] = query.execute(
                        f"SELECT {', '.join(columns)} FROM copied_{table.name}"
                        f" ORDER BY {SEQUENCE.name} NULLS FIRST, observed_at"
                    ).fetchall()
            return list(copy.records[columns])

    def last_sequence(self, table: Table) -> int:
        """Return the sequence of what was written last to an append-only table; 0 where nothing was."""
        return max((number for (number,) in self.records(table, f"coalesce({SEQUENCE.name}, 0)")), default=0)

    def add_records(self, table: Table, records: list[dict[str, Any]]) -> None:
        """Add rows to an append-only table, all of one sequence."""
        self._write(table, self.in_sequence(table, records), COMMIT_ONCE)

    def in_sequence(self, table: Table, records: list[dict[str, Any]]) -> pa.Table:
        """Return rows of an append-only table as the ones that follow on those that are in it."""
        number = self.last_sequence(table) + 1
        rows = [{**record, SEQUENCE.name: number} for record in records]
        return pa.Table.from_pylist(rows, schema=plain_schema(table))

    @panics_as_errors()
    def _write(
        self,
        table: Table,
        rows: pa.RecordBatchReader | pa.Table | None,
        properties: CommitProperties,
        files: Mapping[Path, str] = MappingProxyType({}),
    ) -> None:
        with self.committing(table) as delta:
            if isinstance(self.folder, Path):
                folder = self.folder / table.name
                written = None if rows is None else write_added_file(delta, folder, rows)
                added = [add_as_it_is(delta, folder, file, log) for file, log in files.items()]
                added += [written] if written else []
                delta.create_write_transaction(
                    [*added], "append", delta.schema(), commit_properties=properties
                )
                delta.update_incremental()
            elif files or rows is None:
                raise ValueError(f"{table.name} is in a bucket: no file is added to it as it is")
            else:
                write_deltalake(
                    delta, rows, mode="append", writer_properties=WRITER, commit_properties=properties
                )

    @contextmanager
    def committing(self, table: Table) -> Iterator[DeltaTable]:
        """Yield a table to make one commit to, which then outlasts a crash of the machine.

        Where there is a copy of it, that is yielded, and the commit then put into the bucket.
        """
        copy = self._log_copies.get(table.name)
        delta = copy.delta if copy else self.table(table)
        ensure_lock_held(self.folder)
        before = _files_here(self.folder / table.name)
        with copy.pushing() if copy else nullcontext():
            yield delta
        if copy:
            self._files[table.name] = delta.version(), dict(stats_of_files(delta, copy.files()))
        settle(*map(Path, _files_here(self.folder / table.name) - before))

    def run_ids(self) -> set[str]:
        """Return the runs that are finished."""
        return {run_id for (run_id,) in self.records(RUNS, "run_id")}

    def _version(self, table: Table) -> int:
        is_noted = self.is_recalled and table.name not in self._tables
        return self._files[table.name][0] if is_noted else self.table(table).version()

    def recall(self, *, reads_logs: bool = False) -> None:
        """Take what this machine noted of the logs when it wrote last, if nobody has written since: to open all takes long.

        In a bucket each takes half a dozen requests and more; of the tables that are logs there are copies here. The newest
        commits are looked for all the same: where somebody has put back what was there before, they show it. Whoever
        ``reads_logs`` of a local lake all the same takes the note away, as it will not hold.
        """
        if isinstance(self.folder, Path):
            whose = str(self.folder.absolute())
        elif self.folder.bucket.lease:
            whose = self.folder.bucket.lease.follows
        else:
            return
        noted = take_noted(self.data.logs)
        if noted and noted.token == whose and noted.tables.keys() == {table.name for table in TABLES}:
            copies: dict[str, LogCopy] | None
            if isinstance(self.folder, Path):
                copies = {} if not reads_logs and is_as_noted(self.folder, noted) else None
            else:
                copies = open_copies(self.folder, self.data.log_copies, noted)
            if copies is not None:
                self._files, self._log_copies, self.is_recalled = dict(noted.tables), copies, True
                return
        if isinstance(self.folder, S3Path):
            shutil.rmtree(self.data.log_copies, ignore_errors=True)

    def note_logs(self) -> None:
        """Note what the logs say now, for `recall`. Where that cannot be, the next writer reads them."""
        with suppress(OSError):
            tables = {table.name: (self._version(table), self.file_stats(table)) for table in TABLES}
            if isinstance(self.folder, Path):
                whose = str(self.folder.absolute())
                tags = tags_of(self.folder, tables)
            elif self.folder.bucket.lease:
                whose = self.folder.bucket.lease.token
                tags = {name: copy.tag for name, copy in self._log_copies.items()}
            else:
                return
            with atomic_write(self.data.logs) as part:
                part.write_bytes(msgspec.json.encode(Logs(whose, tables, tags)))

    @panics_as_errors()
    def fence_previous_writer(self) -> None:
        """Commit nothing to every table, so that no commit which another writer began before can follow."""
        for table in TABLES:
            delta = self.table(table)
            delta.create_write_transaction([], "append", delta.schema())
            delta.update_incremental()


def _files_here(table: DataPath) -> set[str]:
    """Return the files of a table and its log that are on this machine: Delta leaves them to the system's cache."""
    if not isinstance(table, Path):
        return set()
    # As plain text: a table has hundreds of commits, and of files that older views read; pathlib takes ten times as long.
    found = set()
    for folder, ending in ((table, ".parquet"), (table / LOG, "")):
        if folder.is_dir():
            found |= {f"{folder}/{name}" for name in os.listdir(folder) if name.endswith(ending)}  # noqa: PTH208 - see above
    return found


def plain_schema(table: Table) -> pa.Schema:
    """Return a table's schema without what its columns mean: Delta refuses a row that says it in other words than it knows."""
    return pa.schema(field.remove_metadata() for field in table.schema)


def marked(run_ids: Sequence[str], version: int) -> CommitProperties:
    """Return the properties of a commit after which a table's log says ``version`` (`LOADED`, `REMOVED`) of the runs."""
    now = int(datetime.now(UTC).timestamp() * 1000)
    marks = [Transaction(run_id, version, now) for run_id in run_ids]
    return CommitProperties(max_commit_retries=0, app_transactions=marks)


def single_value(query: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """Return the one value of a query. All rows are taken, for an unfinished result keeps its connection busy."""
    return query.execute(sql).fetchall()[0][0]
