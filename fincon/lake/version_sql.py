"""Build SQL over versions: which rows are the latest, and which of a run's rows are new. Nothing is run here."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import NamedTuple

import pyarrow as pa

from fincon.transforms.schemas import ACCOUNTS, SEEN, TIMESTAMP, Column, Table

SQL = Path(__file__).resolve().parent.parent / "sql"

PARQUET_OPTIONS = "union_by_name = true, hive_partitioning = false"
"""Folders above the data folder may be named ``key=value``: without the latter DuckDB would take that for a column."""

NULLABLE_KEYS = frozenset({"object_id", "parent_id", "path", "raw"})

NOTHING = {
    "session_accounts": "account_id",
    "balances": "currency",
    "owners": "owner_id",
    "refreshes": "status",
}
"""Table → the column that is null in a row which says that there is nothing."""

ROWS_A_PARTITION = 75_000
"""How many rows are compared at a time: `fincon.settings.MEMORY_MB` is enough for so many."""

ACCOUNTS_A_PART = 250_000
"""How many accounts are compared at a time where it is by their ids alone."""


def from_template(name: str, **values: str) -> str:
    """Return the SQL of ``sql/templates/<name>.sql`` with its ``$placeholders`` filled in."""
    return _template(name).substitute(values)


@cache
def _template(name: str) -> Template:
    return Template((SQL / "templates" / f"{name}.sql").read_text(encoding="utf-8"))


def sql_literal(value: str) -> str:
    """Write a string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def sql_name(name: str) -> str:
    """Write the name of a column that may be any text."""
    return '"' + name.replace('"', '""') + '"'


def sql_literals(values: Iterable[str]) -> str:
    """Write strings as SQL literals with commas between them."""
    return ", ".join(map(sql_literal, values))


def read_parquet_sql(files: Sequence[str], clause: str = "") -> str:
    """Write the relation of these files, or of those of its rows that a ``clause`` leaves."""
    return narrowed(f"read_parquet([{sql_literals(files)}], {PARQUET_OPTIONS})", clause)


def table_sql(table: Table, files: Sequence[str], clause: str = "") -> str:
    """Write the relation of a table's rows in these files, which may be none, or of those that a ``clause`` leaves.

    It has all of the table's columns: one that a file is older than is null there.
    """
    return narrowed(with_columns_sql(table.columns, files), clause)


def with_columns_sql(columns: Iterable[Column | pa.Field], files: Sequence[str]) -> str:
    """Write the relation of the rows in these files, which may be none, with all of these columns, or a schema's, and more."""
    rows = f" UNION ALL BY NAME FROM {read_parquet_sql(files)}" if files else ""
    return f"({nothing_sql(columns)}{rows})"


def no_rows_sql(table: Table) -> str:
    """Write the query that has the table's columns, each with its type, and no row."""
    return nothing_sql(table.columns)


def nothing_sql(columns: Iterable[Column | pa.Field]) -> str:
    """Write the query that has these columns, or a schema's, each with its type, and no row."""
    nulls = (f"NULL::{_type(column.type)} AS {column.name}" for column in columns)
    return f"SELECT {', '.join(nulls)} WHERE false"


_TYPES = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.uint64(): "UBIGINT",
    pa.bool_(): "BOOLEAN",
    TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
}


def _type(kind: pa.DataType) -> str:
    """Return DuckDB's name of an Arrow type. To ask DuckDB itself takes longer than a query of a small lake."""
    if pa.types.is_list(kind):
        return f"{_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{sql_name(field.name)} {_type(field.type)}' for field in kind)})"
    return _TYPES[kind]


def narrowed(relation: str, clause: str) -> str:
    """Write the rows of a relation that a ``clause`` (a join, a condition; may be empty) leaves; it calls them ``version``."""
    return f"(FROM {relation} AS version {clause})" if clause else relation


def partition_clauses(table: Table, rows: int) -> list[str]:
    """Return the clauses that divide a relation of so many rows into parts small enough for memory.

    All rows of an object are in the same part.
    """
    count = max(1, -(-rows // ROWS_A_PARTITION))
    if count == 1:
        return [""]
    return [f"WHERE hash({', '.join(table.full_key)}) % {count} = {number}" for number in range(count)]


def semi_join_objects(table: Table, staged: str) -> str:
    """Write the clause that leaves the rows whose objects are among the ``staged``."""
    keys = f"(SELECT DISTINCT {', '.join(table.full_key)} FROM {staged})"
    return f"SEMI JOIN {keys} AS newest ON {same_object(table)}"


def same_object(table: Table) -> str:
    """Write the condition under which two rows, ``version`` and ``newest``, are of one object.

    A key that cannot be null is compared plainly, which is faster.
    """
    return " AND ".join(
        f"version.{k} {'IS NOT DISTINCT FROM' if k in NULLABLE_KEYS else '='} newest.{k}"
        for k in table.full_key
    )


def latest_sql(table: Table, snapshot: str, since: str) -> str:
    """Write the query for the latest version of each object.

    ``snapshot`` has each object once, ``since`` any versions in any order. Both are relations; one that is empty is ``""``.
    """
    if not since:
        return f"FROM {snapshot}"
    key, same = ", ".join(table.full_key), same_object(table)
    if not snapshot:
        return from_template("latest", table=table.name, key=key, same_object=same, versions=since)
    return from_template(
        "latest_from_snapshot",
        table=table.name,
        key=key,
        same_object=same,
        snapshot=snapshot,
        since=since,
    )


def changed_sql(table: Table, staged: str, known: str) -> str:
    """Write the query for the rows of ``staged`` that belong to versions which differ from the version before them.

    ``known`` holds the latest versions of the same objects (``""``: there are none), all older than the staged.
    """
    first, second = _content_hashes(table, grouped=bool(table.group_key))
    return from_template(
        "changed",
        table=table.name,
        columns=_column_names(table),
        key=", ".join(table.full_key),
        same_object=same_object(table),
        first_hash=first,
        second_hash=second,
        blank=f"bool_and({blank_sql(table)})" if table.group_key else blank_sql(table),
        group="GROUP BY ALL" if table.group_key else "",
        staged=staged,
        known=known or f"(FROM {staged} WHERE false)",
    )


def first_versions_sql(table: Table, staged: str) -> str:
    """Write what `changed_sql` does for objects of which nothing is known and each of which was seen once."""
    return f"SELECT {_column_names(table)} FROM {staged} WHERE NOT ({blank_sql(table)})"


def late_sql(table: Table, seen: str, known: str) -> str:
    """Write the statements that add to ``late_rows``, ``corrected``, ``superseded`` what ``staged`` changes in ``known``.

    ``seen`` is the condition under which a ``sighting`` saw the object ``touched``; ``known`` the query for what is known, with
    what its rows do not say. See ``sql/templates/late.sql``.
    """
    first, second = _content_hashes(table, grouped=True)

    def same(left: str, right: str) -> str:
        return same_object(table).replace("version.", f"{left}.").replace("newest.", f"{right}.")

    return from_template(
        "late",
        table=table.name,
        key=", ".join(table.full_key),
        columns=_column_names(table),
        seen=seen,
        known=known,
        same_seen=same("seen", "version"),
        same_said=same("version", "said"),
        same_nothing=same("nothing", "newest"),
        may_be_nothing=str(table.name in NOTHING).lower(),
        same_object=same_object(table),
        completed=", ".join(_completed(table)) or "observed_at AS observed_at",
        says_something="created_at IS NOT NULL" if table is ACCOUNTS else "true",
        first_hash=first,
        second_hash=second,
        blank=blank_sql(table),
    )


def blank_sql(table: Table) -> str:
    """Write the condition of a row that says that there is nothing: no member of a group, no refresh.

    As the first version of an object it is no version; later on it ends what was known.
    """
    return f"{NOTHING[table.name]} IS NULL" if table.name in NOTHING else "false"


def _completed(table: Table) -> Iterator[str]:
    """Yield the expressions that give an attribute of which a row says nothing the value that was known of it then."""
    if any(column.name == "absent" for column in table.staged):
        not_compared = {*table.full_key, *(c.name for c in SEEN)}
        for name in (c.name for c in table.columns if c.name not in not_compared):
            said = (
                f"CASE WHEN NOT coalesce(list_contains(absent, '{name}'), false) THEN {{'value': {name}}} END"
            )
            yield f"(last_value({said} IGNORE NULLS) OVER so_far).value AS {name}"


def _content_hashes(table: Table, *, grouped: bool) -> tuple[str, str]:
    """Write two hashes of what is compared between versions, of one row or of a version's rows together."""
    not_compared = {*table.full_key, *(c.name for c in SEEN)}
    # As text: DuckDB's hash takes an empty list, and an object of nulls, for null. Text quotes what could be mistaken.
    compared = (
        f"{c.name}::VARCHAR" if pa.types.is_nested(c.type) else c.name
        for c in table.columns
        if c.name not in not_compared
    )
    content = ", ".join(compared) or "true"
    first, second = f"hash({content})", f"hash('other', {content})"
    if grouped:
        # Rows of one version have no order: their hashes are added up, and counted, as two equal rows are two.
        return f"(count(*), sum({first}::HUGEINT))", f"sum({second}::HUGEINT)"
    return first, second


def _column_names(table: Table) -> str:
    return ", ".join(c.name for c in table.columns)


def reconcile_sql(seen_last: str, known: str) -> str:
    """Write the query for the currencies whose sums differ between the balances of two queries."""
    return from_template("reconcile", seen_last=seen_last, known=known)


class LatestFiles(NamedTuple):
    """Where a table and its latest state are, as absolute paths of Parquet files."""

    snapshot: list[str]
    """The latest state as it was when the snapshot was taken: each object once."""
    since: list[str]
    """Versions that came since."""
    all: list[str]
    """The whole table, every version."""

    def sql(self, table: Table, clause: str = "") -> str:
        """Write the query for the latest state, of those objects alone that a ``clause`` leaves."""
        snapshot, since = (
            table_sql(table, files, clause) if files else "" for files in (self.snapshot, self.since)
        )
        return latest_sql(table, snapshot, since)
