"""The lake: one Delta table for each table of `transforms.schemas`.

A version is appended only where an object changed, and a run's rows are in a table once, however often they
are loaded.
"""

import gc
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from flows.errors import RunFailed
from transforms.envelope import Page
from transforms.flatten import flatten
from transforms.schemas import ACCOUNTS, BALANCES, OBJECT_TABLES, REJECTS, RUNS, SEEN, SESSIONS, TABLES, Table

PAGES_A_BATCH = 10
"""Pages flattened at a time: few enough for the caches, enough to pay for the arrays."""

BATCHES_A_PART = 20
"""Batches to a staged Parquet part: some 20,000 accounts."""

OLD_LOG = "_delta_log.old"

WRITER = WriterProperties(compression="ZSTD", compression_level=1)
MEMORY = "1GB"
"""What DuckDB may hold of a run before it spills to the data folder."""


class Lake:
    """The Delta tables under ``folder`` (``lake/`` of the data folder)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, table: Table) -> DeltaTable:
        """The Delta table, created empty where it is not there yet.

        Raises:
            RunFailed: its log cannot be read.
        """
        path = self.folder / table.name
        if (path / OLD_LOG).exists() and not (path / "_delta_log").exists():
            (path / OLD_LOG).replace(
                path / "_delta_log"
            )  # killed in the middle of an erasure, which is to be repeated
        try:
            if not DeltaTable.is_deltatable(str(path)):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                return DeltaTable.create(
                    str(path), table.schema, mode="ignore", name=table.name, description=table.meaning
                )
            return DeltaTable(str(path))
        except (DeltaError, ValueError, OSError) as error:
            reason = str(error).split("\n", 1)[0]
            raise RunFailed(
                f"The table {path} cannot be read: {reason}",
                "Its log is damaged: restore it from a backup. Nothing was written, and the views still answer.",
            ) from error

    def files(self, table: Table) -> list[str]:
        """The Parquet files that hold the table now, as absolute paths."""
        return [uri.removeprefix("file://") for uri in self.table(table).file_uris()]

    def holds(self, table: Table, run_id: str) -> bool:
        """Whether the run's rows are in the table."""
        return self.table(table).transaction_version(run_id) is not None

    def append(self, table: Table, rows: pa.RecordBatchReader | pa.Table, run_id: str) -> None:
        """Add rows in one commit that is marked as the run's; nothing happens where it is in already."""
        delta = self.table(table)
        if delta.transaction_version(run_id) is not None:
            return
        write_deltalake(
            delta,
            rows,
            mode="append",
            writer_properties=WRITER,
            commit_properties=CommitProperties(app_transactions=[Transaction(run_id, 1)]),
        )

    def load(self, pages: Iterable[Page], run_id: str) -> dict[str, int]:
        """Pages → what changed, in every table but ``runs``. How many objects were seen and rejected.

        The pages of a session must stand together. Loading the same pages again changes nothing.
        """
        with self._staging() as folder:
            stage(pages, run_id, folder)
            with self._query(folder) as query:
                for table in OBJECT_TABLES:
                    staged = staged_files(folder, table)
                    if staged and not self.holds(table, run_id):
                        changed = query.sql(changed_sql(table, staged, self.files(table)))
                        self.append(table, changed.to_arrow_reader(50_000), run_id)
                self._reconcile(query, staged_files(folder, BALANCES), run_id)
                return {
                    name: _count(query, staged_files(folder, table), what)
                    for name, table, what in (
                        ("sessions_seen", SESSIONS, "*"),
                        ("accounts_seen", ACCOUNTS, "DISTINCT account_id"),
                        ("rejected", REJECTS, "*"),
                    )
                }

    def _reconcile(self, query: duckdb.DuckDBPyConnection, staged: list[str], run_id: str) -> None:
        """Compare the run's balances with the lake's, per currency and to the unit.

        Raises:
            RunFailed: they differ. The run is not finished, and readers stay on the one before.
        """
        if not staged:
            return
        wrong = query.execute(reconcile_sql(staged, self.files(BALANCES))).fetchall()
        if wrong:
            currency, seen, known = wrong[0]
            raise RunFailed(
                f"Run {run_id}: the balances in {currency} add up to {seen} on its pages and to {known} in the lake.",
                "This is a bug in fincon; the views still answer with the run before. Please report it.",
            )

    def finish(self, run: dict[str, Any]) -> dict[str, Any]:
        """Write the run's row: from here on its rows count. The row, with ``rows_added`` from the tables."""
        run_id = run["run_id"]
        added = sum(self._rows_of(table, run_id) for table in OBJECT_TABLES)
        row = {**run, "rows_added": added, "observed_at": datetime.now(UTC)}
        self.append(RUNS, pa.Table.from_pylist([row], schema=RUNS.schema), run_id)
        return row

    def forget(self, run_id: str) -> None:
        """Take a run's rows out of every table again: its load can never be finished."""
        for table in OBJECT_TABLES:
            if self.holds(table, run_id):
                self.table(table).delete(f"run_id = '{run_id}'")

    def records(self, table: Table, *columns: str) -> list[tuple[Any, ...]]:
        """Columns of an append-only table, oldest rows first."""
        files = self.files(table)
        if not files:
            return []
        with duckdb.connect() as query:
            query.execute("SET TimeZone = 'UTC'")
            return query.execute(
                f"SELECT {', '.join(columns)} FROM read_parquet(?) ORDER BY observed_at", [files]
            ).fetchall()

    def add_records(self, table: Table, records: list[dict[str, Any]]) -> None:
        """Rows into an append-only table."""
        rows = pa.Table.from_pylist(records, schema=table.schema)
        write_deltalake(self.table(table), rows, mode="append", writer_properties=WRITER)

    def erase(self, table: Table, identities: list[str]) -> dict[str, int]:
        """Take out every row that names one of ``identities``; how many, by the run that had brought them.

        Files are written anew under their own names, those too that older views still read, so that no reader
        loses a file. The log is made anew as well: the old one holds identities in its statistics.
        """
        folder = self.folder / table.name
        self.table(table)  # raises if its log cannot be read
        match = _names_any(table, identities)
        erased: Counter[str] = Counter()
        with duckdb.connect(config={"memory_limit": MEMORY}) as query:
            query.execute("SET TimeZone = 'UTC'")
            active = set(self.files(table))
            for path in sorted(folder.glob("*.parquet")):
                found = query.execute(
                    f"SELECT run_id, count(*) FROM read_parquet(?) WHERE {match} GROUP BY ALL", [str(path)]
                ).fetchall()
                if found:
                    _without_rows(query, path, match)
                    erased.update(dict(found) if str(path) in active else {})
        if erased:
            self._new_log(table, sorted(active))
        return dict(erased)

    def _new_log(self, table: Table, files: list[str]) -> None:
        """A log that holds the files as they are now, and no history."""
        folder = self.folder / table.name
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=self.folder.parent) as aside:
            delta = DeltaTable.create(aside, table.schema, name=table.name, description=table.meaning)
            adds: list[AddAction | RemoveAction] = [
                AddAction(
                    path=Path(file).name,
                    size=Path(file).stat().st_size,
                    partition_values={},
                    modification_time=int(Path(file).stat().st_mtime * 1000),
                    data_change=True,
                    stats=json.dumps({"numRecords": pq.read_metadata(file).num_rows}),
                )
                for file in files
            ]
            delta.create_write_transaction(adds, "append", delta.schema())
            old, new = folder / OLD_LOG, Path(aside) / "_delta_log"
            shutil.rmtree(old, ignore_errors=True)
            (folder / "_delta_log").replace(old)
            new.replace(folder / "_delta_log")
            shutil.rmtree(old)

    def compact(self, retention: timedelta) -> dict[str, tuple[int, int]]:
        """Merge small files, and remove those that no table has needed for ``retention``.

        How many files each table had and has. Views made before go on reading the old files until then.
        """
        sizes = {}
        for table in TABLES:
            delta = self.table(table)
            before = len(delta.file_uris())
            if before > 1:
                delta.optimize.compact(writer_properties=WRITER)
            hours = int(retention.total_seconds() // 3600)
            delta.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=True)
            delta.create_checkpoint()
            delta.cleanup_metadata()
            sizes[table.name] = (before, len(self.files(table)))
        return sizes

    def run_ids(self) -> set[str]:
        """The runs that are finished."""
        return {run_id for (run_id,) in self.records(RUNS, "run_id")}

    def _rows_of(self, table: Table, run_id: str) -> int:
        files = self.files(table)
        if not files:
            return 0
        with duckdb.connect() as query:
            found = query.execute(
                "SELECT count(*) FROM read_parquet(?) WHERE run_id = ?", [files, run_id]
            ).fetchone()
        return int(found[0]) if found else 0

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder beside the lake that is gone when the load ends."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=self.folder.parent) as folder:
            yield Path(folder)

    @contextmanager
    def _query(self, spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB in bounded memory that spills into ``spill``."""
        config: dict[str, Any] = {"memory_limit": MEMORY, "temp_directory": str(spill / "spill")}
        with duckdb.connect(config=config) as query:
            query.execute("SET TimeZone = 'UTC'")
            yield query


def stage(pages: Iterable[Page], run_id: str, folder: Path) -> None:
    """Flatten pages into Parquet parts in ``folder``, `BATCHES_A_PART` batches to a part."""
    parts: dict[str, list[pa.Table]] = {table.name: [] for table in OBJECT_TABLES}
    number = 0
    for number, batch in enumerate(batches(pages), start=1):
        with _collector_paused():
            flat = flatten(batch, run_id)
        for name, rows in flat.items():
            parts[name].append(rows)
        if number % BATCHES_A_PART == 0:
            _write_parts(parts, folder, number)
    _write_parts(parts, folder, number + 1)


def _write_parts(parts: dict[str, list[pa.Table]], folder: Path, number: int) -> None:
    for name, tables in parts.items():
        rows = pa.concat_tables(tables) if tables else None
        if rows:
            path = folder / f"{name}-{number:06d}.parquet"
            pq.write_table(rows, path, compression="lz4", use_dictionary=False, write_statistics=False)
        tables.clear()


def staged_files(folder: Path, table: Table) -> list[str]:
    """The parts that `stage` wrote for a table, in order; none when the run brought no row of it."""
    return sorted(str(path) for path in folder.glob(f"{table.name}-[0-9]*.parquet"))


def _count(query: duckdb.DuckDBPyConnection, files: list[str], what: str) -> int:
    if not files:
        return 0
    found = query.execute(f"SELECT count({what}) FROM read_parquet(?)", [files]).fetchone()
    return int(found[0]) if found else 0


def _names_any(table: Table, identities: list[str]) -> str:
    """SQL that is true of a row that names one of the ids, in a column of its own or somewhere in JSON."""
    plain = "(" + ", ".join(f"'{identity}'" for identity in identities) + ")"
    either = "|".join(identities)
    texts = [c for c in table.columns if c.type == pa.string()]
    tests = [
        f"regexp_matches({c.name}, '\\b({either})\\b')" if c.json else f"{c.name} IN {plain}" for c in texts
    ]
    return "coalesce(" + " OR ".join(f"coalesce({test}, false)" for test in tests) + ", false)"


def _without_rows(query: duckdb.DuckDBPyConnection, path: Path, match: str) -> None:
    """Write a Parquet file anew without the rows that match; it is swapped in whole."""
    part = path.with_suffix(".part")
    source = str(path).replace("'", "''")
    query.execute(
        f"COPY (FROM read_parquet('{source}') WHERE NOT {match}) TO '{str(part).replace(chr(39), chr(39) * 2)}'"
        " (FORMAT parquet, COMPRESSION zstd)"
    )
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def batches(pages: Iterable[Page]) -> Iterator[list[Page]]:
    """Pages in lots of `PAGES_A_BATCH` or a little more, so that no session is split."""
    pages = iter(pages)
    while batch := list(islice(pages, PAGES_A_BATCH)):
        for page in pages:
            if not page.header.parent or page.header.parent != batch[-1].header.parent:
                pages = chain([page], pages)
                break
            batch.append(page)
        yield batch


def changed_sql(table: Table, staged: list[str], files: list[str]) -> str:
    """SQL for the staged rows of versions that differ from the version before them.

    The version before is the one seen earlier in the same run, or else the latest in ``files``. Rows of one
    version are compared together, so that a currency that is gone is a change. A version's ``observed_at`` is
    put just behind the latest that is known, should Stripe's clock not have moved between two runs.
    """
    key = ", ".join(table.key)
    rest = [
        c.name for c in table.columns if c.name not in {*table.key, *table.member, *(c.name for c in SEEN)}
    ]
    fields = [*table.member, *rest]
    content = "{" + ", ".join(f"'{name}': {name}" for name in fields) + "}" if fields else "true"
    grouped = f"list_sort(list(DISTINCT {content}))"
    version = f"SELECT {key}, run_id, observed_at, {grouped if table.member else content} AS content FROM"
    group = "GROUP BY ALL" if table.member else ""
    known = f"({latest_sql(table, files)})" if files else f"(FROM read_parquet({staged!r}) LIMIT 0)"
    same = " AND ".join(f"v.{name} IS NOT DISTINCT FROM k.{name}" for name in table.key)
    columns = ", ".join(f"content.{c.name}" if c.name in fields else c.name for c in table.columns)
    return f"""
        WITH versions AS ({version} read_parquet({staged!r}) {group}),
        known AS ({version} {known} {group}),
        steps AS (
            SELECT *, lag(content) OVER one AS before, row_number() OVER one AS step
            FROM versions WINDOW one AS (PARTITION BY {key} ORDER BY observed_at)
        )
        SELECT {columns} FROM (
            SELECT v.* REPLACE (
                greatest(v.observed_at, k.observed_at + to_microseconds(v.step)) AS observed_at
                {", unnest(v.content) AS content" if table.member else ""}
            )
            FROM steps v LEFT JOIN known k ON {same}
            WHERE v.content IS DISTINCT FROM CASE v.step WHEN 1 THEN k.content ELSE v.before END
        )"""


def latest_sql(table: Table, files: list[str]) -> str:
    """SQL for the rows of each object's latest version in ``files``."""
    key = ", ".join(table.key)
    same = " AND ".join(
        f"version.{name} IS NOT DISTINCT FROM newest.{name}" for name in (*table.key, "observed_at")
    )
    source = f"read_parquet({files!r}, union_by_name = true)"
    return f"""FROM {source} version
        SEMI JOIN (SELECT {key}, max(observed_at) AS observed_at FROM {source} GROUP BY ALL) newest
        ON {same}"""


def reconcile_sql(staged: list[str], files: list[str]) -> str:
    """SQL for the currencies whose sums differ between what a run saw last of each account and what the lake holds."""
    return f"""
        WITH seen AS (SELECT DISTINCT * EXCLUDE (run_id) FROM ({latest_sql(BALANCES, staged)})),
        known AS (FROM ({latest_sql(BALANCES, files)}) SEMI JOIN seen USING (account_id)),
        sums AS (
            SELECT currency, 'seen' AS side, (count(*), sum(current), sum(available), sum(used)) AS sums
            FROM seen GROUP BY currency
            UNION ALL
            SELECT currency, 'known', (count(*), sum(current), sum(available), sum(used)) FROM known GROUP BY currency
        )
        SELECT currency, max(sums) FILTER (side = 'seen') AS seen, max(sums) FILTER (side = 'known') AS known
        FROM sums GROUP BY currency HAVING seen IS DISTINCT FROM known"""


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without the garbage collector, which takes half the time of flattening and finds nothing in it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
