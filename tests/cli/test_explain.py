"""``fincon explain`` says why an account has no balance, or an old one: each obstacle by a sentence of its own."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.typed import typed
from tests.warehouse.test_views import publish_rows

NOTICE = {"active": {"action": "relink_required", "expected_deactivation_date": "2026-12-01T00:00:00Z"}}
OBSTACLES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str]] = {
    "fca_absent": (
        {"absent_since": "2026-11-01T12:00:00Z"},
        None,
        "list does not show it since 2026-11-01 12:00",
    ),
    "fca_left": ({"status": "disconnected"}, None, "It is disconnected"),
    "fca_inactive": ({"status": "inactive"}, {"status": "succeeded"}, "until the holder links it again"),
    "fca_unpermitted": ({"permissions": ["transactions"]}, {"status": "failed"}, "`balances` is not granted"),
    "fca_never": ({}, None, "never refreshed"),
    "fca_pending": ({}, {"status": "pending"}, "under way since 2026-11-01 09:00"),
    "fca_failed": (
        {},
        {"status": "failed"},
        "2026-11-01 09:00, failed; the next is allowed from 2026-11-01 15:00.",
    ),
    "fca_ending": ({"status_details": NOTICE}, {"status": "succeeded"}, "can be read until 2026-12-01 00:00"),
}
"""Account → what is peculiar of it, its last refresh, and what must be said."""


def test_each_obstacle_is_named_and_a_holder_stands_for_all_accounts(tmp_path: Path) -> None:
    accounts, refreshes = [], []
    for name, (peculiar, refresh, _) in OBSTACLES.items():
        whole = {"account_id": name, "status": "active", "account_holder_customer_id": "cus_1", **peculiar}
        accounts.append({"created_at": "2026-10-01T00:00:00Z", "permissions": ["balances"], **whole})
        if refresh:
            next_at = (
                {"next_refresh_available_at": "2026-11-01T15:00:00Z"}
                if refresh["status"] != "pending"
                else {}
            )
            of = {"account_id": name, "feature": "balance", "last_attempted_at": "2026-11-01T09:00:00Z"}
            refreshes.append({**of, **next_at, **refresh})
    publish_rows(tmp_path / "data", {"accounts": accounts, "refreshes": refreshes}, datetime.now(UTC))
    told = typed("explain", "cus_1", cwd=tmp_path).out
    parts = {part.split(":")[0]: part for part in told.split("\n\n")}
    assert parts.keys() == OBSTACLES.keys()
    for name, (_, _, words) in OBSTACLES.items():
        assert words in " ".join(parts[name].split())
        assert "No balance of it is known." in parts[name]
        assert "2026-10-01 00:00 linked" in parts[name]


def test_a_failing_account_says_how_often_since_when_and_what_is_still_known(tmp_path: Path) -> None:
    of = {"account_id": "fca_1", "feature": "balance"}
    given = {
        "accounts": [{"account_id": "fca_1", "status": "active", "institution_name": "B\x1b[2Jank {x}"}],
        "balances": [
            {"account_id": "fca_1", "currency": "usd", "current": -123456789, "as_of": "now-50h"},
            {"account_id": "fca_1", "currency": "jpy", "current": 1000, "as_of": "now-50h"},
            {"account_id": "fca_1", "currency": "points", "current": 1000, "as_of": "now-50h"},
        ],
        "refreshes": [
            {
                **of,
                "status": "failed",
                "last_attempted_at": "2026-11-02T09:00:00Z",
                "observed_at": "2026-11-02T09:00:01Z",
            },
            {
                **of,
                "status": "failed",
                "last_attempted_at": "2026-11-03T09:00:00Z",
                "observed_at": "2026-11-03T09:00:01Z",
            },
        ],
    }
    publish_rows(tmp_path / "data", given, datetime.now(UTC))
    told = " ".join(typed("explain", "fca_1", cwd=tmp_path).out.split())
    assert "as did all 2 seen since 2026-11-02 09:00" in told
    assert (
        "2 days old: jpy current 1,000, points current 1,000 (minor units), usd current -1,234,567.89."
        in told
    )
    assert "\\x1b[2Jank {x}" in told
    assert told.count("refresh of its balance: failed") == 2


def test_an_account_that_nobody_knows_is_wrong_usage_in_two_lines(tmp_path: Path) -> None:
    publish_rows(tmp_path / "data", {"accounts": [{"account_id": "fca_1"}]}, datetime.now(UTC))
    done = typed("explain", "fca_2", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "No account fca_2 is known here" in done.err
