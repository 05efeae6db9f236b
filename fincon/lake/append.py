"""Add what runs saw: versions that differ from the one before, each run's once, however often it is loaded."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from fincon.errors import UnloadableRun
from fincon.lake.final_parts import final_and_others, log_of_part
from fincon.lake.sightings import known_sql, load_sightings, newest_sighting, seen_sql
from fincon.lake.snapshots import LatestFiles, latest_files
from fincon.lake.staging import listed_files, staged_files
from fincon.lake.tables import ROWS_A_BATCH, Lake, single_value
from fincon.lake.take_back import count_superseded, keep_versions, superseded
from fincon.lake.version_sql import (
    changed_sql,
    first_versions_sql,
    from_template,
    late_sql,
    latest_sql,
    partition_clauses,
    read_parquet_sql,
    reconcile_sql,
    semi_join_objects,
    sql_literals,
    table_sql,
)
from fincon.transforms.page import Origin
from fincon.transforms.reconcile import Sums
from fincon.transforms.schemas import (
    ACCOUNTS,
    ATTEMPTS,
    BALANCES,
    ERASURES,
    OBJECT_TABLES,
    REJECTS,
    RUNS,
    SESSIONS,
    Table,
)

COUNTED = {
    "sessions_seen": (SESSIONS, "*"),
    "accounts_seen": (ACCOUNTS, "DISTINCT CASE WHEN absent_since IS NULL THEN account_id END"),
    "rejected": (REJECTS, "*"),
}
"""Column of ``runs`` → the staged table in which it is counted, and what is."""


def load_staged(
    lake: Lake,
    folder: Path,
    origins: Sequence[Origin],
    go_on: Callable[[], object] = lambda: None,
    on_late: Callable[[], object] = lambda: None,
) -> dict[str, dict[str, int]]:
    """Add what changed of what runs have staged under ``folder`` to every table but ``runs``, one commit a table.

    Returns run → how many sessions and accounts it saw, and how many objects were rejected. Loading a run again
    changes nothing. ``go_on`` is called before each table; where it raises, what is in is taken back. ``on_late`` is called
    where they may have seen something that is older than what was known.

    Raises:
        UnloadableRun: the lake's balances do not add up to what was staged.
    """
    lake.expect([file for table in OBJECT_TABLES for file in staged_files(folder, table, origins)])
    for table in OBJECT_TABLES:
        go_on()
        if not staged_files(folder, table, origins):
            continue
        new = [o for o in origins if not lake.contains_run(table, o.run_id)]
        staged = staged_files(folder, table, new)
        if staged:
            final, others = final_and_others(staged)
            with lake.query() as query:
                _ensure_unknown(lake, query, table, final, new)
                rows = None
                if others:
                    changed, is_late = _changed_rows(lake, query, table, staged, new)
                    if is_late:
                        on_late()
                    rows = _where_any(changed)
                if rows or final:  # else there is nothing to commit, nor to be found there another time
                    logs = {Path(file): log_of_part(file) for file in final}
                    lake.append(table, rows, [o.run_id for o in new], logs)
            lake.release_memory_after(others)
    final, balances = final_and_others(staged_files(folder, BALANCES, origins))
    _reconcile_final(lake, final, balances, origins)
    _reconcile(lake, balances, origins)
    lake.release_memory_after([*final, *balances])
    counted = {
        name: _count_by_run(lake, staged_files(folder, table, origins), table, what)
        for name, (table, what) in COUNTED.items()
    }
    listed = listed_files(folder, origins)
    counted["accounts_seen"].update(
        _count_by_run(lake, listed, ACCOUNTS, "DISTINCT CASE WHEN unchanged THEN account_id END")
    )
    return {o.run_id: {name: by_run[o.run_id] for name, by_run in counted.items()} for o in origins}


def _ensure_unknown(
    lake: Lake,
    query: duckdb.DuckDBPyConnection,
    table: Table,
    final: Sequence[str],
    origins: Sequence[Origin],
) -> None:
    """Make sure that nothing is known of those whose rows are added as they are, as there was not when they were staged.

    Raises:
        UnloadableRun: something is.
    """
    runs = {Path(file).parent.name for file in final}
    added = [origin for origin in origins if origin.run_id in runs]
    if added and _any_is_known(query, lake.files(table), _whose(o.stripe_account for o in added)):
        raise UnloadableRun(
            f"Run {', '.join(o.run_id for o in added[:3])}: its Stripe account has rows in the table {table.name} now.",
            "Make sure that no other program writes to the data folder.",
        )


def is_unknown(lake: Lake, origin: Origin) -> bool:
    """Return whether no table has a row of a run's Stripe account."""
    whose = _whose([origin.stripe_account])
    with lake.query() as query:
        return not any(_any_is_known(query, lake.files(table), whose) for table in OBJECT_TABLES)


def _whose(stripe_accounts: Iterable[str]) -> str:
    return f"stripe_account IN ({sql_literals(sorted(set(stripe_accounts)))})"


def _changed_rows(
    lake: Lake, query: duckdb.DuckDBPyConnection, table: Table, staged: list[str], origins: Sequence[Origin]
) -> tuple[pa.RecordBatchReader, bool]:
    """Return the staged rows of versions that differ from the one before, worked out part by part as they are read.

    And whether some of them may be older than what was known. Those in final parts are known before the others.
    """
    final, files = final_and_others(staged)
    now = latest_files(lake, table)
    known_before = LatestFiles(now.snapshot, [*now.since, *final], [*now.all, *final])
    # Other Stripe accounts' files are hardly touched: their statistics say that they hold none of these.
    whose = _whose(o.stripe_account for o in origins)
    count = lake.count_rows(files)
    clauses = partition_clauses(table, count)
    load_sightings(lake, query)
    is_late = _something_newer_is_known(query, files, now.all, whose)
    if is_late or _leaves_something_open(query, files):
        for clause in clauses:
            _work_out_late(query, table, read_parquet_sql(files, clause), known_before, whose)
        keep_versions(lake, query, table, now.all)
        lake.correct_versions(table, query.sql("FROM corrected").to_arrow_table())
        _remove_superseded(lake, query, table, origins)
        return query.sql("FROM late_rows").to_arrow_reader(ROWS_A_BATCH), is_late

    are_new = not final and not _any_is_known(query, now.all, whose)
    is_of_all = not final and _is_of_all(lake, table, now, count)

    def changed(clause: str) -> pa.RecordBatchReader:
        staged = read_parquet_sql(files, clause)
        # As in a first listing, where there is nothing to compare.
        if are_new and _each_is_seen_once(query, table, staged):
            return query.sql(first_versions_sql(table, staged)).to_arrow_reader(ROWS_A_BATCH)
        of_same = clause or "WHERE true" if is_of_all else f"{semi_join_objects(table, staged)} WHERE true"
        known = f"({known_before.sql(table, f'{of_same} AND {whose}')})" if known_before.all else ""
        return query.sql(changed_sql(table, staged, known)).to_arrow_reader(ROWS_A_BATCH)

    first = changed(clauses[0])  # it has the schema
    rest = (batch for clause in clauses[1:] for batch in changed(clause))
    return pa.RecordBatchReader.from_batches(first.schema, chain(first, rest)), False


def _is_of_all(lake: Lake, table: Table, now: LatestFiles, staged_rows: int) -> bool:
    """Return whether so many staged rows are of most objects that are known: to read all of them is cheaper than to pick."""
    return lake.count_table_rows(table, now.all) <= 2 * staged_rows


def _where_any(rows: pa.RecordBatchReader) -> pa.RecordBatchReader | None:
    """Return a reader of the same rows; None where it has none."""
    first = next((batch for batch in rows if batch.num_rows), None)
    return first and pa.RecordBatchReader.from_batches(rows.schema, chain([first], rows))


def _something_newer_is_known(
    query: duckdb.DuckDBPyConnection, staged: list[str], known: list[str], whose: str
) -> bool:
    """Return whether something was known, or only seen, later than the oldest staged row: those come from events."""
    oldest = single_value(query, f"SELECT min(observed_at) FROM {read_parquet_sql(staged)}")
    newest = [newest_sighting(query, whose)]
    if known:
        newest.append(
            single_value(query, f"SELECT max(observed_at) FROM {read_parquet_sql(known)} WHERE {whose}")
        )
    return any(at is not None and at >= oldest for at in newest)


def _any_is_known(query: duckdb.DuckDBPyConnection, known: list[str], whose: str) -> bool:
    some = f"SELECT count(*) FROM (FROM {read_parquet_sql(known)} WHERE {whose} LIMIT 1)" if known else ""
    return bool(known and single_value(query, some))


def _each_is_seen_once(query: duckdb.DuckDBPyConnection, table: Table, staged: str) -> bool:
    """Return whether each of the ``staged`` objects was seen at one moment alone."""
    moments = f"SELECT min(observed_at) = max(observed_at) AS is_one FROM {staged} GROUP BY {', '.join(table.full_key)}"
    return bool(single_value(query, f"SELECT coalesce(bool_and(is_one), true) FROM ({moments})"))


def _leaves_something_open(query: duckdb.DuckDBPyConnection, staged: list[str]) -> bool:
    names = {name for name, *_ in query.execute(f"DESCRIBE FROM {read_parquet_sql(staged)}").fetchall()}
    count = f"SELECT count(absent) FROM {read_parquet_sql(staged)}"
    return "absent" in names and bool(single_value(query, count))


def _work_out_late(
    query: duckdb.DuckDBPyConnection, table: Table, staged: str, now: LatestFiles, whose: str
) -> None:
    """Add to the tables ``late_rows``, ``corrected`` and ``superseded`` what staged rows change, some of them late."""
    columns = ", ".join(c.name for c in table.columns)
    none = f"SELECT {columns} FROM {staged} LIMIT 0"
    known = f"SELECT {columns} FROM {table_sql(table, now.all, f'{semi_join_objects(table, staged)} WHERE {whose}')}"
    query.execute(f"CREATE TEMP TABLE IF NOT EXISTS late_rows AS {none}")
    query.execute(f"CREATE TEMP TABLE IF NOT EXISTS corrected AS {none}")
    query.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS superseded AS SELECT {', '.join(table.full_key)}, observed_at, run_id,"
        f" 0::BIGINT AS rows_superseded FROM ({none})"
    )
    query.execute(f"CREATE OR REPLACE TEMP TABLE staged AS SELECT * FROM {staged}")
    query.execute(f"CREATE OR REPLACE TEMP TABLE known AS {known if now.all else none}")
    query.execute(late_sql(table, seen_sql(table), known_sql(table)))


def _remove_superseded(
    lake: Lake, query: duckdb.DuckDBPyConnection, table: Table, origins: Sequence[Origin]
) -> None:
    """Take the ``superseded`` versions out of a table, and note before how many rows each run lost."""
    lost = query.execute(
        "SELECT run_id, sum(rows_superseded)::BIGINT FROM superseded GROUP BY ALL"
    ).fetchall()
    if not lost:
        return
    by, now = origins[0].run_id, datetime.now(UTC)
    noted = {key[:2] for key, rows in count_superseded(lake).items() if rows}
    if (by, table.name) not in noted:  # else an older fincon noted it, whose load is gone on with
        records = [superseded((by, table.name, run_id), rows, now) for run_id, rows in lost]
        lake.add_records(ERASURES, records)
    keys = ", ".join((*table.full_key, "observed_at"))
    lake.remove_versions(table, query.sql(f"SELECT {keys} FROM superseded").to_arrow_table())


def _reconcile(lake: Lake, staged: list[str], origins: Sequence[Origin]) -> None:
    """Compare the runs' balances with the lake's, per currency and to the unit.

    Raises:
        UnloadableRun: they differ. No run is finished, and readers stay on the ones before.
    """
    now, count = latest_files(lake, BALANCES), lake.count_rows(staged)
    is_of_all = _is_of_all(lake, BALANCES, now, count)
    for clause in partition_clauses(BALANCES, count) if staged else ():
        seen = read_parquet_sql(staged, clause)
        known = now.sql(BALANCES, clause if is_of_all else semi_join_objects(BALANCES, seen))
        with lake.query() as query:
            differences = query.execute(reconcile_sql(latest_sql(BALANCES, "", seen), known)).fetchall()
        _refuse(differences, origins)


def _reconcile_final(lake: Lake, final: list[str], others: list[str], origins: Sequence[Origin]) -> None:
    """Compare the balances that were added as they are with the lake's, per currency and to the unit.

    Of the lake, all that it has of these runs, of whichever account. Accounts that stand in the ``others`` too are left out: they
    are compared with these.

    Raises:
        UnloadableRun: they differ.
    """
    if not final:
        return
    apart = (
        f"ANTI JOIN {read_parquet_sql(others)} AS again USING (stripe_account, account_id)" if others else ""
    )
    runs = sql_literals(sorted({Path(file).parent.name for file in final}))
    compared = from_template(
        "reconcile_final",
        final=f"{read_parquet_sql(final)} {apart}",
        held=f"(FROM {table_sql(BALANCES, lake.files(BALANCES))} WHERE run_id IN ({runs})) {apart}",
    )
    with lake.query() as query:
        _refuse(query.execute(compared).fetchall(), origins)


def _refuse(differences: Sequence[tuple[Any, ...]], origins: Sequence[Origin]) -> None:
    for currency, on_pages, held in differences:
        raise UnloadableRun(
            f"Run {', '.join(o.run_id for o in origins[:3])}: the balances in {currency} add up to {on_pages}"
            f" on its pages and to {held} in the lake.",
            "This is a bug in fincon; the views still answer with the run before. Please report it.",
        )


def _count_by_run(lake: Lake, files: list[str], table: Table, what: str) -> Counter[str]:
    """Return run → how many staged rows, or objects, it has."""
    counted: Counter[str] = Counter()
    for clause in partition_clauses(table, lake.count_rows(files)) if files else ():
        part = read_parquet_sql(files, clause)
        with lake.query() as query:
            found = query.execute(f"SELECT run_id, count({what}) FROM {part} GROUP BY ALL").fetchall()
        counted.update(dict(found))
    return counted


def record_runs(lake: Lake, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write the runs' rows of ``runs``: from here on theirs count. Returns them, with ``rows_added`` from the tables."""
    added = _count_rows_added(lake, [run["run_id"] for run in runs])
    now = datetime.now(UTC)
    rows = [{**run, "rows_added": added.get(run["run_id"], 0), "observed_at": now} for run in runs]
    finished = lake.run_ids()  # read already, where the log's marks would have to be asked for
    new = [row for row in rows if row["run_id"] not in finished]
    if new:
        lake.append(RUNS, lake.in_sequence(RUNS, new), [row["run_id"] for row in new])
    return rows


def record_attempts(lake: Lake, attempts: Mapping[str, list[dict[str, Any]]]) -> None:
    """Write the rows of ``attempts`` (id → rows), each attempt's once, however often they are given."""
    recorded = {attempt_id for (attempt_id,) in lake.records(ATTEMPTS, "attempt_id")}
    new = [attempt_id for attempt_id in attempts if attempt_id not in recorded]
    if new:
        now = datetime.now(UTC)
        rows = [{**row, "observed_at": now} for attempt_id in new for row in attempts[attempt_id]]
        lake.append(ATTEMPTS, lake.in_sequence(ATTEMPTS, rows), new)


def _count_rows_added(lake: Lake, run_ids: Sequence[str]) -> dict[str, int]:
    """Return run → how many rows of objects it brought."""
    added: Counter[str] = Counter()
    unsure: list[str] = []
    for table in OBJECT_TABLES:
        files = []
        for file, stats in lake.file_stats(table).items():
            only = stats.first_run if stats.first_run == stats.last_run else None
            if only in run_ids and stats.rows is not None:
                added[str(only)] += stats.rows  # as of most: a file of one run alone
            elif any(map(stats.may_hold, run_ids)):
                files.append(file)
        if files:
            unsure.append(f"SELECT run_id FROM {read_parquet_sql(files)}")
    if unsure:
        where = f"WHERE run_id IN ({sql_literals(run_ids)})"
        with lake.query() as query:
            counts = f"SELECT run_id, count(*) FROM ({' UNION ALL '.join(unsure)}) {where} GROUP BY ALL"
            added.update(dict(query.execute(counts).fetchall()))
    return added


def staged_rejects(lake: Lake, folder: Path, origin: Origin) -> list[tuple[str, str | None]]:
    """Return (object_type, raw) of the rejects that a run staged in ``folder``."""
    files = staged_files(folder, REJECTS, [origin])
    if not files:
        return []
    with lake.query() as query:
        return query.execute(f"SELECT object_type, raw FROM {read_parquet_sql(files)}").fetchall()


def staged_sums(lake: Lake, folder: Path, origin: Origin) -> Sums:
    """Return the sums over the balances that a run staged in ``folder``: every row, however often an account was seen."""
    files = staged_files(folder, BALANCES, [origin])
    if not files:
        return Counter()
    columns = ("current", "available", "used")
    summed = ", ".join(f"coalesce(sum({name}), 0)::HUGEINT" for name in columns)
    with lake.query() as query:
        found = query.execute(
            f"SELECT currency, count(*), {summed} FROM {read_parquet_sql(files)}"
            " WHERE currency IS NOT NULL GROUP BY currency"
        ).fetchall()
    return Counter(
        {
            (currency, name): int(value)
            for currency, *values in found
            for name, value in zip(("rows", *columns), values, strict=True)
        }
    )
