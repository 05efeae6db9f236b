"""What happens to accounts and when: their creation, the status of their links, the attempts to refresh them.

Everything has a slot (a minute of the day that follows from the account's index by a multiplication), so both
questions are arithmetic: when is this account's turn, and which accounts have their turn in this minute?
Times are Unix seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from sandbox.ids import keyed, mix

DAY = 86_400
MINUTES = 1_440
BASE = 1_780_272_000  # 2026-06-01T00:00:00Z
SPREAD = 730 * DAY  # how far back the accounts of the base time were linked
GROWTH = 0.005  # of the accounts, linked anew each day
LIFE = 32  # days between the moments at which a link can break
LIFE_FACTOR = 461
INSTITUTIONS = (
    "StripeBank", "Chase", "Bank of America", "Wells Fargo", "Citibank", "Capital One", "U.S. Bank",
    "PNC Bank", "Truist", "Ally Bank", "Fidelity", "American Express", "Crédit Agricole", "Monzo",
    "Navy Federal", "Test Institution (down scheduled)",
)  # fmt: skip
UNRELIABLE = {4, 15}  # of the institutions above, those that fail one refresh in four


class Feature(NamedTuple):
    """One kind of refresh: its slots in the day, its periods, and how long an attempt takes."""

    name: str
    permission: str
    factor: int
    offset: int
    periods: tuple[int, ...]  # days; each account has one of them
    delay: int  # seconds from the attempt to its outcome: whole minutes
    cooldown: int  # seconds until the next refresh can be asked for


BALANCE = Feature("balance", "balances", 1_007, 0, (1, 1, 1, 1, 1, 1, 2, 7), 240, 6 * 3600)
OWNERSHIP = Feature("ownership", "ownership", 773, 331, (30, 30, 30, 90), 360, DAY)
TRANSACTION = Feature("transaction", "transactions", 649, 719, (1, 1, 2, 3), 300, 12 * 3600)
FEATURES = (BALANCE, OWNERSHIP, TRANSACTION)
SLOW = 6 * 3600  # an attempt that hangs: pending for so long, then failed


class Link(NamedTuple):
    """The state of an account's link: its status, and since when it is not active."""

    status: str
    since: int | None


ACTIVE = Link("active", None)


class Schedule:
    """When a world's accounts are created, and the calendar of each."""

    def __init__(self, seed: int, accounts: int) -> None:
        self.accounts = accounts
        self.per_day = max(1, round(accounts * GROWTH))
        self.salt = keyed(seed, "schedule")

    def _planned(self, index: int) -> int:
        if index < self.accounts:
            return BASE - (self.accounts - index) * SPREAD // self.accounts
        return BASE + (index - self.accounts) * DAY // self.per_day

    def created(self, index: int) -> int:
        """When an account was linked: a little after its planned time, and before the next one's."""
        planned = self._planned(index)
        return planned + mix(index ^ self.salt) % max(1, self._planned(index + 1) - planned)

    def count(self, time: int) -> int:
        """How many accounts there are at a time."""
        if time >= BASE:
            guess = self.accounts + (time - BASE) * self.per_day // DAY
        else:
            guess = self.accounts - (BASE - time) * self.accounts // SPREAD
        guess = max(0, guess)
        while self.created(guess) <= time:
            guess += 1
        while guess and self.created(guess - 1) > time:
            guess -= 1
        return guess

    def calendar(self, index: int) -> Calendar:
        """Give the calendar of an account."""
        return Calendar(self, index)


class Calendar:
    """When an account's link breaks, and when and how each feature is refreshed."""

    __slots__ = ("created", "dice", "first", "index", "institution", "kind", "lasts")

    def __init__(self, schedule: Schedule, index: int) -> None:
        self.index = index
        self.created = schedule.created(index)
        self.dice = dice = mix(index ^ schedule.salt ^ 0x5C4ED)
        self.institution = (dice >> 56) % len(INSTITUTIONS)
        kind = (dice >> 40) % 100
        self.kind = "disconnect" if kind < 4 else "gone" if kind < 7 else "flaky" if kind < 14 else ""
        self.first = 0
        self.lasts = 0
        if self.kind:
            self._plan_break()

    def _plan_break(self) -> None:
        """Set the first moment that the link breaks, and for how long a flaky one stays broken."""
        second = self.index * LIFE_FACTOR % MINUTES * 60
        day = (self.created - second) // DAY + 1
        day += -(day + self.dice) % LIFE
        if self.kind != "flaky":
            day += LIFE * ((self.dice >> 48) % 10)
        self.first = day * DAY + second
        self.lasts = (1 + (self.dice >> 20) % 6) * DAY

    def link(self, time: int) -> Link:
        """Give the state of the link at a time."""
        if not self.kind or time < self.first:
            return ACTIVE
        if self.kind == "disconnect":
            return Link("disconnected", self.first)
        if self.kind == "gone":
            return Link("inactive", self.first)
        since = time - (time - self.first) % (LIFE * DAY)
        return Link("inactive", since) if time < since + self.lasts else ACTIVE

    def rhythm(self, feature: Feature) -> tuple[int, int, int]:
        """Period, phase, second: attempts fall at that second of days where (day + phase) % period is 0."""
        slot = (self.index * feature.factor + feature.offset) % MINUTES
        dice = self.dice >> feature.offset % 29
        period = feature.periods[dice % len(feature.periods)]
        return period, (dice >> 8) % period, slot * 60 + slot * 37 % 60

    def attempt_before(self, feature: Feature, time: int) -> int | None:
        """Give the last attempt at or before a time, or None if there was none yet."""
        period, phase, second = self.rhythm(feature)
        day = (time - second) // DAY
        attempt = (day - (day + phase) % period) * DAY + second
        return attempt if attempt > self.created else None

    def outcome(self, feature: Feature, attempt: int) -> str:
        """How an attempt ends: succeeded, failed, or slow (pending for hours, then failed)."""
        dice = mix(self.dice + (attempt // DAY * 4_099 + feature.factor)) % 1000
        fails = 250 if self.institution in UNRELIABLE else 60
        if dice < fails or (self.kind and self.link(attempt) is not ACTIVE):
            return "failed"
        return "slow" if dice < fails + 40 else "succeeded"

    def state(self, feature: Feature, time: int) -> tuple[str, int] | None:
        """Give the status of the last attempt at a time, and when it was made."""
        until = min(time, self.first) if self.kind == "disconnect" else time
        attempt = self.attempt_before(feature, until)
        if attempt is None:
            return None
        outcome = self.outcome(feature, attempt)
        if time < attempt + (SLOW if outcome == "slow" else feature.delay):
            return "pending", attempt
        return ("succeeded" if outcome == "succeeded" else "failed"), attempt

    def success_before(self, feature: Feature, time: int) -> int | None:
        """Give the last attempt that had succeeded by a time."""
        link = self.link(time - feature.delay)
        until = time - feature.delay if link.since is None else link.since - 1
        attempt = self.attempt_before(feature, until)
        if attempt is None:
            return None
        period, _, _ = self.rhythm(feature)
        while attempt > self.created:
            if self.outcome(feature, attempt) == "succeeded":
                return attempt
            attempt -= period * DAY
        return None

    def success_after(self, feature: Feature, time: int) -> int:
        """Give the first attempt at or after a time that succeeds. The caller knows that there is one."""
        period, phase, second = self.rhythm(feature)
        day = (max(time, self.created + 1) - second - 1) // DAY + 1
        day += -(day + phase) % period
        while self.outcome(feature, day * DAY + second) != "succeeded":
            day += period
        return day * DAY + second
