"""What one account tells, page by page → rows of transactions, owners and watermarks."""

from collections.abc import Sequence

from fincon.transforms.columns import Columns, fields, with_rows
from fincon.transforms.decode import raw_items
from fincon.transforms.page import Page
from fincon.transforms.parsed_objects import ParsedObjects
from fincon.transforms.rejects import object_id, refusal_code, refused, unreadable
from fincon.transforms.schemas import OWNERS, TRANSACTIONS, WATERMARKS
from fincon.transforms.stripe_objects import Owner, StatusTransitions, Transaction

_NO_TRANSITIONS = StatusTransitions()

ANOTHERS = "It stands on the list of another account - at `$.account`"
"""Why a transaction is rejected."""


def read_transactions(parsed: ParsedObjects, chain: Sequence[Page]) -> None:
    """Read pages of one account's transactions, and the watermark that a chain's first page brings."""
    into = parsed.transactions
    for header, body in _there(parsed, chain):
        before, rejected = len(into.objects), len(parsed.rejects)
        parsed.read_list(into, body, header.observed_at, header.parent)
        strange = {one.id for one in into.objects[before:] if one.account != header.parent}
        if (
            strange and header.answered_at
        ):  # nobody may know that account, or it was erased; an older fincon took them
            into.cut(before)
            del parsed.rejects[rejected:]
            raws = raw_items(body)
            own = [raw for raw in raws if object_id(raw) not in strange]
            parsed.read_each(into, own, header.observed_at, header.parent)
            parsed.rejects += [
                unreadable("transaction", raw, ANOTHERS, header.observed_at, header.parent)
                for raw in raws
                if object_id(raw) in strange
            ]


def read_owners(parsed: ParsedObjects, chain: Sequence[Page]) -> None:
    """Read all pages of one account's owners, who are seen when the first page was: a version of them is one."""
    first = chain[0].header
    there, rejected = _there(parsed, chain), len(parsed.rejects)
    count = 0
    for header, body in there:
        found = parsed.read_list(parsed.owners, body, first.observed_at, header.parent)
        parsed.owner_accounts += [header.parent] * found
        count += found
    if there and not count and len(parsed.rejects) == rejected:
        parsed.ownerless.append((first.parent, first.observed_at))


def _there(parsed: ParsedObjects, chain: Sequence[Page]) -> list[Page]:
    """The pages of a chain but for the answer that the account cannot be read; records that, and the watermark."""
    for header, _ in chain:
        if header.number == 0 and header.watermark:
            parsed.watermarks.append((header.watermark, header))
        if header.status != 200:
            parsed.rejects.append(refused("account", header, header.parent))
    return [page for page in chain if page.header.status == 200]


def feature_tables(parsed: ParsedObjects) -> dict[str, Columns]:
    """The columns of ``transactions``, ``owners`` and ``watermarks``."""
    return {
        TRANSACTIONS.name: _transaction_columns(parsed),
        OWNERS.name: _owner_columns(parsed),
        WATERMARKS.name: _watermark_columns(parsed),
    }


def _transaction_columns(parsed: ParsedObjects) -> Columns:
    of = fields(Transaction, parsed.transactions.objects)
    transitions = fields(StatusTransitions, [found or _NO_TRANSITIONS for found in of["status_transitions"]])
    same = ("amount", "currency", "description", "status", "transacted_at", "livemode")
    return {
        **{name: of[name] for name in same},
        "transaction_id": of["id"],
        "account_id": of["account"],
        "posted_at": transitions["posted_at"],
        "void_at": transitions["void_at"],
        "updated_at": of["updated"],
        "transaction_refresh_id": of["transaction_refresh"],
        "extra": parsed.transactions.extra,
        "observed_at": parsed.transactions.observed_at,
    }


def _owner_columns(parsed: ParsedObjects) -> Columns:
    of = fields(Owner, parsed.owners.objects)
    columns: Columns = {
        **{name: of[name] for name in ("name", "email", "phone", "raw_address", "refreshed_at")},
        "owner_id": of["id"],
        "account_id": parsed.owner_accounts,
        "ownership_id": of["ownership"],
        "extra": parsed.owners.extra,
        "observed_at": parsed.owners.observed_at,
    }
    ids, seen_at = zip(*parsed.ownerless, strict=True) if parsed.ownerless else ((), ())
    return with_rows(columns, {"account_id": ids, "observed_at": seen_at})


def _watermark_columns(parsed: ParsedObjects) -> Columns:
    marks = [mark for mark, _ in parsed.watermarks]
    headers = [header for _, header in parsed.watermarks]
    is_refused = [header.status not in (200, 404) for header in headers]
    return {
        "account_id": [header.parent for header in headers],
        "feature": [m.feature for m in marks],
        "last_attempted_at": [m.last_attempted_at for m in marks],
        "status": [m.status for m in marks],
        "refresh_id": [m.refresh_id for m in marks],
        "ownership_id": [m.ownership_id for m in marks],
        "pii": [m.pii or None for m in marks],
        "refused_at": [
            header.observed_at // 1_000_000 if is_so else None
            for header, is_so in zip(headers, is_refused, strict=True)
        ],
        "refusal": [
            refusal_code(header) if is_so else None for header, is_so in zip(headers, is_refused, strict=True)
        ],
        "observed_at": [header.observed_at for header in headers],
    }
