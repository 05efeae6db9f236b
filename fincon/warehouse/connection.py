"""Connect to ``fincon.duckdb`` for reading, as notebooks, commands and checks do."""

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import duckdb

from fincon.errors import FinconError, RunFailed, UsageError, reason_of
from fincon.lake.version_sql import sql_literal
from fincon.settings import data_folder, query_memory
from fincon.storage.data_folder import DataFolder, local_copy, open_duckdb
from fincon.storage.lock import retry_while_locked
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import TABLES
from fincon.warehouse.read_only import ReadOnlyConnection, shut_in
from fincon.warehouse.relocation import relocate
from fincon.warehouse.views import made_by, published_files

AGAIN = "`fincon compact` or the next `fincon sync` makes the views anew."
WAIT_SECONDS = 10.0
"""How long a reader waits for another to make the views anew, where those that are there lack something."""
LEFT_SECONDS = 86_400
"""How old what a question spilled is when nobody reads it any more."""
UNKNOWN_NAME = re.compile(r'(?:Table|Function) with name "?(\w+)"? does not exist')


def connect(data: str | DataPath | None = None) -> ReadOnlyConnection:
    """Return a connection to the views as they are now, read-only and never in the way of a run: see `fincon.connect`."""
    return open_views(data_folder(data), **_within_memory())


def _within_memory() -> dict[str, str]:
    """Return the settings by which DuckDB holds no more than `query_memory`; none where there is no place for the rest."""
    try:
        folder = _spill_folder()
    except OSError:
        return {}
    # A folder in it for each connection, which DuckDB makes when it needs it, and removes with the connection.
    return {"memory_limit": query_memory(), "temp_directory": str(folder / secrets.token_hex(8))}


def _spill_folder() -> Path:
    """Return the folder of this user for what questions spill; it stays, empty, for the next.

    Raises:
        OSError: it cannot be made, or others could look into it.
    """
    folder = Path(gettempdir(), f"fincon-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()  # in a folder that all share, somebody may have been there first
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
    for left in folder.iterdir():  # by readers that were killed: it may name people
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    return folder


def open_views(folder: DataPath, folders: Sequence[str] = (), **config: Any) -> ReadOnlyConnection:
    """Return a connection to the views that also reaches what is in ``folders``; ``config`` is DuckDB's.

    Views that another version of fincon made are made anew first; where that cannot be, they are read as they are.

    Raises:
        UsageError: nothing has been synced into ``data``, its views cannot be read, or a newer fincon wrote the lake.
        RunFailed: the views lack what this fincon knows, and cannot be made anew now.
    """
    path = DataFolder(folder).views
    try:
        connection = _attach(folder, path, config)
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no {path}.",
            "Run `fincon sync` or `fincon demo` first, or name the folder with --data.",
        ) from error
    if _made_by(connection) == made_by():
        return _shut_in(connection, folder, folders)
    from fincon.warehouse.renewal import (  # rarely called; delta-rs takes long to import
        publish_anew,
        refuse_newer,
    )

    refuse_newer(folder)
    has_all = _has_all_columns(connection)
    try:
        retry_while_locked(lambda: publish_anew(folder, connection), 0 if has_all else WAIT_SECONDS)
    except (FinconError, OSError, duckdb.Error) as error:
        if has_all:
            return _shut_in(connection, folder, folders)
        connection.close()
        raise RunFailed(f"The views in {path} are of another fincon: {reason_of(error)}", AGAIN) from error
    connection.close()
    return _shut_in(_attach(folder, path, config), folder, folders)


def _shut_in(
    connection: duckdb.DuckDBPyConnection, folder: DataPath, folders: Sequence[str]
) -> ReadOnlyConnection:
    """Keep a connection to the Parquet files that the views name."""
    files = {file for latest in published_files(connection).values() for some in latest for file in some}
    if not files:  # there are none, or an older fincon made the views, which name them elsewhere
        folders = [*folders, str(DataFolder(folder).lake), str(DataFolder(folder).snapshots)]
    shut_in(connection, files, folders)
    return ReadOnlyConnection(connection)


def _attach(folder: DataPath, path: DataPath, config: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    # Attached, not opened: DuckDB shares one instance among all who open the same path in a process, and
    # that would go on showing the file as it was when the first of them opened it.
    connection = open_duckdb(folder, **config)
    try:
        with local_copy(path) as file:
            published_in = _attach_file(connection, file)
            if published_in != str(folder):  # the folder was moved, copied or mounted elsewhere
                with TemporaryDirectory(prefix="fincon-") as scratch:
                    connection.execute("USE memory; DETACH fincon")
                    _attach_file(connection, relocate(file, Path(scratch) / file.name, str(folder)))
    except duckdb.Error as error:
        connection.close()
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}", AGAIN) from error
    return connection


def _attach_file(connection: duckdb.DuckDBPyConnection, file: Path) -> str:
    """Attach a file of views, and return for which data folder it was made. It may be removed from then on."""
    connection.execute(
        # A question names a table at several places: each would read the footers of all its files again. Cursors have it too.
        "SET TimeZone = 'UTC'; SET GLOBAL parquet_metadata_cache = true;"
        f" ATTACH {sql_literal(str(file))} AS fincon (READ_ONLY); USE fincon"
    )
    return str(connection.execute("SELECT published_in()").fetchall()[0][0])


def _made_by(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Return which fincon made the views; None where it was one that did not say."""
    try:
        return str(connection.execute("SELECT made_by()").fetchall()[0][0])
    except duckdb.CatalogException:
        return None


def _has_all_columns(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether the views have every table and column that this fincon knows."""
    found = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'fincon' AND schema_name = 'lake'"
    ).fetchall()
    return set(found) >= {(table.name, column.name) for table in TABLES for column in table.columns}


@contextmanager
def ask(query: str, data: str | DataPath | None = None) -> Iterator[ReadOnlyConnection]:
    """Open a connection on which ``query`` is asked: one that reads (SELECT, FROM, DESCRIBE, SUMMARIZE, EXPLAIN).

    Raises:
        UsageError: the query is no such thing, or DuckDB cannot answer it; the message is DuckDB's.
    """
    with connect(data) as connection:
        try:
            yield connection
        except duckdb.Error as error:
            # An error within a file that is read through Python comes with its traceback: its last line says what it is.
            said = reason_of(error) if str(error).startswith("Traceback") else str(error)
            hint = '`fincon sql "SHOW TABLES"` lists what can be asked.'
            if isinstance(error, duckdb.PermissionException):
                said = reason_of(error)
                hint = "A query reaches the files of this lake alone: load others in a program of your own."
            if isinstance(error, duckdb.OutOfMemoryException):
                said = reason_of(error)
                hint = (
                    "Give it more with FINCON_QUERY_MEMORY (megabytes), or ask for fewer accounts or columns."
                )
            if unknown := UNKNOWN_NAME.search(said):
                asked = re.search(rf"\w+\.{unknown[1]}\b", query, re.IGNORECASE)
                hint = did_you_mean(asked[0] if asked else unknown[1], _names(connection)) or hint
                said = said.partition("\n")[0]  # what DuckDB then proposes leaves out the schema
            raise UsageError(f"DuckDB: {said}", hint) from error


def did_you_mean(wanted: str, names: Sequence[str]) -> str:
    """Return a hint that names what is spelled nearly like ``wanted``, with its schema or without; empty if nothing is."""
    wanted = wanted.lower().removeprefix("main.")
    spelled = {name.lower(): name for name in names}
    if "." not in wanted:
        spelled = {name.lower().rpartition(".")[2]: name for name in reversed(names)} | spelled
    near = get_close_matches(wanted, spelled, n=3, cutoff=0.7)
    found = list(dict.fromkeys(spelled[one] for one in near))
    return f"Did you mean {' or '.join(found)}?" if found else ""


def _names(connection: ReadOnlyConnection) -> list[str]:
    """Return the names of all that can be asked, those of ``main`` without their schema."""
    rows = connection.execute(
        "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal AND schema_name != 'lake'"
        " UNION ALL SELECT schema_name, function_name FROM duckdb_functions()"
        " WHERE NOT internal AND function_type = 'table_macro' AND schema_name = 'main'"
    ).fetchall()
    return [name if schema == "main" else f"{schema}.{name}" for schema, name in sorted(rows)]
