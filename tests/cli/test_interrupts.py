"""Ctrl-C and SIGTERM, at any moment of any command: one line, the exit code of the signal, within two seconds."""

import itertools
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import FINCON, START, Child, environ

COMMANDS: dict[str, list[str]] = {
    "sync": ["sync", "--sessions", "ids.txt", "--transactions"],
    "dry-run": ["sync", "--sessions", "ids.txt", "--dry-run"],
    "events": ["events", "--owners", "--pii", "hash"],
    "transactions": ["transactions"],
    "owners": ["owners", "--pii", "hash"],
    "sql": ["sql", "SELECT count(*) FROM range(20000000000)"],
    "export": ["sql", "FROM range(20000000)", "--output", "x.csv"],
    "status": ["status"],
    "schema": ["schema"],
    "report": ["report"],
    "check": ["check"],
    "compact": ["compact"],
    "rates": ["rates", "rates.csv"],
    "erase": ["erase", "--yes", "--account", "ACCOUNT"],
    "privacy": ["privacy", "--rewrite"],
    "demo": ["demo", "--accounts", "20"],
    "sandbox": ["sandbox", "--port", "0"],
    "serve": ["serve"],
    "listen": ["listen", "--port", "0"],
    "automations": ["automations"],
}
AROUND: dict[str, dict[str, str]] = {}
"""Command → what is in its environment besides."""
LINE = re.compile(
    r"^fincon: (interrupted|ended by SIGTERM)\.( What was fetched is kept: .*| A run that .*| \d+ events received, .*)?$",
    re.M,
)
WITHIN_SECONDS = 2.0
SOME = ("sync", "events", "sql", "erase", "listen", "serve")
"""Those that CI interrupts: what fetches, asks, removes, waits and starts others."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ACCOUNTS = itertools.count()
"""Each erasure is of another account, so that it has something to remove."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Sandbox]]:
    """A folder with a synced lake, ids and schedules, and the sandbox that it was synced from."""
    folder = tmp_path_factory.mktemp("site")
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # takes connections and never answers
        running(World(seed=1, clock=START, accounts=120, sessions=20)) as sandbox,
    ):
        AROUND["automations"] = {"PREFECT_API_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/api"}
        (folder / "ids.txt").write_text("\n".join(sandbox.world.session_ids()))
        (folder / "rates.csv").write_text("day,from,to,rate\n2026-06-01,eur,usd,1.0834\n")
        (folder / "prefect.yaml").write_text(
            "deployments: [{name: a, entrypoint: 'fincon.flows.sync.sync', schedules: [{cron: '* * * * * *'}]}]"
        )
        for choice in ("keep", "hash"):  # so `privacy` has clear texts to rewrite, whatever ran before
            with run(["sync", "--sessions", "ids.txt", "--pii", choice], folder, sandbox) as done:
                done.communicate(timeout=60)
            assert done.returncode == 0
        yield folder, sandbox


def run(arguments: list[str], folder: Path, sandbox: Sandbox) -> Child:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}
    arguments = [sandbox.world.account_id(next(ACCOUNTS)) if a == "ACCOUNT" else a for a in arguments]
    return Child(
        [str(FINCON), *arguments],
        cwd=folder,
        env={
            **clean,
            **environ(
                sandbox.url,
                FINCON_PII_KEY="0" * 64,
                STRIPE_WEBHOOK_SECRET="whsec_123456",  # noqa: S106 - it opens nothing
            ),
            **AROUND.get(arguments[0], {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def until_it_catches(number: int, process: Child) -> None:
    """Wait until the process has a handler for the signal: before, it is Python that starts, and no command."""
    while process.poll() is None:
        caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.M)
        if caught and int(caught[1], 16) >> (number - 1) & 1:
            return
        time.sleep(0.001)


def interrupt(name: str, number: int, after: float, folder: Path, sandbox: Sandbox) -> int:
    """Send the signal so long after the command could take it; return the exit code of what then held."""
    with run(COMMANDS[name], folder, sandbox) as process:
        until_it_catches(signal.SIGTERM, process)
        time.sleep(after)
        process.send_signal(number)
        sent = time.monotonic()
        told = process.communicate(timeout=20)[1]
        took = time.monotonic() - sent
    where = f"{name}, {after:.3f} s: {process.returncode}, {told!r}"
    assert process.returncode in (0, 128 + number, *([2] if "Nothing here names" in told else [])), where
    assert "Traceback" not in told, where
    assert "bug" not in told, where
    if process.returncode > 2:
        assert took < WITHIN_SECONDS, where
        lines = [line for line in told.splitlines() if LINE.match(line)]
        # `serve` says it of itself, last; before it, the run that it stopped has said it of itself.
        assert len(lines) == 1 or (name == "serve" and len(lines) == 2), where
        assert told.rstrip().endswith(lines[-1]), where
        assert "" not in told.splitlines(), where
    return process.returncode


def lasts(name: str, folder: Path, sandbox: Sandbox) -> float:
    """How long the command takes where nothing interrupts it; three seconds where it would take longer."""
    began = time.monotonic()
    with run(COMMANDS[name], folder, sandbox) as process:
        try:
            process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    return time.monotonic() - began


def spread(name: str, moments: int, folder: Path, sandbox: Sandbox) -> None:
    """Interrupt the command at so many moments, evenly over the time that it takes, by Ctrl-C and SIGTERM in turn."""
    seconds = lasts(name, folder, sandbox)
    codes = [interrupt(name, SIGNALS[n % 2], seconds * n / moments, folder, sandbox) for n in range(moments)]
    assert sum(code > 2 for code in codes) >= moments // 4, codes


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", ["sync", "sql"])
def test_a_command_can_be_interrupted_at_its_first_moment(
    name: str, number: int, site: tuple[Path, Sandbox]
) -> None:
    assert interrupt(name, number, 0, *site) == 128 + number


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*SOME, *(pytest.param(name, marks=pytest.mark.minutes) for name in COMMANDS if name not in SOME)]
)
def test_a_command_can_be_interrupted(name: str, site: tuple[Path, Sandbox]) -> None:
    """At four moments, the first among them."""
    spread(name, 4, *site)


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_can_be_interrupted_at_fifty_moments(name: str, site: tuple[Path, Sandbox]) -> None:
    """``python -m pytest -m minutes tests/cli/test_interrupts.py``: about a minute a command."""
    spread(name, 50, *site)
