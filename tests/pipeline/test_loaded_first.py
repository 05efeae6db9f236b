"""What an earlier sync has fetched is loaded, and said; and then what was asked for is asked."""

import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from fincon.errors import FinconError
from fincon.lake.tables import Lake
from fincon.landing.run_folder import RunFolder, unfinished_runs
from fincon.pipeline import load_step
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from tests.conftest import environ, fincon, rows, settings_for
from tests.scripted_stripe import Answer, ScriptedStripe, account, event, serving


def fetched_only(stripe: ScriptedStripe, data: Path) -> None:
    """A run of which every page is on disk and nothing is loaded: something stood in the way of its first commit."""
    run_sync(settings_for(stripe.url, data), SyncRequest())
    stripe.clock += 3600
    stripe.accounts = [account("fca_1", 200)]
    log = data / "lake" / "balances" / "_delta_log"
    in_the_way = log / f"{len(list(log.glob('*.json'))):020}.json"
    in_the_way.mkdir()
    with pytest.raises(FinconError):
        run_sync(settings_for(stripe.url, data), SyncRequest())
    in_the_way.rmdir()
    with Lake(data / "lake") as lake:
        (run,) = unfinished_runs(data, lake.run_ids())
    assert RunFolder(data, run.run_id).fetch_counts() is not None


def test_a_sync_that_finds_a_fetched_run_is_as_fresh_as_any(data: Path) -> None:
    """Hours after the fetch Stripe says something else: the sync loads both, says so, and the lake has the newer."""
    stripe = ScriptedStripe(accounts=[account("fca_1", 100)])
    with serving(stripe):
        fetched_only(stripe, data)
        stripe.clock += 20 * 3600
        stripe.accounts = [account("fca_1", 300)]
        sent = len(stripe.requests)
        done = fincon("sync", cwd=data.parent, env=environ(stripe.url))
        assert done.returncode == 0
        assert len(stripe.requests) > sent
    first, last = done.stderr.splitlines()
    assert "which an earlier sync had fetched, was loaded first: " in first
    assert last.startswith("Run ")
    assert rows(data, "SELECT current FROM balances") == [{"current": 300}]
    assert rows(data, "SELECT current FROM history.balances ORDER BY valid_from") == [
        {"current": current} for current in (100, 200, 300)
    ]


def test_what_was_fetched_before_is_published_though_stripe_refuses_now(data: Path) -> None:
    """The sync fails, for what was asked is not in; readers have what the earlier one fetched."""
    stripe = ScriptedStripe(accounts=[account("fca_1", 100)])
    with serving(stripe):
        fetched_only(stripe, data)
        stripe.intercept = lambda path, query: Answer({"error": {"message": "no"}}, 401)
        assert fincon("sync", cwd=data.parent, env=environ(stripe.url)).returncode == 1
    assert rows(data, "SELECT current FROM balances") == [{"current": 200}]


def test_what_a_run_took_out_that_can_never_be_finished_is_missed_until_all_is_listed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event of before a listing takes its version's place; then the power fails, and the pages are gone."""

    def fails(*arguments: object) -> NoReturn:
        raise KeyboardInterrupt

    with serving(ScriptedStripe([account("fca_1", 100), account("fca_2", 500)])) as stripe:

        def sync(**asked: bool) -> dict[str, int]:
            stripe.clock += 60
            return run_sync(settings_for(stripe.url, data), SyncRequest(**asked)).failed_checks  # type: ignore[arg-type]

        sync()
        stripe.events = [event("evt_1", account("fca_1", 100), stripe.clock - 5)]
        with monkeypatch.context() as power:
            power.setattr(load_step, "record_runs", fails)
            with pytest.raises(KeyboardInterrupt):
                sync(events=True)
        shutil.rmtree(max((data / "pages").iterdir()))
        assert set(sync(events=True)) == {"superseded_versions_are_replaced"}
        assert sync() == {}
    assert [row["current"] for row in rows(data, "FROM balances ORDER BY account_id")] == [100, 500]
