"""A lake that an older fincon wrote goes on: its tables get the columns they lack. One that a newer wrote is left alone."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError
from deltalake.schema import PrimitiveType

from fincon.errors import RunFailed, UsageError, reason_of
from fincon.lake.tables import COMMIT_ONCE, WRITER, Lake, plain_schema
from fincon.lake.take_back import remove_runs
from fincon.lake.version_sql import NULLABLE_KEYS, sql_literal, sql_literals, table_sql
from fincon.storage.data_folder import GARBLED, DataFolder, atomic_write, make_folder
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import ERASURES, OBJECT_TABLES, RUNS, SEEN, STRIPE_ACCOUNT, TABLES, Table

FORMAT = 1
"""Of the lake. It is raised where an older fincon would misread what a newer one writes, though it knows every column."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """What ``lake/format.json`` says: as what the lake was written. A lake without it is older than 1."""

    format: int
    columns: dict[str, list[str]]
    """Table → its columns; what is within one has a path (``status_details.active.cause``)."""


def columns_within(fields: Iterable[pa.Field], prefix: str = "") -> Iterator[str]:
    """Yield the path of each column, and of each field of one that is a struct or a list of structs."""
    for field in fields:
        kind = field.type
        while hasattr(kind, "value_type"):
            kind = kind.value_type
        if pa.types.is_struct(kind):
            yield from columns_within(kind.fields, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


OURS = Format(format=FORMAT, columns={table.name: sorted(columns_within(table.schema)) for table in TABLES})


def refuse_newer(data: DataPath) -> Format | None:
    """Return as what the lake in a data folder was written; None where nothing says so.

    Raises:
        UsageError: a newer fincon wrote it.
        RunFailed: what says so cannot be read.
    """
    path = DataFolder(data).lake_format
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Format)
    except (FileNotFoundError, NotADirectoryError):  # whoever makes the folder says what stands in its place
        return None
    except (OSError, *GARBLED) as error:
        raise RunFailed(
            f"{path} cannot be read: {reason_of(error)}.",
            "Let it be read. If it is damaged, remove it: the next run finds out by itself, and writes it anew.",
        ) from error
    unknown = [
        f"{table}.{column}"
        for table, columns in found.columns.items()
        for column in set(columns) - set(OURS.columns.get(table, ()))
    ]
    if found.format > FORMAT or unknown:
        raise _newer(
            data, f"it is of format {found.format}" if found.format > FORMAT else f"it has {min(unknown)}"
        )
    return found


def upgrade(lake: Lake) -> None:
    """Give a lake the tables and columns that it lacks; rows from before read as null there. Only for who holds the lock.

    Raises:
        UsageError: a newer fincon wrote it. Nothing is touched.
        RunFailed: a table has rows that lack what says of which object they are.
    """
    data = lake.folder.parent
    found = refuse_newer(data)
    if lake.is_recalled and found == OURS:
        return  # this machine has seen to it before, and nobody has written since
    lacking = {table: _lacking(lake, table) for table in TABLES}
    for table, fields in lacking.items():
        if fields:
            with _told(lake, table), lake.committing(table) as delta:
                delta.alter.add_columns(fields, commit_properties=COMMIT_ONCE)
    if found is None or any(
        field.name == STRIPE_ACCOUNT.name for fields in lacking.values() for field in fields
    ):
        _say_which_stripe_account(lake)
    if any(lacking.values()) or found != OURS:
        make_folder(lake.folder)
        with atomic_write(DataFolder(data).lake_format) as part:
            part.write_bytes(msgspec.json.encode(OURS))


def _lacking(lake: Lake, table: Table) -> list[Any]:
    """Return the columns of a table that its Delta table lacks, has without some of their fields, or has otherwise."""
    delta = lake.table(table)
    there, ours = _columns_of(delta), set(OURS.columns[table.name])
    if there - ours:
        raise _newer(lake.folder.parent, f"it has {table.name}.{min(there - ours)}")
    lost = sorted(_needed(table) - there)
    if lost and lake.files(table):
        raise RunFailed(
            f"The table {lake.folder / table.name} has no column {lost[0]}, without which its rows mean nothing.",
            "No fincon wrote it so: restore it from a backup, or begin another data folder (--data).",
        )
    missing = {path.partition(".")[0] for path in ours - there}
    types = {field.name: field.type for field in delta.schema().fields}
    return [
        field
        for field in Schema.from_arrow(plain_schema(table)).fields
        # One that has another type is given to Delta too, which says so.
        if field.name in missing
        or (isinstance(field.type, PrimitiveType) and types[field.name] != field.type)
    ]


def _columns_of(delta: DeltaTable) -> set[str]:
    return set(columns_within(pa.schema(delta.schema().to_arrow())))


def _needed(table: Table) -> set[str]:
    """Return the columns without which a row does not say what it is of."""
    known_by = {*table.full_key, *table.group_key, *(column.name for column in SEEN)}
    whom = {"action", "identity_hash"} if table is ERASURES else {"account_id"}
    return (
        (known_by | whom & {column.name for column in table.own_columns})
        - NULLABLE_KEYS
        - {STRIPE_ACCOUNT.name}
    )


def _say_which_stripe_account(lake: Lake) -> None:
    """Say of rows from before there was a column for it which Stripe account was asked for them: that of their run.

    Rows of a run that was never finished are taken out; they are loaded again from its pages, where those are there.
    """
    asked = dict(lake.records(RUNS, "run_id", "coalesce(stripe_account, '')"))
    for table in (*OBJECT_TABLES, RUNS):
        nameless = _runs_without_stripe_account(lake, table)
        remove_runs(lake, sorted(nameless - asked.keys()))
        for account in sorted({asked[run_id] for run_id in nameless & asked.keys()}):
            of_account = sorted(run_id for run_id in nameless if asked.get(run_id) == account)
            with _told(lake, table), lake.committing(table) as delta:
                delta.update(
                    updates={STRIPE_ACCOUNT.name: sql_literal(account)},
                    predicate=f"{STRIPE_ACCOUNT.name} IS NULL AND run_id IN ({sql_literals(of_account)})",
                    writer_properties=WRITER,
                    commit_properties=COMMIT_ONCE,
                )


def _runs_without_stripe_account(lake: Lake, table: Table) -> set[str]:
    files = lake.files(table)
    if not files:
        return set()
    nameless = table_sql(table, files, f"WHERE {STRIPE_ACCOUNT.name} IS NULL")
    with lake.query() as query:
        return {run_id for (run_id,) in query.execute(f"SELECT DISTINCT run_id FROM {nameless}").fetchall()}


@contextmanager
def _told(lake: Lake, table: Table) -> Iterator[None]:
    """Say in two lines what Delta refuses.

    Raises:
        RunFailed: it does.
    """
    try:
        yield
    except DeltaError as error:
        raise RunFailed(
            f"The table {lake.folder / table.name} cannot be brought to this fincon's columns: {reason_of(error)}",
            "What was there before still is, and the views still answer. Mend it, then run the same command again.",
        ) from error


def _newer(data: DataPath, why: str) -> UsageError:
    return UsageError(
        f"The lake {data} was written by a newer fincon: {why}, which this one does not know.",
        "Upgrade fincon (pip install --upgrade fincon). Nothing was touched.",
    )
