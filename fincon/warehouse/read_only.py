"""A DuckDB connection that takes reading statements alone, and reaches no file but the lake's own.

Three locks, for each alone has a gap: DuckDB is kept from other files by its own settings, which cannot be changed any
more; of its statements only reading ones pass, by the tree that DuckDB's parser makes of them (a ``WITH`` may hold a
``COPY``, and an ``EXPLAIN ANALYZE`` runs what it explains); and what else a connection can do is not there.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import duckdb

from fincon.errors import UsageError
from fincon.lake.version_sql import sql_literals

READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""Of what DuckDB's parser makes of a query, the nodes that write nothing."""

EXPLAIN = re.compile(r"EXPLAIN\s+(?:ANALYZE\s|\([\w\s,]*\))?", re.IGNORECASE)
TIME_ZONE = re.compile(r"SET\s+TimeZone\s*(?:=|\sTO\s)\s*'[\w/+-]+'", re.IGNORECASE)
"""The one setting that a reader may change: in which time zone times are shown."""

RESULTS = frozenset(
    {
        *("description", "rowcount", "fetchone", "fetchmany", "fetchall", "fetchnumpy", "fetchdf", "df"),
        *("to_arrow_table", "to_arrow_reader", "register", "unregister", "interrupt", "query_progress"),
        *("extract_statements", "get_table_names"),
    }
)
"""What a reader has of a DuckDB connection beside what stands below: above all, the results of the last query."""


class ReadOnlyConnection:
    """A connection to the views: of a DuckDB connection what asks and answers, under the same names."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Take over a connection that is shut in: see `shut_in`."""
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name not in RESULTS:
            raise AttributeError(f"A connection that only reads has no {name!r}.")
        return getattr(self._connection, name)

    def execute(self, query: str, parameters: object = None) -> Self:
        """Run a query that reads; what it answers is fetched from this connection.

        Raises:
            UsageError: it is not one query that reads.
            duckdb.Error: DuckDB cannot answer it.
        """
        self._connection.execute(self._reading(query), parameters)
        return self

    def sql(self, query: str, *, alias: str = "", params: object = None) -> duckdb.DuckDBPyRelation:
        """Return what a query that reads answers, as a relation: it raises what `execute` does."""
        return self._connection.sql(self._reading(query), alias=alias, params=params)

    query = sql

    def cursor(self) -> "ReadOnlyConnection":
        """Return another connection to the same views, for another thread."""
        cursor = self._connection.cursor()
        cursor.execute("SET TimeZone = 'UTC'; USE fincon")
        return ReadOnlyConnection(cursor)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _reading(self, query: str) -> duckdb.Statement:
        """Return the statement that a query is, so that what is run is what was looked at."""
        with self._connection.cursor() as parser:  # the last result may not be fetched to its end yet
            return reading(parser, query)


def execute_ours(connection: ReadOnlyConnection, query: str) -> ReadOnlyConnection:
    """Run a query out of ``sql``: all of them read, and to look at each takes a third of the time of a small one.

    Raises:
        duckdb.Error: DuckDB cannot answer it.
    """
    # This is no method: who is given a connection is given nothing that would do it.
    connection._connection.execute(query)
    return connection


def reading(parser: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    """Return the one statement that a query is, which reads.

    Raises:
        UsageError: it is another. duckdb.Error: it is no SQL.
    """
    statements = parser.extract_statements(query)
    if not statements:
        raise UsageError("There is no query.", 'Begin like "FROM balance_totals".')
    if len(statements) > 1 or not _reads(parser, statements[0]):
        raise UsageError(
            "Only one query that reads is asked at a time: this connection is read-only.",
            "Begin with SELECT or FROM.",
        )
    return statements[0]


def _reads(parser: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> bool:
    text = statement.query.strip()
    if statement.type == duckdb.StatementType.SET:
        return bool(TIME_ZONE.fullmatch(text.rstrip("; ")))
    if statement.type == duckdb.StatementType.EXPLAIN:
        text = EXPLAIN.sub("", text, count=1)
    parsed = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchall()[0][0]
    tree = json.loads(parsed)
    return not tree["error"] and READING_NODES.issuperset(_nodes(tree))


def _nodes(tree: object) -> Iterator[str]:
    """Yield the type of each node of a parsed query, of nested ones too."""
    if isinstance(tree, dict):
        kind = tree.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE"):
            yield kind
        tree = list(tree.values())
    if isinstance(tree, list):
        for inner in tree:
            yield from _nodes(inner)


def shut_in(connection: duckdb.DuckDBPyConnection, files: Iterable[str], folders: Sequence[str] = ()) -> None:
    """Keep a connection from every file but these, and from changing that again."""
    # Of a file that is gone, DuckDB asks whether it is a folder before it says so.
    paths = [path for file in files for path in (file, f"{file}/**/*.parquet")]
    connection.execute(
        f"SET allowed_paths = [{sql_literals(paths)}]; SET allowed_directories = [{sql_literals(folders)}];"
        " SET allowed_configs = ['TimeZone']; SET enable_external_access = false; SET lock_configuration = true"
    )
