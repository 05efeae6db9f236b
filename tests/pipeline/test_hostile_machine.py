"""A hostile machine: a full disk, damaged files, a clock that jumps. A clear message, and nothing lost."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fincon.errors import FinconError, PermissionDenied, RunFailed
from fincon.lake.tables import Lake
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import publish, run_sync
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import FINCON, START, environ, fincon, known_after, rows, settings_for, state, sync, truth

WORLD = World(seed=3, clock=START, accounts=230, sessions=12)
LATER = timedelta(days=2)
OF_ACCOUNTS = ("accounts", "balances", "refreshes")


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
def first_run(served: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    served.set_clock(START)
    folder = tmp_path_factory.mktemp("first") / "data"
    sync(served.url, folder, served.world.session_ids())
    return folder


@pytest.fixture
def synced(first_run: Path, data: Path) -> Path:
    """A data folder after one good run over sessions and accounts."""
    shutil.copytree(first_run, data)
    publish(data, Lake(data / "lake"))
    return data


def is_two_lines(error: FinconError) -> bool:
    """Whether a person reads what happened in one line and what to do in another."""
    return bool(str(error)) and "\n" not in str(error) and bool(error.hint) and "\n" not in error.hint


def said_in_two_lines(done: Any) -> bool:
    """Whether a command ended as failed with two lines, of which the second is no shrug."""
    lines = done.stderr.strip().splitlines()
    return done.returncode == 1 and len(lines) == 2 and "This is a bug" not in lines[1]


# -- a disk that is full


SIZES = (16, 64, 300, 480)
"""In KiB: too small for pages, for staging, for commits, for views."""


@pytest.mark.parametrize("kib", SIZES)
@pytest.mark.first(0, 2)
def test_a_full_disk_loses_nothing(sandbox: Sandbox, disk: Callable[[int], Path], kib: int) -> None:
    """What was fetched when a full disk stopped a run is not fetched again once there is room, and the lake is the truth."""
    data = disk(kib) / "data"
    ids = sandbox.world.session_ids()
    with pytest.raises(RunFailed):
        sync(sandbox.url, data, ids)
    kept = len(list(data.glob("pages/*/*.zst")))
    unfinished = not list(data.glob("lake/runs/*.parquet"))
    disk(64_000)
    sandbox.reset_requests()
    outcome = sync(sandbox.url, data, ids)
    if unfinished and not outcome.loaded_first:
        assert len(sandbox.requests) == outcome.run["pages"] - kept
    assert state(data) == truth(sandbox.world)
    assert outcome.failed_checks == {}
    assert len(rows(data, "FROM runs")) == 1 + (bool(outcome.loaded_first) or not unfinished)


def test_a_full_disk_is_named_in_two_lines(sandbox: Sandbox, disk: Callable[[int], Path]) -> None:
    """Whichever part of a run the disk is too small for, a person reads that it is full."""
    unclear = {}
    for kib in SIZES:
        data = disk(kib) / "data"
        with pytest.raises(RunFailed) as caught:
            sync(sandbox.url, data, sandbox.world.session_ids())
        if not is_two_lines(caught.value) or "No space left on device" not in str(caught.value):
            unclear[kib] = str(caught.value)
        shutil.rmtree(data)
    assert unclear == {}


@pytest.mark.parametrize("kib", [0, 64])
def test_files_that_cannot_grow_end_the_run_and_lose_nothing(
    sandbox: Sandbox, synced: Path, kib: int
) -> None:
    """Under a quota that hits pages, tables or views, the run ends with exit 1; the last views still answer."""
    first = truth(sandbox.world)
    sandbox.advance(LATER)
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f {kib} && exec {FINCON} sync"],
        cwd=synced.parent,
        env={**os.environ, **environ(sandbox.url)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert state(synced) == first
    outcome = sync(sandbox.url, synced)
    second = truth(sandbox.world)
    now = state(synced)
    for table in OF_ACCOUNTS:
        assert now[table] == known_after(first, second)[table]
    assert outcome.failed_checks == {}


# -- a folder that cannot be written


def test_a_file_where_the_folder_should_be_is_named(sandbox: Sandbox, data: Path) -> None:
    """A data folder that cannot be made ends the run before any request."""
    data.write_text("I am a file")
    with pytest.raises(RunFailed, match=f"{data} cannot be written: File exists") as caught:
        sync(sandbox.url, data)
    assert is_two_lines(caught.value)
    assert sandbox.requests == []
    assert data.read_text() == "I am a file"


def test_a_read_only_folder_is_named_and_its_views_still_answer(sandbox: Sandbox, synced: Path) -> None:
    """Where nothing can be written, a sync ends before any request, and readers are not disturbed."""
    for command in (["mount", "--bind", synced, synced], ["mount", "-o", "remount,ro,bind", synced]):
        if subprocess.run([*map(str, command)], capture_output=True, check=False).returncode:
            subprocess.run(["umount", str(synced)], capture_output=True, check=False)
            pytest.skip("nothing can be mounted here; a file in the folder's place stands in")
    try:
        done = fincon("sync", cwd=synced.parent, env=environ(sandbox.url))
        assert said_in_two_lines(done), done.stderr
        assert "Read-only file system" in done.stderr
        assert sandbox.requests == []
        assert fincon("check", cwd=synced.parent).returncode == 0
        assert state(synced) == truth(sandbox.world)
    finally:
        subprocess.run(["umount", "--lazy", str(synced)], check=True)


# -- files that are damaged


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :]


def emptied(content: bytes) -> bytes:
    return b""


def garbled(content: bytes) -> bytes:
    return b"not what was written " * 300


@pytest.mark.parametrize("harm", [cut, flipped, emptied])
def test_a_damaged_page_of_an_interrupted_run_is_fetched_anew(
    sandbox: Sandbox, data: Path, harm: Callable[[bytes], bytes]
) -> None:
    """A page that is not what was written is asked for again, with those behind it; the others are kept."""
    ids = sandbox.world.session_ids()
    sandbox.faults = Faults(
        script=[Rule(Fault("forbidden"), "/v1/financial_connections/accounts", "limit=100&start", nth=(2,))]
    )
    with pytest.raises(PermissionDenied):
        run_sync(settings_for(sandbox.url, data, FINCON_CONCURRENCY="1"), SyncRequest(session_ids=tuple(ids)))
    sandbox.faults = None
    sandbox.reset_requests()
    [folder] = (data / "pages").iterdir()
    for name in ("accounts*000001", f"sessions-{ids[3]}-000000"):
        [page] = folder.glob(f"{name}.json.zst")
        page.write_bytes(harm(page.read_bytes()))
    decode_individually = settings_for(sandbox.url, data, FINCON_CONCURRENCY="1")
    outcome = run_sync(decode_individually, SyncRequest(session_ids=tuple(ids)))
    paths = [path for _, path, _ in sandbox.requests if "/sessions/" in path]
    assert paths == [f"/v1/financial_connections/sessions/{ids[3]}"]
    whole = [query for _, _, query in sandbox.requests if query.startswith("limit=100")]
    assert len(whole) == -(-sandbox.world.account_count // 100) - 1
    assert state(data) == truth(sandbox.world)
    assert outcome.failed_checks == {}


@pytest.mark.parametrize("harm", [cut, flipped])
def test_a_damaged_page_of_a_fetched_run_is_fetched_anew(
    sandbox: Sandbox, synced: Path, harm: Callable[[bytes], bytes]
) -> None:
    """A run that was fetched whole but not loaded gets a page that went bad since once more."""
    first = truth(sandbox.world)
    sandbox.advance(LATER)
    fetched_but_not_loaded(sandbox, synced)
    [page] = max((synced / "pages").iterdir()).glob("accounts*000001.json.zst")
    page.write_bytes(harm(page.read_bytes()))
    sandbox.reset_requests()
    outcome = sync(sandbox.url, synced, sandbox.world.session_ids())
    assert [path for _, path, _ in sandbox.requests if "/sessions/" in path] == []
    assert state(synced) == known_after(first, truth(sandbox.world))
    assert outcome.failed_checks == {}


def fetched_but_not_loaded(sandbox: Sandbox, data: Path) -> None:
    """A run all of whose pages are there, stopped at its first commit: something stands in its way."""
    log = data / "lake" / "sessions" / "_delta_log"
    in_the_way = log / f"{len(list(log.glob('*.json'))):020}.json"
    in_the_way.mkdir()
    with pytest.raises(FinconError):
        sync(sandbox.url, data, sandbox.world.session_ids())
    in_the_way.rmdir()


@pytest.mark.parametrize("harm", [flipped, None], ids=lambda harm: harm.__name__ if harm else "missing")
def test_views_that_are_damaged_or_gone_are_made_anew(
    sandbox: Sandbox, synced: Path, harm: Callable[[bytes], bytes] | None
) -> None:
    """fincon.duckdb holds no data: the next sync makes it again."""
    damage(synced, harm)
    outcome = sync(sandbox.url, synced, sandbox.world.session_ids())
    assert outcome.run["rows_added"] == 0
    assert state(synced) == truth(sandbox.world)
    assert outcome.failed_checks == {}


def damage(data: Path, harm: Callable[[bytes], bytes] | None) -> None:
    """Do so to fincon.duckdb."""
    views = data / "fincon.duckdb"
    if harm:
        content = views.read_bytes()
        views.write_bytes(content[:12288] + harm(content[12288:]) if harm is flipped else harm(content))
    else:
        views.unlink()


@pytest.mark.parametrize(
    "harm",
    [
        cut,
        garbled,
        None,
    ],
    ids=lambda harm: harm.__name__ if harm else "missing",
)
def test_whoever_reads_damaged_views_is_told_what_to_do(
    synced: Path, harm: Callable[[bytes], bytes] | None
) -> None:
    """Status and sql name the file, and the command that makes it again."""
    damage(synced, harm)
    for arguments in (["status"], ["sql", "SELECT count(*) FROM accounts"]):
        done = fincon(*arguments, cwd=synced.parent)
        assert done.returncode in (1, 2)
        [what, then] = done.stderr.strip().splitlines()
        assert "fincon.duckdb" in what
        assert "fincon sync" in then


@pytest.mark.parametrize("table", ["accounts", "runs"])
@pytest.mark.parametrize(
    "harm",
    [
        cut,
        emptied,
    ],
)
@pytest.mark.first(0, 2)
def test_a_delta_log_cut_short_is_named_and_nothing_is_written(
    sandbox: Sandbox, synced: Path, table: str, harm: Callable[[bytes], bytes]
) -> None:
    """A table whose log cannot be trusted ends the run; views still answer; mended, the next sync goes on."""
    log = synced / "lake" / table / "_delta_log" / "00000000000000000001.json"
    content = log.read_bytes()
    log.write_bytes(harm(content))
    first = truth(sandbox.world)
    sandbox.advance(LATER)
    before = sorted((synced / "lake").rglob("*"))
    with pytest.raises(RunFailed, match=f"The table .*lake/{table} cannot be read") as caught:
        sync(sandbox.url, synced, sandbox.world.session_ids())
    assert is_two_lines(caught.value)
    assert [p for p in sorted((synced / "lake").rglob("*")) if p not in before and table in str(p)] == []
    assert state(synced) == first

    log.write_bytes(content)
    outcome = sync(sandbox.url, synced, sandbox.world.session_ids())
    assert state(synced) == known_after(first, truth(sandbox.world))
    assert outcome.failed_checks == {}


# -- a clock that jumps


def test_a_clock_that_was_set_back_does_not_mix_up_versions(sandbox: Sandbox, data: Path) -> None:
    """Whatever Stripe's clock says, no run fails, each object has one version at a time, and nothing is lost."""
    seen = []
    for days in (0, 3, -2, 6):  # at last later than ever: now clocks and runs agree on what is newest
        sandbox.advance(timedelta(days=days))
        seen.append(truth(sandbox.world))
        order = SyncRequest(session_ids=tuple(sandbox.world.session_ids()), refetch="all")
        outcome = run_sync(settings_for(sandbox.url, data), order)
        assert outcome.failed_checks == {}
        known = {row["account_id"] for row in rows(data, "FROM accounts")}
        assert known == {row["account_id"] for one in seen for row in one["accounts"]}
    assert in_order(data)
    assert state(data) == known_after(*seen)


def in_order(data: Path) -> bool:
    """Whether each account's versions follow one another, and one of them is current."""
    overlapping = rows(data, "FROM history.accounts WHERE valid_to <= valid_from")
    current = "SELECT count(*) FILTER (valid_to IS NULL) AS n FROM history.accounts GROUP BY account_id"
    return overlapping == [] and {row["n"] for row in rows(data, current)} == {1}


@pytest.mark.parametrize("days", [-2, 2], ids=["back", "on"])
def test_a_clock_that_jumps_within_a_run_leaves_each_object_one_current_version(
    sandbox: Sandbox, synced: Path, days: int
) -> None:
    """An object that a run sees at two times, in whichever order, has its versions in the order of Stripe's clock."""
    sandbox.faults = Faults(advance_every=9, advance_seconds=timedelta(days=days).total_seconds())
    sandbox.advance(LATER)
    outcome = sync(sandbox.url, synced, sandbox.world.session_ids())
    assert outcome.failed_checks == {}
    assert in_order(synced)
    sandbox.faults = None
    sandbox.advance(timedelta(days=9))
    sync(sandbox.url, synced, sandbox.world.session_ids())
    now = state(synced)
    for row in truth(sandbox.world)["accounts"]:
        assert row in now["accounts"]
