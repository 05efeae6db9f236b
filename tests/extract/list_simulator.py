"""A list that changes while it is walked, and the walk of `fincon.extract.accounts` over it, in one thread and from one seed.

Objects are linked, vanish and move to the top at any moment: before an answer is made, while it is on its way, while its
page is written. The ranges take their steps in any order, one within another; the walk is killed before or after a
write, and gone on with. Beginnings, first pages and cursors are what vanishes most.

    python -m tests.extract.list_simulator 100000    # runs; prints what was lost, which must be nothing
"""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import msgspec

from fincon.errors import CursorNotFound, StripeError, UnexpectedAnswer
from fincon.extract import accounts
from fincon.extract.accounts import Listing
from fincon.extract.client import StripeClient
from fincon.extract.ranges import Range
from fincon.extract.responses import StripeResponse
from fincon.landing.page_store import PageStore
from fincon.privacy import Erased
from fincon.transforms.list_page import list_page
from fincon.transforms.page import Header, Page

KILLS = 3
"""How often a walk is killed at most."""


class Killed(Exception):
    """The process is gone, in the middle of a write."""


@dataclass(frozen=True)
class Weather:
    """How rough a run is: probabilities at each moment at which something may happen."""

    linked: float
    vanishes: float
    moves: float
    another_step: float
    killed: float
    aimed: float
    """Of what vanishes or moves, how much is what the ranges rest on."""

    @classmethod
    def of(cls, dice: random.Random, *, moves: bool) -> "Weather":
        """Draw one."""
        return cls(
            linked=dice.choice([0, 0.1, 0.5]),
            vanishes=dice.choice([0, 0.1, 0.3, 0.6]),
            moves=dice.choice([0, 0.1, 0.3]) if moves else 0,
            another_step=dice.choice([0, 0.3, 0.6]),
            killed=dice.choice([0, 0, 0.02]),
            aimed=dice.choice([0, 0.5, 0.9]),
        )


class Pages:
    """Pages as `PageStore` keeps them, in memory."""

    def __init__(self, meanwhile: Callable[[], None], killed: Callable[[], bool]) -> None:
        self.folder = Path("/nowhere")
        self.erased = Erased()
        self._meanwhile, self._killed = meanwhile, killed
        self._pages: dict[tuple[int, int], Page] = {}

    def next_observed_at(self, date: int) -> int:
        """Return the time as it is."""
        return date

    def write(self, page: Page) -> None:
        """Write a page, before and after which anything may happen."""
        self._meanwhile()
        if self._killed():
            raise Killed
        self._pages[page.header.part, page.header.number] = page
        if self._killed():
            raise Killed
        self._meanwhile()

    def page(self, header: Header) -> Page:
        """Read a page."""
        return self._pages[header.part, header.number]

    def chain(self, stream: str, part: int = 0) -> Iterator[Page]:
        """Yield the pages of a range."""
        number = 0
        while (part, number) in self._pages:
            yield self._pages[part, number]
            number += 1

    def parts(self) -> list[int]:
        """List the ranges of which there is a first page."""
        return sorted(part for part, number in self._pages if number == 0)

    def drop(self, stream: str, parent: str) -> None:
        """Remove the pages of a range."""
        for key in [key for key in self._pages if f"p{key[0]:04d}" == parent]:
            del self._pages[key]

    def damage(self, dice: random.Random) -> None:
        """Spoil a page now and then: its chain ends before it."""
        if self._pages and dice.random() < 0.3:
            part, number = dice.choice(sorted(self._pages))
            for key in [(p, n) for p, n in self._pages if p == part and n >= number]:
                del self._pages[key]

    def ids(self) -> set[str]:
        """Return every object on any page."""
        return {i for page in self._pages.values() for i in list_page(page.body).ids}


class InMemory(Listing):
    """A listing whose plan is kept nowhere: what is on its pages must do."""

    def _save_plan(self) -> None:
        pass


@dataclass
class Walk:
    """One list, walked to its end."""

    dice: random.Random
    weather: Weather
    size: int
    """How many objects a page has."""
    objects: list[tuple[str, int]] = field(default_factory=list)
    """(id, created) of what is on the list now, newest first."""
    stable: set[str] = field(default_factory=set)
    """What has been on the list, where it is, since the walk began."""
    requests: int = 0
    kills: int = 0

    def __post_init__(self) -> None:
        self._clock = 1000 + self.dice.randint(0, 150)
        self.objects = [(f"o{created}", created) for created in range(self._clock, 1000, -1)]
        self.stable = {object_id for object_id, _ in self.objects}
        self._pages = Pages(self.meanwhile, self._is_killed)
        self._busy: set[int] = set()
        self._listing: Listing | None = None

    # -- the list

    def get(
        self, endpoint: str, path: str, read: Callable[[bytes], Any], params: dict[str, Any]
    ) -> tuple[StripeResponse, Any]:
        """Answer as `StripeClient.get`: a page after an object, or that there is no such object."""
        self.requests += 1
        self._change()
        after = params.get("starting_after")
        ids = [object_id for object_id, _ in self.objects]
        if after is not None and after not in ids:
            self.meanwhile()
            raise CursorNotFound(f"no such object: {after}")
        first = ids.index(after) + 1 if after is not None else 0
        found = self.objects[first : first + self.size]
        body = msgspec.json.encode(
            {
                "data": [{"id": object_id, "created": created} for object_id, created in found],
                "has_more": first + self.size < len(ids),
            }
        )
        self.meanwhile()  # while the answer is on its way
        request = path + (f"?starting_after={after}" if after else "")
        try:
            return StripeResponse(body, request, "req", 0), read(body)
        except UnexpectedAnswer as error:
            raise StripeError(str(error)) from error

    def _change(self) -> None:
        for _ in range(self.dice.choice([1, 1, 4])):
            if self.dice.random() < self.weather.linked:
                self._put_on_top(f"o{self._clock + 1}")
            if self.objects and self.dice.random() < self.weather.vanishes:
                self._take_off(self._victim())
            if self.objects and self.dice.random() < self.weather.moves:
                victim = self._victim()
                self._take_off(victim)
                self._put_on_top(victim)

    def _victim(self) -> str:
        there = [object_id for object_id, _ in self.objects]
        if self._listing and self.dice.random() < self.weather.aimed:
            ranges = self._listing.ranges
            leaned_on = {walked.start for walked in ranges} | {w.last.cursor for w in ranges if w.last}
            leaned_on |= set(self._listing._in_hand._holder)
            return self.dice.choice([i for i in there if i in leaned_on] or there)
        return self.dice.choice(there)

    def _take_off(self, object_id: str) -> None:
        self.objects = [one for one in self.objects if one[0] != object_id]
        self.stable.discard(object_id)

    def _put_on_top(self, object_id: str) -> None:
        self._clock += 1
        self.objects.insert(0, (object_id, self._clock))

    # -- the walk

    def meanwhile(self) -> None:
        """Let the list change, and other ranges take steps."""
        self._change()
        while self._listing and self.dice.random() < self.weather.another_step:
            idle = [walked for walked in self._listing.ranges if walked.part not in self._busy]
            if not self._step(self._listing, idle):
                return

    def _step(self, listing: Listing, ranges: Sequence[Range]) -> bool:
        """Let one of the ranges fetch a page, or divide the longest; whether there was anything to do."""
        going_on = [walked for walked in ranges if not walked.has_ended]
        if not going_on or listing.ranges[0].last is None:
            return False
        if self.dice.random() < 0.1:
            listing._walking = {walked.part for walked in going_on}
            listing.divide_longest()
        walked = self.dice.choice(going_on)
        self._busy.add(walked.part)
        listing.fetch_next(walked)
        self._busy.discard(walked.part)
        return True

    def _is_killed(self) -> bool:
        killed = self.kills < KILLS and self.dice.random() < self.weather.killed
        self.kills += killed
        return killed

    def _known(self) -> list[str]:
        """What the lake knows: the list a page apart, in another order, or with objects that are no more."""
        known = [object_id for object_id, _ in self.objects][self.size - 1 :: self.size]
        if self.dice.random() < 0.3:
            self.dice.shuffle(known)
        if self.dice.random() < 0.3:
            known = [i if self.dice.random() < 0.7 else f"gone{number}" for number, i in enumerate(known)]
        return known

    def run(self) -> set[str]:
        """Walk the list to its end; return the objects that were there all the time and were left out.

        Raises:
            StripeError: the walk found that it could not be whole.
        """
        settings = SimpleNamespace(concurrency=self.dice.randint(1, 6))
        client = cast("StripeClient", SimpleNamespace(get=self.get, settings=settings))
        while True:
            self._busy.clear()
            listing = InMemory(client, cast("PageStore", self._pages), self._known(), lambda count: None)
            self._listing = listing
            try:
                if listing.ranges[0].last is None:
                    self._busy.add(0)
                    listing.fetch_next(listing.ranges[0])
                    self._busy.discard(0)
                while self._step(listing, listing.ranges):
                    pass
            except Killed:
                self._pages.damage(self.dice)
                continue
            return self.stable - self._pages.ids()


def simulate(seed: int, *, moves: bool = True) -> tuple[str, set[str]]:
    """Run one walk; return how it ended (``whole``, ``lost``, ``said so``), and what it lost."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    walk = Walk(dice, Weather.of(dice, moves=moves), size=dice.randint(2, 12))
    with patch.object(accounts, "PAGES_A_RANGE", 1):
        try:
            lost = walk.run()
        except StripeError as error:
            return f"said so: {' '.join(str(error).split()[-9:])}", set()
    return ("lost" if lost else "whole"), lost


def main(runs: int, first: int = 0) -> int:
    """Simulate so many walks and print how they ended."""
    ended: Counter[str] = Counter()
    for seed in range(first, first + runs):
        how, lost = simulate(seed, moves=seed % 2 == 0)
        ended[how.partition(":")[0]] += 1
        if lost:
            sys.stdout.write(f"seed {seed}: {len(lost)} lost: {sorted(lost)[:5]}\n")
    sys.stdout.write(
        f"{runs:,} walks: {ended['whole']:,} whole, {ended['said so']:,} that said so, {ended['lost']:,} lost\n"
    )
    return 1 if ended["lost"] else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
