"""The listing of every account, walked in several ranges at the same time.

Stripe's list is one chain of cursors, newest account first, and a chain moves one page per round trip. But any
account's id is a cursor. So ranges begin after accounts that are known already, and each ends where it meets the
beginning of another. Whatever the true order is, every account lies after exactly one nearest beginning, and the
range from there walks over it: nothing is left out, whatever was added, moved or has vanished since.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import msgspec

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
from fincon.landing.page_store import PageStore
from fincon.storage.data_folder import RANGES_FILE, atomic_write
from fincon.transforms.list_page import ListPage, list_page
from fincon.transforms.page import Header

LISTING = list_accounts()

PAGES_A_RANGE = 8
"""A list is not split into ranges of fewer pages: each beginning costs half a page."""


@dataclass
class Range:
    """A stretch of the list: it begins after ``start`` (the top if empty), the known account at ``index``."""

    part: int
    start: str
    index: int
    at: int = 0
    """The index of the last known account that it has met."""
    first: str = ""
    """The first account on it: a beginning too, should the one before it have vanished meanwhile."""
    ignored_starts: set[str] = field(default_factory=set)
    """Beginnings that it does not end at, because it took over from them."""
    last: Header | None = None
    """Its last page so far."""
    cursors: set[str | None] = field(default_factory=set)
    """Where its pages ended."""

    @property
    def ended(self) -> bool:
        """Whether it is walked to its end."""
        return self.last is not None and self.last.cursor is None


class Listing:
    """What the threads that walk the list share. ``known`` are ids in the list's order, a page apart.

    Where an interrupted attempt walked, it goes on.
    """

    def __init__(
        self, stripe: StripeClient, page_store: PageStore, known: Sequence[str], progress: Progress
    ) -> None:
        self.stripe, self.page_store, self.known, self.progress = stripe, page_store, known, progress
        self._position = {account_id: index for index, account_id in enumerate(known)}
        self._lock = threading.Lock()
        self.ranges = self._plan()
        self._beginnings = {walked.start for walked in self.ranges if walked.start}
        self._met: set[str] = set()
        self._walking: set[int] = set()
        for walked in self.ranges:
            self._replay(walked)

    def walk(self) -> None:
        """Walk every range to its end, dividing the longest when a thread has nothing left to do.

        Raises:
            StripeError: a request failed for good, or the list does not end; pages fetched stay on disk.
        """
        with worker_threads(self.stripe, self.stripe.settings.concurrency) as pool:
            running = {self._submit(pool, walked) for walked in self.ranges if not walked.ended}
            while len(running) < self.stripe.settings.concurrency and (more := self._divide_longest()):
                running.add(self._submit(pool, more))
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                for _ in done:
                    more = self._divide_longest()
                    running |= {self._submit(pool, more)} if more else set()

    def walk_until(self, over: Callable[[], bool]) -> None:
        """Walk the ranges one after another, a page at a time, until it is ``over``; `walk` goes on from there.

        Raises:
            StripeError: as `walk`.
        """
        for walked in self.ranges:
            if not over():
                self._walk_range(walked, over)

    def _submit(self, pool: ThreadPoolExecutor, walked: Range) -> "Future[None]":
        self._walking.add(walked.part)
        return pool.submit(self._walk_range, walked)

    def _plan(self) -> list[Range]:
        """The ranges of an interrupted run, or evenly divided ones."""
        try:
            starts = msgspec.json.decode((self.page_store.folder / RANGES_FILE).read_bytes(), type=list[str])
        except FileNotFoundError:
            count = min(self.stripe.settings.concurrency, len(self.known) // PAGES_A_RANGE + 1)
            indexes = [len(self.known) * part // count for part in range(1, count)]
            starts = ["", *(self.known[index] for index in indexes)]
        return [
            Range(part, start, self._position.get(start, 0), at=self._position.get(start, 0))
            for part, start in enumerate(starts)
        ]

    def _save_plan(self) -> None:
        with atomic_write(self.page_store.folder / RANGES_FILE) as part:
            part.write_bytes(msgspec.json.encode([walked.start for walked in self.ranges]))

    def _divide_longest(self) -> Range | None:
        """A new range that begins in the middle of the longest one still to be walked, if that is worth it."""
        with self._lock:
            beginnings = sorted(walked.index for walked in self.ranges)
            longest, start = 0, 0
            for walked in self.ranges:
                if walked.part in self._walking:
                    end = next((b for b in beginnings if b > walked.at), len(self.known))
                    if end - walked.at > longest:
                        longest, start = end - walked.at, walked.at
            if longest < 2 * PAGES_A_RANGE:
                return None
            index = start + longest // 2
            made = Range(len(self.ranges), self.known[index], index, at=index)
            self.ranges.append(made)
            self._beginnings.add(made.start)
            self._save_plan()
            return made

    def _replay(self, walked: Range) -> None:
        """Take note of what is on disk of a range."""
        for header, body in self.page_store.chain("accounts", part=walked.part):
            self._arrived(walked, list_page(body))
            self._note(walked, header)

    def _note(self, walked: Range, header: Header) -> None:
        walked.last = header
        walked.cursors.add(header.cursor)
        self.progress(header.count)

    def _walk_range(self, walked: Range, over: Callable[[], bool] = lambda: False) -> None:
        """Walk one range to where another begins or the list ends, or until it is ``over``."""
        with self._lock:
            self._save_plan()
        if walked.last is None:
            self._first_page(walked)
        while walked.last is not None and walked.last.cursor is not None and not over():
            answer, page = fetch_next_page(
                self.stripe, LISTING, cursors_after(self.page_store, walked.last), walked.cursors
            )
            ends = self._arrived(walked, page)
            self._note(walked, store_page(self.page_store, answer, page, walked.last, ends=ends))
        with self._lock:
            self._walking.discard(walked.part)

    def _first_page(self, walked: Range) -> None:
        """The first page of a range, kept on disk; none where its beginning is gone and the range before goes on over it."""
        while True:
            try:
                answer, page = fetch_page(self.stripe, LISTING, walked.start)
                break
            except CursorNotFound:
                if not self.absorb_lost_start(walked):
                    return
        ends = self._arrived(walked, page)
        self._note(
            walked,
            store_page(self.page_store, answer, page, no_page("accounts", part=walked.part), ends=ends),
        )

    def absorb_lost_start(self, walked: Range) -> bool:
        """The account that a range begins after has vanished: whether the range still has to be walked.

        If no other range has ended there, the one before goes on over it. If one has, all from that one's
        beginning is walked again: more requests, but nothing left out.
        """
        with self._lock:
            self._beginnings.discard(walked.start)
            if walked.start not in self._met:
                return False
            before = max(
                (r for r in self.ranges if r.index < walked.index or not r.start), key=lambda r: r.index
            )
            walked.ignored_starts |= {before.start, before.first, walked.start}
            walked.start, walked.index = before.start, before.index
            self._save_plan()
            return True

    def _check_first(self, walked: Range) -> None:
        """Two ranges that begin with the same account: Stripe did not answer to where one of them begins."""
        for other in self.ranges:
            again = other.start == walked.start or other.first in walked.ignored_starts
            if other is not walked and other.first == walked.first and not again:
                raise StripeError(
                    f"GET {LISTING.path}: pages after different accounts begin with the same one, {walked.first}.",
                    "Stripe's list repeats itself. Run the same command again with --restart.",
                )

    def _arrived(self, walked: Range, page: ListPage) -> bool:
        """Take note of a page: whether the range ends on it, because another begins there."""
        with self._lock:
            if not walked.first and page.ids:
                walked.first = page.ids[0]
                self._check_first(walked)
                if walked.start:
                    self._beginnings.add(walked.first)
            own = {walked.start, walked.first, *walked.ignored_starts}
            met = [i for i in page.ids if i in self._beginnings and i not in own]
            walked.at = max([walked.at, *(self._position[i] for i in page.ids if i in self._position)])
            self._met.update(met)
            return bool(met)


def fetch_accounts(
    stripe: StripeClient, page_store: PageStore, known: Sequence[str], progress: Progress
) -> None:
    """Every account, 100 a page, in as many ranges at once as ``known`` allows (see `Listing`)."""
    Listing(stripe, page_store, known, progress).walk()


def begin_accounts(
    stripe: StripeClient, page_store: PageStore, known: Sequence[str], over: Callable[[], bool]
) -> None:
    """As much of `fetch_accounts` as one thread does until it is ``over``."""
    Listing(stripe, page_store, known, lambda count: None).walk_until(over)


def spread(ids: Sequence[str]) -> list[str]:
    """Of ids in the list's order, those a page apart: after each of them a page can begin without any overlap."""
    return list(ids[PAGE_SIZE - 1 :: PAGE_SIZE])
