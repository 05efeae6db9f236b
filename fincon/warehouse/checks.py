"""The checks of ``sql/checks``: queries on the views that must return no row."""

from collections.abc import Iterator

from fincon.lake.version_sql import SQL
from fincon.storage.s3 import DataPath
from fincon.warehouse.connection import connect


def checks() -> Iterator[tuple[str, str, str]]:
    """Yield (name, promise, query) of each file in ``sql/checks``; a row that the query returns is a failure."""
    for path in sorted((SQL / "checks").glob("*.sql")):
        query = path.read_text(encoding="utf-8")
        yield path.stem, query.split("\n", 1)[0].removeprefix("-- "), query


def run_checks(data: DataPath, bounds: str = "") -> list[tuple[str, str, int]]:
    """Return (name, promise, how many rows it found wrong) of each check, after the SQL of ``bounds`` (SET memory_limit …)."""
    with connect(data) as connection:
        if bounds:
            connection.execute(bounds)
        return [
            (name, promise, len(connection.execute(query).fetchall())) for name, promise, query in checks()
        ]
