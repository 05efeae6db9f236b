"""The lake: one Delta table for each table of `transforms.schemas`.

A version is appended only where an object changed, and a run's rows are in a table once, however often they
are loaded.
"""

import json
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from flows.bucket import Folder, work_folder
from flows.errors import RunFailed, reason_of
from flows.staging import stage, staged_files
from flows.store import cut_short, delta_options, delta_settings, make, new_file, querying, still_ours
from flows.versions import changed_sql, latest_sql, parquet, reconcile_sql, text
from transforms.envelope import Origin, Page
from transforms.reconcile import Sums
from transforms.schemas import ACCOUNTS, BALANCES, OBJECT_TABLES, REJECTS, RUNS, SESSIONS, TABLES, Table

SNAPSHOT_ROWS = 20_000
"""Versions since the last snapshot that are cheaper to read than a new snapshot is to write."""

A_FILE_COUNTS = 1_000
"""To open a file takes as long as to read so many versions: many small runs are a reason for a snapshot too."""

SNAPSHOT_FILE = "snapshots.json"

LOADED, FORGOTTEN = 1, 0
"""What a table's log says of a run: its rows are in; or they were, and are out again."""

ALONE = CommitProperties(max_commit_retries=0)
"""There is one writer: a commit that finds another's in its way is not tried again behind it."""

WRITER = WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=122_880)
"""A row group is held in memory until it is written; this many rows are what DuckDB reads at a time."""

MEMORY = "200MB"
"""What DuckDB may hold of a run before it spills to the data folder."""

SPILL = ".staging-duckdb-"
"""How the folder begins into which it spills; each process has its own."""


class Snapshot(msgspec.Struct, frozen=True):
    """The latest state of a table when its files were ``covers``, as the files ``base``; relative to the data folder."""

    covers: list[str]
    base: list[str]


class Current(NamedTuple):
    """Where the latest state of a table is: ``base`` has each object once, ``tail`` came since, ``active`` is all."""

    base: list[str]
    tail: list[str]
    active: list[str]

    def sql(self, table: Table) -> str:
        """The query for it."""
        base, tail = (parquet(files) if files else "" for files in (self.base, self.tail))
        return latest_sql(table, base, tail)


class Lake:
    """The Delta tables under ``folder`` (``lake/`` of the data folder)."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.snapshots = folder.parent / "snapshots"
        self.work = work_folder(folder.parent)
        self._tables: dict[str, DeltaTable] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if "_duckdb" in vars(self):
            self._duckdb.close()

    @cached_property
    def _duckdb(self) -> duckdb.DuckDBPyConnection:
        """One DuckDB for all queries, in bounded memory: to start one takes longer than most of them."""
        spill = str(self.work / (SPILL + secrets.token_hex(4)))
        return querying(self.folder, memory_limit=MEMORY, temp_directory=spill)

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
        still_ours(self.folder)
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
                    changed = changed_sql(table, staged, self._compared_with(query, table, staged, new))
                    rows = query.sql(changed).to_arrow_reader(50_000)
                    self.append(table, rows, [o.run_id for o in new])
            self._reconcile(query, staged_files(folder, BALANCES, origins), origins)
            counted = {
                name: _count(query, staged_files(folder, table, origins), what)
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

    def current(self, table: Table) -> "Current":
        """The files from which the latest state is read: a snapshot of it, and what came since."""
        active = self.files(table)
        snapshot = self._snapshots().get(table.name)
        if snapshot:
            base, covers = self._absolute(snapshot.base), set(self._absolute(snapshot.covers))
            if covers <= set(active) and all((self.folder.parent / file).exists() for file in snapshot.base):
                return Current(base, sorted(set(active) - covers), active)
        return Current([], active, active)

    def renew_snapshots(self, *, always: bool = False) -> None:
        """Take a new snapshot of each table's latest state where what came since has grown past a quarter of it."""
        snapshots = self._snapshots()
        for table in OBJECT_TABLES:
            now = self.current(table)
            since, before = self._rows_in(now.tail), self._rows_in(now.base)
            cost = since + len(now.tail) * A_FILE_COUNTS
            if since and (always or cost > max(SNAPSHOT_ROWS, before // 4)):
                base = self._snapshot(table, now)
                snapshots[table.name] = Snapshot(self._relative(now.active), self._relative(base))
        make(self.snapshots)
        with new_file(self.snapshots / SNAPSHOT_FILE) as part:
            part.write_bytes(msgspec.json.encode(snapshots))

    def _snapshot(self, table: Table, now: "Current") -> list[str]:
        """The latest state as files: the table's own where each object has one version, else a copy."""
        with self.query() as query:
            key = ", ".join(table.whole_key)
            once = f"SELECT count(*) = count(DISTINCT ({key})) FROM (SELECT DISTINCT {key}, observed_at FROM {parquet(now.tail)})"
            if not now.base and _value(query, once):
                return now.tail
            make(self.snapshots)
            path = self.snapshots / f"{table.name}-{secrets.token_hex(8)}.parquet"
            rows = query.sql(now.sql(table)).to_arrow_reader(50_000)
            with (
                new_file(path) as part,
                pq.ParquetWriter(part, rows.schema, compression="zstd", compression_level=1) as writer,
            ):
                for batch in rows:
                    writer.write_batch(batch)
            return [str(path)]

    def _relative(self, files: list[str]) -> list[str]:
        return [file.removeprefix(f"{self.folder.parent}/") for file in files]

    def _absolute(self, files: list[str]) -> list[str]:
        return [str(self.folder.parent / file) for file in files]

    def _snapshots(self) -> dict[str, "Snapshot"]:
        try:
            return msgspec.json.decode(
                (self.snapshots / SNAPSHOT_FILE).read_bytes(), type=dict[str, Snapshot]
            )
        except (FileNotFoundError, msgspec.DecodeError):
            return {}  # it is derived: without it the latest state is read from all versions

    def complete_until(self) -> dict[str, int]:
        """Stripe account → up to when (microseconds, Stripe's clock) all that happened to its accounts is in.

        Those are left out of which no run has listed all accounts.
        """
        moments = self.records(RUNS, "stripe_account", "epoch_us(complete_until)")
        return dict(sorted((whose, at) for whose, at in moments if at is not None))

    def last_pii(self) -> str:
        """What the last run that made a choice about personal data chose: `transforms.personal.Privacy.mark`; or empty."""
        return next((pii for (pii,) in reversed(self.records(RUNS, "pii")) if pii), "")

    def accounts_a_page_apart(self, stripe_account: str, size: int) -> list[str]:
        """The last account of each page of ``size`` that the Stripe account's listing would have: newest first."""
        now = self.current(ACCOUNTS)
        if not now.active:
            return []
        known = (
            f"SELECT account_id, any_value(created_at) AS created_at FROM {parquet(now.active)}"
            " WHERE stripe_account = ? GROUP BY account_id"
        )
        placed = f"SELECT account_id, row_number() OVER (ORDER BY created_at DESC, account_id) AS place FROM ({known})"
        with self.query() as query:
            found = query.execute(
                f"SELECT account_id FROM ({placed}) WHERE place % {size} = 0 ORDER BY place", [stripe_account]
            )
            return [account_id for (account_id,) in found.fetchall()]

    def newest(self) -> int:
        """The newest ``observed_at`` of any version, in microseconds since the Unix epoch; 0 where there is none."""
        files = [file for table in OBJECT_TABLES for file in self.files(table)]
        if not files:
            return 0
        with self.query() as query:
            found = query.execute(
                "SELECT epoch_us(max(observed_at)) FROM read_parquet(?)", [files]
            ).fetchone()
        return int(found[0]) if found and found[0] else 0

    def _compared_with(
        self, query: duckdb.DuckDBPyConnection, table: Table, staged: str, origins: Sequence[Origin]
    ) -> str:
        """The versions that staged rows are compared with: the latest, or all where some are newer than the rows.

        Rows are older than what is known when they come from events, or when Stripe's clock was set back.
        Other Stripe accounts than the staged rows' are left out; their files are hardly touched.
        """
        now = self.current(table)
        if not now.active:
            return ""
        own = f"WHERE stripe_account IN ({_listed({o.stripe_account for o in origins})})"
        versions = f"(FROM {parquet(now.active)} {own})"
        late = f"(SELECT min(observed_at) FROM {staged}) <= (SELECT max(observed_at) FROM {versions})"
        return versions if _value(query, f"SELECT {late}") else f"(FROM ({now.sql(table)}) {own})"

    def _reconcile(
        self, query: duckdb.DuckDBPyConnection, staged: list[str], origins: Sequence[Origin]
    ) -> None:
        """Compare the runs' balances with the lake's, per currency and to the unit.

        Raises:
            RunFailed: they differ. No run is finished, and readers stay on the ones before.
        """
        if not staged:
            return
        known = self.current(BALANCES).sql(BALANCES)
        wrong = query.execute(reconcile_sql(parquet(staged), known)).fetchall()
        if wrong:
            currency, seen, held = wrong[0]
            raise RunFailed(
                f"Run {', '.join(o.run_id for o in origins[:3])}: the balances in {currency} add up to {seen} on its pages"
                f" and to {held} in the lake.",
                "This is a bug in fincon; the views still answer with the run before. Please report it.",
            )

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
                still_ours(self.folder)
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
        still_ours(self.folder)
        write_deltalake(delta, rows, mode="append", writer_properties=WRITER, commit_properties=ALONE)

    def erase(self, table: Table, identities: list[str]) -> dict[str, int]:
        """Take out every row that names one of ``identities``; how many, by the run that had brought them.

        Files are written anew under their own names, those too that older views still read, so that no reader
        loses a file. The log is made anew as well: the old one holds identities in its statistics.
        """
        self.table(table)  # raises if its log cannot be read
        match = _names_any(table, identities)
        erased: Counter[str] = Counter()
        active = set(self.files(table))
        copies = self.snapshots.glob(f"{table.name}-*.parquet")
        with self.query() as query:
            for path in [*(self.folder / table.name).glob("*.parquet"), *copies]:
                found = query.execute(
                    f"SELECT run_id, count(*) FROM read_parquet(?) WHERE {match} GROUP BY ALL", [str(path)]
                ).fetchall()
                if found:
                    still_ours(self.folder)
                    _without_rows(query, path, match)
                    erased.update(dict(found) if str(path) in active else {})
        self._renew_log(table)
        return dict(erased)

    def _renew_log(self, table: Table) -> None:
        """Make the log begin with the files as they are now; whatever it said of them before is gone.

        They are added once more, which replaces what was known of them; a checkpoint follows; then all before it goes.
        So the log is whole at every moment, and runs keep their marks.
        """
        folder = self.folder / table.name
        delta = self.table(table)
        stats = {str(path): path.stat() for path in folder.glob("*.parquet")}
        adds: list[AddAction | RemoveAction] = [
            AddAction(
                path=file.rpartition("/")[2],
                size=stats[file].st_size,
                partition_values={},
                modification_time=int(stats[file].st_mtime * 1000),
                data_change=False,
                stats=json.dumps({"numRecords": self._rows_in([file])}),
            )
            for file in self.files(table)
        ]
        still_ours(self.folder)
        delta.create_write_transaction(adds, "append", delta.schema(), commit_properties=ALONE)
        delta.update_incremental()
        delta.create_checkpoint()
        kept = f"{delta.version():020}."
        for path in (folder / "_delta_log").glob("*"):
            if not path.name.startswith((kept, "_last_checkpoint")):
                path.unlink()

    def shut_out(self) -> None:
        """A commit to every table, so that none which another writer began before can follow."""
        for table in TABLES:
            delta = self.table(table)
            delta.create_write_transaction([], "append", delta.schema())
            delta.update_incremental()

    def compact(self, retention: timedelta) -> dict[str, tuple[int, int]]:
        """Merge small files, and remove those that no table has needed for ``retention``.

        How many files each table had and has. Views made before go on reading the old files until then.
        """
        sizes = {}
        for table in TABLES:
            delta = self.table(table)
            before = len(delta.file_uris())
            if before > 1:
                still_ours(self.folder)
                delta.optimize.compact(writer_properties=WRITER, commit_properties=ALONE)
            hours = int(retention.total_seconds() // 3600)
            delta.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=True)
            delta.create_checkpoint()
            delta.cleanup_metadata()
            sizes[table.name] = (before, len(self.files(table)))
        self.renew_snapshots(always=True)
        self._drop_old_snapshots(datetime.now(UTC) - retention)
        return sizes

    def _drop_old_snapshots(self, before: datetime) -> None:
        needed = {path for snapshot in self._snapshots().values() for path in self._absolute(snapshot.base)}
        for path in self.snapshots.glob("*.parquet"):
            if str(path) not in needed and path.stat().st_mtime <= before.timestamp():
                path.unlink()

    def run_ids(self) -> set[str]:
        """The runs that are finished."""
        return {run_id for (run_id,) in self.records(RUNS, "run_id")}

    def last_runs(self) -> dict[tuple[str, str], str]:
        """(Stripe account, mode) → the last finished run."""
        runs = self.records(RUNS, "stripe_account", "mode", "run_id")
        return {(whose, mode): run_id for whose, mode, run_id in sorted(runs)}

    def _rows_in(self, files: list[str]) -> int:
        """How many rows Parquet files have, by their footers."""
        with self.query() as query:
            return int(_value(query, f"SELECT count(*) FROM {parquet(files)}")) if files else 0

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
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=self.work) as folder:
            yield Path(folder)


def _mark(run_ids: Sequence[str], version: int) -> CommitProperties:
    marks = [Transaction(run_id, version) for run_id in run_ids]
    return CommitProperties(max_commit_retries=0, app_transactions=marks)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(text(value) for value in sorted(values))


def _count(query: duckdb.DuckDBPyConnection, files: list[str], what: str) -> dict[str, int]:
    """Run → how many."""
    if not files:
        return {}
    return dict(query.execute(f"SELECT run_id, count({what}) FROM {parquet(files)} GROUP BY ALL").fetchall())


def _value(query: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The one value of a query. All rows are taken, for an unfinished result keeps its connection busy."""
    return query.execute(sql).fetchall()[0][0]


def _names_any(table: Table, identities: list[str]) -> str:
    """SQL that is true of a row that names one of the ids, in a column of its own or somewhere in JSON."""
    plain = "(" + ", ".join(f"'{identity}'" for identity in identities) + ")"
    either = "|".join(identities)
    texts = [c for c in table.columns if c.type == pa.string()]
    tests = [
        f"regexp_matches({c.name}, '\\b({either})\\b')" if c.json else f"{c.name} IN {plain}" for c in texts
    ]
    return "coalesce(" + " OR ".join(f"coalesce({test}, false)" for test in tests) + ", false)"


def _without_rows(query: duckdb.DuckDBPyConnection, path: Folder, match: str) -> None:
    """Write a Parquet file anew without the rows that match; it is swapped in whole."""
    with new_file(path) as part:
        kept = f"FROM read_parquet({text(str(path))}) WHERE NOT {match}"
        query.execute(f"COPY ({kept}) TO {text(str(part))} (FORMAT parquet, COMPRESSION zstd)")
