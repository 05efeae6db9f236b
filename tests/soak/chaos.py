"""One world, one data folder, and syncs, erasures and rewrites that are killed."""

# ruff: noqa: S311

import hashlib
import hmac
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

from fincon.sandbox.faults import Faults
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import FINCON, OBJECTS, START, environ, rows
from tests.soak.reader import LET_GO, UNDER_WAY
from tests.soak.verdict import Seen, in_clear, wrong_at_the_end, wrong_on_disk

LET_LIVE = 0.1
HUNG = 600.0
"""Seconds after which a command that nobody killed is taken for hung."""

PII_KEY = "soak-soak-soak-soak"
CHOICES = ("", "", "", "keep", "hash", "drop")
"""What `--pii` says in a sync; nothing mostly."""


@dataclass
class Figures:
    """What a soak did."""

    syncs: int = 0
    killed: int = 0
    killed_while_loading: int = 0
    finished: int = 0
    resumed: int = 0
    erasures: int = 0
    erasures_killed: int = 0
    rewrites: int = 0
    rewrites_killed: int = 0
    other_mode_refused: int = 0
    clock_moves: int = 0
    requests: int = 0
    faults: int = 0
    versions: int = 0
    reader_opens: int = 0
    reader_queries: int = 0
    connections_held: int = 0
    let_go: int = 0
    """Connections that lost their files to an erasure or a rewrite."""

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
    connected: int = 0
    """How many connected accounts share the lake; none is the key's own account."""
    choices: bool = False
    """Syncs choose what becomes of personal data, some read owners, and `fincon privacy --rewrite` runs now and then."""
    figures: Figures = field(default_factory=Figures)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.worlds: dict[str, list[World]] = {}
        """Stripe account → its world at each clock, oldest first; "" is the key's own."""
        self.whole: list[int] = []
        self.erased: set[str] = set()
        self.takes = {"sync": [3.0], "erase": [3.0], "privacy": [3.0]}
        """Command → how long the last ones took, in seconds."""

    def run(self) -> "Soak":
        """All of it."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        size = max(1, self.connected)
        world = World(
            seed=self.seed, clock=START, accounts=self.accounts // size, sessions=self.sessions // size,
            connected=self.connected,
        )  # fmt: skip
        faults = Faults(rate=self.rate, seed=self.seed)
        with running(world, faults=faults) as sandbox, self.reading():
            self.note_clock(sandbox)
            self.sync(sandbox, lives=True)
            while self.figures.killed < self.kills and not self.wrong:
                self.move_clock(sandbox)
                self.disturb(sandbox)
                self.sync(sandbox, lives=self.dice.random() < LET_LIVE)
            sandbox.faults = None
            self.sync(sandbox, lives=True)  # ends what was interrupted
            self.move_clock(sandbox, always=True)
            self.sync(sandbox, lives=True, last=True)
            if self.whole[-1:] != [len(self.clocks) - 1]:
                self.wrong.append("the last sync did not begin a run of its own")
            if self.choices:
                with self.taking_files():
                    self.rewrite(sandbox, always=True)
            self.figures.requests = sandbox.state.served
            self.figures.faults = faults.injected.total()
        for whose, worlds in self.worlds.items():
            seen = Seen(worlds=worlds, whole=self.whole, erased=self.erased, stripe_account=whose)
            self.wrong += wrong_at_the_end(self.data, seen, events=self.events, choices=self.choices)
        self.wrong += wrong_on_disk(self.data, self.erased)
        if self.choices:
            self.wrong += in_clear(self.data, [world for worlds in self.worlds.values() for world in worlds])
        self.figures.versions = self._versions()
        return self

    @property
    def clocks(self) -> list[World]:
        """The worlds of one Stripe account, of which there are as many as of each."""
        return next(iter(self.worlds.values()))

    def note_clock(self, sandbox: Sandbox) -> None:
        """Keep the worlds that are served from now on."""
        for whose in sandbox.connected or [""]:
            world = sandbox.world_of(whose) if whose else sandbox.world
            self.worlds.setdefault(whose, []).append(world)

    def move_clock(self, sandbox: Sandbox, *, always: bool = False) -> None:
        """Let some hours pass in the world, or none."""
        if always or self.dice.random() < 0.7:
            sandbox.advance(timedelta(seconds=self.dice.randint(1, 16 * 3600)))
            self.note_clock(sandbox)
            self.figures.clock_moves += 1

    def disturb(self, sandbox: Sandbox) -> None:
        """Erase somebody, rewrite what people are called, or come with a key of the other mode; mostly do nothing."""
        chance = self.dice.random()
        if chance < 0.12:
            with self.taking_files():
                self.erase(sandbox)
        elif chance < 0.24 and self.choices:
            with self.taking_files():
                self.rewrite(sandbox)
        elif chance < 0.3:
            self.come_with_a_live_key(sandbox)

    def sync(self, sandbox: Sandbox, *, lives: bool, last: bool = False) -> None:
        """One `fincon sync`, with every session there is; killed at some moment of the time that one takes."""
        options = ["--connected"] if self.connected else []
        options += ["--events"] if self.events and not last else []
        if last or self.dice.random() < 0.3:
            options += ["--sessions-refetch", "all"]
        if self.choices:
            choice = "hash" if last else self.dice.choice(CHOICES)
            options += ["--pii", choice] if choice else []
            options += ["--owners"] if self.dice.random() < 0.2 else []
        ids = [(whose, i) for whose, worlds in self.worlds.items() for i in worlds[-1].session_ids()]
        lines = ["stripe_account,session_id", *(f"{whose},{i}" for whose, i in ids)]
        (self.data.parent / "ids.csv").write_text("\n".join(lines if self.connected else [i for _, i in ids]))
        before = {path.name for path in (self.data / "pages").glob("*")}
        loaded, left = self._fetched(), self._left()
        self.figures.syncs += 1
        ended = self.command(sandbox, ["sync", "--sessions", "ids.csv", *options], lives=lives)
        if ended is None:
            self.figures.killed += 1
            was_loading = bool(self._left() - left) or self._fetched() > loaded
            self.figures.killed_while_loading += was_loading
            if self.figures.killed % 25 == 0:
                print(f"world {self.seed}: {self.figures.killed} killed", file=sys.stderr)  # noqa: T201
            return
        code, said = ended
        if code:
            self.wrong.append(f"a sync ended with {code}: {said}")
            return
        self.figures.finished += 1
        new = {path.name for path in (self.data / "pages").glob("*")} - before
        if len(new) < len(self.worlds):
            self.figures.resumed += 1
        elif last or not self.events or not before:
            self.whole.append(len(self.clocks) - 1)

    def erase(self, sandbox: Sandbox) -> None:
        """Erase an account, a session or a customer; where that is killed, it is done again, perhaps after a sync."""
        truths = self.dice.choice([*self.worlds.values()])[-1].truth()
        kind, table, column = self.dice.choice(
            [
                ("account", "accounts", "account_id"),
                ("session", "sessions", "session_id"),
                ("customer", "accounts", "account_holder_customer_id"),
            ]
        )
        identity = self.dice.choice([row[column] for row in truths[table]])
        if identity is None:
            return
        asked = ["erase", f"--{kind}", identity, "--yes"]
        ended = self.command(sandbox, asked, lives=self.dice.random() < 0.5)
        if ended is None:
            self.figures.erasures_killed += 1
            if self.dice.random() < 0.5:
                self.sync(sandbox, lives=self.dice.random() < 0.5)
            ended = self.command(sandbox, asked, lives=True)
        code, said = ended or (0, "")
        if code == 1 and "is fetched but not loaded" in said:
            self.sync(sandbox, lives=True)
            code, said = self.command(sandbox, asked, lives=True) or (0, "")
        if code and "Nothing here names" not in said:
            self.wrong.append(f"an erasure ended with {code}: {said}")
        elif self._is_recorded(identity):
            self.erased.add(identity)
            self.figures.erasures += 1
        elif not code:
            self.wrong.append(f"the erasure of {identity} is not recorded: {said}")

    def rewrite(self, sandbox: Sandbox, *, always: bool = False) -> None:
        """Rewrite what people are called as the last sync chose; where that is killed, it is done again."""
        ended = self.command(sandbox, ["privacy", "--rewrite"], lives=self.dice.random() < 0.5)
        if ended is None:
            self.figures.rewrites_killed += 1
            if not always and self.dice.random() < 0.5:
                return  # the next sync finds what it left
            ended = self.command(sandbox, ["privacy", "--rewrite"], lives=True)
        code, said = ended or (0, "")
        if not code:
            self.figures.rewrites += 1
        elif always or "to keep personal data" not in said:
            self.wrong.append(f"a rewrite ended with {code}: {said}")

    def come_with_a_live_key(self, sandbox: Sandbox) -> None:
        """A sync with a key of the other mode is refused, and sends nothing."""
        served = sandbox.state.served
        ended = self.command(sandbox, ["sync"], lives=True, STRIPE_API_KEY="sk_live_sandboxkey")
        if (
            ended is None
            or ended[0] != 2
            or "holds test data" not in ended[1]
            or sandbox.state.served > served
        ):
            self.wrong.append(f"a key of live mode was not refused: {ended}")
        self.figures.other_mode_refused += 1

    @contextmanager
    def taking_files(self) -> Iterator[None]:
        """Tell the reader, before and after, that files may be taken from whoever has old views."""
        noted = self.data.parent / LET_GO
        for text in (UNDER_WAY, "over\n"):
            with noted.open("a") as file:
                file.write(text)
            if text == UNDER_WAY:
                yield

    def command(
        self, sandbox: Sandbox, arguments: list[str], *, lives: bool, **more: str
    ) -> tuple[int, str] | None:
        """Run fincon; return how it ended and what it said, or None where it was killed."""
        name = arguments[0]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}
        environment = {**clean, **environ(sandbox.url, FINCON_PII_KEY=PII_KEY), **more}
        began = time.monotonic()
        moment = HUNG if lives else self.dice.uniform(0, max(self.takes[name]))
        with subprocess.Popen(
            [str(FINCON), "--data", str(self.data), *arguments], cwd=self.data.parent, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                _, said = process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                process.kill()
                _, said = process.communicate()
                if lives:
                    self.wrong.append(f"fincon {name} hung for {HUNG:.0f} s: {said}")
                return None
            finally:
                process.kill()
        if not process.returncode:
            self.takes[name] = [*self.takes[name][-4:], time.monotonic() - began]
        return process.returncode, said

    def _is_recorded(self, identity: str) -> bool:
        """Whether the lake says that somebody was erased, by the hash that stands for them."""
        key = self.data / ".erasure-key"
        if not key.exists():
            return False
        hashed = hmac.new(key.read_bytes(), identity.encode(), hashlib.sha256).hexdigest()
        return bool(rows(self.data, f"FROM erasures WHERE action = 'erased' AND identity_hash = '{hashed}'"))

    def _left(self) -> set[Path]:
        return {*self.data.glob(".staging-*"), *self.data.glob(".fincon.duckdb.part")}

    def _fetched(self) -> int:
        return len(list((self.data / "pages").glob("*/fetched.json")))

    def _versions(self) -> int:
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
        self.figures.let_go += seen["let_go"]
