"""Transactions and owners: read where a refresh moved on, and nowhere else; what the lake says is what the world is."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fincon.errors import BudgetExhausted, PermissionDenied, RetriesExhausted, UsageError
from fincon.landing.page_store import PageStore
from fincon.pipeline.check import failed_checks
from fincon.pipeline.compact import compact
from fincon.pipeline.erase import erase, traces
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import NOT_TRUTH, START, Row, canonical, environ, rows, settings_for
from tests.pipeline.test_resume import started, wait_for
from tests.scripted_stripe import ScriptedStripe, account, missing, serving
from tests.typed import typed

WORLD = World(seed=2, clock=START, accounts=24, sessions=8)
BOTH = SyncRequest(transactions=True, owners=True, pii="keep")
TRANSACTIONS = "/v1/financial_connections/transactions"
OWNERS = "/v1/financial_connections/accounts/{id}/owners"
KEY = "a-key-that-stays-the-same"

Moves = dict[str, tuple[Any, ...]]


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    with running(WORLD) as it:
        yield it


@pytest.fixture
def sandbox(served: Sandbox) -> Iterator[Sandbox]:
    """One server for the module; each test finds it at its beginning and without faults."""
    served.set_clock(START)
    served.reset_requests()
    yield served
    served.faults = None


def run(sandbox: Sandbox, data: Path, order: SyncRequest = BOTH, **more: str) -> SyncResult:
    """One run, with the requests of those before it forgotten; it has failed no check."""
    sandbox.reset_requests()
    outcome = run_sync(settings_for(sandbox.url, data, **more), order)
    assert outcome.failed_checks == {}
    return outcome


def known(data: Path, table: str) -> list[Row]:
    """The latest state of a table, its business columns."""
    left_out = {*NOT_TRUTH, "major_amount"}
    return canonical(
        {k: v for k, v in row.items() if k not in left_out} for row in rows(data, f"FROM {table}")
    )


def true_owners(world: World) -> list[Row]:
    return canonical({**row, "extra": None} for row in world.owners_truth())


def asked(sandbox: Sandbox) -> list[str]:
    """The first request for each account's transactions, as the query that names it."""
    found = [query for _, path, query in sandbox.requests if path == TRANSACTIONS]
    return [query.split("account=")[1].split("&")[0] for query in found if "starting_after" not in query]


def read_anew(data: Path, what: str) -> list[str]:
    """The accounts whose transactions or owners the last run has fetched, in order."""
    return PageStore(max((data / "pages").iterdir())).started_parents(what)


def attempts(world: World, feature: str) -> Moves:
    """Account → its last attempt, and whether that succeeded; of owners, only where there is an ownership."""
    truth = world.truth()
    owned = {a["account_id"]: a["ownership_id"] for a in truth["accounts"]}
    return {
        r["account_id"]: (r["last_attempted_at"], r["status"] == "succeeded")
        for r in truth["refreshes"]
        if r["feature"] == feature and (feature == "transaction" or owned[r["account_id"]])
    }


def moved(before: Moves, now: Moves) -> list[str]:
    """The accounts with another attempt, or whose attempt has succeeded since."""
    return sorted(
        a
        for a, (at, good) in now.items()
        if a not in before or before[a][0] != at or (good and not before[a][1])
    )


@pytest.mark.parametrize("events", [False, True], ids=["listing", "events"])
def test_the_lake_is_the_truth_and_no_account_is_read_whose_refresh_did_not_move(
    sandbox: Sandbox, data: Path, events: bool
) -> None:
    before: dict[str, Moves] = {"transaction": {}, "ownership": {}}
    for hours in (0, 5, 20, 30):
        sandbox.advance(timedelta(hours=hours))
        run(sandbox, data, replace(BOTH, events=events))
        world = sandbox.world
        assert known(data, "transactions") == canonical(world.transactions_truth())
        assert known(data, "owners") == true_owners(world)
        for feature, what in (("transaction", "transactions"), ("ownership", "owners")):
            now = attempts(world, feature)
            due, fetched = moved(before[feature], now), read_anew(data, what)
            if events:  # which tell of refreshes that succeeded, and not of every attempt
                assert {a for a in due if now[a][1]} <= set(fetched) <= set(due), (feature, hours)
            else:
                assert fetched == due, (feature, hours)
            before[feature] = now
        assert set(asked(sandbox)) == set(read_anew(data, "transactions"))


@pytest.mark.minutes
def test_ten_steps_of_the_clock_with_faults_on_end_in_the_truth(sandbox: Sandbox, data: Path) -> None:
    """One request of five goes wrong, in eleven ways; the lake is the truth after each step all the same."""
    seen: dict[str, Row] = {}
    for step in range(10):
        sandbox.advance(timedelta(hours=7 + 5 * step))
        sandbox.faults = Faults(rate=0.2, seed=step)
        settings = replace(settings_for(sandbox.url, data), backoff_seconds=0.001)
        outcome = run_sync(settings, replace(BOTH, events=step % 3 == 2))
        assert outcome.failed_checks == {}
        found = known(data, "transactions")
        assert found == canonical(sandbox.world.transactions_truth())
        assert known(data, "owners") == true_owners(sandbox.world)
        seen |= {(row["transaction_id"] + row["status"]): row for row in found}
    versions = canonical(
        {k: v for k, v in row.items() if k not in {*NOT_TRUTH, "major_amount"}}
        for row in rows(data, "SELECT * EXCLUDE (valid_from, valid_to) FROM history.transactions")
    )
    assert versions == canonical(seen.values()), "every version is there once, and none that never was"
    assert sum(row["requests"] for row in rows(data, "FROM runs")) > 100


def test_an_unchanged_world_costs_no_request_for_details_and_adds_no_row(
    sandbox: Sandbox, data: Path
) -> None:
    run(sandbox, data)
    again = run(sandbox, data)
    assert read_anew(data, "transactions") + read_anew(data, "owners") == []
    assert again.run["rows_added"] == 0
    only = run(sandbox, data, replace(BOTH, accounts=False))
    assert (only.run["requests"], only.run["mode"]) == (0, "transactions+owners")


def test_a_transaction_that_is_posted_or_void_is_a_new_version_and_the_old_one_stays(
    sandbox: Sandbox, data: Path
) -> None:
    for _ in range(3):
        run(sandbox, data)
        sandbox.advance(timedelta(days=2))
    steps = rows(
        data,
        "SELECT DISTINCT list(status ORDER BY valid_from) AS steps FROM history.transactions"
        " GROUP BY transaction_id HAVING count(*) > 1",
    )
    assert {tuple(row["steps"]) for row in steps} == {("pending", "posted"), ("pending", "void")}


def test_transactions_after_the_last_refresh_that_succeeded_are_asked_for_and_all_where_stripe_forgot_it(
    sandbox: Sandbox, data: Path
) -> None:
    run(sandbox, data)
    assert not [query for _, _, query in sandbox.requests if "transaction_refresh" in query]
    sandbox.advance(timedelta(days=1))
    sandbox.faults = Faults(
        script=[Rule(Fault("cursor_gone"), TRANSACTIONS, query="transaction_refresh", nth=(1,))]
    )
    run(sandbox, data)
    after = [
        query
        for _, path, query in sandbox.requests
        if path == TRANSACTIONS and "transaction_refresh" in query
    ]
    assert len(after) > 1
    forgotten = after[0].split("account=")[1].split("&")[0]
    assert asked(sandbox).count(forgotten) == 2
    assert known(data, "transactions") == canonical(sandbox.world.transactions_truth())


@pytest.mark.quick
def test_an_account_that_is_gone_is_reported_once_and_the_run_goes_on(data: Path) -> None:
    refreshed = {"transaction_refresh": {"last_attempted_at": 1, "status": "succeeded", "id": "fctxnref_1"}}
    with serving(ScriptedStripe(accounts=[account(f"fca_{n}", **refreshed) for n in "AB"])) as stripe:
        stripe.intercept = lambda path, query: (
            missing("fca_A", "account", 400) if query.get("account") == ["fca_A"] else None
        )
        request = SyncRequest(transactions=True)
        result = run_sync(settings_for(stripe.url, data), request)
        assert (result.failed_checks, result.run["rejected"]) == ({}, 1)
        assert [r["object_id"] for r in rows(data, "FROM rejects")] == ["fca_A"]
        again = run_sync(settings_for(stripe.url, data), request)
        assert again.run["requests_by_endpoint"] == '{"accounts": 1}'  # which also says what time it is


@pytest.mark.parametrize("what", ["transactions", "owners"])
@pytest.mark.first(0)
def test_a_missing_permission_stops_its_stage_and_is_named_and_all_else_is_in(data: Path, what: str) -> None:
    """Ten accounts are asked for, and those under way; nothing is noted of them, so that all are asked for again."""
    other = "owners" if what == "transactions" else "transactions"
    with running(WORLD, denied={f"financial_connections.{what}"}) as sandbox:
        result = run(sandbox, data, BOTH, STRIPE_API_KEY="rk_test_narrow")
        requests = [path for _, path, _ in sandbox.requests if path.endswith(f"/{what}")]
        assert 10 <= len(requests) <= 10 + 8
        with pytest.raises(PermissionDenied, match=rf"{what}.*403.*permission"):
            result.raise_for_failures(strict=False)
        assert len(rows(data, "FROM balances")) == len(sandbox.world.truth()["balances"])
        assert (rows(data, f"FROM {what}"), rows(data, "FROM rejects")) == ([], [])
        assert rows(data, f"FROM {other}")
        run(sandbox, data)
        assert known(data, "transactions") == canonical(sandbox.world.transactions_truth())
        assert known(data, "owners") == true_owners(sandbox.world)


@pytest.mark.quick
def test_a_stopped_run_goes_on_and_asks_for_nothing_twice(sandbox: Sandbox, data: Path) -> None:
    seen: list[tuple[str, str, str]] = []
    for _ in range(99):
        try:
            outcome = run(sandbox, data, replace(BOTH, max_requests=15))
            break
        except BudgetExhausted:
            seen += sandbox.requests
    seen += sandbox.requests
    assert len(seen) == len(set(seen)) == outcome.run["requests"] > 30
    assert known(data, "transactions") == canonical(sandbox.world.transactions_truth())
    assert known(data, "owners") == true_owners(sandbox.world)


def test_what_cannot_be_read_is_rejected_alone_and_goes_with_its_account(
    sandbox: Sandbox, data: Path
) -> None:
    spoil = Fault("malformed", defect="wrong_type")
    sandbox.faults = Faults(
        script=[
            Rule(spoil, TRANSACTIONS, nth=(1,)),
            Rule(Fault("malformed", defect="no_id"), OWNERS),
        ]
    )
    run(sandbox, data)
    found = rows(data, "FROM rejects ORDER BY object_type")
    assert {row["object_type"] for row in found} == {"owner", "transaction"}
    missing = {row["transaction_id"] for row in sandbox.world.transactions_truth()} - {
        row["transaction_id"] for row in known(data, "transactions")
    }
    assert missing == {found[-1]["object_id"]}
    for parent in {
        found[0]["parent_id"],
        found[-1]["parent_id"],
    }:  # whose answers were spoiled, which may be one
        erase(data, "account", parent)
        assert rows(data, f"FROM rejects WHERE parent_id = '{parent}'") == []


def test_a_list_that_was_half_read_is_read_again_where_another_run_finished_meanwhile(
    sandbox: Sandbox, data: Path
) -> None:
    """What the interrupted run saw is older than what is known by then. Half a list must not count, nor move the watermark."""
    order = SyncRequest(transactions=True, pii="keep")
    sandbox.faults = Faults(script=[Rule(Fault("no_answer"), TRANSACTIONS, query="starting_after")])
    with pytest.raises(RetriesExhausted):
        run(sandbox, data, order)
    sandbox.faults = None
    run(sandbox, data, BOTH)
    outcome = run(sandbox, data, order)
    assert outcome.resumed_pages == 0
    assert known(data, "transactions") == canonical(sandbox.world.transactions_truth())


def test_a_run_killed_among_transactions_asks_for_none_of_its_pages_again(
    sandbox: Sandbox, data: Path
) -> None:
    """Kill -9 while the fifth list and all after it hang; each page that came is kept, and the rest is fetched."""
    sandbox.faults = Faults(script=[Rule(Fault("timeout", seconds=60), TRANSACTIONS, nth=range(5, 99))])
    sandbox.reset_requests()
    with started(sandbox, data.parent, "--transactions", "--pii", "keep") as process:
        wait_for(lambda: len(list(data.glob("pages/*/transactions-*.json.zst"))) == 4, process)
        process.kill()
        process.wait(10)
    sandbox.faults = None
    outcome = run(sandbox, data, SyncRequest(transactions=True, pii="keep"))
    lists = [query for _, path, query in sandbox.requests if path == TRANSACTIONS]
    assert outcome.resumed_pages == outcome.run["pages"] - len(sandbox.requests) >= 4
    assert len(lists) == len(list(data.glob("pages/*/transactions-*.json.zst"))) - 4
    assert known(data, "transactions") == canonical(sandbox.world.transactions_truth())


@pytest.mark.parametrize("kind", ["account", "customer"])
def test_erasing_takes_transactions_owners_watermarks_and_pages_and_no_sync_brings_them_back(
    sandbox: Sandbox, data: Path, kind: str
) -> None:
    run(sandbox, data)
    one = rows(
        data,
        "SELECT account_id AS account, account_holder_customer_id AS customer FROM accounts"
        " SEMI JOIN owners USING (account_id) SEMI JOIN transactions USING (account_id)"
        " WHERE account_holder_customer_id IS NOT NULL ORDER BY ALL LIMIT 1",
    )[0]
    removed = erase(data, kind, one[kind])
    assert {"transactions", "owners", "watermarks", "pages"} <= removed.keys()
    assert traces(data, [one["account"]]) == []
    sandbox.advance(timedelta(days=40))
    run(sandbox, data)
    assert traces(data, [one["account"]]) == []
    compact(data, retention_days=0, pages_days=7)
    assert failed_checks(data) == {}


def test_the_command_line_knows_them(sandbox: Sandbox, tmp_path: Path) -> None:
    env = environ(sandbox.url)
    dry = typed("sync", "--transactions", "--owners", "--dry-run", cwd=tmp_path, env=env)
    assert "/transactions?account=…" in dry.out
    assert "/owners?ownership=…" in dry.out
    missing = typed("owners", cwd=tmp_path, env=env)
    assert (missing.code, "FINCON_PII_KEY is not set" in missing.err) == (2, True)
    assert typed("transactions", cwd=tmp_path, env=env).code == 0
    done = typed("owners", cwd=tmp_path, env={**env, "FINCON_PII_KEY": KEY})
    assert done.code == 0, done.err
    status = typed("status", cwd=tmp_path).out
    assert "accounts+transactions" in status
    assert "events+owners" in status
    count = len(sandbox.world.transactions_truth())
    assert re.search(rf"transactions +{count:,} +{count:,} ", status)


def test_a_short_key_is_refused(sandbox: Sandbox, data: Path) -> None:
    with pytest.raises(UsageError, match="shorter than 16"):
        settings_for(sandbox.url, data, FINCON_PII_KEY="short")
