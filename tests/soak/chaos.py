"""One world, one data folder, and syncs that are killed."""

# ruff: noqa: S311

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from fincon.sandbox.faults import Faults
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import FINCON, START, environ
from tests.soak.verdict import wrong_at_the_end

LET_LIVE = 0.1
HUNG = 180.0
"""Seconds after which a sync that nobody killed is taken for hung."""


@dataclass
class Figures:
    """What a soak did."""

    syncs: int = 0
    killed: int = 0
    killed_while_loading: int = 0
    finished: int = 0
    resumed: int = 0
    clock_moves: int = 0
    requests: int = 0
    faults: int = 0
    versions: int = 0
    reader_opens: int = 0
    reader_queries: int = 0
    connections_held: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


@dataclass
class Soak:
    """A world that is synced into ``data`` until ``kills`` syncs have been killed."""

    data: Path
    seed: int
    kills: int
    accounts: int = 150
    sessions: int = 60
    rate: float = 0.2
    events: bool = False
    """Each sync reads Stripe's events, but the last one, which lists every account."""
    figures: Figures = field(default_factory=Figures)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.worlds: list[World] = []
        self.whole: list[int] = []
        self.takes = [3.0]

    def run(self) -> "Soak":
        """All of it."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        world = World(seed=self.seed, clock=START, accounts=self.accounts, sessions=self.sessions)
        faults = Faults(rate=self.rate, seed=self.seed)
        with running(world, faults=faults) as sandbox, self.reading():
            self.worlds.append(sandbox.world)
            self.sync(sandbox, lives=True)
            while self.figures.killed < self.kills and not self.wrong:
                self.move_clock(sandbox)
                self.sync(sandbox, lives=self.dice.random() < LET_LIVE)
            sandbox.faults = None
            self.sync(sandbox, lives=True)  # ends what was interrupted
            self.move_clock(sandbox, always=True)
            self.sync(sandbox, lives=True, last=True)
            if self.whole[-1:] != [len(self.worlds) - 1]:
                self.wrong.append("the last sync did not begin a run of its own")
            self.figures.requests = sandbox.state.served
            self.figures.faults = faults.injected.total()
        self.wrong += wrong_at_the_end(self.data, self.worlds, self.whole, events=self.events)
        self.figures.versions = self._versions()
        return self

    def move_clock(self, sandbox: Sandbox, *, always: bool = False) -> None:
        """Let some hours pass in the world, or none."""
        if always or self.dice.random() < 0.7:
            sandbox.advance(timedelta(seconds=self.dice.randint(1, 16 * 3600)))
            self.worlds.append(sandbox.world)
            self.figures.clock_moves += 1

    def sync(self, sandbox: Sandbox, *, lives: bool, last: bool = False) -> None:
        """One `fincon sync`, with every session there is; killed at some moment of the time that one takes."""
        options = ["--events"] if self.events and not last else []
        if last or self.dice.random() < 0.3:
            options += ["--sessions-refetch", "all"]
        (self.data.parent / "ids.txt").write_text("\n".join(sandbox.world.session_ids()))
        before = {path.name for path in (self.data / "pages").glob("*")}
        loaded, left = self._fetched(), self._left()
        self.figures.syncs += 1
        began = time.monotonic()
        moment = HUNG if lives else self.dice.uniform(0, max(self.takes))
        with self._started(sandbox, options) as process:
            try:
                _, said = process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                process.kill()
                _, said = process.communicate()
                if lives:
                    self.wrong.append(f"a sync hung for {HUNG:.0f} s: {said}")
                self.figures.killed += 1
                was_loading = bool(self._left() - left) or self._fetched() > loaded
                self.figures.killed_while_loading += was_loading
                if self.figures.killed % 25 == 0:
                    print(f"world {self.seed}: {self.figures.killed} killed", file=sys.stderr)  # noqa: T201
                return
        ended = re.search(r"Run (\S+):", said)
        if process.returncode or not ended:
            self.wrong.append(f"a sync ended with {process.returncode}: {said}")
            return
        self.figures.finished += 1
        if ended[1] in before:
            self.figures.resumed += 1
        else:
            self.takes = [*self.takes[-4:], time.monotonic() - began]
            if last or not self.events or not before:
                self.whole.append(len(self.worlds) - 1)

    @contextmanager
    def _started(self, sandbox: Sandbox, options: list[str]) -> Iterator[Any]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}
        command = [str(FINCON), "--data", str(self.data), "sync", "--sessions", "ids.txt", *options]
        with subprocess.Popen(
            command, cwd=self.data.parent, env={**clean, **environ(sandbox.url)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()

    def _left(self) -> set[Path]:
        return {*self.data.glob(".staging-*"), *self.data.glob(".fincon.duckdb.part")}

    def _fetched(self) -> int:
        return len(list((self.data / "pages").glob("*/fetched.json")))

    def _versions(self) -> int:
        from tests.conftest import OBJECTS, rows

        return sum(rows(self.data, f"SELECT count(*) AS n FROM history.{table}")[0]["n"] for table in OBJECTS)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """With the reader attached; what it saw goes into the figures."""
        command = [sys.executable, "-m", "tests.soak.reader", str(self.data), str(self.seed)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as reader:
            try:
                yield
            finally:
                said, _ = reader.communicate()
        try:
            seen = json.loads(said.splitlines()[-1])
        except (IndexError, ValueError):
            self.wrong.append(f"the reader died: {said}")
            return
        self.wrong += [f"reader: {line}" for line in seen["wrong"]]
        self.figures.reader_opens += seen["opened"]
        self.figures.reader_queries += seen["queries"]
        self.figures.connections_held += seen["held"]
