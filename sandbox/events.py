"""Thirty days of webhook events, found minute by minute without looking at accounts whose turn it is not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from sandbox.accounts import Accounts
from sandbox.model import Event
from sandbox.schedule import DAY, FEATURES, LIFE, LIFE_FACTOR, MINUTES, Feature

KEPT = 30 * DAY
PREFIX = "financial_connections.account."
TYPES = (
    "created", "deactivated", "disconnected", "reactivated",
    "refreshed_balance", "refreshed_ownership", "refreshed_transactions",
)  # fmt: skip
OF_FEATURE = {"balance": 4, "ownership": 5, "transaction": 6}
LIFE_INVERSE = pow(LIFE_FACTOR, -1, MINUTES)


class Key(NamedTuple):
    """An event's place in the order of events: by time, then account, then type."""

    time: int
    account: int
    type: int


class Events:
    """The events of a world as seen at one time."""

    def __init__(self, accounts: Accounts, time: int) -> None:
        self.accounts = accounts
        self.schedule = accounts.schedule
        self.time = time

    def walk(
        self, start: int, end: int, types: Collection[int], *, newest_first: bool = True
    ) -> Iterator[Key]:
        """Give the events from `start` to `end`, both included, within the days that are kept."""
        start, end = max(start, self.time - KEPT), min(end, self.time)
        minutes = range(start // 60, end // 60 + 1)
        for minute in reversed(minutes) if newest_first else minutes:
            found = {key for key in self._minute(minute, types) if start <= key.time <= end}
            yield from sorted(found, reverse=newest_first)

    def event(self, key: Key) -> Event:
        """Give the event of a key."""
        number = key.time << 44 | key.account << 4 | key.type
        return Event(self.accounts.ids.event.encode(number), PREFIX + TYPES[key.type], key.time, key.account)

    def key(self, event_id: str) -> Key | None:
        """Give the key of an event that happened and is still kept, else None."""
        number = self.accounts.ids.event.decode(event_id)
        if number is None:
            return None
        key = Key(number >> 44, number >> 4 & (1 << 40) - 1, number & 15)
        return key if key in self.walk(key.time, key.time, (key.type,)) else None

    def _minute(self, minute: int, types: Collection[int]) -> Iterator[Key]:
        if 0 in types:
            for index in range(self.schedule.count(minute * 60 - 1), self.schedule.count(minute * 60 + 59)):
                yield Key(self.schedule.created(index), index, 0)
        for feature in FEATURES:
            if OF_FEATURE[feature.name] in types:
                yield from self._refreshed(feature, minute - feature.delay // 60)
        if not {1, 2, 3}.isdisjoint(types):
            yield from (key for key in self._broken(minute) if key.type in types)

    def _refreshed(self, feature: Feature, minute: int) -> Iterator[Key]:
        """Give refreshes begun in a minute which succeeded."""
        day = minute // MINUTES
        residue = (minute % MINUTES - feature.offset) * pow(feature.factor, -1, MINUTES) % MINUTES
        for index in range(residue, self.schedule.count(minute * 60 + 59), MINUTES):
            calendar = self.schedule.calendar(index)
            period, phase, second = calendar.rhythm(feature)
            attempt = day * DAY + second
            if (day + phase) % period or attempt <= calendar.created:
                continue
            if calendar.outcome(feature, attempt) == "succeeded" and self.accounts.refreshes(feature, index):
                yield Key(attempt + feature.delay, index, OF_FEATURE[feature.name])

    def _broken(self, minute: int) -> Iterator[Key]:
        """Links which broke, or came back, in a minute."""
        time = minute * 60
        for index in range(minute * LIFE_INVERSE % MINUTES, self.schedule.count(time), MINUTES):
            calendar = self.schedule.calendar(index)
            since = time - calendar.first
            if not calendar.kind or since < 0:
                continue
            if calendar.kind == "flaky":
                if since % (LIFE * DAY) == 0:
                    yield Key(time, index, 1)
                elif since % (LIFE * DAY) == calendar.lasts:
                    yield Key(time, index, 3)
            elif since == 0:
                yield Key(time, index, 2 if calendar.kind == "disconnect" else 1)
