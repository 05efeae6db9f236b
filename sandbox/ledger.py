"""An account's money: streams of transactions whose sum is known without adding them up.

Salary and rent are constant amounts at a period. Everyday spending is the difference of two hashed
levels, so its sum telescopes. Holds are voided and never count. Hence `posted` is a handful of additions,
and equals the sum of the amounts of the transactions posted by then.
"""

from __future__ import annotations

from typing import NamedTuple

from sandbox.ids import Ids, keyed, mix
from sandbox.model import Transaction
from sandbox.schedule import DAY, TRANSACTION, Calendar

HISTORY = 90 * DAY  # how far back transactions go when an account is linked
LATE = 3 * DAY  # one transaction in nine is known only so long after it was made
SALARY, RENT, SPENDING, HOLD = range(4)
SETTLES = (0, DAY, 2 * DAY, 5 * DAY)  # from transacted to posted, or to void
MERCHANTS = (
    "Rocket Rides", "Typographic", "Corner Grocery", "Kavholm Hotel", "Café Zoë", "Transit Authority",
    "Togethere", "Pharmacy #12",
)  # fmt: skip
SHIFT = 24


class Streams(NamedTuple):
    """The constants of one account's streams; `dormant` accounts have none."""

    account: int
    salary: int
    rent: int
    swing: int
    periods: tuple[int, int, int, int]  # seconds
    phases: tuple[int, int, int, int]
    firsts: tuple[int, int, int, int]  # the number of each stream's first transaction
    salt: int

    def level(self, number: int) -> int:
        """Give the hashed level that spending follows."""
        return mix(self.salt + number) % self.swing

    def amount(self, stream: int, number: int) -> int:
        """Give the amount of one transaction, in minor units."""
        if stream == SALARY:
            return self.salary
        if stream == RENT:
            return self.rent
        if stream == HOLD:
            return -1 - self.level(number) // 4
        return self.level(number) - self.level(number - 1)

    def last(self, stream: int, time: int) -> int:
        """Give the number of a stream's last transaction at or before a time."""
        return (time - self.phases[stream]) // self.periods[stream]

    def made(self, stream: int, number: int) -> int:
        """When a transaction was made."""
        return self.phases[stream] + number * self.periods[stream]

    def total(self, time: int, delays: tuple[int, ...]) -> int:
        """Give the sum of salary, rent and spending whose time and delay have passed."""
        paid = max(0, self.last(SALARY, time - delays[SALARY]) - self.firsts[SALARY] + 1) * self.salary
        paid += max(0, self.last(RENT, time - delays[RENT]) - self.firsts[RENT] + 1) * self.rent
        spent = self.last(SPENDING, time - delays[SPENDING])
        if spent >= self.firsts[SPENDING]:
            paid += self.level(spent) - self.level(self.firsts[SPENDING] - 1)
        return paid

    def posted(self, time: int) -> int:
        """Give the sum of what was posted by a time."""
        return self.total(time, SETTLES)

    def booked(self, time: int) -> int:
        """Give the same with what was pending at that time."""
        held = self.last(HOLD, time)
        is_held = held >= self.firsts[HOLD] and time < self.made(HOLD, held) + SETTLES[HOLD]
        return self.total(time, (0, 0, 0)) + (self.amount(HOLD, held) if is_held else 0)


class Ledger:
    """The transactions of every account of a world, and their sums."""

    def __init__(self, seed: int, ids: Ids) -> None:
        self.salt = keyed(seed, "ledger")
        self.ids = ids

    def streams(self, calendar: Calendar) -> Streams | None:
        """Give an account's streams, or None for one where nothing ever happens."""
        dice = mix(calendar.index ^ self.salt)
        if dice >> 59 == 0:
            return None
        start = calendar.created - HISTORY - 1
        salary, rent, spending, hold = 14 * DAY, 30 * DAY, (6 + (dice >> 40) % 10) * DAY, 40 * DAY
        phases = (dice % salary, (dice >> 8) % rent, (dice >> 16) % spending, (dice >> 24) % hold)
        return Streams(
            account=calendar.index,
            salary=150_000 + dice % 400_000,
            rent=-(60_000 + (dice >> 20) % 150_000),
            swing=20_000 + (dice >> 30) % 200_000,
            periods=(salary, rent, spending, hold),
            phases=phases,
            firsts=(
                (start - phases[SALARY]) // salary + 1,
                (start - phases[RENT]) // rent + 1,
                (start - phases[SPENDING]) // spending + 1,
                (start - phases[HOLD]) // hold + 1,
            ),
            salt=dice,
        )

    def transactions(self, calendar: Calendar, account: str, currency: str, time: int) -> list[Transaction]:
        """Give what the last transaction refresh that had succeeded by a time knows, newest first."""
        streams = self.streams(calendar)
        refreshed = calendar.success_before(TRANSACTION, time)
        if streams is None or refreshed is None:
            return []
        keys = [
            (streams.made(stream, number), stream, number)
            for stream in range(4)
            for number in range(streams.firsts[stream], streams.last(stream, refreshed) + 1)
        ]
        keys.sort(reverse=True)
        known = (self._known(calendar, streams, key, refreshed) for key in keys)
        return [one._replace(account=account, currency=currency) for one in known if one is not None]

    def _known(
        self, calendar: Calendar, streams: Streams, key: tuple[int, int, int], refreshed: int
    ) -> Transaction | None:
        """Give a transaction as a refresh knows it, or None if it was not known then."""
        made, stream, number = key
        dice = mix(streams.salt ^ (number * 4 + stream))
        arrives = made + (LATE if dice % 9 == 0 else 0)
        if arrives > refreshed:
            return None
        ends = made + SETTLES[stream]
        settled = ends if ends <= refreshed else None
        refresh = calendar.success_after(TRANSACTION, max(arrives, settled or 0))
        return Transaction(
            id=self.ids.transaction.encode((calendar.index * 4 + stream) << SHIFT | number),
            account="",
            amount=streams.amount(stream, number),
            currency="",
            description=self._describe(stream, dice),
            status="pending" if settled is None else "void" if stream == HOLD else "posted",
            transacted_at=made,
            posted_at=None if stream == HOLD else settled,
            void_at=settled if stream == HOLD else None,
            updated=refresh,
            refresh=self.refresh_id(calendar.index, refresh),
            unknown={"merchant": {"category": "retail", "score": 7}} if dice % 97 == 0 else {},
        )

    @staticmethod
    def _describe(stream: int, dice: int) -> str:
        if stream == SPENDING:
            return MERCHANTS[(dice >> 8) % len(MERCHANTS)]
        return ("Payroll", "Rent", "", "Card authorization")[stream]

    def refresh_id(self, account: int, attempt: int) -> str:
        """Give the id of a transaction refresh."""
        return self.ids.transaction_refresh.encode(account << 20 | attempt // DAY)
