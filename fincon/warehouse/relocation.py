"""Let views read a lake that is not where they were made for: it was moved, copied, or mounted elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import duckdb

from fincon.lake.version_sql import LatestFiles, sql_literal
from fincon.warehouse.views import named_files, published_files


def relocate(views: Path, target: Path, root: str) -> Path:
    """Copy a file of views to ``target`` so that they read their Parquet files below ``root``; return ``target``.

    Raises:
        duckdb.Error: the file cannot be read.
    """
    target.write_bytes(views.read_bytes())
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH {sql_literal(str(target))} AS moved; USE moved")
        before = str(connection.execute("SELECT main.published_in()").fetchall()[0][0])
        # Read before anything is changed: of views that an older fincon made, a question fails, which would end the transaction.
        statements = list(_moved(connection, before, root))
        connection.execute("BEGIN")
        for statement in statements:
            connection.execute(statement)
        connection.execute("COMMIT; USE memory; DETACH moved")
    return target


def _moved(connection: duckdb.DuckDBPyConnection, before: str, root: str) -> Iterator[str]:
    """Yield the SQL of the macros that name files, so that they name them below ``root``."""

    def moved(files: list[str]) -> list[str]:
        return [root + file.removeprefix(before) if file.startswith(f"{before}/") else file for file in files]

    yield from named_files(
        root, {name: LatestFiles(*map(moved, latest)) for name, latest in published_files(connection).items()}
    )
