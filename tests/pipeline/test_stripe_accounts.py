"""Many Stripe accounts in one lake: each is its own truth, and what goes wrong with one stays its own."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import stripe

from fincon.errors import AccountDisconnected, AccountsFailed, BudgetExhausted, InvalidKey, UsageError
from fincon.pipeline.erase import erase
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.sandbox.limits import Limits
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import KEY, START, environ, rows, settings_for, state, truth
from tests.typed import typed

ACCOUNTS = "/v1/financial_connections/accounts"
WORLD = World(seed=5, clock=START, accounts=120, sessions=20, connected=3)


@pytest.fixture
def platform() -> Iterator[Sandbox]:
    """A Connect platform with three connected accounts."""
    with running(WORLD) as served:
        yield served


def sync(platform: Sandbox, data: Path, order: SyncRequest, **env: str) -> SyncResult:
    return run_sync(settings_for(platform.url, data, **env), order)


def everything(platform: Sandbox, **more: object) -> SyncRequest:
    """Every account and session of each connected account."""
    sessions = {account: tuple(platform.world_of(account).session_ids()) for account in platform.connected}
    return SyncRequest(connected=True, sessions_of=sessions, **more)  # type: ignore[arg-type]


def state_of(data: Path, account: str) -> object:
    """The five object tables as they stand for one Stripe account."""
    return state(data, lambda table: f"{table} WHERE stripe_account = '{account}'")


def test_the_lake_is_the_truth_of_each_connected_account_after_two_syncs(
    platform: Sandbox, data: Path
) -> None:
    for _ in range(2):
        outcome = sync(platform, data, everything(platform))
        assert {run["stripe_account"] for run in outcome.runs} == set(platform.connected)
        for account in platform.connected:
            assert state_of(data, account) == truth(platform.world_of(account)), account
        assert not outcome.failed_checks
        assert outcome.run["accounts_seen"] == sum(
            platform.world_of(account).account_count for account in platform.connected
        )
        platform.advance(timedelta(hours=30))


def test_accounts_that_have_the_same_ids_do_not_mix(data: Path) -> None:
    with running(World(seed=6, clock=START, accounts=60, sessions=10, connected=2, alike=True)) as platform:
        newer, older = platform.connected
        ids = tuple(platform.world.session_ids())
        sync(platform, data, SyncRequest(stripe_accounts=(older,), sessions_of={older: ids}))
        first = truth(platform.world)
        platform.advance(timedelta(days=3))
        second = truth(platform.world)
        assert first != second

        now = tuple(platform.world.session_ids())
        outcome = sync(platform, data, SyncRequest(stripe_accounts=(newer,), sessions_of={newer: now}))
        assert state_of(data, older) == first
        assert state_of(data, newer) == second
        assert platform.requests_by_account[newer] == outcome.run["requests"]

        # Of the one, the sessions were seen three days ago and are settled; of the other, they are new.
        platform.reset_requests()
        sync(
            platform,
            data,
            SyncRequest(accounts=False, stripe_accounts=(older, newer), sessions_of={older: ids}),
        )
        sync(platform, data, SyncRequest(accounts=False, sessions_of={older: ids, newer: ids}))
        asked = [path for _, path, _ in platform.requests if "/sessions/" in path]
        assert len(asked) == 2 * len(ids)


def test_one_that_was_revoked_is_told_and_the_others_are_in(platform: Sandbox, data: Path) -> None:
    revoked, *others = platform.connected
    platform.revoke(revoked)
    done = typed("sync", "--connected", cwd=data.parent, env=environ(platform.url, FINCON_DATA=str(data)))
    assert done.code == 1
    assert f"{revoked}: GET " in done.err
    assert "403" in done.err
    assert "connect it again, or leave it out" in done.err
    assert KEY not in done.err
    for account in others:
        assert rows(data, f"SELECT count(*) AS n FROM accounts WHERE stripe_account = '{account}'") == [
            {"n": platform.world_of(account).account_count}
        ]
    assert platform.requests_by_account[revoked] == 1

    platform.state.revoked.clear()
    outcome = sync(platform, data, SyncRequest(connected=True))
    assert state_of(data, revoked)["accounts"] == truth(platform.world_of(revoked))["accounts"]  # type: ignore[index]
    assert len(outcome.runs) == 3


@pytest.mark.quick
def test_accounts_of_one_that_revoked_access_are_absent_until_it_grants_it_again(
    platform: Sandbox, data: Path
) -> None:
    """It is noted once, however often it is refused; what was known stays, and no other Stripe account's accounts change."""
    gone, *_ = platform.connected
    sync(platform, data, SyncRequest(connected=True))
    absent = "SELECT DISTINCT stripe_account, absent_since FROM accounts WHERE absent_since IS NOT NULL"
    before = rows(data, "FROM balances ORDER BY ALL")
    platform.revoke(gone)
    platform.advance(timedelta(hours=1))
    outcome = sync(platform, data, SyncRequest(connected=True))
    assert isinstance(outcome.failures[gone], AccountDisconnected)
    assert len(outcome.runs) == 2
    [first] = rows(data, absent)
    assert (first["stripe_account"], first["absent_since"] > before[0]["observed_at"]) == (gone, True)
    assert rows(data, f"FROM accounts WHERE stripe_account = '{gone}' AND absent_since IS NULL") == []
    held = rows(data, f"FROM balances WHERE stripe_account = '{gone}' ORDER BY ALL")
    assert held == [row for row in before if row["stripe_account"] == gone]
    platform.advance(timedelta(hours=1))
    for _ in range(2):
        with pytest.raises(AccountDisconnected):
            sync(platform, data, SyncRequest(stripe_accounts=(gone,)))
    assert rows(data, absent) == [first]
    assert rows(
        data, f"SELECT count(*) AS n FROM runs WHERE stripe_account = '{gone}' AND status = 'succeeded'"
    ) == [{"n": 2}]

    platform.state.revoked.clear()
    sync(platform, data, SyncRequest(connected=True))
    assert rows(data, absent) == []


def test_none_is_in_and_each_is_told_where_all_fail(platform: Sandbox, data: Path) -> None:
    for account in platform.connected:
        platform.revoke(account)
    with pytest.raises(AccountsFailed, match="3 Stripe accounts") as caught:
        sync(platform, data, SyncRequest(connected=True))
    assert all(account in caught.value.hint for account in platform.connected)
    with pytest.raises(AccountDisconnected):
        sync(platform, data, SyncRequest(stripe_accounts=(platform.connected[0],)))
    assert rows(data, "FROM accounts") == []


def test_a_key_that_nobody_takes_is_not_tried_on_every_account(data: Path) -> None:
    with running(World(accounts=5, connected=40), keys={"sk_test_other"}) as platform:
        with pytest.raises(AccountsFailed):
            sync(platform, data, SyncRequest(stripe_accounts=tuple(platform.connected)))
        assert 10 <= len(platform.requests) < 20
        with pytest.raises(InvalidKey):
            sync(platform, data, SyncRequest(connected=True))


def test_requests_are_bounded_over_all_and_each_gets_its_turn(platform: Sandbox, data: Path) -> None:
    """Two pages each: with four requests a sync, all three are in after the second; whoever waited goes first."""
    order = SyncRequest(stripe_accounts=tuple(platform.connected), max_requests=4)
    first = sync(platform, data, order)
    assert len(platform.requests) == 4
    with pytest.raises(BudgetExhausted):
        first.raise_for_failures(strict=True)
    second = sync(platform, data, order)
    assert len(platform.requests) == 8
    assert {run["stripe_account"] for run in (*first.runs, *second.runs)} == set(platform.connected)


def test_a_stripe_account_that_is_synced_is_no_holder_to_be_erased(platform: Sandbox, data: Path) -> None:
    account = platform.connected[0]
    sync(platform, data, SyncRequest(stripe_accounts=(account,)))
    with pytest.raises(UsageError, match="is synced here, not an account holder"):
        erase(data, "customer", account)


def test_a_sync_of_one_account_costs_what_it_costs_alone(platform: Sandbox, data: Path) -> None:
    account = platform.connected[0]
    alone = sync(platform, data, SyncRequest(), STRIPE_ACCOUNT=account).run
    named = sync(platform, data.with_name("named"), SyncRequest(stripe_accounts=(account,))).run
    counted = ("requests", "pages", "accounts_seen", "rows_added", "stripe_account", "requests_by_endpoint")
    assert [alone[name] for name in counted] == [named[name] for name in counted]

    platform.reset_requests()
    both = sync(platform, data.with_name("all"), SyncRequest(connected=True))
    listed = [query for _, path, query in platform.requests if path == "/v1/accounts"]
    assert listed == ["limit=100"]
    assert both.run["requests"] == len(platform.requests) == 1 + 3 * alone["requests"]
    assert any("connected accounts" in run["requests_by_endpoint"] for run in both.runs)


def test_events_go_on_where_each_account_was(platform: Sandbox, data: Path) -> None:
    first, *others = platform.connected
    sync(platform, data, SyncRequest(stripe_accounts=(first,)))
    platform.advance(timedelta(hours=2))
    sync(platform, data, SyncRequest(stripe_accounts=tuple(others)))
    platform.advance(timedelta(hours=2))
    platform.reset_requests()
    outcome = sync(platform, data, SyncRequest(accounts=False, events=True, connected=True))
    assert {run["mode"] for run in outcome.runs} == {"events"}
    assert not [path for _, path, _ in platform.requests if path == ACCOUNTS]
    for account in platform.connected:
        found = rows(
            data, f"SELECT account_id, balance_as_of FROM accounts WHERE stripe_account = '{account}'"
        )
        true = [
            (row["account_id"], row["balance_as_of"]) for row in truth(platform.world_of(account))["accounts"]
        ]
        assert sorted((row["account_id"], row["balance_as_of"]) for row in found) == sorted(true)


def test_each_account_has_its_own_limit(platform: Sandbox, data: Path) -> None:
    """Three accounts at ten requests a second each: on one limit for all, it would take three times as long."""
    platform.limits = Limits(test=10, endpoint=10)
    outcome = sync(platform, data, everything(platform), FINCON_REQUESTS_PER_SECOND="10")
    assert outcome.run["throttled"] == sum(platform.limits.throttled.values())
    spent = max((run["finished_at"] - run["started_at"]).total_seconds() for run in outcome.runs)
    assert spent < outcome.run["requests"] / 10


def test_sessions_say_whose_they_are_in_a_file_or_are_refused(platform: Sandbox, data: Path) -> None:
    newer, older = platform.connected[:2]
    ids = platform.world_of(newer).session_ids()[:3]
    lines = [
        "stripe_account,session_id",
        *(f"{newer},{i}" for i in ids),
        f",{platform.world.session_ids()[0]}",
    ]
    (data.parent / "sessions.csv").write_text("\n".join(lines))
    (data.parent / "plain.txt").write_text("\n".join(ids))
    (data.parent / "accounts.txt").write_text(f"{newer}\n{older}\n")
    env = environ(platform.url, FINCON_DATA=str(data))
    done = typed("sync", "--no-accounts", "--sessions", "sessions.csv", cwd=data.parent, env=env)
    assert done.code == 0, done.err
    found = rows(data, "SELECT stripe_account, count(*) AS n FROM sessions GROUP BY ALL ORDER BY ALL")
    assert found == [{"stripe_account": "", "n": 1}, {"stripe_account": newer, "n": 3}]

    both = ("--stripe-accounts", "accounts.txt")
    refused = typed("sync", *both, "--sessions", "plain.txt", cwd=data.parent, env=env)
    assert (refused.code, "column stripe_account" in refused.err) == (2, True)
    listed = typed(
        "sync", "--stripe-accounts", "-", "--dry-run", cwd=data.parent, env=env, stdin=f"{older}\n".encode()
    )
    assert f"as {older}, until the last page" in listed.out
    wrong = typed("sync", "--stripe-account", "fca_1", cwd=data.parent, env=env)
    assert (wrong.code, "not a Stripe account" in wrong.err) == (2, True)
    assert typed("sync", *both, cwd=data.parent, env=env).code == 0
    shown = typed("status", cwd=data.parent, env=env).out
    assert "Stripe accounts: 3, the longest unsynced first" in shown
    found = json.loads(typed("status", "--json", cwd=data.parent, env=env).out)["stripe_accounts"]
    assert {of["stripe_account"]: of["accounts"] for of in found}[older] == platform.world_of(
        older
    ).account_count


def test_a_platform_without_connected_accounts_is_told_so(sandbox: Sandbox, data: Path) -> None:
    with pytest.raises(UsageError, match="no connected account"):
        sync(sandbox, data, SyncRequest(connected=True))


def test_stripes_own_client_pages_the_connected_accounts_and_is_refused_a_revoked_one() -> None:
    with running(World(accounts=5, connected=23)) as platform:
        client = stripe.StripeClient(KEY, base_addresses={"api": platform.url}, max_network_retries=0).v1
        listed = list(client.accounts.list({"limit": 5}).auto_paging_iter())
        assert [one.id for one in listed] == platform.connected
        assert [one.created for one in listed] == sorted((one.created for one in listed), reverse=True)
        gone = platform.connected[7]
        platform.revoke(gone)
        with pytest.raises(stripe.PermissionError, match="does not have access to account") as caught:
            client.financial_connections.accounts.list(options={"stripe_account": gone})
        assert caught.value.json_body["error"]["code"] == "account_invalid"
        served = client.financial_connections.accounts.list(options={"stripe_account": platform.connected[0]})
        assert served.data[0].id == platform.world_of(platform.connected[0]).account_id(
            platform.world_of(platform.connected[0]).account_count - 1
        )


def test_another_engine_reads_the_lake(platform: Sandbox, data: Path) -> None:
    """Polars reads the Delta tables as they are, and says of the newest versions what the views say."""
    import polars as pl

    sync(platform, data, everything(platform))
    balances = pl.read_delta(str(data / "lake" / "balances"))
    key = ["stripe_account", "account_id"]
    newest = balances.filter(pl.col("observed_at") == pl.col("observed_at").max().over(key))
    sums = newest.group_by("stripe_account", "currency").agg(pl.col("current").sum(), pl.len())
    found = {
        (row["stripe_account"], row["currency"]): (row["current"], row["len"]) for row in sums.to_dicts()
    }
    known = rows(
        data,
        "SELECT stripe_account, currency, coalesce(sum(current), 0)::BIGINT AS current, count(*) AS n"
        " FROM balances GROUP BY ALL",
    )
    assert found == {(row["stripe_account"], row["currency"]): (row["current"], row["n"]) for row in known}
    assert len(found) > 10
