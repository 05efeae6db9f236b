"""What happens to accounts and when: their creation, the status of their links, the attempts to refresh them.

Everything has a slot (a minute of the day that follows from the account's index by a multiplication), so both
questions are arithmetic: when is this account's turn, and which accounts have their turn in this minute?
Times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from fincon.sandbox.ids import NOISE, NOISE_MASK
from fincon.sandbox.model import Refresh
from fincon.sandbox.random_rolls import Dice, Rolls

DAY = 86_400
MINUTES = 1_440
BASE = 1_780_272_000  # 2026-06-01T00:00:00Z
SPREAD = 730 * DAY  # how far back the accounts of the base time were linked
GROWTH = 0.005  # of the accounts, linked anew each day
LIFE = 32  # days between the moments at which a link can break
LIFE_FACTOR, KIND_FACTOR, MINUTE_FACTOR = 11, 10, 461
KINDS = (
    "disconnect",
    "disconnect",
    "gone",
    "flaky",
    "flaky",
    *("",) * 22,
)  # what becomes of a link, by turns
LONGEST_BREAK = 5  # days until a flaky link works again
PATTERN = LIFE * len(KINDS)  # accounts this far apart are of one kind and break on the same days
INSTITUTIONS = (
    "StripeBank", "Chase", "Bank of America", "Wells Fargo", "Citibank", "Capital One", "U.S. Bank",
    "PNC Bank", "Truist", "Ally Bank", "Fidelity", "American Express", "Crédit Agricole", "Monzo",
    "Navy Federal", "Test Institution (down scheduled)",
)  # fmt: skip
# How many refreshes of 2**16 fail or hang, by institution: one in ten, at two of them one in four.
FAILS = tuple(16_000 if place in (4, 15) else 6_600 for place in range(len(INSTITUTIONS)))
HANGS = 2_600  # of those
STRIDE = 1_021  # from one day's place in the noise to the next


@dataclass(frozen=True, slots=True)
class Feature:
    """One kind of refresh: its slots in the day, its periods, and how long an attempt takes."""

    name: str
    roll: int  # which of an account's dice sets its period and its luck
    permission: str
    factor: int
    offset: int
    periods: tuple[int, int, int, int, int, int, int, int]  # days; each account has one of them
    delay: int  # seconds from the attempt to its outcome: whole minutes
    cooldown: int  # seconds until the next refresh can be asked for
    seconds: tuple[int, ...] = field(init=False, repr=False)  # of the day, by index modulo MINUTES

    def __post_init__(self) -> None:
        slots = [(place * self.factor + self.offset) % MINUTES for place in range(MINUTES)]
        object.__setattr__(self, "seconds", tuple(slot * 60 + slot * 37 % 60 for slot in slots))


BALANCE = Feature(
    "balance", Rolls._fields.index("balance"), "balances", 1_007, 0, (1, 1, 1, 1, 1, 1, 2, 7), 240, 6 * 3600
)
OWNERSHIP = Feature(
    "ownership",
    Rolls._fields.index("ownership"),
    "ownership",
    773,
    331,
    (30, 30, 30, 90, 30, 30, 30, 90),
    360,
    DAY,
)
TRANSACTION = Feature(
    "transaction",
    Rolls._fields.index("transaction"),
    "transactions",
    649,
    719,
    (1, 1, 2, 3, 1, 1, 2, 3),
    300,
    12 * 3600,
)
FEATURES = (BALANCE, OWNERSHIP, TRANSACTION)
RETRY = 3600  # seconds from a failed attempt until the next can be asked for
SLOW = 6 * 3600  # an attempt that hangs: pending for so long, then failed


class Link(NamedTuple):
    """The state of an account's link: its status, and since when it is not active."""

    status: str
    since: int | None


ACTIVE = Link("active", None)


class Schedule:
    """When a world's accounts are created, and the calendar of each."""

    def __init__(self, seed: int, accounts: int, base: int = BASE) -> None:
        self.accounts = accounts
        self.base = base
        self.per_day = max(1, round(accounts * GROWTH))
        self.dice = Dice(seed)

    def linked(self, index: int, roll: int) -> int:
        """When the account of an index and a roll was linked: evenly spread, each before the next one."""
        place = index - self.accounts
        if place < 0:
            return self.base + (place * SPREAD + (roll * SPREAD >> 16)) // self.accounts
        return self.base + (place * DAY + (roll * DAY >> 16)) // self.per_day

    def created(self, index: int) -> int:
        """When the account of an index was linked."""
        return self.linked(index, self.dice.roll(index).created)

    def count(self, time: int) -> int:
        """How many accounts there are at a time."""
        if time >= self.base:
            guess = self.accounts + (time - self.base) * self.per_day // DAY
        else:
            guess = self.accounts - (self.base - time) * self.accounts // SPREAD
        guess = max(0, guess)
        while self.created(guess) <= time:
            guess += 1
        while guess and self.created(guess - 1) > time:
            guess -= 1
        return guess

    def calendar(self, index: int, rolls: Rolls | None = None) -> Calendar:
        """Give the calendar of an account."""
        rolls = rolls or self.dice.roll(index)
        return Calendar(self, index, rolls)


def breaking(day: int, kind: int) -> int:
    """Give the first of the accounts, `PATTERN` apart, whose links are of a kind and can break on a day."""
    by_day = day * pow(LIFE_FACTOR, -1, LIFE) % LIFE
    by_kind = kind * pow(KIND_FACTOR, -1, len(KINDS)) % len(KINDS)
    return by_day + (by_kind - by_day) * pow(LIFE, -1, len(KINDS)) % len(KINDS) * LIFE


class Calendar:
    """When an account's link breaks, and when and how each feature is refreshed."""

    __slots__ = ("created", "fails", "first", "index", "institution", "kind", "lasts", "rolls")

    def __init__(self, schedule: Schedule, index: int, rolls: Rolls) -> None:
        self.index = index
        self.created = schedule.linked(index, rolls.created)
        self.rolls = rolls
        self.institution = rolls.institution & 15
        self.fails = FAILS[self.institution]
        self.kind = KINDS[index * KIND_FACTOR % len(KINDS)]
        self.first = 0
        self.lasts = 0
        if self.kind:
            self._plan_break()

    def _plan_break(self) -> None:
        """Set the first moment that the link breaks, and for how long a flaky one stays broken."""
        second = self.index * MINUTE_FACTOR % MINUTES * 60
        day = (self.created - second) // DAY + 1
        day += (self.index * LIFE_FACTOR - day) % LIFE
        if self.kind != "flaky":
            day += LIFE * (self.rolls.breaks % 10)
        self.first = day * DAY + second
        self.lasts = (1 + self.index % LONGEST_BREAK) * DAY

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

    def _works(self, time: int) -> bool:
        """Whether the link is active at a time, of an account whose link can break."""
        since = time - self.first
        return since < 0 or (self.kind == "flaky" and since % (LIFE * DAY) >= self.lasts)

    def rhythm(self, feature: Feature) -> tuple[int, int, int]:
        """Period, phase, second: attempts fall at that second of days where (day + phase) % period is 0."""
        roll = self.rolls[feature.roll]
        return feature.periods[roll & 7], roll >> 3, feature.seconds[self.index % MINUTES]

    def attempt_before(self, feature: Feature, time: int) -> int | None:
        """Give the last attempt at or before a time, or None if there was none yet."""
        period, phase, second = self.rhythm(feature)
        day = (time - second) // DAY
        attempt = (day - (day + phase) % period) * DAY + second
        return attempt if attempt > self.created else None

    def outcome(self, feature: Feature, attempt: int) -> str:
        """How an attempt ends: succeeded, failed, or slow (pending for hours, then failed)."""
        dice = NOISE[attempt // DAY * STRIDE + (self.rolls[feature.roll] ^ self.index) & NOISE_MASK]
        if self.kind and not self._works(attempt):
            return "failed"
        return "succeeded" if dice >= self.fails else "slow" if dice < HANGS else "failed"

    def latest(self, feature: Feature, time: int) -> Refresh | None:
        """Give the last attempt at a time."""
        if self.kind and time >= self.first:
            return self._latest_of_broken(feature, time)
        # The same for a link that has never been broken, written out: every account asks it thrice.
        index, roll = self.index, self.rolls[feature.roll]
        second, period = feature.seconds[index % MINUTES], feature.periods[roll & 7]
        day = (time - second) // DAY
        day -= (day + (roll >> 3)) % period
        attempt = day * DAY + second
        if attempt <= self.created:
            return None
        luck = roll ^ index
        dice = NOISE[day * STRIDE + luck & NOISE_MASK]
        if time < attempt + (SLOW if dice < HANGS else feature.delay):
            return "pending", attempt, None, self._success(attempt - period * DAY, period, luck)
        if dice >= self.fails:
            return (
                "succeeded",
                attempt,
                attempt + feature.cooldown if self.rolls.next_at % 40 else None,
                attempt,
            )
        success = self._success(attempt - period * DAY, period, luck)
        return "failed", attempt, attempt + RETRY if self.rolls.next_at % 40 else None, success

    def _success(self, attempt: int, period: int, luck: int) -> int | None:
        """Give the last attempt up to one which succeeded, of a link that was never broken by then."""
        while attempt > self.created:
            if NOISE[attempt // DAY * STRIDE + luck & NOISE_MASK] >= self.fails:
                return attempt
            attempt -= period * DAY
        return None

    def _latest_of_broken(self, feature: Feature, time: int) -> Refresh | None:
        attempt = self.attempt_before(feature, self.first if self.kind == "disconnect" else time)
        if attempt is None:
            return None
        outcome = self.outcome(feature, attempt)
        shows_next = self.rolls.next_at % 40
        if outcome == "succeeded" and time >= attempt + feature.delay:
            return "succeeded", attempt, attempt + feature.cooldown if shows_next else None, attempt
        success = self.success_before(feature, time)
        if time < attempt + (SLOW if outcome == "slow" else feature.delay):
            return "pending", attempt, None, success
        return "failed", attempt, attempt + RETRY if shows_next else None, success

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
