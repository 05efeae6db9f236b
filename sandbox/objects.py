"""Stripe's objects as JSON, with its habits: null here, absent there, an id or the whole object."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sandbox.model import Account, Amounts, Balance, Event, Holder, Json, Owner, Refresh, Session, Transaction

ACCOUNTS_URL = "/v1/financial_connections/accounts"
API_VERSION = "2026-06-24.dahlia"
EMBEDDED = 10  # how many accounts the list within a session holds
NULLABLE = (
    "account_holder", "account_numbers", "balance", "balance_refresh", "display_name", "last4", "ownership",
    "ownership_refresh", "permissions", "status_details", "subscriptions", "transaction_refresh",
)  # fmt: skip


def account(it: Account, expand: Collection[str] = (), owners: Sequence[Owner] = ()) -> Json:
    """Give an account; `owners` are needed only where `ownership` is to be expanded."""
    methods = list(it.payment_methods)
    ownership: str | Json | None = it.ownership
    if it.ownership is not None and "ownership" in expand:
        ownership = _ownership(it.ownership, it, owners)
    balance_refresh, ownership_refresh, transaction_refresh = it.refreshes
    found: Json = {
        "id": it.id,
        "object": "financial_connections.account",
        "account_holder": _holder(it.holder, it.absent, expand),
        "account_numbers": _numbers(it),
        "balance": _balance(it.balance) if it.balance is not None else None,
        "balance_refresh": _refresh(balance_refresh),
        "category": it.category,
        "created": it.created,
        "display_name": it.display_name,
        "institution_name": it.institution_name,
        "last4": it.last4,
        "livemode": False,
        "ownership": ownership,
        "ownership_refresh": _refresh(ownership_refresh),
        "permissions": None if it.permissions is None else list(it.permissions),
        "status": it.status,
        "status_details": _notice(it),
        "subcategory": it.subcategory,
        "subscriptions": None if it.subscriptions is None else list(it.subscriptions),
        "supported_payment_method_types": methods,
        "transaction_refresh": _refresh(transaction_refresh),
    }
    return _finish(found, NULLABLE, it.absent, it.unknown)


def _finish(found: Json, nullable: tuple[str, ...], absent: int, unknown: Json) -> Json:
    """Leave out those nulls whose bit is set, and add what no reference names."""
    if absent & 1:
        for place, name in enumerate(nullable, 1):
            if absent >> place & 1 and found[name] is None:
                del found[name]
    for name, value in unknown.items():
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name] |= value
        else:
            found[name] = value
    return found


def _holder(it: Holder | None, absent: int, expand: Collection[str]) -> Json | None:
    if it is None:
        return None
    found: Json = {"account": None, "customer": None} if absent >> 14 & 1 else {}
    expands = it.kind != "customer_account" and f"account_holder.{it.kind}" in expand
    found[it.kind] = {"id": it.id, "object": it.kind, "metadata": {}} if expands else it.id
    found["type"] = it.type
    return found


def _numbers(it: Account) -> list[Json] | None:
    if it.numbers is None:
        return None
    return [
        {**number._asdict(), "supported_networks": list(number.supported_networks)} for number in it.numbers
    ]


def _notice(it: Account) -> Json | None:
    return {"active": it.notice._asdict()} if it.notice else None


def _refresh(it: Refresh | None) -> Json | None:
    if it is None:
        return None
    found: Json = {} if it.id is None else {"id": it.id}
    found["last_attempted_at"] = it.last_attempted_at
    found["next_refresh_available_at"] = it.next_available_at
    found["status"] = it.status
    return found


def _balance(it: Balance) -> Json:
    found: Json = {"as_of": it.as_of}
    _put_map(found, "cash", "available", it.available, it.shape % 3 if it.type == "cash" else it.shape % 2)
    _put_map(
        found, "credit", "used", it.used, it.shape // 3 % 3 if it.type == "credit" else it.shape // 3 % 2
    )
    found["current"] = it.current
    found["type"] = it.type
    return found


def _put_map(balance: Json, parent: str, name: str, amounts: Amounts | None, shape: int) -> None:
    """Give a map of amounts; a missing one is absent, has a null parent, or is null itself."""
    if amounts is not None:
        balance[parent] = {name: amounts}
    elif shape:
        balance[parent] = None if shape == 1 else {name: None}


def _ownership(id_: str, it: Account, owners: Sequence[Owner]) -> Json:
    return {
        "id": id_,
        "object": "financial_connections.account_ownership",
        "created": it.created,
        "owners": {
            "object": "list",
            "data": [owner(one) for one in owners],
            "has_more": False,
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


def session(it: Session, render: Callable[[int], Json], expand: Collection[str] = ()) -> Json:
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
        "account_holder": _holder(it.holder, it.absent, expand),
        "accounts": accounts,
        "client_secret": it.client_secret,
        "filters": filters,
        "livemode": False,
        "permissions": list(it.permissions),
        "prefetch": None if it.prefetch is None else list(it.prefetch),
        "return_url": it.return_url,
    }
    return _finish(found, ("account_holder", "filters", "prefetch", "return_url"), it.absent, it.unknown)


def event(it: Event, of_account: Json) -> Json:
    """Give an event with the account as it was."""
    return {
        "id": it.id,
        "object": "event",
        "api_version": API_VERSION,
        "created": it.created,
        "data": {"object": of_account},
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": None, "idempotency_key": None},
        "type": it.type,
    }
