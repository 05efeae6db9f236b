"""Stripe's objects as JSON, with its habits: null here, absent there, an id or the whole object."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from fincon.sandbox.evolution import ENDIVE, SINCE, is_endive
from fincon.sandbox.ids import mix
from fincon.sandbox.model import (
    Account,
    AccountNumber,
    Authorization,
    Balance,
    Event,
    Holder,
    Json,
    Owner,
    Refresh,
    Session,
    Transaction,
)

ACCOUNTS_URL = "/v1/financial_connections/accounts"
API_VERSION = ENDIVE
EMBEDDED = 10  # how many accounts the list within a session holds
NULLABLE_OF_SESSION = ("account_holder", "filters", "prefetch", "return_url")
OLDEST_OF_ALL = max(SINCE.values())
"""A version from here on renders every attribute of an account."""


NAMES = (
    "id", "object", "account_holder", "account_numbers", "balance", "balance_refresh", "category", "created",
    "display_name", "institution_name", "last4", "livemode", "ownership", "ownership_refresh", "permissions",
    "status", "status_details", "subcategory", "subscriptions", "supported_payment_method_types",
    "transaction_refresh",
)  # fmt: skip
NULLABLE = (
    "account_holder", "account_numbers", "balance", "balance_refresh", "display_name", "last4", "ownership",
    "ownership_refresh", "permissions", "status_details", "subscriptions", "transaction_refresh",
)  # fmt: skip


def _empty(number: int) -> Json:
    """Give one of the shapes that accounts have when nothing is known: every other one leaves out some nulls."""
    found: Json = dict.fromkeys(NAMES)
    found |= {"object": "financial_connections.account", "livemode": False}
    dice = mix(number)
    for place, name in enumerate(NULLABLE):
        if number & 1 and dice >> place & 1:
            del found[name]
    return found


SHAPES = tuple(_empty(number) for number in range(64))


def account(
    it: Account,
    expand: Collection[str] = (),
    owners: Sequence[Owner] = (),
    inline_owners: int = EMBEDDED,
    version: str = API_VERSION,
) -> Json:
    """Give an account; `owners` are needed only where `ownership` is to be expanded, the first of them inline."""
    (
        _, id_, created, holder, institution_name, display_name, last4, category, subcategory, status, notice,
        permissions, subscriptions, methods, numbers, owned, balance, refreshes, refresh_id, unknown, absent,
    ) = it  # fmt: skip
    ownership: str | Json | None = owned
    if owned is not None and "ownership" in expand:
        ownership = _ownership(owned, it, owners, inline_owners)
    found = SHAPES[absent & 63].copy()
    found["id"] = id_
    found["category"] = category
    found["created"] = created
    found["institution_name"] = institution_name
    found["status"] = status
    found["subcategory"] = subcategory
    found["supported_payment_method_types"] = [*methods]
    if display_name is not None:
        found["display_name"] = display_name
    if last4 is not None:
        found["last4"] = last4
    if ownership is not None:
        found["ownership"] = ownership
    if holder is not None:
        found["account_holder"] = _holder(holder, absent, expand)
    if numbers is not None:
        found["account_numbers"] = _numbers(numbers)
    if balance is not None:
        found["balance"] = _balance(balance)
    balance_refresh, ownership_refresh, transaction_refresh = refreshes
    if balance_refresh is not None:
        found["balance_refresh"] = _refresh(balance_refresh)
    if ownership_refresh is not None:
        found["ownership_refresh"] = _refresh(ownership_refresh)
    if transaction_refresh is not None:
        found["transaction_refresh"] = {"id": refresh_id, **_refresh(transaction_refresh)}
    if permissions is not None:
        found["permissions"] = [*permissions]
    if notice is not None:
        found["status_details"] = {"active": notice._asdict()}
    if subscriptions is not None:
        found["subscriptions"] = [*subscriptions]
    if unknown:
        _add(found, unknown)
    if version < OLDEST_OF_ALL:
        for name, since in SINCE.items():
            if version < since:
                found.pop(name, None)
    return found


def deleted(account_id: str) -> Json:
    """Give what is left of an account that was deleted."""
    return {"id": account_id, "object": "financial_connections.account", "deleted": True}


def _add(found: Json, unknown: Json) -> None:
    """Add what no reference names, within what is there."""
    for name, value in unknown.items():
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name] |= value
        else:
            found[name] = value


def _holder(it: Holder, absent: int, expand: Collection[str]) -> Json:
    kind, id_ = it
    found: Json = {"account": None, "customer": None} if absent >> 14 & 1 else {}
    expands = expand and kind != "customer_account" and f"account_holder.{kind}" in expand
    found[kind] = {"id": id_, "object": kind, "metadata": {}} if expands else id_
    found["type"] = it.type
    return found


def _numbers(numbers: Sequence[AccountNumber]) -> list[Json]:
    return [
        {
            "expected_expiry_date": expiry,
            "identifier_type": identifier_type,
            "status": status,
            "supported_networks": [*networks],
        }
        for expiry, identifier_type, status, networks in numbers
    ]


def _refresh(it: Refresh) -> Json:
    return {"last_attempted_at": it[1], "next_refresh_available_at": it[2], "status": it[0]}


def _balance(it: Balance) -> Json:
    type_, as_of, current, available, used, shape = it
    found: Json = {"as_of": as_of}
    if available is not None:
        found["cash"] = {"available": available}
    else:
        _put_nothing(found, "cash", "available", shape % (3 if type_ == "cash" else 2))
    if used is not None:
        found["credit"] = {"used": used}
    else:
        _put_nothing(found, "credit", "used", shape // 3 % (3 if type_ == "credit" else 2))
    found["current"] = current
    found["type"] = type_
    return found


def _put_nothing(balance: Json, parent: str, name: str, shape: int) -> None:
    """Give a map of amounts that is missing: it is absent, has a null parent, or is null itself."""
    if shape:
        balance[parent] = None if shape == 1 else {name: None}


def _ownership(id_: str, it: Account, owners: Sequence[Owner], inline: int) -> Json:
    return {
        "id": id_,
        "object": "financial_connections.account_ownership",
        "created": it.created,
        "owners": {
            "object": "list",
            "data": [owner(one) for one in owners[:inline]],
            "has_more": len(owners) > inline,
            "url": f"{ACCOUNTS_URL}/{it.id}/owners",
        },
    }


def owner(it: Owner) -> Json:
    """Give an owner of an account."""
    return {
        "id": it.id,
        "object": "financial_connections.account_owner",
        "email": it.email,
        "name": it.name,
        "ownership": it.ownership,
        "phone": it.phone,
        "raw_address": it.raw_address,
        "refreshed_at": it.refreshed_at,
        **it.unknown,
    }


def transaction(it: Transaction) -> Json:
    """Give a transaction."""
    return {
        "id": it.id,
        "object": "financial_connections.transaction",
        "account": it.account,
        "amount": it.amount,
        "currency": it.currency,
        "description": it.description,
        "livemode": False,
        "status": it.status,
        "status_transitions": {"posted_at": it.posted_at, "void_at": it.void_at},
        "transacted_at": it.transacted_at,
        "transaction_refresh": it.refresh,
        "updated": it.updated,
        **it.unknown,
    }


def session(
    it: Session, render: Callable[[int], Json], expand: Collection[str] = (), version: str = API_VERSION
) -> Json:
    """Give a session; `render` gives the JSON of one of its accounts."""
    accounts: Json = {
        "object": "list",
        "data": [render(index) for index in it.accounts[:EMBEDDED]],
        "has_more": len(it.accounts) > EMBEDDED,
        "total_count": len(it.accounts),
        "url": ACCOUNTS_URL,
    }
    if it.absent >> 10 & 1:
        del accounts["total_count"]
    filters: Json | None = None
    if it.filters is not None:
        filters = {
            name: None if value is None else list(value) for name, value in it.filters._asdict().items()
        }
        if it.absent >> 11 & 1 and filters["account_subcategories"] is None:
            del filters["account_subcategories"]
    found: Json = {
        "id": it.id,
        "object": "financial_connections.session",
        "account_holder": it.holder and _holder(it.holder, it.absent, expand),
        "accounts": accounts,
        "client_secret": it.client_secret,
        "filters": filters,
        "livemode": False,
        "permissions": list(it.permissions),
        "prefetch": None if it.prefetch is None else list(it.prefetch),
        "return_url": it.return_url,
    }
    for place, name in enumerate(NULLABLE_OF_SESSION, 1):
        if it.absent & 1 and it.absent >> place & 1 and found[name] is None:
            del found[name]
    if is_endive(version):
        _renew(found, it)
    _add(found, it.unknown)
    return found | it.grown


def _renew(found: Json, it: Session) -> None:
    """Turn a session into what it is since endive."""
    newer = it.newer
    if found.get("filters") is not None:
        found["filters"].pop("countries", None)
        found["filters"] |= {
            "country": newer.country,
            "require_payment_method_support": newer.require_payment_method_support,
        }
    found["limits"] = newer.limit and {"accounts": newer.limit}
    found["manual_entry"] = newer.manual_entry and {"mode": newer.manual_entry}
    if newer.has_token:
        found["bank_account_token"] = bank_account_token(it)
    elif it.absent & 1:
        found["bank_account_token"] = None


def bank_account_token(it: Session) -> Json:
    """Give the token of a session in which a bank account was entered by hand. Its bearer can use it."""
    dice = mix(it.number)
    return {
        "id": f"btok_{dice:016x}",
        "object": "token",
        "bank_account": {
            "id": f"ba_{dice:016x}",
            "object": "bank_account",
            "account_holder_name": "Grace Hopper",
            "account_holder_type": "individual",
            "account_type": "checking",
            "bank_name": "StripeBank",
            "country": "US",
            "currency": "usd",
            "fingerprint": f"fp{dice:014x}",
            "last4": f"{dice % 10_000:04}",
            "routing_number": "110000000",
            "status": "new",
        },
        "client_ip": f"192.0.2.{dice % 256}",
        "created": 1_780_000_000,
        "livemode": False,
        "type": "bank_account",
        "used": False,
    }


def authorization(it: Authorization) -> Json:
    """Give an authorization."""
    details: Json = {"inactive": {"action": "relink_required"}}
    if it.status == "active":
        details = {"active": it.notice and it.notice._asdict()}
    return {
        "id": it.id,
        "object": "financial_connections.authorization",
        "account_holder": it.holder and _holder(it.holder, 0, ()),
        "display_name": it.display_name,
        "institution": it.institution,
        "institution_name": it.institution_name,
        "livemode": False,
        "status": it.status,
        "status_details": details,
    }


def event(it: Event, subject: Json, version: str = API_VERSION) -> Json:
    """Give an event with its subject as it was, rendered in a version."""
    return {
        "id": it.id,
        "object": "event",
        "api_version": version,
        "created": it.created,
        "data": {"object": subject},
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": None, "idempotency_key": None},
        "type": it.type,
    }
