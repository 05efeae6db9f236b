"""Reckon balances day by day, and what a lender asks of them, in plain Python over what is known of a world."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from tests.conftest import Row
from tests.questions.answers import Rows, median, posted, recurring_transactions, rounded
from tests.questions.cash_flows import ASKED, AT, DAY, HOLDER, TODAY, WHO, Subject, days, read_until, share
from tests.questions.known import Known

DEBIT = 12_500


class Balance(NamedTuple):
    """Of a day."""

    amount: int
    is_known: bool


@lru_cache(maxsize=1)
def balances(known: Known) -> dict[tuple[str, str], dict[date, Balance]]:
    """Give the balance of each day that is known or can be reckoned back, by account and currency."""
    computed: dict[Any, dict[datetime, int]] = defaultdict(dict)
    for name, versions in known.balances.items():
        for seen, rows in versions:
            for row in rows:
                if row["currency"] and row["current"] is not None:
                    computed[name, row["currency"]][min(row["as_of"], seen)] = row["current"]
    booked: dict[Any, list[Row]] = defaultdict(list)
    for t in posted(known):
        booked[t["account_id"], t["currency"]].append(t)
    return {key: by_day(known, key[0], at, booked[key]) for key, at in computed.items()}


def by_day(known: Known, name: str, at: dict[datetime, int], booked: list[Row]) -> dict[date, Balance]:
    """Go back from each known balance to the one before it, and from the first to the first transaction."""
    read, times = read_until(known, name), sorted(at)

    def between(after: datetime, until: datetime) -> int:
        return sum(t["amount"] for t in booked if after < t["posted_at"] <= until)

    def met(before: datetime, after: datetime) -> bool:
        return at[after] - at[before] == between(before, after)

    found: dict[date, Balance] = {}
    for before, one in zip([None, *times], times, strict=False):
        reckoned: Iterable[date] = ()
        if read and read >= one and before and met(before, one):
            reckoned = days(before.date() + DAY, one.date() - DAY)
        elif read and read >= one and not before and (len(times) == 1 or met(times[0], times[1])):
            first = min((t["posted_at"].date() for t in booked if t["posted_at"] <= one), default=one.date())
            reckoned = days(max(first, one.date() - 3653 * DAY), one.date() - DAY)
        for day in reckoned:
            end = datetime.combine(day + DAY, datetime.min.time(), UTC) - timedelta(microseconds=1)
            found[day] = Balance(at[one] - between(end, one), is_known=False)
        found[one.date()] = Balance(at[one], is_known=True)
    return found


def balance_backcast(known: Known) -> Rows:
    """Give each day."""
    for (name, currency), of in balances(known).items():
        for day, balance in of.items():
            basis = "known" if balance.is_known else "backcast"
            row = {"account_id": name, "currency": currency, "day": day, "balance": balance.amount}
            yield row | {"basis": basis}


def windows(known: Known, by_holder: bool) -> Iterator[Row]:
    """Average and count over the days before the day asked for; of a holder over days on which all is known."""
    found: dict[Subject, list[dict[date, Balance]]] = defaultdict(list)
    for (name, currency), of in balances(known).items():
        account = known.accounts[name]
        holder = known.holder(account)
        if not by_holder or (holder and account["category"] == "cash"):
            found[Subject(None if by_holder else name, holder, currency)].append(of)
    for subject, accounts in found.items():
        for length in (30, 60, 90):
            window = [d for d in days(TODAY - length * DAY, TODAY - DAY) if all(d in of for of in accounts)]
            held = {day: sum(of[day].amount for of in accounts) for day in window}
            n = len(held)
            lowest = min(((amount, day) for day, amount in held.items()), default=(None, None))
            yield subject._asdict() | {
                "window_days": length,
                "days_observed": n,
                "days_backcast": sum(not all(of[day].is_known for of in accounts) for day in window),
                "coverage": share(n, length),
                "average_balance": rounded(Fraction(sum(held.values()), n)) if n else None,
                "lowest": lowest[0],
                "lowest_on": lowest[1],
                "days_below_zero": sum(amount < 0 for amount in held.values()) if n else None,
                "days_below_threshold": sum(amount < DEBIT for amount in held.values()) if n else None,
            }


def debit_risk(known: Known) -> Rows:
    """Give what is available, what usually leaves until the next refresh, how low it was on such days, what is due."""
    by_account, booked = balances(known), list(posted(known))
    due = [row for row in recurring_transactions(known) if not row["is_income"]]
    for row, account in known.balance_rows():
        name = account["account_id"]
        if row["currency"] != "usd":
            continue
        refresh = known.latest_refresh(name, "balance")
        until = (
            refresh
            and refresh["next_refresh_available_at"]
            and max(refresh["next_refresh_available_at"], ASKED)
        )
        ahead = (until.date() - row["as_of"].date()).days if until else 99
        went: Counter[date] = Counter()
        mine = [t for t in booked if (t["account_id"], t["currency"]) == (name, "usd")]
        for t in mine:
            went[t["posted_at"].date()] -= min(t["amount"], 0)
        read, stretches = read_until(known, name), list[int]()
        if mine and read and ahead <= 30:
            last = min(read.date(), TODAY) - DAY
            further = (max(ahead, 1) - 1) * DAY
            begins = days(max(min(went), TODAY - 90 * DAY), last - further)
            stretches = [sum(went[d] for d in days(day, day + further)) for day in begins]
        held = by_account.get((name, "usd"), {})
        past = {d: of.amount for d, of in held.items() if TODAY - 365 * DAY <= d < TODAY}
        weekdays = [amount for day, amount in past.items() if day.weekday() == TODAY.weekday()]
        month_days = [
            amount for day, amount in past.items() if day.day == TODAY.day
        ]  # no month is too short for it
        debits = [
            d["typical"]
            for d in due
            if until
            and (d["account_id"], d["currency"]) == (name, "usd")
            and row["as_of"].date() <= d["next_expected_on"] <= until.date()
        ]
        yield {
            "account_id": name,
            "available": row["available"],
            "left_available": None if row["available"] is None else row["available"] - DEBIT,
            "hours_old": (ASKED - row["as_of"]) // timedelta(hours=1),
            "days_until_refresh": max(ahead, 1) if ahead <= 30 else None,
            "usually_out": median(stretches) if len(stretches) >= 14 else None,
            "most_out": max(stretches) if len(stretches) >= 14 else None,
            "stretches_observed": len(stretches),
            "lowest_on_weekday": min(weekdays, default=None),
            "weekdays_observed": len(weekdays),
            "lowest_on_day_of_month": min(month_days, default=None),
            "months_observed": len(month_days),
            "debits_due": len(debits) if read and until else None,
            "typical_due": -sum(debits) if read and until else None,
        }


WINDOWS = (
    "window_days, days_observed, days_backcast, coverage, average_balance, lowest, lowest_on, days_below_zero,"
    " days_below_threshold"
)

DAILY_BALANCES: dict[str, tuple[str, Callable[[Known], Rows]]] = {
    "balance_backcast": (
        f"SELECT account_id, currency, day, balance, basis FROM balance_backcast_as_of({AT})",
        balance_backcast,
    ),
    "underwriting_balances": (
        f"SELECT {WHO}, {WINDOWS} FROM underwriting_balances_as_of({AT}, {DEBIT})",
        lambda known: windows(known, by_holder=False),
    ),
    "underwriting_holder_balances": (
        f"SELECT {HOLDER}, {WINDOWS} FROM underwriting_holder_balances_as_of({AT}, {DEBIT})",
        lambda known: windows(known, by_holder=True),
    ),
    "debit_risk": (
        "SELECT account_id, available, left_available, hours_old, days_until_refresh, usually_out, most_out,"
        " stretches_observed, lowest_on_weekday, weekdays_observed, lowest_on_day_of_month, months_observed, debits_due,"
        f" typical_due FROM lake.debit_risk_at({DEBIT}, 'usd', TIMESTAMPTZ {AT})",
        debit_risk,
    ),
}
"""Question → what is asked of the views, and what answers it here: rows with the same columns."""
