"""Accounts, of the listing, in sessions and in events alike → rows of accounts, balances and refreshes."""

from collections.abc import Sequence
from itertools import compress
from typing import Any

import msgspec

from fincon.transforms.columns import (
    Columns,
    active_details,
    columns,
    fields,
    holder_columns,
    ids,
    microseconds,
    with_rows,
)
from fincon.transforms.page import ListedPage, Page
from fincon.transforms.parsed_objects import ParsedObjects
from fincon.transforms.rejects import refused
from fincon.transforms.schemas import ACCOUNTS, BALANCES, FEATURES, REFRESHES
from fincon.transforms.stripe_objects import (
    Account,
    AccountNumber,
    Balance,
    Refresh,
)

AS_THEY_ARE = tuple(c.name for c in ACCOUNTS.columns if c.name in Account.__struct_fields__)
"""Columns of accounts that are attributes of the same name: where more is done to one, it is made anew after these."""

FILLED = (ACCOUNTS, BALANCES, REFRESHES)
"""The tables that accounts fill."""


def read_accounts(parsed: ParsedObjects, pages: Sequence[Page]) -> None:
    """Read every account of pages of the listing; or the answer that an account is not there."""
    for page in pages:
        header, body = page.to_read if isinstance(page, ListedPage) else page
        if header.status == 200:
            parsed.read_list(parsed.accounts, body, header.observed_at)
        else:
            parsed.rejects.append(refused("account", header))


def account_tables(parsed: ParsedObjects) -> dict[str, Columns]:
    """The columns of ``accounts``, ``balances`` and ``refreshes``."""
    accounts, seen_at = fields(Account, parsed.accounts.objects), parsed.accounts.observed_at
    return {
        ACCOUNTS.name: _with_deleted(_account_columns(accounts, parsed), parsed),
        BALANCES.name: _balance_columns(accounts, seen_at),
        REFRESHES.name: _refresh_columns(accounts, parsed),
    }


def _account_columns(of: Columns, parsed: ParsedObjects) -> Columns:
    balances, seen_at = of["balance"], parsed.accounts.observed_at
    shown: list[tuple[str | None, list[str] | None]] = [(None, None)] * len(seen_at)
    for place, event in parsed.events.items():
        shown[place] = event
    return {
        "account_id": of["id"],
        **holder_columns(of["account_holder"]),
        **{name: of[name] for name in AS_THEY_ARE},
        "created_at": of["created"],
        "ownership_id": ids(of["ownership"]),
        "account_numbers": [numbers and _account_numbers(numbers) for numbers in of["account_numbers"]],
        "status_details": [
            details and {"active": active_details(details.active)} for details in of["status_details"]
        ],
        "balance_type": [b.type if b else None for b in balances],
        "balance_as_of": [b.as_of if b else None for b in balances],
        "absent_since": [None] * len(seen_at),
        "extra": parsed.accounts.extra,
        "observed_at": seen_at,
        "event_id": [event_id for event_id, _ in shown],
        "absent": [absent for _, absent in shown],
    }


OF_THOSE_LISTED = [c.name for c in ACCOUNTS.own_columns if c.name not in ("account_id", "absent_since")]
"""The columns of which a row says nothing that says only that its account is not listed any more."""


def _with_deleted(columns: Columns, parsed: ParsedObjects) -> Columns:
    """``columns`` and a row for each account of which Stripe says that it is no more: that, and nothing else of it."""
    if not parsed.deleted_accounts:
        return columns
    ids, seen_at = zip(*parsed.deleted_accounts, strict=True)
    rows = {
        "account_id": ids,
        "absent_since": [at // 1_000_000 for at in seen_at],
        "observed_at": seen_at,
        "absent": [OF_THOSE_LISTED] * len(ids),
    }
    return with_rows(columns, rows)


def _account_numbers(numbers: Sequence[AccountNumber]) -> list[dict[str, Any]]:
    return [
        {**msgspec.structs.asdict(n), "expected_expiry_date": microseconds(n.expected_expiry_date)}
        for n in numbers
    ]


def _balance_columns(of: Columns, seen_at: Sequence[int]) -> Columns:
    rows = [
        (account_id, *amounts, balance.type, balance.as_of, at)
        for account_id, balance, at in zip(of["id"], of["balance"], seen_at, strict=True)
        if balance is not None
        for amounts in amounts_by_currency(balance) or [_NO_AMOUNT]
    ]
    names = ("account_id", "currency", "current", "available", "used", "balance_type", "as_of", "observed_at")
    return columns(names, rows)


Amount = tuple[str | None, int | None, int | None, int | None]

_NO_AMOUNT = (None, None, None, None)
"""Of a balance that names no currency: it says so, for the one before may have named some."""


def amounts_by_currency(balance: Balance) -> list[Amount]:
    """(currency, current, available, used), in minor units, for each currency that any of the maps names."""
    current = balance.current
    available = (balance.cash and balance.cash.available) or {}
    used = (balance.credit and balance.credit.used) or {}
    return [(c, current.get(c), available.get(c), used.get(c)) for c in {**current, **available, **used}]


def _refresh_columns(of: Columns, parsed: ParsedObjects) -> Columns:
    """One feature after the other, with a row of nulls where there is no refresh: one that was there has ended then.

    Of a refresh that an event says nothing of there is no row.
    """
    count = len(of["id"])
    refreshes = fields(Refresh, [r or _NO_REFRESH for feature in FEATURES for r in of[f"{feature}_refresh"]])
    found = {
        "account_id": [*of["id"]] * len(FEATURES),
        "feature": [feature for feature in FEATURES for _ in range(count)],
        "status": refreshes["status"],
        "last_attempted_at": refreshes["last_attempted_at"],
        "next_refresh_available_at": refreshes["next_refresh_available_at"],
        "refresh_id": refreshes["id"],
        "observed_at": parsed.accounts.observed_at * len(FEATURES),
    }
    if not parsed.events:
        return found
    silent = {i: absent for i, (_, absent) in parsed.events.items()}
    told = [f"{f}_refresh" not in silent.get(n % count, ()) for n, f in enumerate(found["feature"])]
    return {name: [*compress(values, told)] for name, values in found.items()}


_NO_REFRESH = Refresh(last_attempted_at=None, status=None)  # type: ignore[arg-type]  # nothing was read
