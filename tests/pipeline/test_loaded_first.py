"""What an earlier sync has fetched is loaded, and said; and then what was asked for is asked."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pytest

from fincon.errors import FinconError
from fincon.lake import sightings, tables, take_back
from fincon.lake.sightings import read_sightings
from fincon.lake.tables import Lake
from fincon.lake.take_back import under_way
from fincon.lake.version_sql import NULLABLE_KEYS, table_sql
from fincon.landing.run_folder import RunFolder, unfinished_runs
from fincon.pipeline import load_step
from fincon.pipeline.recovery import recovered_lake
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.transforms.schemas import OBJECT_TABLES
from tests.conftest import environ, rows, settings_for
from tests.scripted_stripe import Answer, ScriptedStripe, account, event, serving
from tests.typed import typed

REFRESH = {"last_attempted_at": 1, "next_refresh_available_at": None, "status": "succeeded"}


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


@pytest.mark.parametrize("in_memory", [sightings.MOST_READ, 0])
@pytest.mark.first(1)
def test_a_load_that_was_cut_short_leaves_nothing_where_its_pages_are_gone(
    late: ScriptedStripe, data: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    """Another machine goes on without the pages: the lake is what it was, and says so."""
    monkeypatch.setattr(sightings, "MOST_READ", in_memory)
    before, versions = rows_of_lake(data), rows(data, "FROM lake.balances ORDER BY ALL")
    with monkeypatch.context() as power:
        power.setattr(load_step, "record_runs", raises_interrupt)
        with pytest.raises(KeyboardInterrupt):
            later(late, data, events=True)
    assert rows_of_lake(data) != before
    shutil.rmtree(max((data / "pages").iterdir()))
    recover(data)
    assert rows_of_lake(data) == before
    assert [*(data / "loading").iterdir(), *(data / "before").iterdir()] == []
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
    with Lake(data / "lake") as lake:
        finished = lake.run_ids()
    halves = []
    for commits in count():
        half = shutil.copytree(data, tmp_path / f"cut-{commits}" / "data")
        if not cut_short(monkeypatch, commits, lambda half=half: later(late, half, events=True)):  # type: ignore[misc]
            break
        with Lake(half / "lake") as lake:
            is_finished = lake.run_ids() != finished
        if list((half / "loading").glob("*")) and not is_finished:
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


def left_by_an_older_fincon(late: ScriptedStripe, data: Path, patch: pytest.MonkeyPatch, at: str) -> str:
    """Cut a load of events short at a step, as a fincon would have that kept nothing; return the run's id."""
    with patch.context() as power:
        power.setattr(load_step, at, raises_interrupt)
        with pytest.raises(KeyboardInterrupt):
            later(late, data, events=True)
    (mark,) = (data / "loading").iterdir()
    shutil.rmtree(data / "before")
    return mark.name


@pytest.mark.parametrize("pages", ["there", "gone"])
@pytest.mark.first(1, 1)
def test_what_an_older_fincon_left_half_is_gone_on_with_or_missed_until_all_is_listed(
    late: ScriptedStripe, data: Path, monkeypatch: pytest.MonkeyPatch, pages: str
) -> None:
    """It kept nothing: where the pages are gone, and what it took out is not asked for again, a check says so."""
    run_id = left_by_an_older_fincon(late, data, monkeypatch, "record_runs")
    missed = {"superseded_versions_are_replaced"} if pages == "gone" else set()
    if missed:
        shutil.rmtree(data / "pages" / run_id)
        late.events = []
    assert set(later(late, data, events=True)) == missed
    assert later(late, data) == {}
    assert [row["current"] for row in rows(data, "FROM balances ORDER BY account_id")] == [100, 500]


@pytest.mark.slow
@pytest.mark.parametrize("pages", ["there", "gone"])
def test_what_was_seen_outlasts_what_an_older_fincon_left_half(
    late: ScriptedStripe, data: Path, monkeypatch: pytest.MonkeyPatch, pages: str
) -> None:
    """A listing that said what was known is remembered, and an event of before it is not the latest, however it is loaded."""
    late.events = []
    later(late, data)
    late.events = [event("evt_1", account("fca_1", 777), late.clock - 5)]
    run_id = left_by_an_older_fincon(late, data, monkeypatch, "remember")
    if pages == "gone":
        shutil.rmtree(data / "pages" / run_id)
    assert later(late, data, events=True) == {}
    found = rows(data, "FROM history.balances WHERE account_id = 'fca_1' ORDER BY valid_from")
    assert [row["current"] for row in found] == [100, 777, 100]


@pytest.mark.slow
def test_a_reject_without_an_object_is_taken_out_and_put_back_as_any(data: Path, tmp_path: Path) -> None:
    """A machine that was away comes with what another has rejected since: keys that are null are compared as well."""
    one = account("fca_1", 100, transaction_refresh={**REFRESH, "id": "fctxnref_1"})
    with serving(ScriptedStripe([one])) as stripe:
        stripe.transactions["fca_1"] = []
        later(stripe, data, transactions=True)
        stripe.transactions["fca_1"] = [
            {"id": "fctxn_1", "object": "financial_connections.transaction", "amount": "lots"}
        ]
        one["transaction_refresh"] = {**REFRESH, "id": "fctxnref_2", "last_attempted_at": 2}
        with pytest.MonkeyPatch.context() as power:
            power.setattr(load_step, "load_staged", raises_interrupt)
            with pytest.raises(KeyboardInterrupt):
                later(stripe, data, transactions=True)
        away = max((data / "pages").iterdir())
        shutil.move(away, tmp_path / away.name)
        assert later(stripe, data, transactions=True) == {}
        shutil.move(tmp_path / away.name, away)
        assert later(stripe, data) == {}
        assert later(stripe, data) == {}
    assert len(rows(data, "FROM lake.rejects")) == 1


def test_versions_are_added_once_and_taken_out_whole_in_every_table(tmp_path: Path) -> None:
    """Two equal rows of a version are two, and a key that is null is one."""
    at = datetime(2026, 11, 1, tzinfo=UTC)
    with Lake(tmp_path / "lake") as lake:
        for table in OBJECT_TABLES:
            row: dict[str, Any] = dict.fromkeys(column.name for column in table.columns)
            row |= {name: "x" for name in table.full_key if name not in NULLABLE_KEYS}
            row |= {"observed_at": at, "run_id": "run_1"}
            both = pa.Table.from_pylist([row, row], schema=tables.plain_schema(table))
            lake.add_versions(table, both)
            lake.add_versions(table, both)
            assert lake.count_rows(lake.files(table)) == 2, table.name
            lake.remove_versions(table, both.select([*table.full_key, "observed_at"]).slice(0, 1))
            assert lake.count_rows(lake.files(table)) == 0, table.name


def test_who_lost_the_lock_takes_nothing_of_what_another_keeps(data: Path) -> None:
    """It wakes at the end of its load, when another has begun one."""
    with Lake(data / "lake") as slow, Lake(data / "lake") as quick:
        first, second = under_way(slow, ["run_1"]), under_way(quick, ["run_2"])
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
    left = {path.name for folder in ("loading", "before") for path in (data / folder).iterdir()}
    assert left == {"run_2", "run_2.sightings.parquet"}


def test_what_was_kept_and_cannot_be_read_is_told(
    late: ScriptedStripe, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is guessed: two lines say which file, and what to do."""
    with monkeypatch.context() as power:
        power.setattr(load_step, "record_runs", raises_interrupt)
        with pytest.raises(KeyboardInterrupt):
            later(late, data, events=True)
    for kept in (data / "before").iterdir():
        kept.write_bytes(b"")
        with pytest.raises(FinconError, match=rf"{kept.name} cannot be read") as told:
            recover(data)
        assert "from a backup" in told.value.hint
        break


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
