"""Connect to ``fincon.duckdb`` for reading, as notebooks, commands and checks do."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from fincon.errors import UsageError, reason_of
from fincon.lake.version_sql import sql_literal
from fincon.settings import data_folder
from fincon.storage.data_folder import DataFolder, local_copy, open_duckdb
from fincon.storage.s3 import DataPath

AGAIN = "`fincon compact` or the next `fincon sync` makes the views anew."
READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def connect(data: str | DataPath | None = None) -> duckdb.DuckDBPyConnection:
    """Return a connection to the views as they are now, read-only and never in the way of a run: see `fincon.connect`.

    Raises:
        UsageError: nothing has been synced into ``data``, or its views cannot be read.
    """
    folder = data_folder(data)
    path = DataFolder(folder).views
    if not path.exists():
        raise UsageError(
            f"There is no {path}.",
            "Run `fincon sync` or `fincon demo` first, or name the folder with --data.",
        )
    # Attached, not opened: DuckDB shares one instance among all who open the same path in a process, and
    # that would go on showing the file as it was when the first of them opened it.
    connection = open_duckdb(folder)
    try:
        with local_copy(path) as file:
            connection.execute(
                f"SET TimeZone = 'UTC'; ATTACH {sql_literal(str(file))} AS fincon (READ_ONLY); USE fincon"
            )
        published_in = connection.execute("SELECT published_in()").fetchall()[0][0]
    except duckdb.Error as error:
        connection.close()
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}", AGAIN) from error
    if published_in != str(folder):
        connection.close()
        raise UsageError(f"{path} was made for {published_in}: the folder was moved or copied.", AGAIN)
    return connection


@contextmanager
def ask(query: str, data: str | DataPath | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection on which ``query`` can be asked: one that reads (SELECT, FROM, DESCRIBE, SUMMARIZE, EXPLAIN).

    Raises:
        UsageError: the query is no such thing, or DuckDB cannot answer it; the message is DuckDB's.
    """
    with connect(data) as connection:
        try:
            parsed = connection.extract_statements(query)
            if len(parsed) != 1 or parsed[0].type not in READING:
                raise UsageError(
                    "Only one query that reads is asked at a time.", "Begin with SELECT or FROM."
                )
            yield connection
        except duckdb.Error as error:
            # An error within a file that is read through Python comes with its traceback: its last line says what it is.
            said = reason_of(error) if str(error).startswith("Traceback") else error
            raise UsageError(
                f"DuckDB: {said}", '`fincon sql "SHOW TABLES"` lists what can be asked.'
            ) from error
