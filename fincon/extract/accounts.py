"""List every account, in several ranges at the same time (`fincon.extract.ranges` says where each begins and ends)."""

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec.structs import replace as replace_header

from fincon.errors import CursorNotFound, StripeError
from fincon.extract.client import StripeClient
from fincon.extract.concurrency import worker_threads
from fincon.extract.pagination import (
    PAGE_SIZE,
    Progress,
    cursors_after,
    fetch_next_page,
    fetch_page,
    list_accounts,
    no_page,
    store_page,
)
from fincon.extract.ranges import InHand, Range
from fincon.extract.responses import StripeResponse
from fincon.extract.split_points import WINDOWS, named_by_events, places_of
from fincon.landing.page_store import PageStore
from fincon.storage.data_folder import RANGES_FILE, UNREADABLE, atomic_write
from fincon.transforms.event_times import SECOND
from fincon.transforms.list_page import ListPage, list_page
from fincon.transforms.page import Header

LISTED = "accounts"
LISTING = list_accounts()

PAGES_A_RANGE = 8
"""A list is not split into ranges of fewer pages: each beginning costs half a page."""

FEW_KNOWN = 2 * PAGES_A_RANGE
"""With fewer known accounts a list is one chain, for it is not worth dividing if they are all that there is."""

FEW_LEFT = 4
"""A range of which fewer pages are left is not divided: one thread walks the rest in a second or so."""

MANY_PAGES = 100
"""Of so long a list the half page that a beginning costs is little; a shorter one is divided while `FEW_KNOWN` are left."""

EVENTS_SECONDS = 1.0
"""How long nothing else is asked for while events are expected that name where to divide a first listing."""

FEW_PAGES = 4
"""A first listing of no more pages is not worth the requests that would divide it."""


class Listing:
    """Walk the list on several threads. ``known`` are ids in the list's order.

    ``places`` says behind how many pages each stands, about, and at last how many there are; without, they are a page apart.
    Where an interrupted attempt walked, it goes on.
    """

    def __init__(
        self,
        stripe: StripeClient,
        page_store: PageStore,
        known: Sequence[str],
        progress: Progress,
        places: Sequence[float] = (),
    ) -> None:
        self.stripe, self.page_store, self.known, self.progress = stripe, page_store, known, progress
        self._places, self._is_estimate = places or range(len(known) + 1), bool(places)
        self._position = {account_id: index for index, account_id in enumerate(known)}
        self._lock = threading.Lock()
        self._in_hand = InHand()
        self._top = ""
        """The account that stood at the top when the walk began."""
        self._walking: set[int] = set()
        if self._first_header(0) is None:
            self._drop_all()
        self.ranges = [self._new_range(part, start) for part, start in enumerate(self._plan())]
        self._save_plan()
        self._take_up()

    def walk(self) -> None:
        """Walk every range to its end, dividing the longest when a thread has nothing left to do.

        Raises:
            StripeError: a request failed for good, or the list does not end; pages fetched stay on disk.
        """
        if self.ranges[0].last is None:
            self.fetch_next(self.ranges[0])  # first of all: below it, what is linked meanwhile is on no page
        threads = self.stripe.settings.concurrency
        with worker_threads(self.stripe, threads) as pool:
            running = {self._submit(pool, walked) for walked in self.ranges if not walked.has_ended}
            while len(running) < threads and (more := self.divide_longest()):
                running.add(self._submit(pool, more))
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                for _ in done:
                    more = self.divide_longest()
                    running |= {self._submit(pool, more)} if more else set()

    def walk_until(self, over: Callable[[], bool]) -> None:
        """Walk the ranges one after another, a page at a time, until it is ``over``; `walk` goes on from there.

        Raises:
            StripeError: as `walk`.
        """
        for walked in self.ranges:
            while not walked.has_ended and not over():
                self.fetch_next(walked)

    def fetch_next(self, walked: Range) -> None:
        """Fetch and store the next page of a range, or find that it cannot begin because its start is gone.

        Raises:
            StripeError: as `walk`.
        """
        found = self._first_page(walked) if walked.last is None else self._next_page(walked, walked.last)
        if found is None:
            walked.is_lost = True
            self.page_store.drop(LISTED, f"p{walked.part:04d}")  # pages behind a first one that was damaged
            return
        answer, page = found
        with self._lock:
            ends = self._in_hand.ends(walked.part, page)
        before = walked.last or no_page(LISTED, part=walked.part)
        header = store_page(self.page_store, answer, page, before, ends=ends)
        # Only now may others end at it: they rely on what is on disk, should this process be killed.
        with self._lock:
            self._take(walked, page, header, ends=ends)

    def divide_longest(self) -> Range | None:
        """Return a new range in the middle of the longest stretch that is still to be walked, if that is worth it."""
        with self._lock:
            beginnings = sorted(walked.index for walked in self.ranges if not walked.is_lost)
            gone = {walked.index for walked in self.ranges if walked.is_lost}
            everywhere = self._pages_a_place(self.ranges, 1.0)
            longest, middle, candidates = 0.0, 0.0, set[int]()
            for walked in self.ranges:
                if walked.part in self._walking:
                    until = next((b for b in beginnings if b > walked.position), len(self.known))
                    places = self._places[until] - self._places[walked.position]
                    pages = places * self._pages_a_place([walked], everywhere)
                    between = {*range(walked.position + 1, until)} - gone
                    if pages > longest and between:
                        longest, candidates = pages, between
                        middle = (self._places[walked.position] + self._places[until]) / 2
            if round(longest) < (FEW_LEFT if self._places[-1] >= MANY_PAGES else FEW_KNOWN):
                return None
            index = bisect_right(self._places, middle) - 1
            nearest = min(candidates, key=lambda one: (abs(one - index), one))
            made = self._new_range(len(self.ranges), self.known[nearest])
            self.ranges.append(made)
            self._save_plan()
            return made

    def _pages_a_place(self, ranges: Sequence[Range], elsewhere: float) -> float:
        """Return how many pages ranges had for one that ``places`` told of; where little was walked of them, as ``elsewhere``."""
        if not self._is_estimate:
            return 1.0  # what the lake knows is a page apart, whatever is new above it
        told = sum(self._places[walked.position] - self._places[walked.index] for walked in ranges)
        pages = sum(walked.last.number + 1 for walked in ranges if walked.last)
        return (pages + PAGES_A_RANGE * elsewhere) / (told + PAGES_A_RANGE)

    def _submit(self, pool: ThreadPoolExecutor, walked: Range) -> "Future[None]":
        self._walking.add(walked.part)
        return pool.submit(self._walk_range, walked)

    def _walk_range(self, walked: Range) -> None:
        while not walked.has_ended:
            self.fetch_next(walked)
        with self._lock:
            self._walking.discard(walked.part)

    def _first_page(self, walked: Range) -> tuple[StripeResponse, ListPage] | None:
        """Fetch the first page of a range; None where the account that it begins after has vanished.

        Raises:
            StripeError: the answer goes back to the top of the list: Stripe did not go by the cursor.
        """
        try:
            answer, page = fetch_page(self.stripe, LISTING, walked.start)
        except CursorNotFound:
            if not walked.start:
                raise
            return None
        if walked.start and self._top in page.ids:
            raise StripeError(
                f"GET {LISTING.path}: the list and its page after {walked.start} begin with the same one, {self._top}.",
                "Stripe's list repeats itself. Run the same command again with --restart.",
            )
        return answer, page

    def _next_page(self, walked: Range, last: Header) -> tuple[StripeResponse, ListPage]:
        cursors = cursors_after(self.page_store, last)
        return fetch_next_page(self.stripe, LISTING, cursors, walked.seen, walked.is_next)

    def _take(self, walked: Range, page: ListPage, header: Header, *, ends: bool) -> None:
        """Take note of a page that is on disk: where the range is, and what it has in hand."""
        if walked.last is None:
            if walked.part == 0:
                self._top = page.ids[0] if page.ids else ""
            self._in_hand.begin(walked, page, ends=ends)
        walked.advance(page, header)
        walked.position = max(
            [walked.position, *(self._position[i] for i in page.ids if i in self._position)]
        )
        self.progress(header.count)

    # -- what an interrupted attempt left

    def _new_range(self, part: int, start: str) -> Range:
        index = self._position.get(start, 0)
        return Range(part, start, index, position=index)

    def _drop_all(self) -> None:
        """Drop the ranges whose top is damaged: at one fetched later may stand what they have in hand, moved there since."""
        for part in self.page_store.parts():
            self.page_store.drop(LISTED, f"p{part:04d}")

    def _plan(self) -> list[str]:
        """Return where ranges begin: as an interrupted attempt has planned them, or evenly divided."""
        try:
            starts = msgspec.json.decode((self.page_store.folder / RANGES_FILE).read_bytes(), type=list[str])
        except UNREADABLE:
            count = min(self.stripe.settings.concurrency, len(self.known) // PAGES_A_RANGE + 1)
            indexes = [len(self.known) * part // count for part in range(1, count)]
            starts = ["", *(self.known[index] for index in indexes)]
        for part in self.page_store.parts():
            starts += [""] * (part + 1 - len(starts))
            if header := self._first_header(part):
                starts[part] = _start_of(header)  # what was asked for counts, whatever was planned
        return starts

    def _first_header(self, part: int) -> Header | None:
        return next((page.header for page in self.page_store.chain(LISTED, part=part)), None)

    def _save_plan(self) -> None:
        with atomic_write(self.page_store.folder / RANGES_FILE) as file:
            file.write_bytes(msgspec.json.encode([walked.start for walked in self.ranges]))

    def _take_up(self) -> None:
        """Take note of every page on disk; then of the ranges that ended where nobody has anything in hand any more."""
        ended: list[tuple[Range, ListPage]] = []
        for walked in self.ranges:
            page = None
            for header, body in self.page_store.chain(LISTED, part=walked.part):
                page = list_page(body)
                ends = header.cursor is None and page.has_more
                self._take(walked, page, header, ends=ends)
            if page is not None and walked.has_ended and page.has_more:
                ended.append((walked, page))
        for walked, page in ended:
            if walked.last and page.ids and not self._in_hand.ends(walked.part, page):
                walked.last = replace_header(walked.last, cursor=page.ids[-1])


def fetch_accounts(
    stripe: StripeClient, page_store: PageStore, known: Sequence[str], progress: Progress
) -> None:
    """Fetch every account, 100 a page, in as many ranges at once as ``known`` allows; where it is empty, as events name.

    Raises:
        StripeError: as `Listing.walk`.
    """
    found, places = (known, ()) if known else find_known(stripe, page_store)
    Listing(stripe, page_store, found, progress, places).walk()


def find_known(stripe: StripeClient, page_store: PageStore) -> tuple[Sequence[str], Sequence[float]]:
    """Return ids of accounts all over a list of which nothing is known yet, newest first, and where they stand (`places_of`).

    The list is walked as one chain while the events that name them are asked for; a list of a few pages needs none.

    Raises:
        StripeError: as `Listing.walk`.
    """
    listing = Listing(stripe, page_store, [], lambda count: None)
    top = listing.ranges[0]
    if len(listing.ranges) > 1:  # an interrupted attempt has divided it
        return [], []
    listing.walk_until(lambda: top.last is not None and top.last.number >= FEW_PAGES - 1)
    if top.last is None or top.has_ended:
        return [], []
    now = top.last.observed_at // SECOND
    with worker_threads(stripe, len(WINDOWS)) as pool:
        asked = [pool.submit(named_by_events, stripe, now - ago) for ago in WINDOWS]
        # One page takes as long as they do: with a second one under way no range could begin.
        listing.walk_until(lambda: top.last is None or top.last.number >= FEW_PAGES)
        wait(asked, timeout=EVENTS_SECONDS)
        listing.walk_until(lambda: all(one.done() for one in asked))
        found = {pair for one in asked for pair in one.result()}
    named = sorted(found, reverse=True)
    pages = [list_page(page.body) for page in page_store.chain(LISTED)]
    return [account_id for _, account_id in named], places_of(named, pages)


def begin_accounts(
    stripe: StripeClient, page_store: PageStore, known: Sequence[str], over: Callable[[], bool]
) -> None:
    """Fetch as much of `fetch_accounts` as one thread does until it is ``over``."""
    Listing(stripe, page_store, known, lambda count: None).walk_until(over)


def spread(ids: Sequence[str]) -> list[str]:
    """Return, of ids in the list's order, those a page apart: after each of them a page can begin without any overlap."""
    return list(ids[PAGE_SIZE - 1 :: PAGE_SIZE])


def _start_of(header: Header) -> str:
    """Return the account that a range began after, from the request of its first page; empty for the top."""
    return parse_qs(urlsplit(header.request).query).get("starting_after", [""])[0]
