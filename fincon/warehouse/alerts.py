"""Find what somebody must be told: queries of ``sql/alerts`` and of the user's own folder, whose rows are news once.

A query's first line says what its rows mean. Its column ``key`` says which rows are the same news as before though their
numbers differ; where there is none, the whole row does.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from fincon.errors import UsageError, reason_of
from fincon.lake.version_sql import SQL
from fincon.settings import own_queries
from fincon.storage.s3 import DataPath
from fincon.warehouse.checks import checks, rows_at_fault
from fincon.warehouse.connection import connect
from fincon.warehouse.read_only import ReadOnlyConnection


@dataclass(frozen=True, kw_only=True)
class Alert:
    """What a query found."""

    name: str
    meaning: str
    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]
    """All of them, those that were told before too; without ``key``."""
    keys: Sequence[str]
    """The hash of each row's key."""


def alert_queries() -> dict[str, str]:
    """Return name → query: ours, then the user's, of which one of the same name takes the place of ours."""
    found = {}
    for folder in (SQL / "alerts", own_queries("FINCON_ALERTS_DIR")):
        for path in sorted(folder.glob("*.sql")) if folder else ():
            found[path.stem] = path.read_text(encoding="utf-8")
    return {name: query for name, query in found.items() if query.strip()}  # an empty file turns one off


def find_alerts(data: DataPath) -> list[Alert]:
    """Ask all queries and checks; return those that found something.

    Raises:
        UsageError: DuckDB cannot answer one of them.
    """
    with connect(data) as views:
        return [*_of_queries(views), *_of_checks(views)]


def _of_queries(views: ReadOnlyConnection) -> Iterator[Alert]:
    for name, query in alert_queries().items():
        try:
            cursor = views.execute(query)
            columns = [column[0] for column in cursor.description or ()]
            rows = cursor.fetchall()
        except duckdb.Error as error:
            raise UsageError(
                f"The alert {name} cannot be asked: {reason_of(error)}",
                "Mend its file in FINCON_ALERTS_DIR; an empty one turns an alert off.",
            ) from error
        if rows:
            place = columns.index("key") if "key" in columns else None
            yield Alert(
                name=name,
                meaning=query.split("\n", 1)[0].removeprefix("--").strip(),
                columns=[column for column in columns if column != "key"],
                rows=[row if place is None else (*row[:place], *row[place + 1 :]) for row in rows],
                keys=[_hash(name, row if place is None else row[place]) for row in rows],
            )


def _of_checks(views: ReadOnlyConnection) -> Iterator[Alert]:
    counts = [(name, promise, len(rows_at_fault(views, name, query))) for name, promise, query in checks()]
    failed = [row for row in counts if row[2]]
    if failed:
        yield Alert(
            name="failed_checks",
            meaning="Checks of the data find rows: `fincon check` shows them.",
            columns=("check", "promise", "rows"),
            rows=failed,
            keys=[_hash("failed_checks", name) for name, _, _ in failed],
        )


def _hash(alert: str, key: object) -> str:
    text = json.dumps([alert, key], default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
