"""Reckon what each question must answer, in plain Python over what is known of a world: no SQL, no row of the lake."""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import ceil, floor
from typing import Any

from fincon.transforms.money import minor_unit_digits
from tests.conftest import Row
from tests.questions.known import Known

Rows = Iterable[Row]
STALE_AFTER = timedelta(days=30)


def total(values: Iterable[int | None]) -> int | None:
    """Add up what is known; None where nothing is, as SQL does."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def median(values: Iterable[int]) -> int:
    """Give the middle one; of two the lower."""
    ordered = sorted(values)
    return ordered[ceil(len(ordered) / 2) - 1]


def rounded(exact: Fraction) -> int:
    """Give the nearest whole number, half away from zero."""
    return (1 if exact >= 0 else -1) * floor(abs(exact) + Fraction(1, 2))


# -- what is held


def held(known: Known) -> Iterator[Row]:
    """Give each account and currency: what it holds, whose, and whether it is live."""
    newest = known.newest_balance_at()
    latest: dict[str, list[Row]] = defaultdict(list)
    for row, _ in known.balance_rows():
        latest[row["account_id"]].append(row)
    for name, account in known.accounts.items():
        for row in latest.get(name) or [dict.fromkeys(("currency", "current", "available", "used", "as_of"))]:
            if account["status"] == "disconnected" or name not in known.listed:
                holding = "not linked"
            elif account["status"] == "inactive" or (row["as_of"] and row["as_of"] < newest - STALE_AFTER):
                holding = "stale"
            else:
                holding = "live"
            yield {
                "account_id": name,
                "holder": known.holder(account),
                "holder_type": account["account_holder_type"],
                "institution_name": account["institution_name"],
                "category": account["category"],
                "status": account["status"],
                "holding": holding,
                **{k: row[k] for k in ("currency", "current", "available", "used", "as_of")},
            }


def summed(known: Known, key: Callable[[Row], Any], keep: Callable[[Row], bool]) -> Iterator[tuple[Any, Row]]:
    """Add up what is held by a key."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in filter(keep, held(known)):
        groups[key(row)].append(row)
    for one, rows in groups.items():
        by = {h: [r for r in rows if r["holding"] == h] for h in ("live", "stale", "not linked")}
        live = by["live"]
        yield (
            one,
            {
                "accounts": len(live),
                "active_accounts": sum(r["status"] == "active" for r in live),
                **{k: total(r[k] for r in live) for k in ("current", "available", "used")},
                "stale_accounts": len(by["stale"]),
                "stale_current": total(r["current"] for r in by["stale"]),
                "unlinked_accounts": len(by["not linked"]),
                "unlinked_current": total(r["current"] for r in by["not linked"]),
                "oldest_as_of": min((r["as_of"] for r in live if r["as_of"]), default=None),
            },
        )


def balance_totals(known: Known) -> Rows:
    """Add up by currency, category and institution."""
    keys = ("currency", "category", "institution_name")
    found = summed(known, lambda r: tuple(r[k] for k in keys), lambda r: r["currency"] is not None)
    for key, sums in found:
        currency = {"current_amount": major(sums["current"], key[0])}
        yield dict(zip(keys, key, strict=True)) | sums | currency


def account_holders(known: Known) -> Rows:
    """Add up by holder and currency."""
    keys = ("holder_type", "holder", "currency")
    found = summed(known, lambda r: tuple(r[k] for k in keys), lambda r: r["holder_type"] is not None)
    return [dict(zip(keys, key, strict=True)) | sums for key, sums in found]


def major(minor: int | None, currency: str) -> Fraction | None:
    """Give minor units in major ones."""
    digits = minor_unit_digits(currency)
    return None if minor is None or digits is None else Fraction(minor, 10**digits)


def rate(known: Known, source: str, target: str, day: date) -> tuple[Fraction, date] | None:
    """Give the newest rate by then, in either direction, and its day."""
    found = [
        (pair.day, pair.source == source, Fraction(value) if pair.source == source else 1 / Fraction(value))
        for pair, value in known.rates.items()
        if {pair.source, pair.target} == {source, target} and pair.day <= day
    ]
    newest = max(found, default=None)
    return newest and (newest[2], newest[0])


def to_currency(known: Known, minor: int, pair: tuple[str, str], day: date) -> int | None:
    """Give minor units of one currency in those of another, half away from zero."""
    source, target = pair
    if source == target:
        return minor
    taken = rate(known, source, target, day)
    if taken is None:
        return None
    return rounded(
        Fraction(minor) * taken[0] * 10 ** minor_unit_digits(target) / 10 ** minor_unit_digits(source)
    )


def holder_totals(known: Known) -> Rows:
    """Add up each holder's currencies in dollars."""
    day = known.newest_balance_at().date()
    holders: dict[Any, list[Row]] = defaultdict(list)
    for row in account_holders(known):
        if row["current"] is not None:
            holders[row["holder_type"], row["holder"]].append(row)
    for (kind, holder), rows in holders.items():
        parts = {r["currency"]: to_currency(known, r["current"], (r["currency"], "usd"), day) for r in rows}
        days = [taken[1] for c in parts if c != "usd" and (taken := rate(known, c, "usd", day))]
        missing = sorted(c for c, part in parts.items() if part is None)
        yield {
            "holder_type": kind,
            "holder": holder,
            "currencies": len(rows),
            "current": None if missing else total(parts.values()),
            "oldest_rate_day": min(days, default=None),
            "newest_rate_day": max(days, default=None),
            "missing_rates": missing,
        }


def balance_change(known: Known) -> Rows:
    """Compare what is live now with the last balance computed, and seen, a week before the newest."""
    until = known.newest_balance_at() - timedelta(days=7)
    for row in held(known):
        versions = known.balances.get(row["account_id"], [])
        old = [
            (min(rows[0]["as_of"], at), at, rows)
            for at, rows in versions
            if min(rows[0]["as_of"], at) <= until
        ]
        if row["holding"] != "live" or row["current"] is None or not old:
            continue
        for before in max(old, key=lambda it: it[:2])[2]:
            if before["currency"] == row["currency"] and before["current"] is not None:
                change = row["current"] - before["current"]
                yield {
                    **{k: row[k] for k in ("account_id", "currency")},
                    "from_current": before["current"],
                    "to_current": row["current"],
                    "change": change,
                    "from_as_of": before["as_of"],
                }


def balance_daily(known: Known) -> Rows:
    """Go through the days from the first on which an account's balance was known."""
    last = max(known.times).date()
    for name, versions in known.balances.items():
        computed = [(min(rows[0]["as_of"], at), at, rows) for at, rows in versions]
        day = min(at for at, _ in versions).date()
        while day <= last:
            by_then = [one for one in computed if one[0].date() <= day]
            sights = [sight for sight in known.sights[name] if sight.at.date() <= day]
            linked = not sights or (sights[-1].is_listed and sights[-1].account["status"] != "disconnected")
            if by_then and linked:
                at, _, rows = max(by_then, key=lambda it: it[:2])
                for row in rows:
                    yield {
                        **{k: row[k] for k in ("account_id", "currency", "current", "available", "used")},
                        "day": day,
                        "carried_forward": day > at.date(),
                        "days_old": (day - at.date()).days,
                    }
            day += timedelta(days=1)


def low_balance_risk(known: Known) -> Rows:
    """Give active cash accounts with less than 100 available."""
    for row in held(known):
        if row["category"] == "cash" and row["status"] == "active" and row["account_id"] in known.listed:
            available = row["currency"] and major(row["available"], row["currency"])
            if available is not None and available < 100:
                yield {k: row[k] for k in ("account_id", "currency", "available")}


# -- transactions


def posted(known: Known) -> Iterator[Row]:
    """Give the posted transactions whose time is known."""
    return (t for t in known.transactions.values() if t["status"] == "posted" and t["posted_at"])


def transaction_monthly(known: Known) -> Rows:
    """Add up by account, currency and month."""
    return flows(known, lambda at: at.date().replace(day=1), "month")


def flows(known: Known, period: Callable[[datetime], date], name: str) -> Iterator[Row]:
    """Add up by account, currency and period."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for t in posted(known):
        groups[t["account_id"], t["currency"], period(t["posted_at"])].append(t["amount"])
    for (account, currency, at), amounts in groups.items():
        yield {
            "account_id": account,
            "currency": currency,
            name: at,
            "transactions": len(amounts),
            "money_in": sum(a for a in amounts if a > 0),
            "money_out": sum(a for a in amounts if a < 0),
            "net": sum(amounts),
        }


def cash_flow_daily(known: Known) -> Rows:
    """Add up by day, and so far."""
    so_far: Counter[tuple[str, str]] = Counter()
    for row in sorted(flows(known, lambda at: at.date(), "day"), key=lambda r: r["day"]):
        so_far[row["account_id"], row["currency"]] += row["net"]
        yield row | {"running_net": so_far[row["account_id"], row["currency"]]}


def running_balance(known: Known) -> Rows:
    """Reckon back from the newest balance, and on."""
    balances = {(row["account_id"], row["currency"]): row for row, _ in known.balance_rows()}
    groups: dict[Any, list[Row]] = defaultdict(list)
    for t in posted(known):
        groups[t["account_id"], t["currency"]].append(t)
    for key, rows in groups.items():
        balance = balances.get(key)
        if not balance or balance["current"] is None:
            continue
        until = sum(t["amount"] for t in rows if t["posted_at"] <= balance["as_of"])
        now = balance["current"] - until
        for t in sorted(rows, key=lambda t: (t["posted_at"], t["transaction_id"])):
            now += t["amount"]
            yield {
                "transaction_id": t["transaction_id"],
                "balance": now,
                "is_after_known": t["posted_at"] > balance["as_of"],
            }


def balance_vs_transactions(known: Known) -> Rows:
    """Compare balances that follow each other with what was posted between, of accounts that have transactions."""
    told = {t["account_id"] for t in known.transactions.values()}
    for name in told & known.balances.keys():
        by_currency: dict[str, dict[datetime, int]] = defaultdict(dict)
        for _, rows in known.balances[name]:
            for row in rows:
                if row["current"] is not None:
                    by_currency[row["currency"]][row["as_of"]] = row["current"]
        for currency, steps in by_currency.items():
            times = sorted(steps)
            for before, after in itertools.pairwise(times):
                between = [
                    t["amount"]
                    for t in posted(known)
                    if (t["account_id"], t["currency"]) == (name, currency)
                    and before < t["posted_at"] <= after
                ]
                yield {
                    "account_id": name,
                    "currency": currency,
                    "to_as_of": after,
                    "change": steps[after] - steps[before],
                    "transactions": len(between),
                    "posted": sum(between),
                    "unexplained": steps[after] - steps[before] - sum(between),
                }


def recurring_transactions(known: Known) -> Rows:
    """Find the payees that come three times or more at a steady pace."""
    payees: dict[Any, list[Row]] = defaultdict(list)
    for t in known.transactions.values():
        payee = re.sub(r"[\W\d_]+", " ", t["description"].lower()).strip()
        if t["status"] != "void" and t["amount"] and payee:
            payees[t["account_id"], t["currency"], t["amount"] > 0, payee].append(t)
    for (account, currency, is_income, _), rows in payees.items():
        if found := steady(rows, "transacted_at"):
            yield {"account_id": account, "currency": currency, "is_income": is_income, **found}


def steady(rows: list[Row], time: str) -> Row | None:
    """Tell how often and how much one payee pays, or is paid; None where that is at no steady pace."""
    days = sorted(t[time].date() for t in rows)
    gaps = [(b - a).days for a, b in itertools.pairwise(days)]
    if len(rows) < 3 or median(gaps) <= 0:
        return None
    period, amounts = median(gaps), sorted(t["amount"] for t in rows)
    apart = max(max(gaps) - period, period - min(gaps))
    spread = Fraction(amounts[-1] - amounts[0], abs(median(amounts)))
    if apart > max(2, period // 5) or (len(rows) < 6 and spread > Fraction(1, 2)):
        return None
    high = spread <= Fraction(1, 10) and len(rows) >= 6
    medium = (spread <= Fraction(1, 10) and len(rows) >= 4) or (spread <= Fraction(1, 2) and len(rows) >= 6)
    return {
        "occurrences": len(rows),
        "period_days": period,
        "typical": median(amounts),
        "confidence": "high" if high else "medium" if medium else "low",
        "first_on": days[0],
        "next_expected_on": days[-1] + timedelta(days=period),
    }


# -- links, refreshes, owners


def institutions(known: Known) -> Rows:
    """Count accounts by institution and state."""
    groups: dict[str | None, list[Row]] = defaultdict(list)
    for account in known.accounts.values():
        groups[account["institution_name"]].append(account)
    for name, rows in groups.items():
        there = [r for r in rows if r["account_id"] in known.listed]
        yield {
            "institution_name": name,
            "accounts": len(rows),
            "active": sum(r["status"] == "active" for r in there),
            "inactive": sum(r["status"] == "inactive" for r in there),
            "disconnected": sum(r["status"] == "disconnected" for r in rows),
            "absent": sum(
                r["account_id"] not in known.listed and r["status"] != "disconnected" for r in rows
            ),
        }


def duplicate_accounts(known: Known) -> Rows:
    """Give the accounts that have a fresher double; in a world it is chance that holder, institution and digits are the same."""
    alike: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for name in known.listed:
        account = known.accounts[name]
        whose = (known.holder(account), account["institution_name"], account["last4"])
        if account["status"] != "disconnected" and None not in whose:
            alike[*whose, account["category"]].append(account)
    never = datetime.min.replace(tzinfo=UTC)
    for rows in alike.values():
        rows.sort(key=lambda a: (a["status"] == "active", a["balance_as_of"] or never), reverse=True)
        yield from ({"account_id": row["account_id"]} for row in rows[1:])


def relink_needed(known: Known) -> Rows:
    """Give the accounts that are inactive, or have a notice."""
    for name in known.listed:
        account = known.accounts[name]
        notice = (account["status_details"] or {}).get("active") or {}
        asked = account["status"] == "active" and notice.get("action") == "relink_required"
        if account["status"] == "inactive" or asked:
            yield {"account_id": name, "cause": notice.get("cause")}


def status_changes(known: Known) -> Rows:
    """Give each change of an account's status."""
    for name, sights in known.sights.items():
        said = [s.account["status"] for s in sights]
        for was, now in itertools.pairwise(said):
            if was != now:
                yield {"account_id": name, "was": was, "now_is": now}


def refresh_health(known: Known) -> Rows:
    """Count the last attempts by feature, institution and outcome."""
    found: Counter[Any] = Counter()
    for (name, feature), seen in known.refreshes.items():
        account = known.accounts[name]
        if seen[-1][1] and name in known.listed and account["status"] != "disconnected":
            found[feature, account["institution_name"], seen[-1][1]["status"]] += 1
    for (feature, institution, status), accounts in found.items():
        yield {"feature": feature, "institution_name": institution, "status": status, "accounts": accounts}


def refresh_streaks(known: Known) -> Rows:
    """Count the attempts seen that failed, since the last that did not."""
    for (name, feature), seen in known.refreshes.items():
        account = known.accounts[name]
        if seen[-1][1] is None or name not in known.listed or account["status"] == "disconnected":
            continue
        attempts = {
            row["last_attempted_at"]: row["status"] for _, row in seen if row and row["status"] != "pending"
        }
        streak = []
        for at in sorted(attempts, reverse=True):
            if attempts[at] != "failed":
                break
            streak.append(at)
        if streak:
            yield {
                "account_id": name,
                "feature": feature,
                "failures": len(streak),
                "failing_since": streak[-1],
            }


def session_conversion(known: Known) -> Rows:
    """Count sessions, those with an account, those with one that works, and accounts."""

    def works(name: str) -> bool:
        return name in known.listed and known.accounts[name]["status"] == "active"

    yield {
        "begun": len(known.sessions),
        "linked": sum(bool(names) for names in known.links.values()),
        "working": sum(any(map(works, names)) for names in known.links.values()),
        "accounts": sum(map(len, known.links.values())),
        "active": sum(works(name) for names in known.links.values() for name in names),
    }


def shared_owners(known: Known) -> Rows:
    """Give the values that stand on several accounts."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)

    def plain(text: str | None) -> str | None:
        return " ".join(text.lower().split()) or None if text else None

    for name, owners in known.owners.items():
        for owner in owners:
            who, where = plain(owner["name"]), plain(owner["raw_address"])
            together = f"{who}, {where}" if who and where else None
            for kind, value in (
                ("email", plain(owner["email"])),
                ("phone", plain(owner["phone"])),
                ("name and address", together),
            ):
                if value:
                    found[kind, value].add(name)
    for (kind, value), names in found.items():
        if len(names) > 1:
            yield {"matched_on": kind, "value": value, "account_ids": sorted(names)}


HOLDER = "account_holder_type AS holder_type, account_holder_id AS holder"
SUMS = (
    "accounts, active_accounts, current, available, used, stale_accounts, stale_current, unlinked_accounts,"
    " unlinked_current, oldest_as_of"
)

ANSWERS: dict[str, tuple[str, Callable[[Known], Rows]]] = {
    "account_balances": (
        "SELECT account_id, account_holder_id AS holder, category, status, holding, currency, current, available, used, as_of"
        " FROM account_balances",
        held,
    ),
    "balance_totals": (
        "SELECT currency, category, institution_name, current_amount,"
        f" {SUMS.replace('active_accounts, ', '')} FROM balance_totals",
        balance_totals,
    ),
    "account_holders": (f"SELECT {HOLDER}, currency, {SUMS} FROM account_holders", account_holders),
    "holder_totals": (
        f"SELECT {HOLDER}, currencies, current, oldest_rate_day, newest_rate_day, missing_rates FROM holder_totals",
        holder_totals,
    ),
    "duplicate_accounts": ("SELECT account_id FROM duplicate_accounts", duplicate_accounts),
    "balance_change": (
        "SELECT account_id, currency, from_current, to_current, change, from_as_of FROM balance_change",
        balance_change,
    ),
    "balance_daily": (
        "SELECT account_id, day, currency, current, available, used, carried_forward, days_old FROM balance_daily",
        balance_daily,
    ),
    "low_balance_risk": ("SELECT account_id, currency, available FROM low_balance_risk", low_balance_risk),
    "transaction_monthly": (
        "SELECT account_id, currency, month, transactions, money_in, money_out, net FROM transaction_monthly",
        transaction_monthly,
    ),
    "cash_flow_daily": (
        "SELECT account_id, currency, day, transactions, money_in, money_out, net, running_net FROM cash_flow_daily",
        cash_flow_daily,
    ),
    "running_balance": (
        "SELECT transaction_id, balance, is_after_known FROM running_balance",
        running_balance,
    ),
    "balance_vs_transactions": (
        "SELECT account_id, currency, to_as_of, change, transactions, posted, unexplained FROM balance_vs_transactions"
        " SEMI JOIN transactions USING (account_id)",
        balance_vs_transactions,
    ),
    "recurring_transactions": (
        "SELECT account_id, currency, is_income, occurrences, period_days, typical, confidence, first_on, next_expected_on"
        " FROM recurring_transactions",
        recurring_transactions,
    ),
    "institutions": (
        "SELECT institution_name, accounts, active, inactive, disconnected, absent FROM institutions",
        institutions,
    ),
    "relink_needed": ("SELECT account_id, cause FROM relink_needed", relink_needed),
    "account_changes": (
        "SELECT account_id, was, now_is FROM account_changes WHERE attribute = 'status'",
        status_changes,
    ),
    "refresh_health": (
        "SELECT feature, institution_name, status, accounts FROM refresh_health",
        refresh_health,
    ),
    "refresh_streaks": (
        "SELECT account_id, feature, failures, failing_since FROM refresh_streaks",
        refresh_streaks,
    ),
    "session_conversion": (
        "SELECT sum(sessions) AS begun, sum(sessions_with_accounts) AS linked, sum(sessions_with_active_accounts) AS working,"
        " sum(accounts) AS accounts, sum(active_accounts) AS active FROM session_conversion",
        session_conversion,
    ),
    "shared_owners": ("SELECT matched_on, value, account_ids FROM shared_owners", shared_owners),
}
"""Question → what is asked of the views, and what answers it here: rows with the same columns."""
