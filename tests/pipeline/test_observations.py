"""What was seen last is what is known: random interleavings of runs against a model that keeps every observation.

Each world is a Stripe that is scripted at random: balances and names that flip back and forth, accounts that go and come
back, events that come late, of one second, or twice; full runs, runs of sessions and of events, some cut short and gone
on with. The model reads the raw pages of the runs that are finished, by means of its own, and knows nothing of the lake.
"""

import copy
import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fincon.errors import BudgetExhausted
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from tests.conftest import rows, settings_for
from tests.scripted_stripe import ScriptedStripe, account, event, serving, session

EPOCH = datetime.fromtimestamp(0, UTC)
SECOND = 1_000_000
BEFORE_EVENTS = 899_999
"""Microseconds within a second up to which its pages count; its events come after them."""

Key = tuple[str, str]


@dataclass
class Observations:
    """Everything that finished runs saw: object → (when, the event's place in Stripe's order, content)."""

    seen: dict[Key, set[tuple[int, int, str]]] = field(default_factory=dict)

    def add(self, key: Key, at: int, place: int, content: object) -> None:
        """Note one; the same one again is no other."""
        self.seen.setdefault(key, set()).add((at, place, json.dumps(content, sort_keys=True)))

    def changes(self, key: Key) -> list[tuple[int, str]]:
        """(when, content) of each observation that differs from the one before it."""
        changed: list[tuple[int, str]] = []
        for at, _, content in sorted(self.seen.get(key, ())):
            if not changed or changed[-1][1] != content:
                changed.append((at, content))
        return changed

    def as_of(self, key: Key, at: int) -> str | None:
        """The content of the last observation up to ``at``."""
        found = [content for when, content in self.changes(key) if when <= at]
        return found[-1] if found else None


def read_page(path: Path) -> tuple[dict[str, Any], Any]:
    """Header and body of a raw page."""
    with pa.input_stream(str(path), compression="zstd") as file:
        head, _, body = bytes(file.read())[9:].partition(b"\n")
    return json.loads(head), json.loads(body)


class World:
    """A scripted Stripe that changes at random, and the lake that runs make of it."""

    def __init__(self, seed: int, stripe: ScriptedStripe, data: Path) -> None:
        self.random = random.Random(seed)  # noqa: S311 - worlds, not secrets
        self.stripe, self.data = stripe, data
        self.gone: list[dict[str, Any]] = []
        self.late: list[tuple[int, dict[str, Any]]] = []
        """Events that Stripe does not show yet: until which step, and the event."""
        self.places: dict[str, int] = {}
        """Event → its place in Stripe's order."""
        self.steps = 0
        self.runs = 0
        stripe.page_size = 2
        stripe.accounts = [account(f"fca_{n}", 1, created=stripe.clock - n) for n in range(5)]
        for n in range(3):
            stripe.sessions[f"fcsess_{n}"] = session(f"fcsess_{n}")
            stripe.session_accounts[f"fcsess_{n}"] = [f"fca_{n}", f"fca_{n + 1}"]

    def step(self) -> bool:
        """Do something at random; whether a run was finished."""
        self.steps += 1
        for until, one in [*self.late]:
            if until <= self.steps:
                self.late.remove((until, one))
                self.show(one)
        chosen = self.random.choices(
            (self.tick, self.flip, self.vanish, self.come_back, self.run), (4, 6, 1, 1, 5)
        )[0]
        return bool(chosen())

    def tick(self) -> None:
        """Let time go by: within a second, within the overlap of events, beyond it."""
        self.stripe.clock += self.random.choice([1, 1, 2, 30, 200, 400])

    def flip(self) -> None:
        """One account says something else than before; mostly there is an event of it, sometimes a late one."""
        one = self.random.choice(self.stripe.accounts)
        if self.random.random() < 0.3:
            one["display_name"] = {"A": "B"}.get(one["display_name"], "A")
        else:
            one["balance"]["current"]["usd"] ^= 3
        if self.random.random() < 0.8:
            place = len(self.places)
            made = event(f"evt_{self.random.getrandbits(40):x}", copy.deepcopy(one), self.stripe.clock)
            self.places[made["id"]] = place
            lag = self.random.choice([0, 0, 1, 3])
            if lag:
                self.late.append((self.steps + lag, made))
            else:
                self.show(made)

    def show(self, made: dict[str, Any]) -> None:
        """An event in Stripe's list, newest first."""
        self.stripe.events.append(made)
        self.stripe.events.sort(key=lambda one: (one["created"], self.places[one["id"]]), reverse=True)

    def vanish(self) -> None:
        """An account is not listed any more."""
        if len(self.stripe.accounts) > 2:
            self.gone.append(self.stripe.accounts.pop(self.random.randrange(len(self.stripe.accounts))))

    def come_back(self) -> None:
        """One that was gone is listed again."""
        if self.gone:
            self.stripe.accounts.append(self.gone.pop())
            self.stripe.accounts.sort(key=lambda one: -one["created"])

    def run(self) -> bool:
        """A run of any kind, which may be cut short."""
        kind = self.random.choice(["accounts", "accounts", "events", "events", "events", "sessions", "both"])
        sessions = tuple(sorted(self.stripe.sessions)) if kind in ("sessions", "both") else ()
        asked = SyncRequest(
            session_ids=sessions,
            accounts=kind in ("accounts", "both"),
            events=kind == "events",
            refetch="all",
            restart=self.random.random() < 0.1,
            max_requests=self.random.choice([None, None, 1, 2, 3]),
        )
        try:
            run_sync(settings_for(self.stripe.url, self.data, FINCON_CONCURRENCY="1"), asked)
        except BudgetExhausted:
            return False
        self.runs += 1
        return True

    def observed(self) -> Observations:
        """What all finished runs saw, from their pages."""
        known = Observations()
        for (run_id,) in rows_of(self.data, "SELECT run_id FROM runs"):
            for path in sorted((self.data / "pages" / run_id).glob("*.zst")):
                header, body = read_page(path)
                if header["stream"] == "events":
                    for one in body["data"]:
                        at = one["created"] * SECOND + BEFORE_EVENTS + 1
                        self.note(known, one["data"]["object"], at, self.places[one["id"]])
                else:
                    for one in body.get("accounts", body)["data"]:
                        self.note(known, one, header["observed_at"], 0)
        return known

    @staticmethod
    def note(known: Observations, one: dict[str, Any], at: int, place: int) -> None:
        """What an account says at one moment."""
        known.add(("accounts", one["id"]), at, place, one["display_name"])
        known.add(("balances", one["id"]), at, place, one["balance"]["current"]["usd"])


def rows_of(data: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query answers, as tuples."""
    return [tuple(row.values()) for row in rows(data, query)]


def place_in_second(at: int) -> int:
    """A moment, those of a second's events as one: their order within it is compared, not their microsecond."""
    return at if at % SECOND <= BEFORE_EVENTS else at - at % SECOND + BEFORE_EVENTS + 1


CONTENT = {"accounts": "display_name", "balances": "current"}


def compare(world: World) -> None:
    """The lake against the model: history, the latest state, and what was known at every moment.

    An account that vanished has a version that says so; it says nothing else that is new, and is left out.
    """
    known = world.observed()
    held: dict[Key, list[tuple[int, str]]] = {}
    for table, content in CONTENT.items():
        query = f"SELECT account_id, epoch_us(valid_from), {content} FROM history.{table} ORDER BY valid_from"
        for account_id, at, value in rows_of(world.data, query):
            versions = held.setdefault((table, account_id), [])
            text = json.dumps(value)
            if table == "accounts" and versions and versions[-1][1] == text:
                continue  # what differs is absent_since
            versions.append((place_in_second(at), text))
    assert held == {key: known.changes(key) for key in known.seen}
    moments = {at for seen in known.seen.values() for at, _, _ in seen}
    moments |= {at - at % SECOND + SECOND - 1 for at in moments}
    for at in world.random.sample(sorted(moments), min(4, len(moments))):
        when = (EPOCH + timedelta(microseconds=at)).isoformat()
        for table, content in CONTENT.items():
            found = dict(rows_of(world.data, f"SELECT account_id, {content} FROM {table}_as_of('{when}')"))
            expected = {i: known.as_of((t, i), at) for t, i in known.seen if t == table}
            if at % SECOND == BEFORE_EVENTS + 1:
                continue  # among events of this second
            assert {i: json.dumps(v) for i, v in found.items()} == {i: v for i, v in expected.items() if v}
    for table, content in CONTENT.items():
        found = dict(rows_of(world.data, f"SELECT account_id, {content} FROM main.{table}"))
        assert {i: json.dumps(v) for i, v in found.items()} == {
            i: known.changes((t, i))[-1][1] for t, i in known.seen if t == table
        }


def play(seed: int, data: Path, runs: int) -> None:
    """One world, until so many runs are finished; compared after each."""
    with serving(ScriptedStripe()) as stripe:
        world = World(seed, stripe, data)
        while world.runs < runs:
            if world.step():
                compare(world)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_interleaves_the_lake_is_what_was_observed(seed: int, tmp_path: Path):
    play(seed, tmp_path / "data", 6)
