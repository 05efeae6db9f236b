"""Ask the views what ``fincon status`` shows."""

import json
from datetime import UTC, datetime
from typing import Any

from fincon.landing.run_folder import RESUMED_WITHIN, RunFolder, unfinished_runs
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import OBJECT_TABLES
from fincon.warehouse.read_only import ReadOnlyConnection

RUNS = "FROM runs ORDER BY finished_at DESC LIMIT ?"

REQUESTS_THIS_MONTH = """
SELECT endpoint, sum((requests_by_endpoint->>endpoint)::BIGINT)::BIGINT AS requests
FROM (
    SELECT requests_by_endpoint, unnest(json_keys(requests_by_endpoint)) AS endpoint
    FROM runs WHERE date_trunc('month', finished_at) = date_trunc('month', now())
)
GROUP BY ALL ORDER BY ALL"""

STRIPE_ACCOUNTS = """
SELECT
    stripe_account,
    count(*) AS runs,
    max(finished_at) AS last_run,
    coalesce(any_value(known.accounts), 0) AS accounts
FROM runs
LEFT JOIN (SELECT stripe_account, count(*) AS accounts FROM accounts GROUP BY ALL) AS known USING (stripe_account)
GROUP BY ALL ORDER BY max(finished_at), stripe_account"""

TABLE = """
SELECT (SELECT count(*) FROM main.$table) AS rows, count(*) AS versions, max(observed_at) AS newest
FROM history.$table"""

REJECTS = """
SELECT object_type, object_id, path, reason, observed_at
FROM rejects ORDER BY rejects.observed_at DESC LIMIT 1000"""

LAST_BY_MODE = "SELECT string_split(mode, '+') AS streams, max(started_at) AS last FROM runs GROUP BY ALL"

READ_BY = {
    "sessions": {"sessions"},
    "session_accounts": {"sessions"},
    "accounts": {"accounts", "events"},
    "balances": {"accounts", "events"},
    "refreshes": {"accounts", "events"},
    "transactions": {"transactions"},
    "owners": {"owners"},
    "watermarks": {"transactions", "owners"},
    "authorizations": {"events"},
}
"""Table → the parts of a run's mode any of which read it; of any other table, every run does."""

UNKNOWN_ATTRIBUTES = """
SELECT
    table_name, attribute, sum(objects)::BIGINT AS objects,
    min(first_seen) AS first_seen,
    max(last_seen) AS last_seen,
    max_by(example_type, last_seen) AS example_type
FROM unknown_attributes GROUP BY ALL ORDER BY ALL"""


def summary(views: ReadOnlyConnection, runs: int) -> dict[str, Any]:
    """Return last runs, size and freshness of each table and Stripe account, and the newest rejects."""
    synced = last_synced(views)
    return {
        "runs": _rows(views, RUNS, runs),
        "requests_this_month": {
            row["endpoint"]: row["requests"] for row in _rows(views, REQUESTS_THIS_MONTH)
        },
        "stripe_accounts": _rows(views, STRIPE_ACCOUNTS),
        "tables": {
            table.name: {
                **_rows(views, TABLE.replace("$table", table.name))[0],
                "synced": synced.get(table.name),
            }
            for table in OBJECT_TABLES
        },
        "rejects": _rows(views, REJECTS),
        "unknown_attributes": unknown_attributes(views),
    }


def last_synced(views: ReadOnlyConnection) -> dict[str, datetime]:
    """Return table → when the last run began that read it; under an empty name, that of any run. None began: no entry."""
    runs = _rows(views, LAST_BY_MODE)
    found = {}
    for name in ("", *(table.name for table in OBJECT_TABLES)):
        read_by = READ_BY.get(name)
        times = [run["last"] for run in runs if read_by is None or read_by & set(run["streams"])]
        if times:
            found[name] = max(times)
    return found


def unknown_attributes(views: ReadOnlyConnection) -> list[dict[str, Any]]:
    """Return each attribute that arrives and that fincon does not know: its place, on what, since when, on how many."""
    return _rows(views, UNKNOWN_ATTRIBUTES)


def waiting_runs(data: DataPath, views: ReadOnlyConnection | None) -> list[dict[str, Any]]:
    """Return the runs with pages on disk that are in no table yet, newest first; ``views`` is None before the first."""
    finished = {row["run_id"] for row in _rows(views, "SELECT run_id FROM runs")} if views else set()
    waiting = []
    for run in unfinished_runs(data, finished):
        folder = RunFolder(data, run.run_id)
        fetched = folder.fetch_counts() is not None
        waiting.append(
            {
                "run_id": run.run_id,
                "mode": run.mode,
                "stripe_account": run.stripe_account,
                "started_at": run.started_at,
                "pages": folder.pages.count(),
                "fetched": fetched,
                "goes_on": fetched or datetime.now(UTC) - run.started_at < RESUMED_WITHIN,
            }
        )
    return waiting


def _rows(views: ReadOnlyConnection, query: str, *values: object) -> list[dict[str, Any]]:
    """Return rows as dicts; JSON is parsed."""
    cursor = views.execute(query, list(values))
    described = [(column[0], str(column[1])) for column in cursor.description or ()]
    return [
        {
            name: json.loads(value) if kind == "JSON" and value is not None else value
            for (name, kind), value in zip(described, row, strict=True)
        }
        for row in cursor.fetchall()
    ]
