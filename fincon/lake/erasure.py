"""Take rows out of a table for good: out of every file of it, and out of its log."""

import json
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.transaction import AddAction, RemoveAction

from fincon.lake.panics import panics_as_errors
from fincon.lake.snapshots import Snapshot, snapshots_taken, write_snapshots
from fincon.lake.table_logs import LOG
from fincon.lake.tables import COMMIT_ONCE, Lake
from fincon.lake.version_sql import sql_literal, table_sql
from fincon.storage.data_folder import LAST_CHECKPOINT, atomic_write, ensure_lock_held
from fincon.storage.s3 import DataPath
from fincon.transforms.identities import MASKED, is_id, names_one_of, one_of
from fincon.transforms.schemas import REJECTS, TABLES, Column, Table


class Rewrite(NamedTuple):
    """Say what must go, and how: a query's condition and its result, or anything else."""

    concerns: Callable[[Table, DataPath], bool]
    """Whether something in a file must go."""
    write: Callable[[Table, DataPath, Path], None]
    """Write what may stay of a file to another."""


def count_rows(lake: Lake, table: Table, identities: list[str]) -> dict[str, int]:
    """Return run → how many rows of a table are of one of ``identities``."""
    files = lake.files(table)
    if not files:
        return {}
    rows = table_sql(table, files, f"WHERE {_is_of(table, identities)}")
    with lake.query() as query:
        return dict(query.execute(f"SELECT run_id, count(*) FROM {rows} GROUP BY ALL").fetchall())


def without(lake: Lake, identities: list[str]) -> Rewrite:
    """Return what writes a file anew without the rows of ``identities``, and without mentions of them in others."""

    def concerns(table: Table, file: DataPath) -> bool:
        named = f"{_is_of(table, identities)} OR {_mentions(table, identities)}"
        rows = table_sql(table, [str(file)], f"WHERE {named}")
        with lake.query() as query:
            return bool(query.execute(f"FROM {rows} LIMIT 1").fetchall())

    def write(table: Table, old: DataPath, new: Path) -> None:
        kept = table_sql(table, [str(old)], f"WHERE NOT ({_is_of(table, identities)})")
        with lake.query() as query:
            rows = f"SELECT {_without_mentions(table, identities)} FROM {kept}"
            query.execute(f"COPY ({rows}) TO {sql_literal(str(new))} (FORMAT parquet, COMPRESSION zstd)")

    return Rewrite(concerns, write)


def remove_torn_files(lake: Lake) -> None:
    """Remove files beside the tables' own that no reader could read: a crash of the machine left them half written."""
    for table in TABLES:
        active, folder = {_name(file) for file in lake.files(table)}, _folder(lake, table)
        for path in folder.glob("*.parquet") if isinstance(folder, Path) else ():
            if path.name not in active and _is_torn(path):
                path.unlink()


def _is_torn(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except pa.ArrowInvalid:
        return True
    return False


def replace_files(lake: Lake, table: Table, rewrite: Rewrite) -> None:
    """Put files in the place of those from which something must go, in one commit, and make the table's log anew.

    The old files stay, for the views that read them, until `remove_old_files`.
    """
    lake.table(table)  # raises if its log cannot be read
    written: dict[str, str] = {}
    for file in lake.files(table):
        old, new = (_folder(lake, table) / name for name in (_name(file), f"part-{uuid.uuid4()}.parquet"))
        if _rewritten(lake, table, rewrite, old, new):
            written[old.name] = new.name
    _renew_log(lake, table, written)
    _renew_snapshot(lake, table, written, rewrite)


def remove_old_files(lake: Lake, table: Table, rewrite: Rewrite) -> None:
    """Remove the files, which no new view reads, from which something must go. The new views must be published."""
    active = {_name(file) for file in lake.files(table)}
    old = [path for path in _folder(lake, table).glob("*.parquet") if path.name not in active]
    taken = snapshots_taken(lake).get(table.name, Snapshot([], []))
    needed = {_name(file) for file in taken.base}
    old += [path for path in lake.snapshots.glob(f"{table.name}-*.parquet") if path.name not in needed]
    for path in old:
        ensure_lock_held(lake.folder)
        if rewrite.concerns(table, path):
            path.unlink()


def _rewritten(lake: Lake, table: Table, rewrite: Rewrite, old: DataPath, new: DataPath) -> bool:
    """Write a file anew under another name, if something in it must go; return whether."""
    if not rewrite.concerns(table, old):
        return False
    ensure_lock_held(lake.folder)
    with atomic_write(new) as part:
        rewrite.write(table, old, part)
    return True


@panics_as_errors()
def _renew_log(lake: Lake, table: Table, written: dict[str, str]) -> None:
    """Make the log begin with the files as they are now; whatever it said of them before is gone.

    They are added once more, which replaces what was known of them, and those ``written`` (old name → new) in the place
    of the old; a checkpoint follows; then all before it goes. So the log is whole at every moment, and runs keep their marks.
    """
    folder = _folder(lake, table)
    stats = {path.name: path.stat() for path in folder.glob("*.parquet")}
    names = [_name(file) for file in lake.files(table)]
    now = [written.get(name, name) for name in names]
    actions: list[AddAction | RemoveAction] = [
        AddAction(
            path=name,
            size=stats[name].st_size,
            partition_values={},
            modification_time=int(stats[name].st_mtime * 1000),
            data_change=False,
            stats=json.dumps({"numRecords": lake.count_rows([str(folder / name)])}),
        )
        for name in now
    ]
    actions += [RemoveAction(name, False, int(time.time() * 1000)) for name in written]
    with lake.committing(table) as delta:
        delta.create_write_transaction(actions, "append", delta.schema(), commit_properties=COMMIT_ONCE)
        delta.update_incremental()
        delta.create_checkpoint()
    kept = f"{delta.version():020}."
    for path in (folder / LOG).glob("*"):
        if not path.name.startswith((kept, LAST_CHECKPOINT)):
            path.unlink()
    lake.reopen(table)


def _renew_snapshot(lake: Lake, table: Table, written: dict[str, str], rewrite: Rewrite) -> None:
    """Make the snapshot of the latest state, if there is one, say what the files do now."""
    taken = snapshots_taken(lake)
    if table.name not in taken:
        return
    covers, base = taken[table.name].covers, list(taken[table.name].base)
    for number, file in enumerate(base):
        old = lake.folder.parent / file
        new = lake.snapshots / f"{table.name}-{uuid.uuid4().hex[:16]}.parquet"
        is_copy = old.parent.name == lake.snapshots.name and old.exists()
        if is_copy and _rewritten(lake, table, rewrite, old, new):
            base[number] = file.replace(old.name, new.name)

    def renamed(files: list[str]) -> list[str]:
        return [file.replace(_name(file), written.get(_name(file), _name(file))) for file in files]

    taken[table.name] = Snapshot(renamed(covers), renamed(base))
    write_snapshots(lake, taken)


def _is_of(table: Table, identities: list[str]) -> str:
    """Write the condition that holds for a row of one of the ids: in a column of ids, or what a rejected object says that it is.

    By patterns: of an IN with many values DuckDB makes a join, one for each column.
    """
    whole, within = sql_literal(one_of(identities)), sql_literal(names_one_of(identities))
    tests = [f"regexp_full_match({c.name}, {whole})" for c in _texts(table) if is_id(c.name)]
    if table is REJECTS:  # without an id that could be read nothing else tells whose it is
        said = " OR ".join(
            f"regexp_matches(json_extract(raw, '{path}')::VARCHAR, {within})" for path in _WHOSE
        )
        odd = "object_id IS NULL OR NOT json_valid(raw)"
        tests.append(
            f"regexp_matches(raw, {within}) AND (CASE WHEN {odd} THEN true ELSE coalesce({said}, false) END)"
        )
    return _any(tests)


_WHOSE = ("$.id", "$.account_holder", "$.data.object.id", "$.data.object.account_holder")
"""Where a rejected object says whose it is."""


def _mentions(table: Table, identities: list[str]) -> str:
    """Write the condition that holds for a row of somebody else that mentions one of the ids in a text."""
    pattern = sql_literal(names_one_of(identities))
    texts = [c.name for c in _texts(table) if not is_id(c.name)]
    nested = [f"{c.name}::VARCHAR" for c in table.columns if pa.types.is_nested(c.type)]
    return _any(f"regexp_matches({text}, {pattern})" for text in [*texts, *nested])


def _without_mentions(table: Table, identities: list[str]) -> str:
    """Write the columns of a table's rows without mentions of the ids. A list or an object with one goes whole."""
    pattern, masked = sql_literal(names_one_of(identities)), sql_literal(MASKED)
    texts = {c.name for c in _texts(table)}

    def column(name: str, kind: pa.DataType) -> str:
        if name in texts and not is_id(name):
            once = f"regexp_replace({name}, {pattern}, {masked}, 'g')"
            return f"regexp_replace({once}, {pattern}, {masked}, 'g') AS {name}"  # two may share what is between them
        if pa.types.is_nested(kind):
            return f"CASE WHEN NOT regexp_matches({name}::VARCHAR, {pattern}) THEN {name} END AS {name}"
        return name

    return ", ".join(column(c.name, c.type) for c in table.columns)


def _texts(table: Table) -> list[Column]:
    return [c for c in table.columns if c.type == pa.string()]


def _any(tests: Iterable[str]) -> str:
    return " OR ".join(f"coalesce({test}, false)" for test in tests) or "false"


def _folder(lake: Lake, table: Table) -> DataPath:
    """Return a table's folder as delta-rs names it: where a link leads."""
    folder = lake.folder / table.name
    return folder.resolve() if isinstance(folder, Path) else folder


def _name(file: str) -> str:
    return file.rpartition("/")[2]
