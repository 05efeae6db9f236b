"""Tell whose a refusal is: one object's, which is set aside while the others go on, or everyone's, which ends the stage."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from fincon.errors import AccountDisconnected, PermissionDenied, Refusal, RetriesExhausted, StripeError
from fincon.extract.concurrency import MAX_CONSECUTIVE_FAILURES
from fincon.landing.page_store import PageStore
from fincon.transforms.event_times import SECOND
from fincon.transforms.page import ERASED, UNREADABLE, Header
from fincon.transforms.rejects import ABOUT_THE_ACCOUNT

EVERYONES = frozenset({401, 407, 429})
"""Statuses that are of the key, the proxy or the limit, whatever was asked for."""

READ = frozenset({200, 404, ERASED})
"""Statuses of a page that only a key gets which may read what was asked for."""

REST = "All else that was fetched is in; the next run asks for them again."
"""What becomes of the rest where a stage ends."""


def refusal_of_one(error: StripeError) -> Refusal | None:
    """Return the answer where it may be about the one object that was asked for; None where it is not, or there was none."""
    refusal = error.refusal
    if refusal is None or refusal.status < 400 or refusal.status in EVERYONES:
        return None
    return None if isinstance(error, AccountDisconnected) else refusal


def names_permission(header: Header) -> bool:
    """Return whether a page holds the refusal of a key that lacks a permission."""
    return header.status == 403 and "permission" in f"{header.code} {header.words}".lower()


@dataclass(frozen=True)
class _Kind:
    """How refusals are alike: by status and code; without a code by status and words, but for whom they name."""

    status: int
    code: str
    words: str

    @classmethod
    def of(cls, header: Header) -> "_Kind":
        words = "" if header.code else header.words.replace(header.parent, "")
        return cls(header.status, header.code, words)


class RefusedAlike(Exception):
    """So many objects were refused alike that it is not theirs. ``is_alike`` tells which pages hold such a refusal."""

    def __init__(self, error: StripeError, is_alike: Callable[[Header], bool]) -> None:
        super().__init__(str(error))
        self.error = error
        self.error.ends_stage_alone = True
        self.is_alike = is_alike


class Refusals:
    """Count the refusals of a stage, in which many sessions, or the lists of many accounts, are asked for, from any thread."""

    def __init__(self, what: str, whose: str) -> None:
        """Of ``what`` is asked for, each refusal is ``whose``: an ``account``, say."""
        self._what, self._whose = what, whose
        self._lock = threading.Lock()
        self._in_a_row: list[_Kind] = []
        self._ending: StripeError | None = None
        self._denied: list[Header] = []
        self._is_new = False

    def take(self, header: Header, *, refused_before: bool = False) -> None:
        """Take note of how a chain of pages ended; that it was refused is no news where it was ``refused_before``.

        Raises:
            RefusedAlike: so many in a row were.
        """
        with self._lock:
            if header.status in READ or header.code in ABOUT_THE_ACCOUNT:
                self._in_a_row.clear()  # that the key may read them is certain
                return
            if names_permission(header):
                self._denied.append(header)
                self._is_new |= not refused_before
            if refused_before:
                return
            kind = _Kind.of(header)
            if self._in_a_row and self._in_a_row[-1] != kind:
                self._in_a_row.clear()
            self._in_a_row.append(kind)
            if len(self._in_a_row) >= MAX_CONSECUTIVE_FAILURES:
                # Of answers that were under way by then others may come to more: the first to reach it says how many.
                self._ending = self._ending or self._error(header, len(self._in_a_row))
                raise RefusedAlike(self._ending, lambda other: _Kind.of(other) == kind)

    def check_all(self, count: int, is_denied: Callable[[], bool] = lambda: True) -> None:
        """Judge a stage of ``count`` objects, which may have been too few to be ``MAX_CONSECUTIVE_FAILURES`` in a row.

        ``is_denied`` asks for an account that could be read before; it is called where nothing else tells.

        Raises:
            RefusedAlike: all were refused for the permission that the key lacks.
        """
        if count and len(self._denied) == count and self._is_new and is_denied():
            raise RefusedAlike(self._error(self._denied[-1], count), names_permission)

    def _error(self, header: Header, count: int) -> StripeError:
        how = "" if header.status == UNREADABLE else f" with {header.status}"
        one = f"the one {self._whose} that was due"
        many = one if count == 1 else f"{count} {self._whose}s one after another"
        said = (
            f"No more {self._what} were asked for: Stripe refused {many} alike,"
            f" the last{how} (GET {header.request}, Request-Id {header.request_id})"
        )
        said += f": {header.words}" if header.words else "."
        refusal = Refusal(
            status=header.status,
            code=header.code,
            words=header.words,
            request=header.request,
            request_id=header.request_id,
            date=header.observed_at // SECOND,
        )
        if header.status == 403:
            mend = (
                "Give the restricted key the permission that Stripe names (Dashboard, Developers, API keys)."
            )
            return PermissionDenied(said, f"{mend} {REST}", refusal)
        if header.status >= 500 and header.status != UNREADABLE:
            trouble = "Stripe may be in trouble (https://status.stripe.com)."
            return RetriesExhausted(said, f"{trouble} {REST}", refusal)
        return StripeError(said, REST, refusal)


def drop_unread(page_store: PageStore, stream: str, alike: RefusedAlike) -> None:
    """Remove the chains of which not all is on disk, and the refusals that were not of one object."""
    for parent in page_store.started_parents(stream):
        last = page_store.last(stream, parent)
        if last is None or last.cursor is not None or (last.status != 200 and alike.is_alike(last)):
            page_store.drop(stream, parent)
