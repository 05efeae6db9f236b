"""Give each event a time of its own within the second that Stripe tells: the same one, whenever the event is read.

Stripe's events have whole seconds. An event counts as late in its second, after anything that was listed then; where in it
follows from its id alone, unless that would contradict Stripe's order of two events of one account and second.
"""

import hashlib
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import NamedTuple

import msgspec

SECOND = 1_000_000
"""In microseconds, in which times of observations are told."""

COUNT_FROM = 900_000
"""The microsecond of its second from which an event counts."""

NEARBY = 16
"""Where order decides, an event takes a place within a sixteenth of the room there is: more may come on either side."""


AHEAD_SECONDS = 60
"""How much later than the answer that shows it an event may say that it happened: the clocks of servers differ a little."""


class EventOf(NamedTuple):
    """An event that can be read as far as its place in history: ``created`` in Unix seconds."""

    event_id: str
    account_id: str
    created: int


class _Object(msgspec.Struct):
    id: str


class _Data(msgspec.Struct):
    object: _Object


class _Event(msgspec.Struct):
    id: str
    created: int
    data: _Data


class _Events(msgspec.Struct):
    data: list[msgspec.Raw]


_EVENT = msgspec.json.Decoder(_Event)
_EVENTS = msgspec.json.Decoder(_Events)


def events_on(body: bytes) -> list[EventOf]:
    """List the events on a page, in Stripe's order; those of which not even this can be read are left out.

    Raises:
        msgspec.DecodeError: the body is no list.
    """
    found = []
    for raw in _EVENTS.decode(body).data:
        try:
            event = _EVENT.decode(raw)
        except msgspec.DecodeError:
            continue  # it lands in rejects
        found.append(EventOf(event.id, event.data.object.id, event.created))
    return found


def is_ahead(created: int, answered_at: int) -> bool:
    """Return whether an event of the second ``created`` is later than an answer of ``answered_at`` can know of.

    That is in microseconds; 0, where no answer tells, is never too early.
    """
    return 0 < answered_at < (created - AHEAD_SECONDS) * SECOND


def own_time(event_id: str, created: int) -> int:
    """Return an event's time in microseconds since the Unix epoch, as its id and its second (Unix) give it."""
    return created * SECOND + COUNT_FROM + _number(event_id) % (SECOND - COUNT_FROM)


def account_number(account_id: str) -> int:
    """Return 64 bits that stand for an account, as DuckDB's ``md5_number_lower`` makes them."""
    return int.from_bytes(hashlib.md5(account_id.encode(), usedforsecurity=False).digest()[8:], "little")


class EventTimes:
    """Times of events, given in Stripe's order, newest first, page by page."""

    def __init__(self, known: Mapping[int, Mapping[str, int]]) -> None:
        """``known``: account (`account_number`) → event → the time that an earlier run gave to it."""
        self._known = {account: dict(times) for account, times in known.items()}
        self._account_of = {event: account for account, times in known.items() for event in times}
        self._above: dict[tuple[int, int], int] = {}
        """(Account, second) → the time of the last event of it, which is newer than the next."""
        self._given: dict[int, set[int]] = {account: set(times.values()) for account, times in known.items()}
        """Account → all times that its events have: two of one moment would be worse than two out of order."""

    def take(self, times: Mapping[str, int], events: Iterable[EventOf]) -> None:
        """Take the times, in Stripe's order, that an attempt before this one gave; ``events`` are those not known before."""
        account_of = self._account_of | {one.event_id: account_number(one.account_id) for one in events}
        for event_id, at in times.items():
            if event_id in account_of:
                account = account_of[event_id]
                self._known.get(account, {}).pop(event_id, None)
                self._given.setdefault(account, set()).add(at)
                self._above[account, at // SECOND] = at

    def of(self, event: EventOf) -> int:
        """Return the time of the next event: its own, or as near to it as the order of its account's events allows."""
        event_id, account_id, created = event
        account = account_number(account_id)
        first = created * SECOND
        known = self._known.get(account, {})
        above = self._above.get((account, created), first + SECOND)
        at = known.pop(event_id, None)
        given = self._given.setdefault(account, set())
        if at is None:
            older = (other for other in known.values() if first <= other < above)
            below = max(older, default=first + COUNT_FROM - 1)
            at = own_time(event_id, created)
            room = max(1, (above - below) // NEARBY)
            if at >= above:
                at = max(below + 1, above - 1 - _number(event_id) % room)
            elif (
                at <= below
            ):  # in the middle: the next ones of this account and second are between it and what is known
                at = min(above - 1, (below + above + 1) // 2 + _number(event_id) % room)
            if (
                not below < at < above or at in given
            ):  # no microsecond is left between: the nearest that is free
                downwards, upwards = range(min(below, above) - 1, first, -1), range(above + 1, first + SECOND)
                at = next((free for free in chain(downwards, upwards) if free not in given), at)
            given.add(at)
        self._above[account, created] = at
        return at


def _number(event_id: str) -> int:
    return int.from_bytes(hashlib.sha256(event_id.encode()).digest()[:8], "big")
