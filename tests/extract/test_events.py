"""Few requests: events instead of listings, settled sessions, and a budget that is kept."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fincon.errors import BudgetExhausted
from fincon.lake.tables import Lake
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.sandbox.server import Sandbox
from fincon.storage.data_folder import DataFolder
from fincon.transforms.schemas import TABLES
from tests.conftest import environ, known_after, rows, settings_for, state, truth
from tests.scripted_stripe import ScriptedStripe, account, event, serving
from tests.typed import typed

EVENTS = SyncRequest(events=True)


def run(sandbox: Sandbox, data: Path, request: SyncRequest = EVENTS) -> SyncResult:
    """One run, with the requests of those before it forgotten."""
    sandbox.reset_requests()
    return run_sync(settings_for(sandbox.url, data), request)


def paths(sandbox: Sandbox) -> list[str]:
    return [path.rsplit("/", 1)[1] for _, path, _ in sandbox.requests]


@pytest.mark.quick
def test_a_quiet_minute_costs_one_request_and_adds_no_row(sandbox: Sandbox, data: Path) -> None:
    run(sandbox, data, SyncRequest())
    run(sandbox, data)  # events from just before the listing say since when it has been so
    for _ in range(2):
        sandbox.reset_requests()
        outcome = run(sandbox, data)
        assert paths(sandbox) == ["events"]
        assert (outcome.run["requests"], outcome.run["rows_added"], outcome.run["mode"]) == (1, 0, "events")


def test_events_bring_what_changed_and_a_listing_after_them_brings_only_what_has_no_event(
    sandbox: Sandbox, data: Path
) -> None:
    run(sandbox, data, SyncRequest())
    before = truth(sandbox.world)
    for hours in (1, 7, 20):
        sandbox.advance(timedelta(hours=hours))
        outcome = run(sandbox, data)
        assert set(paths(sandbox)) == {"events"}
        assert outcome.failed_checks == {}
    alone = data.with_name("alone")
    run(sandbox, alone, SyncRequest())
    run(sandbox, data, SyncRequest())
    known = known_after(before, truth(sandbox.world))
    for table in ("accounts", "balances", "refreshes"):
        assert state(data)[table] == known[table]
    assert state(alone)["accounts"] == state(data)["accounts"]


@pytest.mark.quick
def test_each_event_is_a_version_at_the_events_time(sandbox: Sandbox, data: Path) -> None:
    """What was known is right at every hour between two runs, not only at the runs."""
    run(sandbox, data, SyncRequest())
    start = sandbox.world
    sandbox.advance(timedelta(hours=30))
    run(sandbox, data)
    for hours in (3, 11, 26):
        at = start.clock + timedelta(hours=hours)
        then = {r["account_id"]: r["status"] for r in start.at(at).truth()["accounts"]}
        known = rows(
            data,
            f"SELECT account_id, status FROM accounts_as_of('{(at + timedelta(seconds=1)).isoformat()}')",
        )
        assert {r["account_id"]: r["status"] for r in known} == then
        balances = {(r["account_id"], r["currency"]): r["current"] for r in start.at(at).truth()["balances"]}
        known = rows(
            data,
            f"SELECT account_id, currency, current FROM balances_as_of('{(at + timedelta(seconds=1)).isoformat()}')",
        )
        found = {(r["account_id"], r["currency"]): r["current"] for r in known}
        assert found.items() >= balances.items()


def test_reading_the_same_events_again_adds_nothing(sandbox: Sandbox, data: Path) -> None:
    run(sandbox, data, SyncRequest())
    sandbox.advance(timedelta(hours=9))
    assert run(sandbox, data).run["rows_added"] > 0
    sandbox.advance(timedelta(seconds=61))  # the overlap brings the last minutes again
    again: Any = run(sandbox, data).run
    listed = {r["run_id"] for r in rows(data, "SELECT DISTINCT run_id FROM history.accounts")}
    assert again["rows_added"] == 0 or again["run_id"] in listed
    doubled = "SELECT account_id FROM history.accounts GROUP BY account_id, observed_at HAVING count(*) > 1"
    assert rows(data, doubled) == []


@pytest.mark.quick
def test_events_that_were_read_already_are_not_kept_again_nor_committed(tmp_path: Path) -> None:
    """Each run asks for the minutes before the last one too: what stands there is in, and costs no more than its request."""
    data = tmp_path / "data"
    with serving(ScriptedStripe([account("fca_1", 100), account("fca_2", 100)])) as stripe:
        settings = settings_for(stripe.url, data)
        run_sync(settings, SyncRequest())
        stripe.clock += 10
        read = event("evt_1", account("fca_1", 200), stripe.clock - 1)
        stripe.events = [read]
        run_sync(settings, EVENTS)
        with Lake(DataFolder(data).lake) as lake:
            before = {table.name: lake.table(table).version() for table in TABLES}
        stripe.clock += 10
        again = run_sync(settings, EVENTS).run
        assert (again["accounts_seen"], again["rows_added"]) == (0, 0)
        with Lake(DataFolder(data).lake) as lake:
            after = {table.name: lake.table(table).version() for table in TABLES}
        assert {name for name in before if before[name] != after[name]} == {"runs", "attempts"}
        stripe.clock += 10
        stripe.events = [
            event("evt_2", account("fca_2", 300), stripe.clock - 30),
            read,
        ]  # of before, and told late
        late = run_sync(settings, EVENTS).run
        assert (late["accounts_seen"], late["rows_added"]) == (1, 1)
        assert rows(data, "SELECT current FROM balances ORDER BY account_id") == [
            {"current": 200},
            {"current": 300},
        ]


@pytest.mark.parametrize("gap", [None, timedelta(days=29, hours=1)])
def test_without_a_run_to_go_on_from_every_account_is_listed(
    sandbox: Sandbox, data: Path, gap: timedelta | None
) -> None:
    if gap:
        run(sandbox, data, SyncRequest())
        sandbox.advance(gap)
    outcome = run(sandbox, data)
    assert outcome.run["mode"] == "accounts"
    assert outcome.run["accounts_seen"] == sandbox.world.account_count


def test_settled_sessions_are_not_fetched_again(sandbox: Sandbox, data: Path) -> None:
    ids = tuple(sandbox.world.session_ids())
    only = SyncRequest(session_ids=ids, accounts=False)
    run(sandbox, data, only)
    assert paths(sandbox).count("accounts") < len(ids) <= len(paths(sandbox))
    sandbox.advance(timedelta(hours=1))
    run(sandbox, data, only)
    assert set(ids) <= set(paths(sandbox)), "an hour after they were first seen all are open"
    sandbox.advance(timedelta(days=1))
    run(sandbox, data, only)
    assert set(ids) <= set(paths(sandbox)), "this fetch settles them"
    assert run(sandbox, data, only).run["requests"] == 0
    assert paths(sandbox) == []
    assert set(ids) <= set(
        (run(sandbox, data, SyncRequest(session_ids=ids, accounts=False, refetch="all")), paths(sandbox))[1]
    )
    new = (*ids, "fcsess_unknown")
    run(sandbox, data, SyncRequest(session_ids=new, accounts=False, refetch="never"))
    assert paths(sandbox) == ["fcsess_unknown"]


def test_a_budget_of_requests_is_kept_and_the_next_run_goes_on(sandbox: Sandbox, data: Path) -> None:
    ids = tuple(sandbox.world.session_ids())
    spent = 0
    for _ in range(99):
        try:
            outcome = run(sandbox, data, SyncRequest(session_ids=ids, max_requests=20))
            break
        except BudgetExhausted:
            assert len(sandbox.requests) == 20
            spent += 20
    assert outcome.run["requests"] == spent + len(sandbox.requests)
    assert state(data) == truth(sandbox.world)


def test_events_budget_and_status_at_the_command_line(sandbox: Sandbox, tmp_path: Path) -> None:
    env = environ(sandbox.url)
    stopped = typed("sync", "--max-requests", "2", cwd=tmp_path, env=env)
    assert (stopped.code, "2 requests were made" in stopped.err) == (0, True)
    assert typed("sync", cwd=tmp_path, env=env).code == 0
    done = typed("events", cwd=tmp_path, env=env)
    assert done.code == 0, done.err
    assert "1 request." in done.err
    shown = typed("status", cwd=tmp_path).out
    assert "Requests this month: 5 (accounts 4, events 1)" in shown
