"""Reckon what a lender asks of cash flows, in plain Python over what is known of a world: no SQL, no row of the lake."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from fincon.transforms.payment_patterns import KINDS, OURS
from tests.conftest import Row
from tests.questions.answers import Rows, posted, rounded, steady
from tests.questions.known import Known

ASKED = datetime(2026, 7, 18, 5, tzinfo=UTC)
"""As of when figures are asked for: the day after the last sync of a world."""
TODAY = ASKED.date()
DAY = timedelta(days=1)


def days(first: date, last: date) -> Iterator[date]:
    """Give each day from one to another."""
    return (first + DAY * number for number in range((last - first).days + 1))


def share(part: int, whole: int) -> Fraction:
    """Give a share with four digits."""
    return Fraction(rounded(Fraction(10_000 * part, whole)), 10_000)


def read_until(known: Known, name: str) -> datetime | None:
    """Give the time of the last refresh of transactions that succeeded: they are read until then."""
    seen: list[tuple[datetime, Any]] = known.refreshes.get((name, "transaction"), [])
    return max((r["last_attempted_at"] for _, r in seen if r and r["status"] == "succeeded"), default=None)


# -- what each transaction counts as


def kind_of_text(text: str) -> str | None:
    """Give the first kind of payment of which a pattern fits."""
    fits = {one.kind for one in OURS if re.search(one.pattern, text.lower())}
    return next((kind for kind in KINDS if kind in fits), None)


@lru_cache(maxsize=1)
def classified(known: Known) -> list[Row]:
    """Give each posted transaction with its kind, its other half, and whose it is."""
    return classify(t | {"holder": known.holder(known.accounts[t["account_id"]])} for t in posted(known))


def classify(transactions: Iterable[Row]) -> list[Row]:
    """Tell what each transaction is, of which it is said whose it is."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for t in transactions:
        if t["amount"]:
            groups[t["holder"] or t["account_id"], t["currency"], abs(t["amount"])].append(t)
    found = []
    for rows in groups.values():
        rows.sort(key=lambda t: (t["posted_at"], t["transaction_id"]))
        other = transfers(rows)
        for t in rows:
            fee = kind_of_text(t["description"])
            if t["transaction_id"] in other:
                kind = "own_transfer"
            elif fee and fee != "loan_payment":
                kind = fee
            elif any(goes_against(t, one) for one in rows):
                kind = "unsure"
            elif fee and t["amount"] < 0:
                kind = fee
            else:
                kind = "money_in" if t["amount"] > 0 else "money_out"
            plain = unicodedata.normalize("NFC", t["description"].lower())
            payee = re.sub(r"[\W\d_]+", " ", plain).strip()
            told = {"kind": kind, "counterpart_id": other.get(t["transaction_id"]), "payee": payee}
            found.append(t | told | {"day": t["posted_at"].date()})
    return found


def goes_against(one: Row, other: Row) -> bool:
    """Tell whether two transactions of a size may be the two halves of a transfer."""
    near = abs((one["posted_at"].date() - other["posted_at"].date()).days) <= 5
    return bool(near and one["amount"] == -other["amount"] and one["account_id"] != other["account_id"])


def transfers(rows: list[Row]) -> dict[str, str]:
    """Give the other half of each transfer among transactions of a size, in the order of time."""
    other: dict[str, str] = {}
    together: list[Row] = []
    for t, following in pairwise([*rows, None]):
        together.append(t)
        if following and (following["posted_at"].date() - t["posted_at"].date()).days <= 5:
            continue
        came = [one for one in together if one["amount"] > 0]
        went = [one for one in together if one["amount"] < 0]
        for one, two in zip(came, went, strict=False) if len(came) == len(went) else ():
            if goes_against(one, two):
                ids = one["transaction_id"], two["transaction_id"]
                other |= {ids[0]: ids[1], ids[1]: ids[0]}
        together = []
    return other


# -- months


class Subject(NamedTuple):
    """Whose figures they are: an account's, or a holder's."""

    account_id: str | None
    holder: str | None
    currency: str


def subjects(known: Known, by_holder: bool) -> dict[Subject, dict[str, list[Row]]]:
    """Give the transactions of each, by account."""
    found: dict[Subject, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for t in classified(known):
        if t["holder"] or not by_holder:
            one = Subject(None if by_holder else t["account_id"], t["holder"], t["currency"])
            found[one][t["account_id"]].append(t)
    return found


@lru_cache(maxsize=2)
def months(known: Known, by_holder: bool) -> list[Row]:
    """Add up by month what came and went, and count the days that were observed of every account begun by then."""
    found = []
    for subject, accounts in subjects(known, by_holder).items():
        spans = {}
        for name, rows in accounts.items():
            read = read_until(known, name)
            last = min(read.date(), TODAY) - DAY if read else max(t["day"] for t in rows)
            spans[name] = (min(t["day"] for t in rows), last)
        told = {
            day.replace(day=1)
            for name, (first, last) in spans.items()
            for day in days(first, max(last, *(t["day"] for t in accounts[name])))
        }
        for month in sorted(
            told
        ):  # of a month for which none was read any more, and none had begun, nothing is said
            of_month = [d for d in days(month, month + 31 * DAY) if d.month == month.month]
            rows = [t for of in accounts.values() for t in of if t["day"] in of_month]
            observed = [
                sum(first <= day <= last for day in of_month)
                for first, last in spans.values()
                if first <= of_month[-1]
            ]
            row = {"subject": subject, "month": month, "days_in_month": len(of_month)}
            row |= {"days_observed": min(observed), "coverage": share(min(observed), len(of_month))}
            found.append(row | {"transactions": len(rows)} | sums(rows))
    return found


def sums(rows: list[Row]) -> Row:
    """Add up transactions by kind and sign."""

    def total(keep: Callable[[Row], bool]) -> int:
        return sum(t["amount"] for t in rows if keep(t))

    apart = ("own_transfer", "unsure")
    came = total(lambda t: t["amount"] > 0 and t["kind"] not in apart)
    went = total(lambda t: t["amount"] < 0 and t["kind"] not in apart)
    return {
        "money_in": came,
        "money_out": went,
        "net": came + went,
        "transfers_in": total(lambda t: t["amount"] > 0 and t["kind"] == "own_transfer"),
        "transfers_out": total(lambda t: t["amount"] < 0 and t["kind"] == "own_transfer"),
        "unsure_in": total(lambda t: t["amount"] > 0 and t["kind"] == "unsure"),
        "unsure_out": total(lambda t: t["amount"] < 0 and t["kind"] == "unsure"),
        "fees": total(lambda t: t["kind"].endswith("_fee")),
        "loan_payments": total(lambda t: t["kind"] == "loan_payment"),
    }


def underwriting_months(known: Known) -> Rows:
    """Give the months of accounts."""
    return (row | row["subject"]._asdict() for row in months(known, by_holder=False))


def underwriting_holder_months(known: Known) -> Rows:
    """Give the months of holders."""
    return (row | row["subject"]._asdict() for row in months(known, by_holder=True))


def summary(known: Known, by_holder: bool) -> Iterator[Row]:
    """Average whole months, and find who paid most in 90 days."""
    found: dict[Subject, list[Row]] = defaultdict(list)
    for row in months(known, by_holder):
        found[row["subject"]].append(row)
    transactions = subjects(known, by_holder)
    for subject, rows in found.items():
        whole = [row for row in rows if row["days_observed"] == row["days_in_month"]]
        n, told = len(whole), {"average_in": None, "average_out": None, "average_net": None}
        spread = {"in_volatility": None, "net_volatility": None}
        if n:
            told = {f"average_{k[6:] or k}": rounded(Fraction(sum(r[k] for r in whole), n)) for k in FLOWS}
        if n > 1:
            spread = {
                f"{k[6:] or k}_volatility": deviation([r[k] for r in whole]) for k in ("money_in", "net")
            }
        paid: Counter[str] = Counter()
        for t in (t for of in transactions[subject].values() for t in of):
            if t["kind"] == "money_in" and TODAY - 90 * DAY <= t["day"] < TODAY:
                paid[t["payee"]] += t["amount"]
        most = max(((amount, name) for name, amount in paid.items() if name), default=None)
        yield (
            subject._asdict()
            | told
            | spread
            | {
                "first_month": rows[0]["month"],
                "whole_months": n,
                "days_observed": sum(row["days_observed"] for row in rows),
                "largest_payer": most and most[1],
                "largest_payer_share": most and share(most[0], paid.total()),
            }
        )


FLOWS = ("money_in", "money_out", "net")


def deviation(values: list[int]) -> int:
    """Give the mean distance from the mean."""
    mean = Fraction(sum(values), len(values))
    return rounded(sum((abs(value - mean) for value in values), Fraction()) / len(values))


def income_streams(known: Known) -> Rows:
    """Find who pays at a steady pace, of what is money in."""
    payers: dict[Any, list[Row]] = defaultdict(list)
    for t in classified(known):
        if t["kind"] == "money_in" and t["payee"]:
            payers[t["account_id"], t["currency"], t["payee"]].append(t)
    for (account, currency, payee), rows in payers.items():
        if found := steady(rows, "posted_at"):
            late = max((TODAY - found["next_expected_on"]).days, 0)
            yield {"account_id": account, "currency": currency, "payee": payee, **found, "days_late": late}


AT = f"'{ASKED.isoformat()}'"
WHO = "account_id, account_holder_id AS holder, currency"
HOLDER = "account_holder_id AS holder, currency"
MONTHS = (
    "month, days_in_month, days_observed, coverage, transactions, money_in, money_out, net, transfers_in, transfers_out,"
    " unsure_in, unsure_out, fees, loan_payments"
)
SUMMARY = (
    "first_month, whole_months, days_observed, average_in, average_out, average_net, in_volatility, net_volatility,"
    " largest_payer, largest_payer_share"
)

CASH_FLOWS: dict[str, tuple[str, Callable[[Known], Rows]]] = {
    "classified_transactions": (
        f"SELECT {WHO}, transaction_id, amount, day, payee, kind, counterpart_id"
        f" FROM classified_transactions_as_of({AT})",
        classified,
    ),
    "underwriting_months": (
        f"SELECT {WHO}, {MONTHS} FROM underwriting_months_as_of({AT})",
        underwriting_months,
    ),
    "underwriting_holder_months": (
        f"SELECT {HOLDER}, {MONTHS} FROM underwriting_holder_months_as_of({AT})",
        underwriting_holder_months,
    ),
    "underwriting_summary": (
        f"SELECT {WHO}, {SUMMARY} FROM underwriting_summary_as_of({AT})",
        lambda known: summary(known, by_holder=False),
    ),
    "underwriting_holder_summary": (
        f"SELECT {HOLDER}, {SUMMARY} FROM underwriting_holder_summary_as_of({AT})",
        lambda known: summary(known, by_holder=True),
    ),
    "income_streams": (
        "SELECT account_id, currency, payee, occurrences, period_days, typical, confidence, first_on, next_expected_on,"
        f" days_late FROM income_streams_as_of({AT})",
        income_streams,
    ),
}
"""Question → what is asked of the views, and what answers it here: rows with the same columns."""
