"""Thirty days of webhook events, found without looking at accounts whose turn it is not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property
from heapq import merge
from math import lcm
from typing import NamedTuple

from fincon.sandbox.account_traits import EXPIRY_TOLD_AFTER, POSTPONED_AFTER, TURN, turns
from fincon.sandbox.accounts import Accounts
from fincon.sandbox.evolution import LISTED
from fincon.sandbox.model import Event
from fincon.sandbox.timeline import (
    DAY,
    FEATURES,
    KINDS,
    LIFE,
    LONGEST_BREAK,
    MINUTE_FACTOR,
    MINUTES,
    PATTERN,
    SLOW,
    Calendar,
    Feature,
    breaking,
)

KEPT = 30 * DAY
PREFIX = "financial_connections."
TYPES = (
    "account.created", "account.deactivated", "account.disconnected", "account.reactivated",
    "account.refreshed_balance", "account.refreshed_ownership", "account.refreshed_transactions",
    # What follows is sent where the world's `every_event` says so.
    "account.account_numbers_updated", "account.upcoming_account_number_expiry",
    "account.supported_payment_method_types_updated",
    "account.upcoming_deactivation", "account.expected_deactivation_date_updated",
    "authorization.upcoming_deactivation", "authorization.expected_deactivation_date_updated",
)  # fmt: skip
OF_FEATURE = {"balance": 4, "ownership": 5, "transaction": 6}
CREATED, DEACTIVATED, DISCONNECTED, REACTIVATED = range(4)
NUMBERS, EXPIRY, METHODS, UPCOMING, POSTPONED, AUTHORIZATION, AUTHORIZATION_POSTPONED = range(7, 14)
OF_TURNS = frozenset(range(7, 14))
OF_AUTHORIZATIONS = frozenset({AUTHORIZATION, AUTHORIZATION_POSTPONED})
BREAKS = {"disconnect": DISCONNECTED, "gone": DEACTIVATED, "flaky": DEACTIVATED}  # by kind of link


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
        self.evolution = accounts.evolution
        self.time = time
        self.count = self.schedule.count(time)

    def walk(
        self, start: int, end: int, types: Collection[int], *, newest_first: bool = True
    ) -> Iterator[Key]:
        """Give the events from `start` to `end`, both included, within the days that are kept."""
        start, end = max(start, self.time - KEPT), min(end, self.time)
        streams = [
            self._refreshed(feature, start, end, newest_first)
            for feature in FEATURES
            if OF_FEATURE[feature.name] in types
        ]
        if CREATED in types:
            streams.append(self._created(start, end, newest_first))
        if not {DEACTIVATED, DISCONNECTED, REACTIVATED}.isdisjoint(types):
            streams.append(self._life(start, end, types, newest_first))
        if self.evolution.every_event:
            streams += [
                self._refreshed(feature, start, end, newest_first, slow=True)
                for feature in FEATURES
                if OF_FEATURE[feature.name] in types
            ]
            if not OF_TURNS.isdisjoint(types):
                of_turns = [key for key in self._of_turns if start <= key.time <= end and key.type in types]
                streams.append(iter(of_turns[::-1] if newest_first else of_turns))
        # Every stream is in order and gives one key at a time, so a page costs little more than its events.
        keys = merge(*streams, reverse=newest_first)
        if not self.evolution.leaving:
            return keys
        return (key for key in keys if self.accounts.presence(key.account, key.time) == LISTED)

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
        if not self.time - KEPT <= key.time <= self.time or key.account >= self.count:
            return None
        if self.accounts.presence(key.account, key.time) != LISTED:
            return None
        if key.type in OF_TURNS:
            return key if key in self._of_turns else None
        calendar = self.schedule.calendar(key.account)
        if key.type == CREATED:
            return key if key.time == calendar.created else None
        for feature in FEATURES:
            if key.type == OF_FEATURE[feature.name]:
                for slow in (False, True) if self.evolution.every_event else (False,):
                    day, second = divmod(key.time - (SLOW if slow else feature.delay), DAY)
                    is_slot = second == feature.seconds[key.account % MINUTES]
                    if is_slot and self._has_refreshed(feature, calendar, day, slow=slow):
                        return key
                return None
        return key if key in _breaks(calendar, key.time // DAY) else None

    @cached_property
    def _of_turns(self) -> list[Key]:
        """What changes without a refresh, oldest first: found by asking every account, for small worlds."""
        found: list[Key] = []
        for index in range(self.count):
            rolls = self.schedule.dice.roll(index)
            created = self.schedule.linked(index, rolls.created)
            _, begun = turns(rolls, created, self.time)
            for start in (begun - TURN, begun):
                for moment in (start, start + POSTPONED_AFTER, start + EXPIRY_TOLD_AFTER):
                    if max(created + 1, self.time - KEPT) <= moment <= self.time:
                        found += self._changes(index, moment, expires=moment == start + EXPIRY_TOLD_AFTER)
        return sorted(found)

    def _changes(self, index: int, time: int, *, expires: bool) -> Iterator[Key]:
        """Give the events of what an account is at a time, and was not a second before."""
        was, now = self.accounts.account(index, time - 1), self.accounts.account(index, time)
        if now.numbers != was.numbers:
            yield Key(time, index, NUMBERS)
        if expires and any(number.expected_expiry_date for number in now.numbers or ()):
            yield Key(time, index, EXPIRY)
        if now.payment_methods != was.payment_methods:
            yield Key(time, index, METHODS)
        if now.notice is None or now.notice == was.notice:
            return
        upcoming = was.notice is None or was.notice.expected_deactivation_date is None
        yield Key(time, index, UPCOMING if upcoming else POSTPONED)
        if self.accounts.anchors(index):
            yield Key(time, index, AUTHORIZATION if upcoming else AUTHORIZATION_POSTPONED)

    def _created(self, start: int, end: int, newest_first: bool) -> Iterator[Key]:
        """Accounts linked in a span of time."""
        indexes = range(self.schedule.count(start - 1), self.schedule.count(end))
        for index in reversed(indexes) if newest_first else indexes:
            yield Key(self.schedule.created(index), index, CREATED)

    def _refreshed(
        self, feature: Feature, start: int, end: int, newest_first: bool, *, slow: bool = False
    ) -> Iterator[Key]:
        """Give refreshes which ended in a span of time, minute by minute of their beginnings."""
        inverse = pow(feature.factor, -1, MINUTES)
        delay = SLOW if slow else feature.delay
        minutes = range((start - delay) // 60, (end - delay) // 60 + 1)
        for minute in reversed(minutes) if newest_first else minutes:
            day, slot = divmod(minute, MINUTES)
            residue = (slot - feature.offset) * inverse % MINUTES
            if residue >= self.count:
                continue
            time = day * DAY + feature.seconds[residue] + delay
            if start <= time <= end:
                indexes = range(residue, self.count, MINUTES)
                for index in reversed(indexes) if newest_first else indexes:
                    roll = self.schedule.dice.one(index, feature.roll)
                    is_due = (day + (roll >> 3)) % feature.periods[roll & 7] == 0
                    if is_due and self._has_refreshed(feature, self.schedule.calendar(index), day, slow=slow):
                        yield Key(time, index, OF_FEATURE[feature.name])

    def _has_refreshed(self, feature: Feature, calendar: Calendar, day: int, *, slow: bool = False) -> bool:
        """Whether an attempt to refresh a feature of an account on a day ended with an event, at once or after hours."""
        period, phase, second = calendar.rhythm(feature)
        attempt = day * DAY + second
        ends = attempt + (SLOW if slow else feature.delay)
        told = {"slow"} if slow else {"succeeded", "failed"} if self.evolution.every_event else {"succeeded"}
        return (
            (day + phase) % period == 0
            and attempt > calendar.created
            and calendar.outcome(feature, attempt) in told
            and not (calendar.kind == "disconnect" and attempt > calendar.first)
            and (not self.evolution.ending or ends < self.accounts.until(calendar, feature))
            and self.accounts.refreshes(feature, calendar.index, calendar.rolls)
        )

    def _life(self, start: int, end: int, types: Collection[int], newest_first: bool) -> Iterator[Key]:
        """Links which broke or came back in a span of time, day by day and minute by minute."""
        days = range(start // DAY, end // DAY + 1)
        for day in reversed(days) if newest_first else days:
            by_minute: dict[int, list[range]] = {}
            for first, step in self._candidates(day, types):
                # So far apart, accounts have their turn in one and the same minute.
                apart = lcm(step, MINUTES)
                for index in range(first, min(first + apart, self.count), step):
                    minute = index * MINUTE_FACTOR % MINUTES
                    by_minute.setdefault(minute, []).append(range(index, self.count, apart))
            for minute in sorted(by_minute, reverse=newest_first):
                if start <= day * DAY + minute * 60 <= end:
                    # One by one: most accounts that could break on this day do not.
                    indexes = (reversed(one) if newest_first else one for one in by_minute[minute])
                    for index in merge(*indexes, reverse=newest_first):
                        calendar = self.schedule.calendar(index)
                        yield from (key for key in _breaks(calendar, day) if key.type in types)

    def _candidates(self, day: int, types: Collection[int]) -> Iterator[tuple[int, int]]:
        """Give the accounts whose links can break on a day, or come back: the first, and how far apart they are."""
        for number, kind in enumerate(KINDS):
            if BREAKS.get(kind) in types:
                yield breaking(day, number), PATTERN
            if kind == "flaky" and REACTIVATED in types:
                for lasts in range(1, LONGEST_BREAK + 1):
                    start = breaking(day - lasts, number)
                    while start % LONGEST_BREAK != lasts - 1:
                        start += PATTERN
                    yield start, PATTERN * LONGEST_BREAK


def _breaks(calendar: Calendar, day: int) -> Iterator[Key]:
    """Give the events of an account's link on a day."""
    time = day * DAY + calendar.first % DAY
    if not calendar.kind or time < calendar.first:
        return
    since = time - calendar.first
    if calendar.kind == "flaky":
        since %= LIFE * DAY
    if since == 0:
        yield Key(time, calendar.index, BREAKS[calendar.kind])
    elif since == calendar.lasts and calendar.kind == "flaky":
        yield Key(time, calendar.index, REACTIVATED)
