"""Reckon what happened to links, and when an institution had trouble, in plain Python over what is known of a world."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from fractions import Fraction
from typing import Any

from tests.conftest import Row
from tests.questions.answers import Rows
from tests.questions.cash_flows import DAY
from tests.questions.known import Known


def attempts(known: Known) -> dict[tuple[str, str, datetime], str]:
    """Give the last outcome seen of each attempt at a refresh."""
    return {
        (name, feature, row["last_attempted_at"]): row["status"]
        for (name, feature), seen in known.refreshes.items()
        for _, row in seen
        if row and row["last_attempted_at"] and row["status"]
    }


def link_timeline(known: Known) -> Rows:
    """Give when each account was linked, and each outcome of a refresh."""
    for name, sights in known.sights.items():
        row = {"account_id": name, "event": "linked", "feature": None}
        yield row | {"happened_at": sights[0].account["created_at"]}
    for (name, feature, at), status in attempts(known).items():
        yield {"account_id": name, "event": f"refresh_{status}", "feature": feature, "happened_at": at}


def institution_incidents(known: Known) -> Rows:
    """Give the stretches of days on which more attempts failed at an institution than is usual there."""
    return incidents(
        {"institution_name": known.accounts[name]["institution_name"], "feature": feature, "account_id": name}
        | {"at": at, "status": status}
        for (name, feature, at), status in attempts(known).items()
    )


def incidents(tried: Iterable[Row]) -> Iterator[Row]:
    """Go through the days with an attempt: a bad one has three accounts that failed, and a share far above the median."""
    groups: dict[Any, dict[date, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in tried:
        if row["status"] in ("succeeded", "failed") and row["institution_name"]:
            groups[row["institution_name"], row["feature"]][row["at"].date()].append(row)
    for (institution, feature), by_date in groups.items():
        failed = {day: Fraction(sum(map(is_failed, rows)), len(rows)) for day, rows in by_date.items()}
        bad = [day for day in sorted(by_date) if is_bad(day, failed, by_date[day])]
        for following, stretch in stretches_of(sorted(by_date), bad):
            rows = [row for day in stretch for row in by_date[day]]
            hit = list(filter(is_failed, rows))
            yield {"institution_name": institution, "feature": feature} | {
                "began_on": stretch[0],
                "ended_on": following,
                "attempts": len(rows),
                "failures": len(hit),
                "accounts": len({row["account_id"] for row in hit}),
            }


def is_failed(row: Row) -> bool:
    """Tell whether an attempt failed."""
    return bool(row["status"] == "failed")


def is_bad(day: date, failed: dict[date, Fraction], rows: list[Row]) -> bool:
    """Tell whether more failed on a day than is usual, of the 28 days before."""
    before = sorted(failed[one] for one in failed if day - 28 * DAY <= one < day)
    if len(before) < 5 or len({row["account_id"] for row in rows if is_failed(row)}) < 3:
        return False
    usual = before[(len(before) - 1) // 2]
    return failed[day] >= max(2 * usual, usual + Fraction(1, 4))


def stretches_of(every: list[date], bad: list[date]) -> Iterator[tuple[date | None, list[date]]]:
    """Give the bad days that follow each other, and before them the first good one after; None where there is none yet."""
    stretch: list[date] = []
    for day in [*every, None]:
        if day in bad and day:
            stretch.append(day)
        elif stretch:
            yield day, stretch
            stretch = []


LINKS: dict[str, tuple[str, Callable[[Known], Rows]]] = {
    "link_timeline": (
        "SELECT account_id, event, feature, happened_at FROM link_timeline"
        " WHERE event = 'linked' OR event LIKE 'refresh%'",
        link_timeline,
    ),
    "institution_incidents": (
        "SELECT institution_name, feature, began_at::DATE AS began_on, ended_on, attempts, failures, accounts"
        " FROM institution_incidents",
        institution_incidents,
    ),
}
"""Question → what is asked of the views, and what answers it here: rows with the same columns."""
