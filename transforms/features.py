"""What one account tells, page by page → columns of transactions, owners and watermarks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fincon.transforms.page import Page, Watermark
from fincon.transforms.rejects import Reject, unknown, unreadable
from fincon.transforms.stripe_objects import (
    RAW_LIST,
    TRANSACTION_LIST,
    Owner,
    StatusTransitions,
    Transaction,
    decode,
)


@dataclass
class Details:
    """Objects read from pages, in parallel lists: index i of those of one kind belongs to the same object."""

    transactions: list[Transaction] = field(default_factory=list)
    transaction_extra: list[str | None] = field(default_factory=list)
    transaction_seen_at: list[int] = field(default_factory=list)
    owners: list[Owner] = field(default_factory=list)
    owner_extra: list[str | None] = field(default_factory=list)
    owner_accounts: list[str] = field(default_factory=list)
    owner_seen_at: list[int] = field(default_factory=list)
    watermarks: list[tuple[str, Watermark, int]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def read_details(seen: Details, chain: Sequence[Page]) -> None:
    """Pages of one account, all of transactions or all of owners; a chain's first page brings its watermark.

    Owners are seen when the first page was, so that a version of them is one.
    """
    first = chain[0].header
    for header, body in chain:
        if header.number == 0 and header.watermark:
            seen.watermarks.append((header.parent, header.watermark, header.observed_at))
        if header.status != 200:
            seen.rejects.append(unknown("account", header.parent, header.observed_at, header.parent))
        elif header.stream == "transactions":
            _read_transactions(seen, body, header.parent, header.observed_at)
        else:
            _read_owners(seen, body, header.parent, first.observed_at)


def _read_transactions(seen: Details, body: bytes, account_id: str, at: int) -> None:
    try:
        found = TRANSACTION_LIST.decode(body).data
    except msgspec.DecodeError:
        found = []
        for raw in RAW_LIST.decode(body).data:
            try:
                transaction, extra = decode(Transaction, raw)
            except msgspec.DecodeError as error:
                seen.rejects.append(unreadable("transaction", raw, str(error), at, account_id))
            else:
                found.append(transaction)
                seen.transaction_extra.append(extra)
    else:
        seen.transaction_extra += [None] * len(found)
    seen.transactions += found
    seen.transaction_seen_at += [at] * len(found)


def _read_owners(seen: Details, body: bytes, account_id: str, at: int) -> None:
    for raw in RAW_LIST.decode(body).data:
        try:
            owner, extra = decode(Owner, raw)
        except msgspec.DecodeError as error:
            seen.rejects.append(unreadable("owner", raw, str(error), at, account_id))
            continue
        seen.owners.append(owner)
        seen.owner_extra.append(extra)
        seen.owner_accounts.append(account_id)
        seen.owner_seen_at.append(at)


_NO_TRANSITIONS = StatusTransitions()


def transaction_columns(seen: Details) -> dict[str, Sequence[Any]]:
    """The columns of ``transactions``; timestamps in Unix seconds, ``observed_at`` in microseconds."""
    found = seen.transactions
    transitions = [t.status_transitions or _NO_TRANSITIONS for t in found]
    return {
        "transaction_id": [t.id for t in found],
        "account_id": [t.account for t in found],
        "amount": [t.amount for t in found],
        "currency": [t.currency for t in found],
        "description": [t.description for t in found],
        "status": [t.status for t in found],
        "transacted_at": [t.transacted_at for t in found],
        "posted_at": [t.posted_at for t in transitions],
        "void_at": [t.void_at for t in transitions],
        "updated_at": [t.updated for t in found],
        "transaction_refresh_id": [t.transaction_refresh for t in found],
        "livemode": [t.livemode for t in found],
        "extra": seen.transaction_extra,
        "observed_at": seen.transaction_seen_at,
    }


def owner_columns(seen: Details) -> dict[str, Sequence[Any]]:
    """The columns of ``owners``, likewise."""
    found = seen.owners
    return {
        "owner_id": [o.id for o in found],
        "account_id": seen.owner_accounts,
        "ownership_id": [o.ownership for o in found],
        "name": [o.name for o in found],
        "email": [o.email for o in found],
        "phone": [o.phone for o in found],
        "raw_address": [o.raw_address for o in found],
        "refreshed_at": [o.refreshed_at for o in found],
        "extra": seen.owner_extra,
        "observed_at": seen.owner_seen_at,
    }


def watermark_columns(seen: Details) -> dict[str, Sequence[Any]]:
    """The columns of ``watermarks``, likewise."""
    marks = [mark for _, mark, _ in seen.watermarks]
    return {
        "account_id": [account_id for account_id, _, _ in seen.watermarks],
        "feature": [m.feature for m in marks],
        "last_attempted_at": [m.last_attempted_at for m in marks],
        "status": [m.status for m in marks],
        "refresh_id": [m.refresh_id for m in marks],
        "ownership_id": [m.ownership_id for m in marks],
        "pii": [m.pii or None for m in marks],
        "observed_at": [at for _, _, at in seen.watermarks],
    }
