"""A disk that is full at whatever write: two lines, an end, and what was fetched is kept."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import FINCON, START, environ, state, sync, truth

BOUND_SECONDS = 100
"""Within which every command here ends; on an idle machine each takes two."""


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    with running(World(seed=3, clock=START, accounts=230, sessions=5)) as it:
        yield it


def run(served: Sandbox, data: Path, *before: str) -> Any:
    """``fincon sync`` as a person runs it, after a command that sets a bound. Raises where it does not end."""
    return subprocess.run(
        ["bash", "-c", " && ".join([*before, f"exec {FINCON} --data {data} sync"])],
        cwd=data.parent,
        env={**os.environ, **environ(served.url)},
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
        check=False,
    )


def unclear(done: Any, reason: str) -> list[str]:
    """What it said, where it failed with something else than two lines that name the reason and say what to do."""
    lines = str(done.stderr).splitlines()
    clear = len(lines) == 2 and reason in lines[0] and "run the same command again" in lines[1]
    return [] if done.returncode == 0 or (done.returncode == 1 and clear) else lines


@pytest.mark.slow
@pytest.mark.minutes
def test_a_disk_of_any_size_ends_the_sync_in_two_lines(served: Sandbox, disk: Callable[[int], Path]) -> None:
    """From too small for a page to too small for the views: no wait for ever, and no panic of a library printed.

    At the end there is room, and the sync that the last disk stopped is completed.
    """
    said = {}
    for kib in (4, 40, 100, 140, 240, 300, 340, 360, 400, 440):
        data = disk(kib) / "data"
        shutil.rmtree(data, ignore_errors=True)
        done = run(served, data)
        assert done.returncode == 1
        if lines := unclear(done, "No space left on device"):
            said[kib] = lines
    assert said == {}
    disk(64_000)
    sync(served.url, data, served.world.session_ids())
    assert state(data) == truth(served.world)


@pytest.mark.parametrize("kib", [8, 256, 0, 1, 64])
@pytest.mark.first(1, 1)
def test_files_that_cannot_grow_end_the_sync_in_two_lines(served: Sandbox, tmp_path: Path, kib: int) -> None:
    """Under a quota of any size, the same."""
    done = run(served, tmp_path / "data", f"ulimit -f {kib}")
    assert unclear(done, "File too large") == []


def test_a_disk_without_room_for_a_pipe_s_content_is_named(tmp_path: Path) -> None:
    """Ids from standard input are copied to a file, and an attempt is noted in one: whichever does not fit, two lines say so."""
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 0 && exec {FINCON} sync --sessions -"],
        input="fcsess_1",
        cwd=tmp_path,
        env={**os.environ, "STRIPE_API_KEY": "sk_test_full"},
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
        check=False,
    )
    assert len(done.stderr.splitlines()) == 2
    assert "File too large" in done.stderr


EACH_WRITE = """
import faulthandler, json, os, sys
from pathlib import Path
from fincon.errors import FinconError
from tests.conftest import sync

url, folder, ids, first, step = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), *map(int, sys.argv[4:])
left = -1

def refuse(event, args):
    global left
    if event == "open" and left > 0 and str(folder) in str(args[0]) and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        left -= 1
        if not left:
            raise OSError(28, "No space left on device", str(args[0]))

sys.addaudithook(refuse)
for number in range(first, 1000, step):
    data = folder / str(number)
    faulthandler.dump_traceback_later(60, exit=True)
    left = number
    try:
        sync(url, data, ids)
    except FinconError as error:
        print(json.dumps([str(error), error.hint]))
    if left:
        break
    sync(url, data, ids)  # there is room again
"""
"""Sync while one file that is opened to be written cannot be, the next time one of the ``step`` behind it, …, until none was."""

STEP = 3


@pytest.mark.parametrize("first", range(1, STEP + 1))
@pytest.mark.first(0, 1)
def test_an_error_at_each_write_ends_the_sync_in_two_lines(first: int, tmp_path: Path) -> None:
    """Whichever file cannot be written, the run ends, says so, and the next one completes it."""
    with running(World(seed=1, clock=START, accounts=5, sessions=2)) as small:
        ids = str(small.world.session_ids()).replace("'", '"')
        done = subprocess.run(
            [sys.executable, "-c", EACH_WRITE, small.url, str(tmp_path), ids, str(first), str(STEP)],
            capture_output=True,
            text=True,
            timeout=6 * BOUND_SECONDS,
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode == 0
    said = [line for line in done.stdout.splitlines() if "No space left on device" not in line]
    assert said == []
    assert len(done.stdout.splitlines()) >= 4
    assert sum(1 for _ in tmp_path.iterdir()) > len(done.stdout.splitlines())
