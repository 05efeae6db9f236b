"""Take a load that was cut short back whole: what it added goes, and what it took out or corrected is put back.

A load has a mark in ``loading/`` from before its first row until its runs are on record. Beside the mark it keeps what it is
about to change: versions that it takes out or corrects, and what was seen lately. Whoever writes next takes it back before
anything else, an erasure too, so that nothing comes in between. Where the runs' pages are there they are loaded anew then.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from fincon.lake.panics import panics_as_errors
from fincon.lake.sightings import decode_sightings, read_sightings, write_sightings
from fincon.lake.tables import REMOVED, Lake, marked
from fincon.lake.version_sql import same_object, sql_literals, table_sql
from fincon.storage.data_folder import PART, atomic_write, ensure_lock_held, make_folder
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import ERASURES, OBJECT_TABLES, Table

KEPT = ".parquet"
"""How the files end that a load keeps beside its mark, which is called as its first run."""

SEEN_BEFORE = f"sightings{KEPT}"
REMOVED_ROWS, CORRECTED_ROWS = f".removed{KEPT}", f".corrected{KEPT}"


class Mark(msgspec.Struct, frozen=True):
    """Which runs a load brings."""

    runs: list[str]


@contextmanager
def under_way(lake: Lake, run_ids: Sequence[str]) -> Iterator[None]:
    """Mark runs as being loaded. The mark, and what is kept beside it, stays where that fails."""
    folder = lake.data.loading
    make_folder(folder)
    mark = folder / run_ids[0]
    with atomic_write(mark) as part:
        part.write_bytes(msgspec.json.encode(Mark(list(run_ids))))
    _keep(folder / SEEN_BEFORE, read_sightings(lake))
    yield
    _remove(folder.glob(f"*{KEPT}"))
    mark.unlink()


def keep_versions(lake: Lake, query: duckdb.DuckDBPyConnection, table: Table, files: Sequence[str]) -> None:
    """Keep the rows of a table, in ``files``, of the versions that the tables ``superseded`` and ``corrected`` name."""
    for name, end in (("superseded", REMOVED_ROWS), ("corrected", CORRECTED_ROWS)):
        if not files or not query.execute(f"FROM {name} LIMIT 1").fetchall():
            continue
        those = (
            f"SEMI JOIN {name} AS newest ON {same_object(table)} AND version.observed_at = newest.observed_at"
        )
        rows = query.sql(f"FROM {table_sql(table, files, those)}").to_arrow_table()
        _keep(lake.data.loading / f"{table.name}{end}", rows)


def take_back(lake: Lake) -> None:
    """Take back every load that is marked, so that each table is what it was before."""
    found: list[DataPath] = [*lake.data.loading.glob("*")]
    kept = {path.name: path for path in found if path.suffix == KEPT}
    marks = [path for path in found if path.suffix not in (KEPT, PART)]
    finished = lake.run_ids() if marks else set()
    for mark in marks:
        content = mark.read_bytes()
        try:
            runs, is_kept = msgspec.json.decode(content, type=Mark).runs, True
        except msgspec.DecodeError:  # of an older fincon, which kept nothing
            runs, is_kept = content.decode().split(), False
        unfinished = [run_id for run_id in runs if run_id not in finished]
        if unfinished:
            remove_runs(lake, unfinished)
            if is_kept:
                _put_back(lake, kept, unfinished)
            else:
                write_sightings(
                    lake, read_sightings(lake).slice(0, 0)
                )  # what it took out was seen, and is not known now
    _remove(
        [*(path for path in found if path not in marks), *marks]
    )  # without its mark, what is kept means nothing


def _put_back(lake: Lake, kept: dict[str, DataPath], runs: Sequence[str]) -> None:
    """Put back what runs took out, corrected or saw. Done twice it is done once, as it may be cut short itself."""
    for table in OBJECT_TABLES:
        for end, put in ((REMOVED_ROWS, lake.add_versions), (CORRECTED_ROWS, lake.correct_versions)):
            path = kept.get(f"{table.name}{end}")
            if path:
                with lake.query() as query:  # with the columns that the table got since
                    rows = query.sql(f"FROM {table_sql(table, [str(path)])}").to_arrow_table()
                put(table, rows)
    lost: Counter[tuple[str, str, str]] = Counter()
    columns = ("action", "identity_hash", "table_name", "run_id", "coalesce(rows_erased, 0)")
    for action, by, table_name, run_id, rows_lost in lake.records(ERASURES, *columns):
        if action == "superseded" and by in runs:
            lost[by, table_name, run_id] += rows_lost
    now = datetime.now(UTC)
    records = [superseded(key, -rows_lost, now) for key, rows_lost in lost.items() if rows_lost]
    if records:
        lake.add_records(ERASURES, records)
    if SEEN_BEFORE in kept:
        write_sightings(lake, decode_sightings(kept[SEEN_BEFORE].read_bytes()))


def superseded(key: tuple[str, str, str], rows: int, now: datetime) -> dict[str, Any]:
    """Make the row of ``erasures``: ``key`` is the run that took them out, the table, and the run that lost so many rows.

    Fewer than none are back.
    """
    by, table_name, run_id = key
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
        held = [run_id for run_id in run_ids if lake.contains_run(table, run_id)]
        if held:
            ensure_lock_held(lake.folder)
            lake.table(table).delete(
                f"run_id IN ({sql_literals(held)})", commit_properties=marked(held, REMOVED)
            )


def _keep(path: DataPath, rows: pa.Table) -> None:
    with atomic_write(path) as part:
        pq.write_table(rows, part, compression="zstd")


def _remove(paths: Iterable[DataPath]) -> None:
    for path in paths:
        path.unlink()
