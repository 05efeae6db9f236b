"""What a warehouse must hold once it has fetched everything: rows made from the model, not from JSON."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from fincon.sandbox.evolution import is_endive
from fincon.sandbox.model import Account, Authorization, Holder, Owner, Session, StatusNotice, Transaction

Row = dict[str, Any]
FEATURE_NAMES = ("balance", "ownership", "transaction")


def moment(seconds: int | None) -> datetime | None:
    """Give a Unix time as a datetime in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _list(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


def _holder(holder: Holder | None) -> Row:
    ids = {f"account_holder_{kind}_id": None for kind in ("account", "customer", "customer_account")}
    row: Row = {"account_holder_type": None if holder is None else holder.type, **ids}
    if holder is not None:
        row[f"account_holder_{holder.kind}_id"] = holder.id
    return row


def session_row(it: Session, version: str) -> Row:
    """Give a row of `sessions`, as told in a version."""
    newer = it.newer if is_endive(version) else None
    filters, filtered = it.filters, newer if it.filters else None
    countries = _list(filters.countries) if filters else None
    if newer is not None:
        countries = [filtered.country] if filtered and filtered.country is not None else None
    return {
        "session_id": it.id,
        **_holder(it.holder),
        "filter_account_subcategories": _list(filters.account_subcategories) if filters else None,
        "filter_countries": countries,
        "filter_require_payment_method_support": filtered.require_payment_method_support
        if filtered
        else None,
        "limit_accounts": newer and newer.limit,
        "manual_entry_mode": newer and newer.manual_entry,
        "permissions": list(it.permissions),
        "prefetch": _list(it.prefetch),
        "return_url": it.return_url,
        "livemode": False,
        "account_count": len(it.accounts),
        "extra": {**it.unknown, **it.grown} or None,
    }


def account_row(it: Account) -> Row:
    """Give a row of `accounts`."""
    return {
        "account_id": it.id,
        **_holder(it.holder),
        "category": it.category,
        "subcategory": it.subcategory,
        "status": it.status,
        "display_name": it.display_name,
        "institution_name": it.institution_name,
        "last4": it.last4,
        "livemode": False,
        "created_at": moment(it.created),
        "ownership_id": it.ownership,
        "permissions": _list(it.permissions),
        "subscriptions": _list(it.subscriptions),
        "supported_payment_method_types": list(it.payment_methods),
        "account_numbers": _numbers(it),
        "status_details": _status_details(it.notice),
        "balance_type": it.balance.type if it.balance else None,
        "balance_as_of": moment(it.balance.as_of) if it.balance else None,
        "extra": it.unknown or None,
    }


def _numbers(it: Account) -> list[Row] | None:
    if it.numbers is None:
        return None
    return [
        {
            "expected_expiry_date": moment(number.expected_expiry_date),
            "identifier_type": number.identifier_type,
            "status": number.status,
            "supported_networks": list(number.supported_networks),
        }
        for number in it.numbers
    ]


def _status_details(notice: StatusNotice | None) -> Row | None:
    if notice is None:
        return None
    ends = moment(notice.expected_deactivation_date)
    return {"active": {"action": notice.action, "cause": notice.cause, "expected_deactivation_date": ends}}


def authorization_row(it: Authorization) -> Row:
    """Give a row of `authorizations`."""
    active = _status_details(it.notice) if it.status == "active" else None
    return {
        "authorization_id": it.id,
        **_holder(it.holder),
        "display_name": it.display_name,
        "institution": it.institution,
        "institution_name": it.institution_name,
        "status": it.status,
        "status_details": active
        or ({"inactive": {"action": "relink_required"}} if it.status != "active" else None),
        "livemode": False,
    }


def balance_rows(it: Account) -> list[Row]:
    """Rows of `balances`: one for each currency that any of the three maps names."""
    balance = it.balance
    if balance is None:
        return []
    available, used = balance.available or {}, balance.used or {}
    return [
        {
            "account_id": it.id,
            "currency": currency,
            "balance_type": balance.type,
            "as_of": moment(balance.as_of),
            "current": balance.current.get(currency),
            "available": available.get(currency),
            "used": used.get(currency),
        }
        for currency in sorted({*balance.current, *available, *used})
    ]


def refresh_rows(it: Account) -> list[Row]:
    """Rows of `refreshes`: one for each feature that was ever attempted."""
    return [
        {
            "account_id": it.id,
            "feature": feature,
            "status": refresh[0],
            "last_attempted_at": moment(refresh[1]),
            "next_refresh_available_at": moment(refresh[2]),
            "refresh_id": it.refresh_id if feature == "transaction" else None,
        }
        for feature, refresh in zip(FEATURE_NAMES, it.refreshes, strict=True)
        if refresh is not None
    ]


def owner_row(it: Owner) -> Row:
    """Give a row of `owners`."""
    return {
        "owner_id": it.id,
        "account_id": it.account,
        "ownership_id": it.ownership,
        "name": it.name,
        "email": it.email,
        "phone": it.phone,
        "raw_address": it.raw_address,
        "refreshed_at": moment(it.refreshed_at),
        **({"extra": it.unknown} if it.unknown else {}),
    }


def transaction_row(it: Transaction) -> Row:
    """Give a row of `transactions`."""
    return {
        "transaction_id": it.id,
        "account_id": it.account,
        "amount": it.amount,
        "currency": it.currency,
        "description": it.description,
        "status": it.status,
        "transacted_at": moment(it.transacted_at),
        "posted_at": moment(it.posted_at),
        "void_at": moment(it.void_at),
        "updated_at": moment(it.updated),
        "transaction_refresh_id": it.refresh,
        "livemode": False,
        "extra": it.unknown or None,
    }


def tables(
    sessions: Iterable[Session], accounts: Iterable[Account], account_ids: dict[int, str], version: str
) -> dict[str, list[Row]]:
    """Give the latest state of every table, from all sessions and all accounts."""
    rows: dict[str, list[Row]] = {
        name: [] for name in ("sessions", "session_accounts", "accounts", "balances", "refreshes")
    }
    for session in sessions:
        rows["sessions"].append(session_row(session, version))
        rows["session_accounts"] += [
            {"session_id": session.id, "account_id": account_ids[index], "position": position}
            for position, index in enumerate(session.accounts)
        ]
    for account in accounts:
        rows["accounts"].append(account_row(account))
        rows["balances"] += balance_rows(account)
        rows["refreshes"] += refresh_rows(account)
    return rows
