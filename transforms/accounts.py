"""Accounts, of the listing, in sessions and in events alike → rows of accounts, balances and refreshes."""

from collections.abc import Sequence
from itertools import chain, compress
from typing import Any

from fincon.transforms.columns import Columns, columns, fields, holder_columns, ids, known, microseconds
from fincon.transforms.page import Page
from fincon.transforms.parsed_objects import ParsedObjects
from fincon.transforms.schemas import ACCOUNTS, BALANCES, FEATURES, REFRESHES
from fincon.transforms.stripe_objects import (
    Account,
    AccountNumber,
    ActiveDetails,
    Balance,
    Refresh,
    StatusDetails,
)

AS_THEY_ARE = tuple(c.name for c in ACCOUNTS.columns if c.name in Account.__struct_fields__)
"""Columns of accounts that are attributes of the same name: where more is done to one, it is made anew after these."""


def read_accounts(parsed: ParsedObjects, pages: Sequence[Page]) -> None:
    """Read every account of pages of the listing."""
    for page in pages:
        parsed.read_list(parsed.accounts, page.body, page.header.observed_at)


def account_tables(parsed: ParsedObjects) -> dict[str, Columns]:
    """The columns of ``accounts``, ``balances`` and ``refreshes``."""
    accounts, seen_at = fields(Account, parsed.accounts.objects), parsed.accounts.observed_at
    return {
        ACCOUNTS.name: _account_columns(accounts, parsed.accounts.extra, seen_at),
        BALANCES.name: _balance_columns(accounts, seen_at),
        REFRESHES.name: _refresh_columns(accounts, seen_at),
    }


def _account_columns(of: Columns, extra: Sequence[str | None], seen_at: Sequence[int]) -> Columns:
    balances = of["balance"]
    return {
        "account_id": of["id"],
        **holder_columns(of["account_holder"]),
        **{name: of[name] for name in AS_THEY_ARE},
        "created_at": of["created"],
        "ownership_id": ids(of["ownership"]),
        "account_numbers": [numbers and _account_numbers(numbers) for numbers in of["account_numbers"]],
        "status_details": [details and _status_details(details) for details in of["status_details"]],
        "balance_type": [b.type if b else None for b in balances],
        "balance_as_of": [b.as_of if b else None for b in balances],
        "extra": extra,
        "observed_at": seen_at,
    }


def _account_numbers(numbers: Sequence[AccountNumber]) -> list[dict[str, Any]]:
    return [
        {**known(n, AccountNumber), "expected_expiry_date": microseconds(n.expected_expiry_date)}
        for n in numbers
    ]


def _status_details(details: StatusDetails) -> dict[str, Any]:
    active = details.active
    if active is None:
        return {"active": None}
    until = microseconds(active.expected_deactivation_date)
    return {"active": {**known(active, ActiveDetails), "expected_deactivation_date": until}}


def _balance_columns(of: Columns, seen_at: Sequence[int]) -> Columns:
    rows = [
        (account_id, *amounts, balance.type, balance.as_of, at)
        for account_id, balance, at in zip(of["id"], of["balance"], seen_at, strict=True)
        if balance is not None
        for amounts in amounts_by_currency(balance)
    ]
    names = ("account_id", "currency", "current", "available", "used", "balance_type", "as_of", "observed_at")
    return columns(names, rows)


Amount = tuple[str, int | None, int | None, int | None]


def amounts_by_currency(balance: Balance) -> list[Amount]:
    """(currency, current, available, used), in minor units, for each currency that any of the maps names."""
    current = balance.current
    available = (balance.cash and balance.cash.available) or {}
    used = (balance.credit and balance.credit.used) or {}
    return [(c, current.get(c), available.get(c), used.get(c)) for c in {**current, **available, **used}]


def _refresh_columns(of: Columns, seen_at: Sequence[int]) -> Columns:
    """One feature after the other. A refresh counts as true and a null does not, so `compress` drops the nulls."""
    by_feature = [(feature, of[f"{feature}_refresh"]) for feature in FEATURES]
    refreshes = fields(Refresh, [r for _, found in by_feature for r in found if r])
    return {
        "account_id": [*chain.from_iterable(compress(of["id"], found) for _, found in by_feature)],
        "feature": [feature for feature, found in by_feature for r in found if r],
        "status": refreshes["status"],
        "last_attempted_at": refreshes["last_attempted_at"],
        "next_refresh_available_at": refreshes["next_refresh_available_at"],
        "refresh_id": refreshes["id"],
        "observed_at": [*chain.from_iterable(compress(seen_at, found) for _, found in by_feature)],
    }
