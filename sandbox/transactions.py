"""An account's money: streams of transactions whose sum is known without adding them up.

Salary and rent are constant amounts at a period. Everyday spending is the difference of two hashed
levels, so its sum telescopes. Holds are voided and never count. Hence `sums` is a handful of additions,
and equals the sum of the amounts of the transactions posted by then.
"""

from __future__ import annotations

from fincon.sandbox.ids import NOISE, NOISE_MASK, Ids, mix
from fincon.sandbox.model import Transaction
from fincon.sandbox.random_rolls import Rolls
from fincon.sandbox.timeline import DAY, STRIDE, TRANSACTION, Calendar

HISTORY = 90 * DAY  # how far back transactions go when an account is linked
LATE = 3 * DAY  # one transaction in nine is known only so long after it was made
SALARY, RENT, SPENDING, HOLD = range(4)
PERIODS = (14 * DAY, 30 * DAY, 6 * DAY, 40 * DAY)  # of spending: up to nine days more, by account
SPREAD = (18, 39, 7, 52)  # times 16 bits is just below the period: when the first is made
FIRST_ROLL = Rolls._fields.index("salary")  # the rolls of streams stand side by side
SETTLES = (0, DAY, 2 * DAY, 5 * DAY)  # from transacted to posted, or to void
MERCHANTS = (
    "Rocket Rides", "Typographic", "Corner Grocery", "Kavholm Hotel", "Café Zoë", "Transit Authority",
    "Togethere", "Pharmacy #12",
)  # fmt: skip
SHIFT = 24


def is_dormant(rolls: Rolls) -> bool:
    """Whether nothing ever happens on an account."""
    return rolls.hold & 31 == 0


def level(rolls: Rolls, number: int) -> int:
    """Give the hashed level that spending follows; it begins at zero."""
    if number < 0:
        return 0
    return NOISE[rolls.person + number * STRIDE & NOISE_MASK] * (4 + rolls.hold % 50) >> 4


def amount(rolls: Rolls, stream: int, number: int) -> int:
    """Give the amount of one transaction, in minor units. Each stream's are numbered from zero."""
    if stream == SALARY:
        return 150_000 + rolls.salary * 6
    if stream == RENT:
        return -60_000 - rolls.rent * 2
    if stream == HOLD:
        return -1 - level(rolls, number) // 4
    return level(rolls, number) - level(rolls, number - 1)


def period(rolls: Rolls, stream: int) -> int:
    """How many seconds lie between two transactions of a stream."""
    return PERIODS[stream] + (rolls.spending % 10 * DAY if stream == SPENDING else 0)


def first(rolls: Rolls, stream: int) -> int:
    """How many seconds after the beginning of its history an account's first transaction of a stream is made."""
    return rolls[FIRST_ROLL + stream] * SPREAD[stream]


def sums(rolls: Rolls, age: int) -> tuple[int, int]:
    """Give the sum of what is posted when an account's history is so old, and the same with what is pending.

    This is what the functions above say, written out. The account has been linked by then: every stream
    has begun.
    """
    salary, rent, spending, hold = rolls[FIRST_ROLL : FIRST_ROLL + 4]
    paid = ((age - salary * SPREAD[SALARY]) // PERIODS[SALARY] + 1) * (150_000 + salary * 6)
    since_rent, rent = age - rent * SPREAD[RENT], -60_000 - rent * 2
    since_spending, cycle = age - spending * SPREAD[SPENDING], PERIODS[SPENDING] + spending % 10 * DAY
    settled, spent = (since_spending - SETTLES[SPENDING]) // cycle, since_spending // cycle
    was = level(rolls, settled)
    posted = paid + ((since_rent - SETTLES[RENT]) // PERIODS[RENT] + 1) * rent + was
    booked = paid + (since_rent // PERIODS[RENT] + 1) * rent
    booked += was if spent == settled else level(rolls, spent)
    held, since = divmod(age - hold * SPREAD[HOLD], PERIODS[HOLD])
    return posted, booked + amount(rolls, HOLD, held) if since < SETTLES[HOLD] else booked


class Ledger:
    """The transactions of every account of a world."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids

    def transactions(self, calendar: Calendar, account: str, currency: str, time: int) -> list[Transaction]:
        """Give what the last transaction refresh that had succeeded by a time knows, newest first."""
        refreshed = calendar.success_before(TRANSACTION, time)
        if refreshed is None or is_dormant(calendar.rolls):
            return []
        keys: list[tuple[int, int, int]] = []
        for stream in range(4):
            begun = calendar.created - HISTORY + first(calendar.rolls, stream)
            times = range(begun, refreshed + 1, period(calendar.rolls, stream))
            keys += [(made, stream, number) for number, made in enumerate(times)]
        keys.sort(reverse=True)
        known = (self._known(calendar, key, refreshed) for key in keys)
        return [one._replace(account=account, currency=currency) for one in known if one is not None]

    def _known(self, calendar: Calendar, key: tuple[int, int, int], refreshed: int) -> Transaction | None:
        """Give a transaction as a refresh knows it, or None if it was not known then."""
        made, stream, number = key
        dice = mix(calendar.index << 24 ^ (number * 4 + stream))
        arrives = made + (LATE if dice % 9 == 0 else 0)
        if arrives > refreshed:
            return None
        ends = made + SETTLES[stream]
        settled = ends if ends <= refreshed else None
        refresh = calendar.success_after(TRANSACTION, max(arrives, settled or 0))
        return Transaction(
            id=self.ids.transaction.encode((calendar.index * 4 + stream) << SHIFT | number),
            account="",
            amount=amount(calendar.rolls, stream, number),
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
