"""Run the checks of ``sql/checks``: queries on the views that must return no row.

A query is written once for many tables between ``-- For each table`` and ``-- End``; ``with COLUMN`` keeps the tables that
have it, ``with a feature`` those of a stream that a refresh makes due, ``except NAMES`` leaves some out. So a new
table is checked as soon as there is one.
"""

import re
from collections.abc import Iterator, Sequence
from string import Template
from typing import Any

import duckdb

from fincon.errors import UsageError, reason_of
from fincon.lake.version_sql import SQL
from fincon.settings import own_queries
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import OBJECT_TABLES, Table
from fincon.transforms.streams import STREAMS
from fincon.warehouse.connection import open_views
from fincon.warehouse.read_only import ReadOnlyConnection

FOR_EACH_TABLE = re.compile(
    r"-- For each table(?: with (?P<with>a feature|\w+))?(?: except (?P<except>[\w, ]+))?\n(?P<query>.*?)-- End\n",
    re.DOTALL,
)


def checks() -> Iterator[tuple[str, str, str]]:
    """Yield (name, promise, query) of each file in ``sql/checks``, then in ``FINCON_CHECKS_DIR``; a row found is a failure.

    Raises:
        UsageError: one of the user's own is called as one of ours.
    """
    ours, own = sorted((SQL / "checks").glob("*.sql")), own_queries("FINCON_CHECKS_DIR")
    more = sorted(own.glob("*.sql")) if own else []
    if same := {path.name for path in ours} & {path.name for path in more}:
        raise UsageError(f"{own} has {min(same)}, as fincon's own checks do.", "Give it another name.")
    for path in [*ours, *more]:
        query = path.read_text(encoding="utf-8")
        yield path.stem, query.split("\n", 1)[0].removeprefix("-- "), written_out(query, OBJECT_TABLES)


def written_out(query: str, tables: Sequence[Table]) -> str:
    """Return a check with what it says for each table written out for all that it means."""

    def union(found: re.Match[str]) -> str:
        template = Template(found["query"])
        return "UNION ALL\n".join(
            template.substitute(
                table=table.name, key=", ".join((*table.key, *table.group_key)), feature=_feature(table)
            )
            for table in tables
            if _is_meant(table, found["with"], (found["except"] or "").split(", "))
        )

    return FOR_EACH_TABLE.sub(union, query)


def _is_meant(table: Table, having: str | None, left_out: Sequence[str]) -> bool:
    if having == "a feature":
        return bool(_feature(table))
    return table.name not in left_out and (having is None or having in table.schema.names)


def _feature(table: Table) -> str:
    """Return the refresh that makes a table's stream due; empty where there is none."""
    stream = STREAMS.get(table.name)
    return (stream and stream.feature) or ""


def run_checks(data: DataPath, **config: Any) -> list[tuple[str, str, int]]:
    """Return (name, promise, how many rows it found wrong) of each check; ``config`` is DuckDB's (memory_limit, …)."""
    with open_views(data, **config) as connection:
        return [
            (name, promise, len(rows_at_fault(connection, name, query))) for name, promise, query in checks()
        ]


def rows_at_fault(connection: ReadOnlyConnection, name: str, query: str) -> list[tuple[Any, ...]]:
    """Return the rows that a check finds.

    Raises:
        UsageError: DuckDB cannot answer it.
    """
    try:
        return connection.execute(query).fetchall()  # type: ignore[no-any-return]  # DuckDB's own, by its name
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
        raise UsageError(f"The check {name} cannot be asked: {reason_of(error)}", "Mend its file.") from error
