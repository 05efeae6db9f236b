"""Several Stripe accounts are one step, which may be tried again: for those alone that Stripe left unanswered."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fincon.errors import AccountsFailed, RetriesExhausted
from fincon.extract.responses import ATTEMPTS
from fincon.pipeline.context import StepRunner, call_directly
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import START, settings_for, state, truth

ACCOUNTS = "/v1/financial_connections/accounts"
EVERY_ACCOUNT = SyncRequest(connected=True)


@pytest.fixture
def platform() -> Iterator[Sandbox]:
    """A Connect platform with three connected accounts, whose accounts fill three pages each."""
    with running(World(seed=11, clock=START, accounts=230, connected=3)) as served:
        yield served


def silent_after_two_pages(platform: Sandbox, account: str, tries: int = 1) -> None:
    """Answer nothing good after two pages of one account's listing, for so many tries of the whole step."""
    world = platform.world_of(account)
    last = world.account_id(world.account_count - 200)  # pages of a hundred, the newest first
    rule = Rule(Fault("server_error"), ACCOUNTS, f"starting_after={last}", range(1, tries * ATTEMPTS + 1))
    platform.faults = Faults(script=[rule])


def trying(times: int, tried: list[str]) -> StepRunner:
    """Run each step up to so many times while Stripe left something unanswered, as a flow with ``retries`` does."""

    def run_step(name: str, do: Callable[..., Any], *args: Any) -> Any:
        for left in reversed(range(times)):
            tried.append(name)
            try:
                return do(*args)
            except RetriesExhausted:
                if not left:
                    raise
        raise AssertionError

    return run_step


def sync(platform: Sandbox, data: Path, run_step: StepRunner = call_directly) -> SyncResult:
    settings = replace(settings_for(platform.url, data), backoff_seconds=0.001)
    return run_sync(settings, EVERY_ACCOUNT, run_step)


def is_the_truth(platform: Sandbox, data: Path, account: str) -> bool:
    found = state(data, lambda table: f"{table} WHERE stripe_account = '{account}'")
    true = truth(platform.world_of(account))
    return all(found[table] == true[table] for table in ("accounts", "balances", "refreshes"))


def test_another_try_asks_those_alone_that_were_left_unanswered_and_all_are_in(
    platform: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first try staged counts once: with a part for each page, more are left of it than the second writes."""
    monkeypatch.setattr("fincon.lake.staging.PAGES_A_BATCH", 1)
    monkeypatch.setattr("fincon.lake.staging.BATCHES_A_PART", 1)
    tried: list[str] = []
    silent_after_two_pages(platform, platform.connected[1])
    result = sync(platform, data, trying(2, tried))
    result.raise_for_failures(strict=True)
    assert (tried.count("fetch"), result.resumed_pages) == (2, 0)
    assert all(is_the_truth(platform, data, account) for account in platform.connected)
    assert len(platform.requests) == 1 + 3 * 3 + ATTEMPTS, "nobody else is asked again, and no page twice"


def test_what_is_left_unanswered_after_the_last_try_is_told_and_the_others_are_in(
    platform: Sandbox, data: Path
) -> None:
    tried: list[str] = []
    silent, *others = platform.connected
    silent_after_two_pages(platform, silent, tries=2)
    result = sync(platform, data, trying(2, tried))
    assert tried.count("fetch") == 2
    assert result.failures.keys() == {silent}
    with pytest.raises(AccountsFailed) as caught:
        result.raise_for_failures(strict=False)
    assert f"{silent}: GET " in caught.value.hint
    assert all(is_the_truth(platform, data, account) for account in others)


def test_no_other_try_is_made_where_it_cannot_help(platform: Sandbox, data: Path) -> None:
    tried: list[str] = []
    platform.revoke(platform.connected[0])
    result = sync(platform, data, trying(3, tried))
    assert (tried.count("fetch"), result.failures.keys()) == (1, {platform.connected[0]})
