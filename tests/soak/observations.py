"""What was seen last is what is known: random interleavings of runs against a model that keeps every observation.

    python -m tests.soak.observations --sequences 10000 --seed 1

A sequence is one Stripe account that is scripted at random: balances, currencies, refreshes and names that flip back and forth,
or end, accounts that go and come back, events that come late, of one second, or twice; and some syncs of it, full, of
sessions, or of events, cut short by a budget of requests or stopped anywhere, and gone on with, or not: where a load was cut
short, another machine may go on that does not have the run's pages. Many are synced into one lake
at a time, over HTTP, as connected accounts whose objects have the same ids. The model reads the raw pages of the runs
that are finished, by means of its own, and knows nothing of the lake. Whatever a sync published is compared: history, the latest
state, and what was known at some moments. Exits 1 if anything differs.
"""

# ruff: noqa: S311 - worlds, not secrets

import argparse
import copy
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa

from fincon.errors import FinconError
from fincon.extract.stopping import StopSignal
from fincon.landing.spool import Spool
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.privacy import Erased
from fincon.transforms.redaction import Privacy
from fincon.warehouse.connection import connect
from tests.conftest import settings_for
from tests.scripted_stripe import ScriptedStripe, account, event, serving, session

EPOCH = datetime.fromtimestamp(0, UTC)
SECOND = 1_000_000
BEFORE_EVENTS = 899_999
"""Microseconds within a second up to which its pages count; its events come after them."""

REFRESHED = ("succeeded", "failed")

MOMENTS = 4
"""How many moments are asked for after a sync."""

TOGETHER = (1, 2, 60, 60)
"""How many accounts one lake may have: alone, a run that saw nothing newer is loaded in another way than many are."""

SYNCS = 8

LOST = "half loaded, pages lost"

KINDS = ("accounts", "accounts", "events", "events", "events", "received", "received", "sessions", "both")
"""In which ways a sync may be."""

Key = tuple[str, str, str]
"""Stripe account, table, account."""

CONTENT = {
    "accounts": "display_name",
    "balances": "{'currency': currency, 'current': current}",
    "refreshes": "CASE WHEN feature = 'balance' THEN status END",
}
"""Table → what is compared of a row; a version is all its rows that say something."""

NOTHING = "[]"
"""The content of an object of which there is nothing any more: it has no row, but it ends what there was."""


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


@cache
def read_page(path: Path) -> tuple[dict[str, Any], Any]:
    """Header and body of a raw page."""
    with pa.input_stream(str(path), compression="zstd") as file:
        head, _, body = bytes(file.read())[9:].partition(b"\n")
    return json.loads(head), json.loads(body)


class StoppedAt(StopSignal):
    """A sync that is stopped when it looks for the n-th time whether it is: before a request, a page, or a table."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def check(self) -> None:
        """Go on, or not any more."""
        self.left -= 1
        if self.left == 0:
            self.stop()
        super().check()


class World:
    """A scripted Stripe account that changes at random."""

    def __init__(self, dice: random.Random, stripe: ScriptedStripe) -> None:
        self.random, self.stripe = dice, stripe
        self.gone: list[dict[str, Any]] = []
        self.late: list[tuple[int, dict[str, Any]]] = []
        """Events that Stripe does not show yet: until which step, and the event."""
        self.made: list[dict[str, Any]] = []
        """Events that Stripe has not sent yet, or sends again."""
        self.places: dict[str, int] = {}
        """Event → its place in Stripe's order."""
        self.steps = 0
        stripe.page_size = 2
        stripe.accounts = [account(f"fca_{n}", 1, created=stripe.clock - n) for n in range(5)]
        for one in stripe.accounts:
            del one["balance"]["cash"]
        for n in range(3):
            stripe.sessions[f"fcsess_{n}"] = session(f"fcsess_{n}")
            stripe.session_accounts[f"fcsess_{n}"] = [f"fca_{n}", f"fca_{n + 1}"]

    def step(self) -> None:
        """Do something at random."""
        self.steps += 1
        for until, one in [*self.late]:
            if until <= self.steps:
                self.late.remove((until, one))
                self.show(one)
        self.random.choices((self.tick, self.flip, self.vanish, self.come_back), (4, 6, 1, 1))[0]()

    def tick(self) -> None:
        """Let time go by: within a second, within the overlap of events, beyond it."""
        self.stripe.clock += self.random.choice([1, 1, 2, 30, 200, 400])

    def flip(self) -> None:
        """One account says something else than before; mostly there is an event of it, sometimes a late one."""
        one = self.random.choice(self.stripe.accounts)
        what = self.random.choice(["name", "name", "usd", "usd", "usd", "eur", "none", "refresh"])
        current = one["balance"]["current"]
        if what == "name":
            one["display_name"] = {"A": "B"}.get(one["display_name"], "A")
        elif what == "usd":
            current["usd"] = current.get("usd", 1) ^ 3
        elif what == "eur" and not current.pop("eur", 0):
            current["eur"] = self.random.choice([1, 2])
        elif what == "none":
            current.clear()
        elif what == "refresh":
            refresh = {
                "last_attempted_at": one["created"],
                "next_refresh_available_at": one["created"] + 3600,
            }
            one["balance_refresh"] = self.random.choice(
                [None, *({**refresh, "status": s} for s in REFRESHED)]
            )
        if self.random.random() < 0.8:
            place = len(self.places)
            made = event(f"evt_{self.random.getrandbits(40):x}", copy.deepcopy(one), self.stripe.clock)
            self.places[made["id"]] = place
            lag = self.random.choice([0, 0, 1, 3])
            if lag:
                self.late.append((self.steps + lag, made))
            else:
                self.show(made)

    def send(self, data: Path, whose: str) -> None:
        """Send some events that happened, and some again, in any order, as the listener keeps them."""
        sent = [one for one in self.made if self.random.random() < 0.6]
        bodies = [json.dumps({**one, "account": whose or None}).encode() for one in sent]
        self.random.shuffle(bodies)
        for start in range(0, len(bodies), 3):
            Spool(data).write(bodies[start : start + 3], Privacy(), Erased())
        self.made = [one for one in self.made if one not in sent or self.random.random() < 0.2]

    def show(self, made: dict[str, Any]) -> None:
        """An event in Stripe's list, newest first; from then on it may be sent."""
        self.made.append(made)
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


class Worlds:
    """Some accounts of a platform, and the lake that syncs make of them; one alone is the key's own."""

    def __init__(self, seed: int, platform: ScriptedStripe, data: Path, count: int) -> None:
        self.random = random.Random(seed)
        self.platform, self.data = platform, data
        self.finished = self.cut_short = self.lost = 0
        accounts = [""] if count == 1 else [f"acct_{n:03}" for n in range(count)]
        served = {one: ScriptedStripe() if one else platform for one in accounts}
        platform.connected = {one: stripe for one, stripe in served.items() if one}
        self.of = {one: World(self.random, stripe) for one, stripe in served.items()}

    def step(self) -> None:
        """Let each account go its way, then sync."""
        for world in self.of.values():
            for _ in range(self.random.choice([0, 1, 2, 4, 8])):
                world.step()
        self.sync()

    def sync(self) -> None:
        """Sync all in any way; it may be cut short."""
        kind = self.random.choice(KINDS)
        if kind == "received":
            for whose, world in self.of.items():
                world.send(self.data, whose)
            if not Spool(self.data).count():
                return
        sessions = tuple(f"fcsess_{n}" for n in range(3)) if kind in ("sessions", "both") else ()
        budget = self.random.choice([None, None, 1, 2, 3])
        whose = {"stripe_accounts": tuple(self.of)} if len(self.of) > 1 else {}
        request = SyncRequest(
            sessions_of=dict.fromkeys(self.of, sessions) if sessions else {},
            accounts=kind in ("accounts", "both"),
            events=kind == "events",
            received=kind == "received",
            refetch="all",
            restart=self.random.random() < 0.1,
            max_requests=budget and budget * len(self.of),
            **whose,  # type: ignore[arg-type]
        )
        stop = StoppedAt(
            self.random.randint(1, max(60, 10 * len(self.of))) if self.random.random() < 0.3 else 0
        )
        settings = settings_for(self.platform.url, self.data, FINCON_CONCURRENCY="1")
        try:
            result = run_sync(settings, request, self.run_step, stop=stop)
        except FinconError:
            self.cut_short += 1
            if self.random.random() < 0.5:
                self.lose_pages()
            return
        self.finished += 1
        self.cut_short += bool(result.failures)

    def lose_pages(self) -> None:
        """Let another machine go on, without the pages of what was being loaded."""
        for mark in (self.data / "loading").glob("*"):
            self.lost += 1
            for run_id in mark.read_text().split():
                shutil.rmtree(self.data / "pages" / run_id)

    @staticmethod
    def run_step(name: str, do: Any, *arguments: Any) -> Any:
        """Do a step of a sync; the checks come in the end."""
        return {} if name == "check" else do(*arguments)

    def observed(self, runs: list[tuple[str, str]]) -> Observations:
        """What finished runs saw, from their pages."""
        known = Observations()
        for whose, run_id in runs:
            for path in sorted((self.data / "pages" / run_id).glob("*.zst")):
                header, body = read_page(path)
                if header["stream"] in ("events", "webhooks"):
                    for one in body["data"]:
                        at = one["created"] * SECOND + BEFORE_EVENTS + 1
                        note(known, whose, one["data"]["object"], at, self.of[whose].places[one["id"]])
                else:
                    for one in body.get("accounts", body)["data"]:
                        note(known, whose, one, header["observed_at"], 0)
        return known


def note(known: Observations, whose: str, one: dict[str, Any], at: int, place: int) -> None:
    """Add what an account says at one moment."""
    balance = [{"currency": name, "current": amount} for name, amount in one["balance"]["current"].items()]
    refresh = one["balance_refresh"]
    known.add((whose, "accounts", one["id"]), at, place, [one["display_name"]])
    known.add((whose, "balances", one["id"]), at, place, sorted(balance, key=str))
    known.add((whose, "refreshes", one["id"]), at, place, [refresh["status"]] if refresh else [])


def place_in_second(at: int) -> int:
    """A moment, those of a second's events as one: their order within it is compared, not their microsecond."""
    return at if at % SECOND <= BEFORE_EVENTS else at - at % SECOND + BEFORE_EVENTS + 1


def differences(worlds: Worlds) -> list[str]:
    """What the lake says otherwise than the model: history, the latest state, and what was known at some moments.

    An account that vanished has a version that says so; it says nothing else that is new, and is left out.
    """
    if not (worlds.data / "fincon.duckdb").exists():
        return []
    wrong: list[str] = []
    with connect(worlds.data) as connection:

        def ask(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query).fetchall()

        def compare(what: str, found: dict[Key, Any], expected: dict[Key, Any]) -> None:
            wrong.extend(
                f"{what} {key}: {found.get(key)}, and should be {expected.get(key)}"
                for key in sorted(found.keys() | expected.keys())
                if found.get(key) != expected.get(key)
            )

        def versions(source: str, table: str, of: str = "NULL") -> dict[tuple[Key, Any], str]:
            """What a view says: the object, and ``of`` its rows, → the content of all rows that are alike in both."""
            found: dict[tuple[Key, Any], list[Any]] = {}
            whose = "coalesce(stripe_account, ''), account_id"
            rows = ask(f"SELECT {whose}, {of}, to_json({CONTENT[table]})::VARCHAR FROM {source}")
            for account, i, at, value in rows:
                found.setdefault(((account, table, i), at), []).extend([json.loads(value)] if value else [])
            return {key: json.dumps(sorted(rows, key=str), sort_keys=True) for key, rows in found.items()}

        known = worlds.observed(ask("SELECT coalesce(stripe_account, ''), run_id FROM runs"))
        held: dict[Key, list[tuple[int, str]]] = {}
        for table in CONTENT:
            for (key, at), content in sorted(
                versions(f"history.{table}", table, "epoch_us(valid_from)").items()
            ):
                before = held.setdefault(key, [])
                if table == "accounts" and before and before[-1][1] == content:
                    continue  # what differs is absent_since
                if content != NOTHING:
                    before.append((place_in_second(at), content))
        changes = {key: [one for one in known.changes(key) if one[1] != NOTHING] for key in known.seen}
        compare("history", {k: v for k, v in held.items() if v}, {k: v for k, v in changes.items() if v})
        moments = {at for seen in known.seen.values() for at, _, _ in seen}
        moments |= {at - at % SECOND + SECOND - 1 for at in moments}
        between = {at for at in moments if at % SECOND != BEFORE_EVENTS + 1}  # not among events of one second
        chosen = worlds.random.sample(sorted(between), min(MOMENTS, len(between)))
        for at in [*chosen, max(moments)]:
            when = (EPOCH + timedelta(microseconds=at)).isoformat()
            now = at == max(moments)
            for table in CONTENT:
                found = versions(f"main.{table}" if now else f"{table}_as_of('{when}')", table)
                expected = {key: known.as_of(key, at) for key in known.seen if key[1] == table}
                compare(
                    "now" if now else f"as of {when}",
                    {key: content for (key, _), content in found.items() if content != NOTHING},
                    {key: content for key, content in expected.items() if content not in (None, NOTHING)},
                )
    return wrong


def play(seed: int, data: Path, count: int = 1, syncs: int = SYNCS) -> Worlds:
    """Play so many sequences in one lake, each of so many syncs, and compare after each.

    Raises:
        AssertionError: the lake differs from the model.
    """
    with serving(ScriptedStripe()) as platform:
        worlds = Worlds(seed, platform, data, count)
        for number in range(syncs):
            worlds.step()
            wrong = differences(worlds)
            assert not wrong, f"seed {seed}, {count} accounts, sync {number}: {wrong[:5]}"
    read_page.cache_clear()
    return worlds


def play_one(world: tuple[int, int]) -> tuple[Counter[str], str]:
    """Play sequences in a lake of their own, given as (seed, how many): what there was, and what differs, if anything does."""
    seed, together = world
    with tempfile.TemporaryDirectory(prefix="fincon-observations-") as folder:
        try:
            worlds = play(seed, Path(folder) / "data", together)
        except AssertionError as differs:
            return Counter(sequences=together), str(differs)
    done = worlds.finished + worlds.cut_short
    return Counter(
        {"sequences": together, "syncs": done, "cut short": worlds.cut_short, LOST: worlds.lost}
    ), ""


def worlds_of(sequences: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yield the seed of each lake, and how many sequences are played in it."""
    while sequences > 0:
        together = min(TOGETHER[seed % len(TOGETHER)], sequences)
        yield seed, together
        sequences -= together
        seed += 1


def main() -> int:
    """Play sequences until there are as many as asked for, a lake a core; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.observations", description=__doc__)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    figures = Counter(dict.fromkeys(("sequences", "syncs", "cut short", LOST, "wrong"), 0))
    wrong: list[str] = []
    # Ended now and then, a process gives back what its libraries keep.
    with get_context("spawn").Pool(maxtasksperchild=20) as pool:
        for found, differs in pool.imap_unordered(play_one, worlds_of(asked.sequences, asked.seed)):
            figures.update(found)
            wrong += [differs] if differs else []
            print(f"{figures['sequences']:,} sequences, {len(wrong)} wrong", file=sys.stderr, flush=True)  # noqa: T201
    figures["wrong"] = len(wrong)
    for name, value in {**figures, "seconds": round(time.monotonic() - began)}.items():
        print(f"{name:<26}{value:>10,}")  # noqa: T201
    for line in wrong[:20]:
        print(line[:3000], file=sys.stderr)  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
