"""Run the checks of ``sql/checks``: queries on the views that must return no row.

A query is written once for many tables between ``-- For each table`` and ``-- End``; ``with COLUMN`` keeps the tables that
have it, ``with a feature`` those of a stream that a refresh makes due, ``except NAMES`` leaves some out. So a new
table is checked as soon as there is one.

After a sync they are asked of what it touched alone, in time that grows with that: what stands behind ``-- touched:`` then
takes the place of the line's beginning, and ``touched.TABLE`` is the rows in files that were not there when all was well
last. A check that says nothing of it, one of the user's own, is asked whole.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from string import Template
from typing import Any

import duckdb

from fincon.errors import UsageError, reason_of
from fincon.lake.version_sql import SQL, table_sql
from fincon.settings import own_queries
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import OBJECT_TABLES, TABLES, Table
from fincon.transforms.streams import STREAMS
from fincon.warehouse.connection import open_views
from fincon.warehouse.read_only import ReadOnlyConnection, execute_ours
from fincon.warehouse.views import published_files

FOR_EACH_TABLE = re.compile(
    r"-- For each table(?: with (?P<with>a feature|\w+))?(?: except (?P<except>[\w, ]+))?\n(?P<query>.*?)-- End\n",
    re.DOTALL,
)

TOUCHED = re.compile(r"^(?P<whole>.*?)(?P<mark> ?-- touched: )(?P<touched>.*)\n", re.MULTILINE)
TOUCHED_TABLE = re.compile(r"\btouched\.(\w+)")

APART = "UNION ALL -- asked apart\n"
"""Between the tables of a check that says the same of each: all at once, their joins take more memory than a run has."""

Files = Mapping[str, Sequence[str]]
"""Table → Parquet files of it."""


def checks(
    touched: Files | None = None, filled: Collection[str] | None = None
) -> Iterator[tuple[str, str, str]]:
    """Yield (name, promise, query) of each file in ``sql/checks``, then in ``FINCON_CHECKS_DIR``; a row found is a failure.

    Of the rows in the files that were ``touched``, if they are given: then those that are of none of them are left out.
    What ours say of each table is asked of those that are ``filled`` alone, if it is known which: others have no row at fault.

    Raises:
        UsageError: one of the user's own is called as one of ours.
    """
    ours, own = sorted((SQL / "checks").glob("*.sql")), own_queries("FINCON_CHECKS_DIR")
    more = sorted(own.glob("*.sql")) if own else []
    if same := {path.name for path in ours} & {path.name for path in more}:
        raise UsageError(f"{own} has {min(same)}, as fincon's own checks do.", "Give it another name.")
    for path in [*ours, *more]:
        query = path.read_text(encoding="utf-8")
        promise = query.split("\n", 1)[0].removeprefix("-- ")
        if touched is None or not TOUCHED.search(query):
            yield path.stem, promise, written_out(query, OBJECT_TABLES, filled if path in ours else None)
        elif of_touched := written_out_of(query, touched):
            yield path.stem, promise, of_touched


def written_out_of(query: str, touched: Files) -> str:
    """Return a check as it is asked of the rows in files that were ``touched``; empty where it has nothing to ask of them."""
    some = {name for name, files in touched.items() if files}
    query = written_out(TOUCHED.sub(lambda line: f"{line['touched']}\n", query), OBJECT_TABLES, some)
    if not any(touched.get(name) for name in TOUCHED_TABLE.findall(query)):
        return ""
    tables = {table.name: table for table in TABLES}

    def relation(found: re.Match[str]) -> str:
        return table_sql(tables[found[1]], touched.get(found[1], []))

    return TOUCHED_TABLE.sub(relation, query)


def written_out(query: str, tables: Sequence[Table], some: Collection[str] | None = None) -> str:
    """Return a check with what it says for each table written out for all that it means, or those of them among ``some``.

    If none is, it is written out for one, so that it is a query.
    """

    def union(found: re.Match[str]) -> str:
        template = Template(found["query"])
        is_last = not found.string[found.end() :].strip()
        left_out = (found["except"] or "").split(", ")
        meant = [table for table in tables if _is_meant(table, found["with"], left_out)]
        return (APART if is_last else "UNION ALL\n").join(
            template.substitute(
                table=table.name,
                object=", ".join(table.full_key),
                key=", ".join((*table.key, *table.group_key)),
                feature=_feature(table),
            )
            for table in (meant if some is None else [t for t in meant if t.name in some] or meant[:1])
        )

    return FOR_EACH_TABLE.sub(union, TOUCHED.sub(_whole, query))


def _whole(line: re.Match[str]) -> str:
    """Return what a line says of everything."""
    return f"{line['whole']}\n" if line["whole"] else ""


def _is_meant(table: Table, having: str | None, left_out: Sequence[str]) -> bool:
    if having == "a feature":
        return bool(_feature(table))
    return table.name not in left_out and (having is None or having in table.schema.names)


def _feature(table: Table) -> str:
    """Return the refresh that makes a table's stream due; empty where there is none."""
    stream = STREAMS.get(table.name)
    return (stream and stream.feature) or ""


def run_checks(
    data: DataPath, touched: Files | None = None, at_once: int = 1, **config: Any
) -> list[tuple[str, str, int]]:
    """Return (name, promise, how many rows it found wrong) of each of `checks`; ``config`` is DuckDB's (memory_limit, …).

    So many are asked ``at_once``.
    """
    with open_views(data, **config) as connection:
        filled = {name for name, files in published_files(connection).items() if files.all}

        def asked(check: tuple[str, str, str]) -> tuple[str, str, int]:
            name, promise, query = check
            with connection.cursor() as cursor:
                return name, promise, len(rows_at_fault(cursor, name, query))

        found = checks(touched, filled)
        if at_once == 1:  # in this thread, where Ctrl-C ends one that takes long
            return [asked(check) for check in found]
        with ThreadPoolExecutor(at_once) as threads:
            return list(threads.map(asked, found))


@cache
def _ours() -> frozenset[str]:
    """Return the names of fincon's own checks; no other has one of them."""
    return frozenset(path.stem for path in (SQL / "checks").glob("*.sql"))


def rows_at_fault(connection: ReadOnlyConnection, name: str, query: str) -> list[tuple[Any, ...]]:
    """Return the rows that a check finds.

    Raises:
        UsageError: DuckDB cannot answer it.
    """
    execute = execute_ours if name in _ours() else ReadOnlyConnection.execute
    try:
        return [row for part in query.split(APART) for row in execute(connection, part).fetchall()]
    except (
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.ParserException,
        duckdb.PermissionException,
    ) as error:
        raise UsageError(f"The check {name} cannot be asked: {reason_of(error)}", "Mend its file.") from error
