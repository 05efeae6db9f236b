"""Processes that are measured, and the servers that they ask."""

import compileall
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from signal import SIGINT
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv" / "peers"
LOCK = Path(__file__).with_name("peers.lock")

Figures = dict[str, Any]


def environment(tree: Path = ROOT, /, **more: str) -> dict[str, str]:
    """Ours, with ``tree`` in front. Its modules are compiled once, as an installed package's are: never is that measured."""
    _compile(tree)
    return {**os.environ, "PYTHONPATH": str(tree), **more}


@cache
def _compile(tree: Path) -> None:
    # The folders that the package has links to are compiled where they are.
    for folder in ("fincon", "flows", "sandbox", "transforms", "tests/benchmarks"):
        compileall.compile_dir(tree / folder, quiet=2)


@dataclass
class Server:
    """A server in a process of its own. ``seen`` is what it says of its requests, once it has ended."""

    url: str
    pid: int
    seen: dict[str, Figures] = field(default_factory=dict)

    def cpu(self) -> float:
        """CPU seconds that it has taken so far."""
        return cpu_of(self.pid)

    def reached(self, *, live: bool = False) -> dict[str, str]:
        """The environment of a sync against it that is held to no limit of ours; or to those of a live key."""
        key = "sk_live_benchmark" if live else "sk_test_benchmark"
        free = {} if live else {"FINCON_REQUESTS_PER_SECOND": "9000"}
        return {"STRIPE_API_BASE": self.url, "STRIPE_API_KEY": key, **free}


def cpu_of(pid: int) -> float:
    """CPU seconds of a running process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(kind: str, *arguments: str) -> Iterator[Server]:
    """A server of `tests.benchmarks.served` for as long as the block lasts."""
    command = [sys.executable, "-m", "tests.benchmarks.served", kind, *arguments]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        server = Server(process.stdout.readline().strip().partition("=")[2], process.pid)
        try:
            yield server
        finally:
            process.send_signal(SIGINT)
            said = process.stdout.read().splitlines()
            server.seen.update(json.loads(said[-1]) if said else {})


def measure(task: str, *arguments: object, **env: str) -> Figures:
    """What one task of `tests.benchmarks.tasks` measured, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.tasks", task, *map(str, arguments)]
    return run(command, **env)


def run(command: Sequence[str], **env: str) -> Figures:
    """The last line that a command prints, which is JSON, and what its whole process took."""
    start = time.monotonic()
    with subprocess.Popen(
        command, env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        printed, complained = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{complained}")
    figures: Figures = json.loads(printed.splitlines()[-1])
    return {**figures, "process s": round(time.monotonic() - start, 2)}


def seconds_of(*arguments: str, **env: str) -> float:
    """Return how long ``fincon`` takes with these, from its start to its end."""
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "fincon.cli", *arguments],
        env=environment(**env),
        check=True,
        capture_output=True,
    )
    return time.monotonic() - start


def peers_python() -> str:
    """The Python of an environment with the peers, made where it is not there yet."""
    mark = PEERS / ".installed"
    python = str(PEERS / "bin" / "python")
    if not mark.exists() or mark.read_text() != LOCK.read_text():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "--require-hashes", "--requirement", str(LOCK)], check=True)
        mark.write_text(LOCK.read_text())
    return python
