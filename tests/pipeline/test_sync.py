"""From HTTP to views: what the warehouse says is what the world is."""

import time
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from fincon.errors import InvalidKey, PermissionDenied, RunFailed, UsageError
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.storage.lock import writer_lock
from fincon.transforms.streams import STREAMS
from tests.conftest import KEY, known_after, rows, settings_for, state, sync, truth


@pytest.mark.parametrize(("seed", "accounts", "sessions"), [(1, 12, 5), (2, 260, 200), (3, 800, 60)])
@pytest.mark.first(1, 1)
def test_the_lake_is_the_truth_after_one_sync_and_after_the_clock_moved(
    data: Path, seed: int, accounts: int, sessions: int
) -> None:
    with running(World(seed=seed, accounts=accounts, sessions=sessions)) as sandbox:
        first = truth(sandbox.world)
        then = sandbox.world.clock
        sync(sandbox.url, data, sandbox.world.session_ids())
        assert state(data) == first

        sandbox.advance(timedelta(days=2, hours=5))
        second = truth(sandbox.world)
        assert second != first
        sync(sandbox.url, data, sandbox.world.session_ids())
        assert state(data) == known_after(first, second)

    at = (then + timedelta(seconds=30)).isoformat()
    assert state(data, lambda table: f"{table}_as_of('{at}')") == first
    with duckdb.connect() as plain:
        assert plain.sql("SELECT 1").fetchall()  # another instance in this process is not disturbed


def test_syncing_an_unchanged_world_again_adds_a_row_to_runs_and_to_no_other_table(
    sandbox: Sandbox, data: Path
) -> None:
    ids = sandbox.world.session_ids()[:20]
    sync(sandbox.url, data, ids)
    before = {table: len(rows(data, f"FROM history.{table}")) for table in (*state(data), "rejects")}
    again = sync(sandbox.url, data, ids)
    assert {table: len(rows(data, f"FROM history.{table}")) for table in before} == before
    assert again.run["rows_added"] == 0
    assert len(rows(data, "FROM runs")) == 2


def test_every_request_is_a_get_of_100_and_sessions_are_asked_for_once(sandbox: Sandbox, data: Path) -> None:
    ids = sandbox.world.session_ids()
    outcome = sync(sandbox.url, data, ids)
    assert {method for method, _, _ in sandbox.requests} == {"GET"}
    paths = [path for _, path, _ in sandbox.requests]
    assert sorted(p.rsplit("/", 1)[1] for p in paths if "/sessions/" in p) == sorted(ids)
    listed = [query for _, path, query in sandbox.requests if path.endswith("/accounts")]
    assert all("limit=100" in query for query in listed)
    assert outcome.run["requests"] == len(sandbox.requests)
    whole = [query for query in listed if "session=" not in query]
    assert len(whole) == -(-sandbox.world.account_count // 100)


def test_the_listing_begins_while_many_sessions_are_fetched_and_costs_no_request_more(
    sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fincon.pipeline.extract_step.MANY_SESSIONS", 50)
    ids = sandbox.world.session_ids()

    given_up = time.monotonic() + 20

    def until_the_listing_begins(path: str) -> bool:
        return (
            "/sessions/" in path
            and time.monotonic() < given_up
            and not any(
                asked.endswith("/accounts") and "session=" not in query
                for _, asked, query in sandbox.requests
            )
        )

    sandbox.state.held = until_the_listing_begins
    outcome = sync(sandbox.url, data, ids)
    assert state(data) == truth(sandbox.world)
    asked = [(path, query) for _, path, query in sandbox.requests]
    sessions = [n for n, (path, _) in enumerate(asked) if "/sessions/" in path]
    listed = [
        n for n, (path, query) in enumerate(asked) if path.endswith("/accounts") and "session=" not in query
    ]
    assert len(sessions) == len(ids) > 50
    assert listed[0] < sessions[-1]
    assert len(listed) == -(-sandbox.world.account_count // 100)
    assert outcome.run["requests"] == len(asked)


def test_a_listing_that_is_refused_beside_the_sessions_ends_the_run(
    sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of sessions that were fetched stay; without the fault they are not asked for again."""
    monkeypatch.setattr("fincon.pipeline.extract_step.MANY_SESSIONS", 10)
    ids = sandbox.world.session_ids()
    # Of the whole list alone: what is refused of one session is told, and kept until the next run.
    of_all = Rule(Fault("forbidden"), STREAMS["accounts"].path, unless="session=")
    sandbox.faults = Faults(script=[of_all])
    with pytest.raises(PermissionDenied):
        sync(sandbox.url, data, ids)
    sandbox.faults = None
    outcome = sync(sandbox.url, data, ids)
    assert state(data) == truth(sandbox.world)
    assert outcome.resumed_pages > 0


def test_an_unknown_session_is_reported_and_the_run_goes_on(sandbox: Sandbox, data: Path) -> None:
    known = sandbox.world.session_ids()[:5]
    outcome = sync(sandbox.url, data, [*known, "fcsess_gone"], accounts=False)
    assert list(outcome.unknown_sessions) == ["fcsess_gone"]
    assert {row["session_id"] for row in rows(data, "FROM sessions")} == set(known)
    assert [(r["object_type"], r["object_id"]) for r in rows(data, "FROM rejects")] == [
        ("session", "fcsess_gone")
    ]


def test_a_refused_key_stops_the_run_and_is_not_shown(data: Path) -> None:
    with (
        running(World(accounts=5), keys={"sk_test_other"}) as sandbox,
        pytest.raises(InvalidKey, match=r"401 \(Request-Id req_") as caught,
    ):
        sync(sandbox.url, data)
    assert KEY not in str(caught.value)
    assert "STRIPE_API_KEY" in caught.value.hint


def test_a_missing_permission_stops_the_run_and_is_named(data: Path) -> None:
    with (
        running(World(accounts=5), denied={"financial_connections.accounts"}) as sandbox,
        pytest.raises(PermissionDenied, match=r"403.*permission"),
    ):
        run_sync(settings_for(sandbox.url, data, STRIPE_API_KEY="rk_test_narrow"), SyncRequest())
    assert rows(data, "FROM accounts") == []
    assert [row["status"] for row in rows(data, "FROM attempts")] == ["failed"]


def test_a_second_writer_leaves_at_once_and_says_who_holds_the_folder(sandbox: Sandbox, data: Path) -> None:
    data.mkdir()
    with writer_lock(data), pytest.raises(RunFailed, match=r"in use by process \d+"):
        sync(sandbox.url, data)
    sync(sandbox.url, data)  # free again as soon as the lock's holder is done


def test_money_is_exact_beyond_what_a_float_can_hold(sandbox: Sandbox, data: Path) -> None:
    sync(sandbox.url, data)
    beyond = rows(
        data, "SELECT current, current_amount, currency FROM balances WHERE abs(current) > 2::BIGINT ** 53"
    )
    assert beyond, "the world has such accounts"
    for row in beyond:
        assert row["current_amount"] * 100 == row["current"]
        assert row["current"] in {r["current"] for r in sandbox.world.truth()["balances"]}
    types = rows(data, "SELECT DISTINCT data_type FROM duckdb_columns() WHERE column_name LIKE '%_amount'")
    assert types == [{"data_type": "DECIMAL(38,4)"}]


def test_the_data_folder_is_for_its_owner_alone(sandbox: Sandbox, data: Path) -> None:
    sync(sandbox.url, data, sandbox.world.session_ids()[:3])
    assert data.stat().st_mode & 0o777 == 0o700
    for path in data.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_request_for_nothing_is_refused_before_anything_is_sent(sandbox: Sandbox, data: Path) -> None:
    with pytest.raises(UsageError, match="nothing to fetch"):
        run_sync(settings_for(sandbox.url, data), SyncRequest(accounts=False))
    assert sandbox.requests == []
