"""A run that was stopped at any moment goes on; nothing is fetched twice, doubled or lost."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from fincon.errors import FinconError, InvalidKey, PermissionDenied, RunFailed
from fincon.lake.tables import Lake
from fincon.landing.page_store import PageStore
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import publish, run_sync
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.storage.lock import writer_lock
from fincon.transforms.schemas import OBJECT_TABLES
from tests.benchmarks.pages import load_pages
from tests.conftest import (
    FINCON,
    GROUPS,
    START,
    Row,
    environ,
    fincon,
    known_after,
    rows,
    settings_for,
    state,
    sync,
    truth,
)

WORLD = World(seed=2, clock=START, accounts=230, sessions=12, connected=1)
LATER = timedelta(days=2)
STALL = Fault("timeout", seconds=60)


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    with running(WORLD) as it:
        yield it


@pytest.fixture
def sandbox(served: Sandbox) -> Iterator[Sandbox]:
    """One server for the module; each test finds it at the same clock and without faults."""
    served.set_clock(START)
    served.reset_requests()
    yield served
    served.faults = None


@pytest.fixture(scope="module")
def whole(served: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that nothing stopped: how many requests it made, and the history that it wrote."""
    served.set_clock(START)
    served.reset_requests()
    folder = tmp_path_factory.mktemp("whole") / "data"
    sync(served.url, folder, served.world.session_ids())
    return {"requests": len(served.requests), "history": history(folder), "data": folder}


@pytest.fixture
def synced(whole: dict[str, Any], data: Path) -> Path:
    """A data folder after one good run over sessions and accounts."""
    shutil.copytree(whole["data"], data)
    publish(data, Lake(data / "lake"))
    return data


def history(data: Path) -> dict[str, list[Row]]:
    """Every version of every object, by its business columns."""
    return state(data, lambda table: f"lake.{table}")


def requested(sandbox: Sandbox) -> list[str]:
    """The requests since the last reset, as pages name theirs."""
    return [path + (f"?{query}" if query else "") for _, path, query in sandbox.requests]


def on_disk(data: Path) -> list[str]:
    """The requests whose answers are whole pages on disk."""
    return [page.header.request for folder in (data / "pages").iterdir() for page in PageStore(folder).read()]


@contextmanager
def started(
    sandbox: Sandbox, cwd: Path, *arguments: str, ids: Iterable[str] = (), **env: str
) -> Iterator[Any]:
    """`fincon sync` as a process of its own that can be hit; it is gone when the block ends."""
    command = [str(FINCON), "sync", *arguments]
    if ids:
        (cwd / "ids.txt").write_text("\n".join(ids))
        command += ["--sessions", "ids.txt"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}
    # A shell that runs the tests in the background ignores SIGINT, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**clean, **environ(sandbox.url, **env)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(what: Callable[[], object], process: Any = None, seconds: float = 30.0) -> None:
    """Poll until it is so, or the process has ended."""
    deadline = time.monotonic() + seconds
    while not what() and (process is None or process.poll() is None):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.001)


def kill(process: Any) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)


# -- killed while it fetches


@pytest.mark.parametrize("already_satisfied", [0, 7, 15])
def test_a_run_killed_while_it_fetches_goes_on_with_the_next_page(
    sandbox: Sandbox, data: Path, whole: dict[str, Any], already_satisfied: int
) -> None:
    """After kill -9 behind k answers, the next run fetches the rest alone and the lake is as if nothing was."""
    ids = sandbox.world.session_ids()
    sandbox.faults = Faults(script=[Rule(STALL, nth=range(already_satisfied + 1, 999))])
    with started(sandbox, data.parent, ids=ids, FINCON_CONCURRENCY="1") as process:
        wait_for(lambda: sandbox.faults and sandbox.faults.injected["timeout"], process)
        kill(process)
    assert process.returncode == -signal.SIGKILL
    kept = on_disk(data)
    assert len(kept) == already_satisfied
    sandbox.faults = None
    sandbox.reset_requests()

    if already_satisfied == 7:  # once as a person does it
        assert "7 pages kept from the interrupted run" in again(sandbox, data)
    else:
        assert sync(sandbox.url, data, ids).resumed_pages == already_satisfied
    assert not set(kept) & set(requested(sandbox))
    assert len(kept) + len(requested(sandbox)) == whole["requests"]
    assert state(data) == truth(sandbox.world)
    assert history(data) == whole["history"]
    assert len(rows(data, "FROM runs")) == 1
    if already_satisfied == 7:
        assert fincon("check", cwd=data.parent).returncode == 0


def again(sandbox: Sandbox, data: Path) -> str:
    """`fincon sync` once more, in a process of its own; what it says."""
    done = fincon("sync", "--sessions", "ids.txt", cwd=data.parent, env=environ(sandbox.url))
    assert done.returncode == 0, done.stderr
    return str(done.stderr)


@pytest.mark.quick
def test_a_run_killed_among_eight_threads_keeps_every_whole_page(
    sandbox: Sandbox, data: Path, whole: dict[str, Any]
) -> None:
    """With sessions fetched side by side, what one thread wrote outlives the kill of all."""
    ids = sandbox.world.session_ids()
    sandbox.faults = Faults(script=[Rule(STALL, nth=(2, 5))])
    with started(sandbox, data.parent, ids=ids) as process:
        wait_for(lambda: len(sandbox.requests) >= 10, process)
        kill(process)
    kept = on_disk(data)
    assert kept
    sandbox.faults = None
    sandbox.reset_requests()
    outcome = sync(sandbox.url, data, ids)
    assert outcome.resumed_pages == len(kept)
    assert not set(kept) & set(requested(sandbox))
    assert (state(data), history(data)) == (truth(sandbox.world), whole["history"])
    assert outcome.failed_checks == {}


def test_a_run_killed_again_and_again_gets_there(sandbox: Sandbox, data: Path, whole: dict[str, Any]) -> None:
    """Each start gets three pages further, and no page is fetched twice."""
    ids = sandbox.world.session_ids()
    seen: list[str] = []
    for stop in range(3, whole["requests"], 3):
        sandbox.reset_requests()
        script = [Rule(Fault("invalid_key"), nth=range(4, 999))]
        sandbox.faults = Faults(script=script)
        with pytest.raises(InvalidKey):
            run_sync(
                settings_for(sandbox.url, data, FINCON_CONCURRENCY="1"), SyncRequest(session_ids=tuple(ids))
            )
        seen += requested(sandbox)[:3]
        assert len(on_disk(data)) == stop
    sandbox.faults = None
    sandbox.reset_requests()
    outcome = sync(sandbox.url, data, ids)
    seen += requested(sandbox)
    assert len(seen) == len(set(seen)) == whole["requests"]
    assert (state(data), history(data)) == (truth(sandbox.world), whole["history"])
    assert outcome.failed_checks == {}


# -- killed while it loads


@pytest.mark.parametrize(
    "sign",
    [
        "pages/*/fetched.json",
        ".staging-*/*.parquet",
        "lake/balances/_delta_log/*1.json",
        ".fincon.duckdb.part",
    ],
)
def test_a_run_killed_while_it_loads_is_loaded_before_anything_is_asked(
    sandbox: Sandbox, data: Path, whole: dict[str, Any], sign: str
) -> None:
    """After kill -9 at any point of the load, the next sync loads the pages on disk; then it asks what it was asked."""
    ids = sandbox.world.session_ids()
    with started(sandbox, data.parent, ids=ids) as process:
        wait_for(lambda: any(data.glob(sign)), process)
        kill(process)
    [folder] = (data / "pages").iterdir()
    assert (folder / "fetched.json").exists()
    was_finished = folder.name in Lake(data / "lake").run_ids()
    sandbox.reset_requests()
    outcome = sync(sandbox.url, data, ids)
    assert [row["run_id"] for row in outcome.loaded_first] == ([] if was_finished else [folder.name])
    assert requested(sandbox) != []
    assert (state(data), history(data)) == (truth(sandbox.world), whole["history"])
    assert outcome.failed_checks == {}
    assert len(rows(data, "FROM runs")) == 2
    assert not list(data.glob(".staging-*"))


@contextmanager
def blocked(table: Path) -> Iterator[None]:
    """A table that can be read and not committed to: something stands where its next commit would be."""
    log = table / "_delta_log"
    in_the_way = log / f"{len(list(log.glob('*.json'))):020}.json"
    in_the_way.mkdir()
    try:
        yield
    finally:
        in_the_way.rmdir()


@pytest.mark.parametrize("table", ["session_accounts", "balances"])
def test_a_crash_between_two_commits_leaves_readers_on_the_last_whole_run(
    sandbox: Sandbox, synced: Path, table: str
) -> None:
    """Tables that were committed before the crash are not seen until the next run has completed the rest."""
    first = truth(sandbox.world)
    sandbox.advance(LATER)
    ids = sandbox.world.session_ids()
    with blocked(synced / "lake" / table), pytest.raises(FinconError):
        sync(sandbox.url, synced, ids)
    assert state(synced) == first
    assert len(rows(synced, "FROM runs")) == 1

    outcome = sync(sandbox.url, synced, ids)
    assert len(outcome.loaded_first) == 1
    assert outcome.run["rows_added"] == 0
    assert state(synced) == known_after(first, truth(sandbox.world))
    assert outcome.failed_checks == {}
    assert len(rows(synced, "FROM runs")) == 3


@pytest.mark.quick
def test_a_run_half_committed_whose_pages_are_then_removed_is_taken_out_again(
    sandbox: Sandbox, synced: Path
) -> None:
    """What fails is taken back as it is put on record: the tables hold whole runs alone."""
    first = truth(sandbox.world)
    with Lake(synced / "lake") as lake:
        before = lake.table(OBJECT_TABLES[0]).version()
    sandbox.advance(LATER)
    ids = sandbox.world.session_ids()
    with blocked(synced / "lake" / "balances"), pytest.raises(FinconError):
        sync(sandbox.url, synced, ids)
    lost = max((synced / "pages").iterdir())
    with Lake(synced / "lake") as lake:
        assert lake.table(OBJECT_TABLES[0]).version() == before + 2
        assert not lake.contains_run(OBJECT_TABLES[0], lost.name)
    shutil.rmtree(lost)

    outcome = sync(sandbox.url, synced, ids)
    assert rows(synced, f"FROM lake.sessions WHERE run_id = '{lost.name}'") == []
    assert state(synced) == known_after(first, truth(sandbox.world))
    assert outcome.failed_checks == {}


def test_a_run_half_committed_whose_page_is_then_damaged_is_still_whole_in_the_end(
    sandbox: Sandbox, synced: Path
) -> None:
    """Rows taken out with a damaged page come back with the page that is fetched anew."""
    first = truth(sandbox.world)
    sandbox.advance(LATER)
    ids = sandbox.world.session_ids()
    with blocked(synced / "lake" / "balances"), pytest.raises(FinconError):
        sync(sandbox.url, synced, ids)
    [page] = max((synced / "pages").iterdir()).glob("accounts*000001.json.zst")
    page.write_bytes(page.read_bytes()[:-7])

    sandbox.reset_requests()
    outcome = sync(sandbox.url, synced, ids)
    assert len(requested(sandbox)) < 5
    assert state(synced) == known_after(first, truth(sandbox.world))
    assert outcome.failed_checks == {}


def test_a_run_half_committed_whose_page_is_then_missing_does_not_pass_for_whole(
    sandbox: Sandbox, synced: Path
) -> None:
    """The rest of a list whose page somebody removed is fetched anew; nothing of it is left out."""
    first = truth(sandbox.world)
    sandbox.advance(LATER)
    ids = sandbox.world.session_ids()
    with blocked(synced / "lake" / "balances"), pytest.raises(FinconError):
        sync(sandbox.url, synced, ids)
    [last, *_] = sorted(max((synced / "pages").iterdir()).glob("accounts-p0000-*.json.zst"), reverse=True)
    last.unlink()

    sandbox.reset_requests()
    outcome = sync(sandbox.url, synced, ids)
    assert 0 < len(requested(sandbox)) < 5
    assert state(synced) == known_after(first, truth(sandbox.world))
    assert outcome.failed_checks == {}


@pytest.mark.quick
def test_loading_the_pages_of_a_run_twice_adds_nothing(sandbox: Sandbox, data: Path) -> None:
    """The same pages under the same run are in every table once, however often they are loaded."""
    outcome = sync(sandbox.url, data, sandbox.world.session_ids())
    run_id = outcome.run["run_id"]
    lake = Lake(data / "lake")
    before = {table.name: lake.files(table) for table in OBJECT_TABLES}
    seen = load_pages(lake, PageStore(data / "pages" / run_id).read(), run_id)
    assert {table.name: lake.files(table) for table in OBJECT_TABLES} == before
    assert seen["accounts_seen"] == outcome.run["accounts_seen"] == sandbox.world.account_count


def test_loading_the_pages_of_a_run_as_another_run_adds_no_version(sandbox: Sandbox, data: Path) -> None:
    """What is known already is no change, whoever brings it."""
    outcome = sync(sandbox.url, data, sandbox.world.session_ids())
    before = history(data)
    lake = Lake(data / "lake")
    load_pages(lake, PageStore(data / "pages" / outcome.run["run_id"]).read(), "another")
    publish(data, lake)
    assert history(data) == before


# -- what is gone on with, and what is not


def interrupted(sandbox: Sandbox, data: Path, ids: Iterable[str] = (), pages: int = 2) -> list[str]:
    """A run that ended behind a few pages; the requests of those."""
    sandbox.faults = Faults(script=[Rule(Fault("forbidden"), nth=range(pages + 1, 999))])
    with pytest.raises(PermissionDenied):
        run_sync(settings_for(sandbox.url, data, FINCON_CONCURRENCY="1"), SyncRequest(session_ids=tuple(ids)))
    sandbox.faults = None
    sandbox.reset_requests()
    return on_disk(data)


def test_restart_starts_over(sandbox: Sandbox, data: Path) -> None:
    """With --restart every page is fetched, whatever is on disk."""
    interrupted(sandbox, data)
    done = fincon("sync", "--restart", cwd=data.parent, env=environ(sandbox.url))
    assert done.returncode == 0, done.stderr
    assert len(requested(sandbox)) == -(-sandbox.world.account_count // 100)
    assert "kept" not in done.stderr
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]


def test_a_run_given_up_with_restart_does_not_come_back(sandbox: Sandbox, data: Path) -> None:
    """The pages that --restart left behind are old news: no later run takes them for what is true now."""
    interrupted(sandbox, data)
    sandbox.advance(LATER)
    run_sync(settings_for(sandbox.url, data), SyncRequest(restart=True))
    sandbox.reset_requests()
    outcome = sync(sandbox.url, data)
    assert outcome.resumed_pages == 0
    assert len(requested(sandbox)) == -(-sandbox.world.account_count // 100)
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]


def test_an_interrupted_run_does_not_bring_back_what_a_later_run_replaced(
    sandbox: Sandbox, data: Path, whole: dict[str, Any]
) -> None:
    """Pages fetched before another run's add to the history and do not overwrite what that run found."""
    ids = sandbox.world.session_ids()
    interrupted(sandbox, data, ids, pages=whole["requests"] - 1)
    sandbox.advance(LATER)
    sync(sandbox.url, data)  # every account, without sessions
    found = state(data)
    outcome = sync(sandbox.url, data, ids)
    now = state(data)
    for table in ("accounts", "balances", "refreshes"):
        key = itemgetter(*GROUPS[table])
        replaced = {key(row) for row in found[table]}
        assert [row for row in now[table] if key(row) in replaced] == found[table]
    assert outcome.failed_checks == {}
    assert sync(sandbox.url, data).failed_checks == {}, "and the next run is as good as ever"


def test_another_order_does_not_go_on_with_a_run(sandbox: Sandbox, data: Path) -> None:
    """A run with sessions and one without are not the same run; nor are runs of two connected accounts."""
    ids = sandbox.world.session_ids()
    interrupted(sandbox, data)
    assert sync(sandbox.url, data, ids, accounts=False).resumed_pages == 0
    assert [r for r in requested(sandbox) if "/sessions/" not in r and "session=" not in r] == []
    sandbox.reset_requests()
    (connected,) = sandbox.connected
    other = settings_for(sandbox.url, data, STRIPE_ACCOUNT=connected)
    assert run_sync(other, SyncRequest()).resumed_pages == 0
    assert len(requested(sandbox)) == -(-sandbox.world_of(connected).account_count // 100)


def test_a_resumed_run_asks_for_the_sessions_that_are_new_in_its_order(sandbox: Sandbox, data: Path) -> None:
    """An order with more sessions than the interrupted one had gets them all, and no row is doubled."""
    ids = sandbox.world.session_ids()
    script = [Rule(Fault("forbidden"), query="limit=100&starting_after", nth=range(2, 99))]
    sandbox.faults = Faults(script=script)
    with pytest.raises(PermissionDenied):  # with a page of accounts on disk
        sync(sandbox.url, data, ids[:6])
    sandbox.faults = None
    outcome = sync(sandbox.url, data, ids)
    assert outcome.resumed_pages > 6
    assert state(data) == truth(sandbox.world)
    assert outcome.failed_checks == {}


@pytest.mark.quick
def test_a_session_that_was_half_fetched_is_whole_in_the_end_though_nobody_asks_for_it_any_more(
    sandbox: Sandbox, data: Path
) -> None:
    """The first ten accounts of a session, which its own page holds, must not pass for all of them."""
    world = sandbox.world
    [large, *_] = [s["session_id"] for s in truth(world)["sessions"] if s["account_count"] > 10]
    sandbox.faults = Faults(script=[Rule(Fault("invalid_key"), query=f"session={large}")])
    with pytest.raises(InvalidKey):
        sync(sandbox.url, data, [large])
    sandbox.faults = None
    others = [session_id for session_id in world.session_ids() if session_id != large]
    outcome = sync(sandbox.url, data, others)
    assert outcome.resumed_pages > 0
    assert state(data) == truth(world)


@pytest.mark.parametrize("days", [-2, 2], ids=["long ago", "in the future"])
def test_a_run_that_is_too_old_is_not_gone_on_with(sandbox: Sandbox, data: Path, days: int) -> None:
    """Pages of another day do not pass for fresh, also when this machine's clock has jumped."""
    interrupted(sandbox, data)
    [path] = (data / "pages").glob("*/run.json")
    kept = json.loads(path.read_bytes())
    kept["started_at"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    path.write_text(json.dumps(kept))
    outcome = sync(sandbox.url, data)
    assert outcome.resumed_pages == 0
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]


# -- Ctrl-C


@pytest.mark.parametrize(
    ("fault", "first", "sessions"),
    [
        pytest.param(STALL, 3, True, id="sessions stall"),
        pytest.param(STALL, 1, True, id="nothing answers"),
        pytest.param(STALL, 2, False, id="accounts stall"),
        pytest.param(Fault("unavailable", retry_after=60), 3, True, id="waiting to try again"),
        pytest.param(None, 0, True, id="loading"),
    ],
)
def test_ctrl_c_ends_a_run_at_once(
    sandbox: Sandbox, data: Path, fault: Fault | None, first: int, sessions: bool
) -> None:
    """Whatever a run waits for, an interrupt ends it at once: exit 130, and a line that says what to do."""
    ids = sandbox.world.session_ids() if sessions else []
    if fault:
        sandbox.faults = Faults(script=[Rule(fault, nth=range(first, 999))])
    with started(sandbox, data.parent, ids=ids) as process:
        if fault:
            threads = 8 if sessions else 1
            wait_for(lambda: sandbox.faults and sandbox.faults.injected[fault.kind] >= threads, process)
        else:
            wait_for(lambda: any(data.glob(".staging-*/*")), process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)  # what it waited for would have taken a minute
    assert process.returncode == 130, said
    assert (
        said.strip() == "fincon: interrupted. What was fetched is kept: run the same command again to go on."
    )
    kept = on_disk(data)
    sandbox.faults = None
    sandbox.reset_requests()
    outcome = sync(sandbox.url, data, ids)
    assert not set(kept) & set(requested(sandbox))
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]
    assert outcome.failed_checks == {}


# -- one writer


@pytest.mark.quick
def test_a_second_sync_leaves_at_once_and_the_lock_dies_with_its_process(
    sandbox: Sandbox, data: Path
) -> None:
    """Whoever comes second is told who holds the folder; a killed holder leaves nothing to clean by hand."""
    sandbox.faults = Faults(script=[Rule(STALL, nth=range(2, 999))])
    with started(sandbox, data.parent) as holder:
        wait_for(lambda: sandbox.faults and sandbox.faults.injected["timeout"], holder)
        second = fincon("sync", cwd=data.parent, env=environ(sandbox.url))
        assert second.returncode == 4
        assert f"is in use by process {holder.pid}." in second.stderr
        assert len(second.stderr.splitlines()) == 2
        assert len(requested(sandbox)) == 2, "the second asked for nothing"
        kill(holder)
    sandbox.faults = None
    assert sync(sandbox.url, data).resumed_pages == 1


def test_a_sync_that_is_turned_away_leaves_the_other_ones_work_alone(sandbox: Sandbox, data: Path) -> None:
    """The folder in which a run stages its rows is not cleaned up by one that may not write."""
    staging = data / ".staging-of-the-run-that-holds-the-lock"
    with writer_lock(data):
        staging.mkdir()
        (staging / "accounts-000001.parquet").touch()
        with pytest.raises(RunFailed, match="in use by process"):
            sync(sandbox.url, data)
    assert (staging / "accounts-000001.parquet").exists()
    with contextlib.suppress(FileNotFoundError):
        sync(sandbox.url, data)
    assert not staging.exists()
