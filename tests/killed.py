"""Run something in a process of its own that is killed, as ``kill -9`` would, when it changes a file for the n-th time."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from fincon.pipeline.compact import compact
from fincon.pipeline.erase import erase

__all__ = ["compact", "erase", "kill_at_change"]

CHANGES = ("os.rename", "os.remove", "os.rmdir", "open")


def kill_at_change(number: int, folder: Path, do: Callable[..., object], *arguments: Any) -> bool:
    """Return whether ``do`` was killed; it ended by itself where it changes fewer files of the folder."""
    # A server of forks has everything imported, and no thread of delta-rs or DuckDB.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.killed"])
    process = context.Process(target=_run, args=(number, str(folder), do, arguments))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _run(number: int, folder: str, do: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    changes = count(1)

    def watch(event: str, details: tuple[Any, ...]) -> None:
        if event not in CHANGES or not str(details[0]).startswith(folder):
            return
        if event == "open" and not details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if next(changes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    do(*arguments)
