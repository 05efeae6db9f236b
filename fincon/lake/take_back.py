"""Take a load that was cut short back whole: what it added goes, and what it took out or corrected is put back.

A load has a mark in ``loading/`` from before its first row until its runs are on record. In ``before/`` it keeps what it is about
to change: versions that it takes out or corrects, and what was seen lately. Whoever writes next takes it back before anything
else, an erasure too, so that nothing comes in between. Where the runs' pages are there they are loaded anew then.
"""

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from fincon.errors import RunFailed, reason_of
from fincon.lake.panics import panics_as_errors
from fincon.lake.sightings import decode_sightings, find_sightings, write_sightings
from fincon.lake.tables import REMOVED, Lake, marked
from fincon.lake.version_sql import same_object, sql_literals, table_sql
from fincon.storage.data_folder import PART, atomic_write, ensure_lock_held, make_folder
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import ERASURES, OBJECT_TABLES, Table

SEEN, SUPERSEDED, CORRECTED = "sightings", "superseded", "corrected"
"""What a load keeps: what was seen lately, and of a table the versions that it takes out, or corrects."""

Lost = tuple[str, str, str]
"""The run that took versions of another out, the table, and the run that lost them."""


@contextmanager
def under_way(lake: Lake, run_ids: Sequence[str]) -> Iterator[None]:
    """Mark runs as being loaded. The mark, which is called as the first, and what is kept stay where that fails."""
    lake.being_loaded = run_ids[0]
    for folder in (lake.data.loading, lake.data.before):
        make_folder(folder)
    _keep(lake, SEEN, find_sightings(lake))  # before the mark: one without it is of an older fincon
    mark = lake.data.loading / run_ids[0]
    with atomic_write(mark) as part:
        part.write_text("\n".join(run_ids), encoding="utf-8")
    yield
    _remove(lake, _kept(lake, run_ids[0]).values())
    _remove(lake, [mark])


def keep_versions(lake: Lake, query: duckdb.DuckDBPyConnection, table: Table, files: Sequence[str]) -> None:
    """Keep the rows of a table, in ``files``, of the versions that the tables ``superseded`` and ``corrected`` name."""
    for name in (SUPERSEDED, CORRECTED):
        if files and query.execute(f"FROM {name} LIMIT 1").fetchall():
            those = f"SEMI JOIN {name} AS newest ON {same_object(table)} AND version.observed_at = newest.observed_at"
            # Of a version that is corrected each row is one object; of one that is taken out, two alike are two.
            once = "DISTINCT" if name == CORRECTED else ""
            rows = query.sql(f"SELECT {once} * FROM {table_sql(table, files, those)}").to_arrow_table()
            _keep(lake, f"{table.name}.{name}", rows)


def take_back(lake: Lake, loadable: Collection[str]) -> None:
    """Take back every load that is marked, so that each table is what it was before.

    One that an older fincon began kept nothing: of those runs the ``loadable`` are gone on with, and the others' rows taken out.

    Raises:
        RunFailed: what was kept cannot be read.
    """
    marks = [mark for mark in lake.data.loading.glob("*") if mark.suffix != PART]
    finished = lake.run_ids() if marks else set()
    for mark in marks:
        named = [mark.name, *mark.read_bytes().decode().split()]
        runs = [run_id for run_id in dict.fromkeys(named) if run_id not in finished]
        kept = _kept(lake, mark.name)
        if runs and SEEN in kept:
            remove_runs(lake, runs)
            _put_back(lake, kept, runs)
        else:
            remove_runs(lake, [run_id for run_id in runs if run_id not in loadable])
            if any(run_id in loadable for run_id in runs):
                continue
        _remove(lake, kept.values())
        _remove(lake, [mark])
    if not marks:  # an older fincon, or a person, has removed what these belong to
        _remove(lake, lake.data.before.glob("*"))


def _put_back(lake: Lake, kept: dict[str, DataPath], runs: Sequence[str]) -> None:
    """Put back what runs took out, corrected or saw. Done twice it is done once, as it may be cut short itself."""
    for table in OBJECT_TABLES:
        for name, put in ((SUPERSEDED, lake.add_versions), (CORRECTED, lake.correct_versions)):
            path = kept.get(f"{table.name}.{name}")
            if path:
                put(table, _read(lake, table, path))
    now = datetime.now(UTC)
    records = [
        superseded(lost, -rows, now)
        for lost, rows in count_superseded(lake).items()
        if rows and lost[0] in runs and f"{lost[1]}.{SUPERSEDED}" in kept
    ]
    if records:
        lake.add_records(ERASURES, records)
    try:
        write_sightings(lake, decode_sightings(kept[SEEN].read_bytes()).to_reader())
    except pa.ArrowException as error:
        raise _unreadable(kept[SEEN], error) from error


def _read(lake: Lake, table: Table, path: DataPath) -> pa.Table:
    """Read rows that were kept, with the columns that the table got since."""
    try:
        with lake.query() as query:
            return query.sql(f"FROM {table_sql(table, [str(path)])}").to_arrow_table()
    except duckdb.Error as error:
        raise _unreadable(path, error) from error


def _unreadable(path: DataPath, error: Exception) -> RunFailed:
    return RunFailed(
        f"{path} cannot be read: {reason_of(error)}",
        "It holds what a load that was cut short had taken out. Restore the data folder from a backup.",
    )


def count_superseded(lake: Lake) -> Counter[Lost]:
    """Return how many rows are out, as ``erasures`` says."""
    out: Counter[Lost] = Counter()
    columns = ("action", "identity_hash", "table_name", "run_id", "coalesce(rows_erased, 0)")
    for action, by, table_name, run_id, rows in lake.records(ERASURES, *columns):
        if action == "superseded":
            out[by, table_name, run_id] += rows
    return out


def superseded(lost: Lost, rows: int, now: datetime) -> dict[str, Any]:
    """Make the row of ``erasures`` that says how many rows are out; fewer than none are back."""
    by, table_name, run_id = lost
    return {
        "action": "superseded",
        "identity_kind": "run",
        "identity_hash": by,
        "table_name": table_name,
        "rows_erased": rows,
        "run_id": run_id,
        "observed_at": now,
    }


@panics_as_errors()
def remove_runs(lake: Lake, run_ids: Sequence[str]) -> None:
    """Take runs' rows out of every table again."""
    for table in OBJECT_TABLES:
        # The log forgets its marks in time; what it says of the files stays.
        stats = lake.file_stats(table).values() if run_ids else ()
        held = [run_id for run_id in run_ids if any(file.may_hold(run_id) for file in stats)]
        if held:
            with lake.committing(table) as delta:
                delta.delete(f"run_id IN ({sql_literals(held)})", commit_properties=marked(held, REMOVED))


def _keep(lake: Lake, name: str, rows: pa.Table | Path) -> None:
    """Keep rows, or a file of them as it is."""
    with atomic_write(lake.data.before / f"{lake.being_loaded}.{name}.parquet") as part:
        if isinstance(rows, Path):
            shutil.copyfile(rows, part)
        else:
            pq.write_table(rows, part, compression="zstd")


def _kept(lake: Lake, mark: str) -> dict[str, DataPath]:
    """Return what a load keeps, by its name. Of another's load nothing, so that who has lost the lock takes nothing of theirs."""
    prefix = f"{mark}."
    found = (path for path in lake.data.before.glob("*.parquet") if path.name.startswith(prefix))
    return {path.name.removeprefix(prefix).removesuffix(".parquet"): path for path in found}


def _remove(lake: Lake, paths: Iterable[DataPath]) -> None:
    for path in [*paths]:
        ensure_lock_held(lake.folder)
        path.unlink(missing_ok=True)
