"""What an earlier sync has fetched is loaded, and said; and then what was asked for is asked."""

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest

from fincon.errors import FinconError
from fincon.lake import tables, take_back
from fincon.lake.sightings import read_sightings
from fincon.lake.tables import Lake
from fincon.lake.version_sql import table_sql
from fincon.landing.run_folder import RunFolder, unfinished_runs
from fincon.pipeline import load_step
from fincon.pipeline.recovery import recovered_lake
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.transforms.schemas import OBJECT_TABLES
from tests.conftest import environ, rows, settings_for
from tests.scripted_stripe import Answer, ScriptedStripe, account, event, serving
from tests.typed import typed


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
        done = typed("sync", cwd=data.parent, env=environ(stripe.url))
        assert done.code == 0
        assert len(stripe.requests) > sent
    first, last = done.err.splitlines()
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
        assert typed("sync", cwd=data.parent, env=environ(stripe.url)).code == 1
    assert rows(data, "SELECT current FROM balances") == [{"current": 200}]


@pytest.fixture
def late(data: Path) -> Iterator[ScriptedStripe]:
    """A synced lake, and at Stripe an event of before the listing that saw what it says: it takes that version's place."""
    with serving(ScriptedStripe([account("fca_1", 100), account("fca_2", 500)])) as stripe:
        later(stripe, data)
        stripe.events = [event("evt_1", account("fca_1", 100), stripe.clock - 5)]
        yield stripe


def later(stripe: ScriptedStripe, data: Path, **asked: bool) -> dict[str, int]:
    """Sync a minute later; return the checks that failed."""
    stripe.clock += 60
    return run_sync(settings_for(stripe.url, data), SyncRequest(**asked)).failed_checks  # type: ignore[arg-type]


def cut_short(patch: pytest.MonkeyPatch, commits: int, do: Callable[[], object]) -> bool:
    """Do something of which the power fails before one of its commits, after so many; tell whether it came to that."""
    left = commits

    def fails_then(folder: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    with patch.context() as power:
        power.setattr(tables, "ensure_lock_held", fails_then)
        power.setattr(take_back, "ensure_lock_held", fails_then)
        try:
            do()
        except KeyboardInterrupt:
            return True
    return False


def recover(data: Path) -> None:
    """Put right what was cut short, as whoever writes next does."""
    with recovered_lake(data):
        pass


def test_a_load_that_was_cut_short_leaves_nothing_where_its_pages_are_gone(
    late: ScriptedStripe, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine goes on without the pages: the lake is what it was, and says so."""
    before, versions = rows_of_lake(data), rows(data, "FROM lake.balances ORDER BY ALL")
    with monkeypatch.context() as power:
        power.setattr(load_step, "record_runs", raises_interrupt)
        with pytest.raises(KeyboardInterrupt):
            later(late, data, events=True)
    assert rows_of_lake(data) != before
    shutil.rmtree(max((data / "pages").iterdir()))
    recover(data)
    assert rows_of_lake(data) == before
    assert list((data / "loading").iterdir()) == []
    late.events = []
    assert later(late, data, events=True) == {}
    assert rows(data, "FROM lake.balances ORDER BY ALL") == versions
    net = "SELECT run_id FROM erasures GROUP BY ALL HAVING sum(rows_erased) <> 0"
    assert rows(data, net) == []


@pytest.mark.slow
def test_wherever_a_load_or_its_taking_back_is_cut_short_the_lake_is_what_it_was(
    late: ScriptedStripe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each commit of the load, and of the taking back of one that lacked but its last."""
    before = rows_of_lake(data)
    halves = []
    for commits in count():
        half = shutil.copytree(data, tmp_path / f"cut-{commits}" / "data")
        if not cut_short(monkeypatch, commits, lambda half=half: later(late, half, events=True)):  # type: ignore[misc]
            break
        if list((half / "loading").glob("*")):
            halves.append(shutil.copytree(half, tmp_path / f"half-{commits}" / "data"))
            recover(half)
            assert rows_of_lake(half) == before, commits
        late.clock -= 60
    assert len(halves) > 6
    for commits in count():
        half = shutil.copytree(halves[-1], tmp_path / f"back-{commits}" / "data")
        was_cut = cut_short(monkeypatch, commits, lambda half=half: recover(half))  # type: ignore[misc]
        recover(half)
        assert rows_of_lake(half) == before, commits
        if not was_cut:
            break
    assert commits > 6


def test_what_an_older_fincon_took_out_is_missed_until_all_is_listed(
    late: ScriptedStripe, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept nothing beside its mark: a check says so."""
    with monkeypatch.context() as power:
        power.setattr(load_step, "record_runs", raises_interrupt)
        with pytest.raises(KeyboardInterrupt):
            later(late, data, events=True)
    (run,) = (path for path in (data / "loading").iterdir() if path.suffix != take_back.KEPT)
    for kept in (data / "loading").iterdir():
        kept.unlink()
    run.write_text(run.name)
    shutil.rmtree(max((data / "pages").iterdir()))
    late.events = []
    assert set(later(late, data, events=True)) == {"superseded_versions_are_replaced"}
    assert later(late, data) == {}
    assert [row["current"] for row in rows(data, "FROM balances ORDER BY account_id")] == [100, 500]


def raises_interrupt(*arguments: object) -> NoReturn:
    """Fail as the power does."""
    raise KeyboardInterrupt


def rows_of_lake(data: Path) -> dict[str, object]:
    """What every table of objects holds, and what was seen lately."""
    with Lake(data / "lake") as lake, lake.query() as query:
        held: dict[str, object] = {
            table.name: sorted(query.sql(f"FROM {table_sql(table, files)}").fetchall(), key=repr)
            for table in OBJECT_TABLES
            if (files := lake.files(table))
        }
        return held | {"seen": sorted(read_sightings(lake).to_pylist(), key=repr)}
