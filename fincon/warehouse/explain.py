"""Say in words what became of an account's link, and why it has the balance that it has, or none."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fincon.errors import UsageError
from fincon.transforms.wording import pluralize
from fincon.warehouse.read_only import ReadOnlyConnection

Facts = dict[str, Any]

ACCOUNTS = """
    SELECT
        stripe_account, account_id, account_holder_id, institution_name, category, status, absent_since,
        permissions IS NOT NULL AND NOT list_contains(permissions, 'balances') AS not_permitted,
        status_details.active.action = 'relink_required' AS to_relink, status_details.active.cause AS cause,
        status_details.active.expected_deactivation_date AS ends_at, now() AS now
    FROM accounts WHERE account_id = $wanted OR account_holder_id = $wanted
    ORDER BY stripe_account, account_id"""
BALANCES = """
    SELECT currency, current, current_amount, available, available_amount, used, used_amount, as_of,
        minor_unit_digits(currency) AS digits
    FROM balances WHERE stripe_account = $stripe_account AND account_id = $account_id ORDER BY currency"""
REFRESH = """
    SELECT status, last_attempted_at, next_refresh_available_at
    FROM refreshes
    WHERE stripe_account = $stripe_account AND account_id = $account_id AND feature = 'balance'"""
FAILURES = """
    SELECT failures, failing_since, last_success_at FROM refresh_streaks
    WHERE stripe_account = $stripe_account AND account_id = $account_id AND feature = 'balance'"""
TIMELINE = """
    SELECT happened_at, event, feature, detail, until, seen_at FROM link_timeline($account_id)
    WHERE stripe_account = $stripe_account ORDER BY happened_at, seen_at, event, feature, detail"""

WORDS = {
    "linked": "linked",
    "collected": "seen in session {detail}",
    "relink_notice": "notice: it must be linked again{cause}{until}",
    "inactive": "inactive: it cannot be read until it is linked again",
    "disconnected": "disconnected: Stripe reads it no more",
    "relinked": "active again",
    "absent": "on Stripe's list no more",
    "listed_again": "on Stripe's list again",
    "permissions_changed": "permissions since: {detail}",
    "balance_known": "its balance is known",
    "balance_gone": "Stripe tells no balance any more",
    "refused": "Stripe refused its {feature}: {detail}",
}
"""Event → what is said of it; a refresh is told by its outcome, and any other event is a status of Stripe's."""


def explain(connection: ReadOnlyConnection, wanted: str) -> Iterator[str]:
    """Yield lines on the account ``wanted``, or on each account of the holder ``wanted``: state, balance, what happened.

    Raises:
        UsageError: nothing is known of such an account or holder.
    """
    accounts = _rows(connection, ACCOUNTS, wanted=wanted)
    if not accounts:
        raise UsageError(
            f"No account {wanted} is known here, and no holder.",
            "It was never synced, or it was erased. Give an account (fca_…) or its holder (cus_…, acct_…).",
        )
    for number, account in enumerate(accounts):
        if number:
            yield ""
        key = {name: account[name] for name in ("stripe_account", "account_id")}
        yield _headline(account)
        yield f"  {_why(account, *(_rows(connection, query, **key) for query in (BALANCES, REFRESH, FAILURES)))}"
        yield "  What happened (UTC):"
        for event in _rows(connection, TIMELINE, **key):
            yield f"    {_minute(event['happened_at'])} {_in_words(event)}"


def _headline(account: Facts) -> str:
    of = f", of {account['account_holder_id']}" if account["account_holder_id"] else ", of no holder"
    via = f", by {account['stripe_account']}" if account["stripe_account"] else ""
    kind = account["category"] or "account"
    bank = account["institution_name"] or "an institution that is not named"
    return f"{account['account_id']}: {kind} at {bank}{of}{via}; {account['status'] or 'status not known'}."


def _why(account: Facts, balances: list[Facts], refreshes: list[Facts], streaks: list[Facts]) -> str:
    """Return why nothing new comes, if so, then what is known of the balance."""
    refresh = refreshes[0] if refreshes else {}
    return " ".join(filter(None, [_obstacle(account, refresh, streaks), _known(account, balances)]))


def _obstacle(account: Facts, refresh: Facts, streaks: list[Facts]) -> str:
    """Return the first that keeps a new balance from coming; empty where nothing does."""
    if account["absent_since"]:
        return f"Stripe's list does not show it since {_minute(account['absent_since'])}: no balance comes any more."
    if account["status"] == "disconnected":
        return "It is disconnected: no balance comes unless the holder links it anew."
    if account["status"] == "inactive":
        return "It is inactive: no balance comes until the holder links it again."
    if account["not_permitted"]:
        return "The permission `balances` is not granted: a new session must ask for it."
    if not refresh.get("status"):
        return "Its balance was never refreshed: subscribe it, or ask Stripe for a refresh."
    if refresh["status"] == "pending":
        return f"A refresh of its balance is under way since {_minute(refresh['last_attempted_at'])}."
    if refresh["status"] == "failed":
        return _failing(refresh, streaks)
    if account["to_relink"]:
        until = f" until {_minute(account['ends_at'])}" if account["ends_at"] else ""
        return f"It must be linked again, and can be read{until}."
    return ""


def _failing(refresh: Facts, streaks: list[Facts]) -> str:
    said = f"The last refresh of its balance, of {_minute(refresh['last_attempted_at'])}, failed"
    if streaks and streaks[0]["failures"] > 1:
        streak = streaks[0]
        said += f", as did all {streak['failures']:,} seen since {_minute(streak['failing_since'])}"
    if refresh["next_refresh_available_at"]:
        said += f"; the next is allowed from {_minute(refresh['next_refresh_available_at'])}"
    return f"{said}."


def _known(account: Facts, balances: list[Facts]) -> str:
    if not balances:
        return "No balance of it is known."
    as_of = balances[0]["as_of"]
    days = (account["now"] - as_of).days if as_of else None
    age = f"of {_minute(as_of)}, {pluralize(days, 'day')} old" if days is not None else "of a time not told"
    figures = [
        f"{balance['currency']} {name} {_amount(balance, name)}"
        for balance in balances
        for name in ("current", "available", "used")
        if balance[name] is not None
    ]
    return f"The last balance known is {age}: {', '.join(figures) or 'without a figure'}."


def _amount(balance: Facts, name: str) -> str:
    """Return an amount in major units, or in minor units where the currency is not known."""
    major = balance[f"{name}_amount"]
    return (
        f"{major:,.4f}".rstrip("0").rstrip(".") if major is not None else f"{balance[name]:,} (minor units)"
    )


def _in_words(event: Facts) -> str:
    """Return what is said of one event of the timeline."""
    name, until = event["event"], event["until"]
    if name.startswith("refresh_"):
        said = f"refresh of its {_feature(event)}: {name.removeprefix('refresh_')}"
        return said + (f"; the next allowed from {_minute(until)}" if until else "")
    if name not in WORDS:
        return f"status {name}"
    return WORDS[name].format(
        detail=event["detail"] or "(none)",
        feature=_feature(event),
        cause=f" ({event['detail']})" if event["detail"] else "",
        until=f"; expected to end {_minute(until)}" if until else "",
    )


def _feature(event: Facts) -> str:
    return "transactions" if event["feature"] == "transaction" else str(event["feature"])


def _minute(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else "a time not told"


def _rows(connection: ReadOnlyConnection, query: str, **values: str) -> list[Facts]:
    cursor = connection.execute(query, values)
    names = [name for name, *_ in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
