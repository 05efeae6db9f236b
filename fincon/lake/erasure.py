"""Take rows out of a table for good: out of every file of it, and out of its log."""

import json
from collections import Counter

import duckdb
import pyarrow as pa
from deltalake.transaction import AddAction, RemoveAction

from fincon.lake.panics import panics_as_errors
from fincon.lake.tables import COMMIT_ONCE, Lake
from fincon.lake.version_sql import sql_literal, table_sql
from fincon.storage.data_folder import atomic_write, ensure_lock_held
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import Table


def erase(lake: Lake, table: Table, identities: list[str]) -> dict[str, int]:
    """Take out every row that names one of ``identities``. Returns run → how many of its rows went.

    Files are written anew under their own names, those too that older views still read, so that no reader
    loses a file. The log is made anew as well: the old one holds identities in its statistics.
    """
    lake.table(table)  # raises if its log cannot be read
    match = _names_any(table, identities)
    erased: Counter[str] = Counter()
    active = set(lake.files(table))
    copies = lake.snapshots.glob(f"{table.name}-*.parquet")
    with lake.query() as query:
        for path in [*(lake.folder / table.name).glob("*.parquet"), *copies]:
            rows = table_sql(table, [str(path)], f"WHERE {match}")
            found = query.execute(f"SELECT run_id, count(*) FROM {rows} GROUP BY ALL").fetchall()
            if found:
                ensure_lock_held(lake.folder)
                _without_rows(query, table, path, match)
                erased.update(dict(found) if str(path) in active else {})
    _renew_log(lake, table)
    return dict(erased)


def count_rows(lake: Lake, table: Table, identities: list[str]) -> int:
    """Count the rows of every version that `erase` would take out."""
    files = lake.files(table)
    if not files:
        return 0
    with lake.query() as query:
        rows = table_sql(table, files, f"WHERE {_names_any(table, identities)}")
        return int((query.execute(f"SELECT count(*) FROM {rows}").fetchone() or (0,))[0])


@panics_as_errors()
def _renew_log(lake: Lake, table: Table) -> None:
    """Make the log begin with the files as they are now; whatever it said of them before is gone.

    They are added once more, which replaces what was known of them; a checkpoint follows; then all before it goes.
    So the log is whole at every moment, and runs keep their marks.
    """
    folder = lake.folder / table.name
    delta = lake.table(table)
    stats = {str(path): path.stat() for path in folder.glob("*.parquet")}
    adds: list[AddAction | RemoveAction] = [
        AddAction(
            path=file.rpartition("/")[2],
            size=stats[file].st_size,
            partition_values={},
            modification_time=int(stats[file].st_mtime * 1000),
            data_change=False,
            stats=json.dumps({"numRecords": lake.count_rows([file])}),
        )
        for file in lake.files(table)
    ]
    ensure_lock_held(lake.folder)
    delta.create_write_transaction(adds, "append", delta.schema(), commit_properties=COMMIT_ONCE)
    delta.update_incremental()
    delta.create_checkpoint()
    kept = f"{delta.version():020}."
    for path in (folder / "_delta_log").glob("*"):
        if not path.name.startswith((kept, "_last_checkpoint")):
            path.unlink()


def _names_any(table: Table, identities: list[str]) -> str:
    """Write the condition that holds for a row that names one of the ids, in a column of its own or somewhere in JSON.

    By patterns: of an IN with many values DuckDB makes a join, one for each column.
    """
    either = "(" + "|".join(identities) + ")"
    texts = [c for c in table.columns if c.type == pa.string()]
    tests = [
        f"regexp_matches({c.name}, '\\b{either}\\b')"
        if c.json
        else f"regexp_full_match({c.name}, '{either}')"
        for c in texts
    ]
    return "coalesce(" + " OR ".join(f"coalesce({test}, false)" for test in tests) + ", false)"


def _without_rows(query: duckdb.DuckDBPyConnection, table: Table, path: DataPath, match: str) -> None:
    """Write a Parquet file anew without the rows that match; it is swapped in whole."""
    with atomic_write(path) as part:
        kept = table_sql(table, [str(path)], f"WHERE NOT {match}")
        query.execute(f"COPY {kept} TO {sql_literal(str(part))} (FORMAT parquet, COMPRESSION zstd)")
