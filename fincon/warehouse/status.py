"""Ask the views what ``fincon status`` shows."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fincon.landing.attempts import Attempt, by_endpoint, ended_attempts, row
from fincon.landing.run_folder import RESUMED_WITHIN, RunFolder, unfinished_runs
from fincon.settings import fincon_version
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import OBJECT_TABLES
from fincon.warehouse.read_only import ReadOnlyConnection

RUNS = "FROM runs ORDER BY finished_at DESC LIMIT ?"

SHOWN_DAYS = 7
"""For how long an attempt that did not succeed is shown first."""

REQUESTS_THIS_MONTH = """
SELECT endpoint, sum((requests_by_endpoint->>endpoint)::BIGINT)::BIGINT AS requests
FROM (
    SELECT requests_by_endpoint, unnest(json_keys(requests_by_endpoint)) AS endpoint
    FROM (
        SELECT requests_by_endpoint, started_at AS since FROM attempts
        UNION ALL -- runs of a fincon that kept no attempts
        SELECT requests_by_endpoint, finished_at FROM runs ANTI JOIN attempts USING (run_id)
    )
    WHERE date_trunc('month', since) = date_trunc('month', now())
)
GROUP BY ALL ORDER BY ALL"""

ATTEMPTS = "FROM attempts ORDER BY started_at DESC, ended_at DESC, stripe_account LIMIT ?"

NOT_SUCCEEDED = f"""
FROM attempts WHERE status != 'succeeded' AND started_at > now() - INTERVAL {SHOWN_DAYS} DAY
ORDER BY started_at DESC, ended_at DESC, stripe_account LIMIT ?"""

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

SET_ASIDE = """
SELECT
    CASE feature WHEN 'transaction' THEN 'transactions' ELSE 'owners' END AS table_name,
    refusal,
    count(*) AS accounts
FROM watermarks
SEMI JOIN (FROM accounts WHERE absent_since IS NULL) USING (stripe_account, account_id)
WHERE refused_at IS NOT NULL
GROUP BY ALL ORDER BY ALL"""

UNKNOWN_ATTRIBUTES = """
SELECT
    table_name, attribute, sum(objects)::BIGINT AS objects,
    min(first_seen) AS first_seen,
    max(last_seen) AS last_seen,
    max_by(example_type, last_seen) AS example_type
FROM unknown_attributes GROUP BY ALL ORDER BY ALL"""


def summary(views: ReadOnlyConnection, runs: int, pending: Sequence[Attempt]) -> dict[str, Any]:
    """Return attempts, those ``pending`` of no table yet too, runs, size and age of each table, and rejects."""
    return {
        **attempts(pending, _rows(views, ATTEMPTS, runs), _rows(views, NOT_SUCCEEDED, runs), runs),
        "runs": _rows(views, RUNS, runs),
        "requests_this_month": requests_this_month(views, pending),
        "stripe_accounts": _rows(views, STRIPE_ACCOUNTS),
        "tables": tables(views),
        "accounts_set_aside": _rows(views, SET_ASIDE),
        "rejects": _rows(views, REJECTS),
        "unknown_attributes": unknown_attributes(views),
    }


def tables(views: ReadOnlyConnection) -> dict[str, dict[str, Any]]:
    """Return table → its ``rows``, ``versions``, the ``newest`` observation in it, and when it was ``synced`` last."""
    synced = last_synced(views)
    return {
        table.name: {
            **_rows(views, TABLE.replace("$table", table.name))[0],
            "synced": synced.get(table.name),
        }
        for table in OBJECT_TABLES
    }


def attempts(
    pending: Sequence[Attempt],
    known: Sequence[dict[str, Any]],
    known_bad: Sequence[dict[str, Any]],
    count: int,
) -> dict[str, Any]:
    """Return the newest ``attempts``, and of the last days the newest ``not_succeeded``."""
    made_by = fincon_version()
    rows = [row(one, made_by) for one in pending]
    for one in rows:
        one["requests_by_endpoint"] = json.loads(one["requests_by_endpoint"])
    since = datetime.now(UTC) - timedelta(days=SHOWN_DAYS)
    bad = [one for one in rows if one["status"] != "succeeded" and one["started_at"] > since]
    return {
        "attempts": sorted((*rows, *known), key=_began, reverse=True)[:count],
        "not_succeeded": sorted((*bad, *known_bad), key=_began, reverse=True)[:count],
    }


def _began(attempt: Mapping[str, Any]) -> datetime:
    began: datetime = attempt["started_at"]
    return began


def requests_this_month(views: ReadOnlyConnection, pending: Sequence[Attempt]) -> dict[str, int]:
    """Return endpoint → how many requests were sent to it this month, by whatever attempt."""
    found = Counter({row["endpoint"]: row["requests"] for row in _rows(views, REQUESTS_THIS_MONTH)})
    now = datetime.now(UTC)
    for attempt in pending:
        if (attempt.started_at.year, attempt.started_at.month) == (now.year, now.month):
            found.update(by_endpoint(attempt.counts))
    return dict(sorted(found.items()))


def pending_attempts(data: DataPath, views: ReadOnlyConnection | None) -> list[Attempt]:
    """Return the attempts of this machine that have ended and are in no table yet; ``views`` is None before the first."""
    found = [attempt for attempts in ended_attempts(data).values() for attempt in attempts]
    known = {one["attempt_id"] for one in _rows(views, "SELECT attempt_id FROM attempts")} if views else set()
    return [attempt for attempt in found if attempt.attempt_id not in known]


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
