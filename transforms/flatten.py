"""Pages → rows of every table that a run fills, as Arrow tables."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, compress, groupby
from typing import Any

import msgspec
import pyarrow as pa

from fincon.transforms.features import (
    Details,
    owner_columns,
    read_details,
    transaction_columns,
    watermark_columns,
)
from fincon.transforms.page import ERASED, Origin, Page
from fincon.transforms.rejects import Reject, object_id, unknown, unreadable
from fincon.transforms.schemas import (
    ACCOUNTS,
    BALANCES,
    FEATURES,
    OBJECT_TABLES,
    OWNERS,
    REFRESHES,
    REJECTS,
    SESSION_ACCOUNTS,
    SESSIONS,
    TIMESTAMP,
    TRANSACTIONS,
    WATERMARKS,
    Table,
)
from fincon.transforms.streams import stream_named
from fincon.transforms.stripe_objects import (
    ACCOUNT,
    ACCOUNT_LIST,
    EVENT,
    RAW_LIST,
    SESSION_ACCOUNTS_ALONE,
    Account,
    AccountHolder,
    AccountNumber,
    Balance,
    Expanded,
    Filters,
    Refresh,
    Session,
    StatusDetails,
    decode,
)

Columns = dict[str, Sequence[Any]]
"""Column name → values, all of the same length; timestamps in Unix seconds,
``observed_at`` in microseconds."""


@dataclass
class ParsedObjects:
    """Objects read from pages, in parallel lists: index i of each belongs to the same object."""

    accounts: list[Account] = field(default_factory=list)
    account_extra: list[str | None] = field(default_factory=list)
    account_seen_at: list[int] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    session_extra: list[str | None] = field(default_factory=list)
    session_seen_at: list[int] = field(default_factory=list)
    session_account_ids: list[list[str]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    decode_individually: bool = False
    """Whether the last page had an account that is not wholly known: the next is likely to have one too."""


def flatten(pages: Iterable[Page], origin: Origin) -> dict[str, pa.Table]:
    """The rows of ``pages``: one Arrow table for each of `OBJECT_TABLES`, by name.

    The pages of one session must stand together and be complete, and so must those of an account's owners; the
    listing's and those of transactions may be any part. What cannot be read lands in ``rejects``; nothing is
    dropped.
    """
    seen, details = ParsedObjects(), Details()
    readers: dict[str, Callable[[Sequence[Page]], None]] = {
        "sessions": partial(_read_session, seen),
        "accounts": partial(_read_accounts, seen),
        "events": partial(_read_events, seen),
        "transactions": partial(read_details, details),
        "owners": partial(read_details, details),
    }
    for (stream, _), found in groupby(pages, key=lambda page: (page.header.stream, page.header.parent)):
        readers[stream_named(stream).name](list(found))
    accounts = _fields(Account, seen.accounts)
    columns = {
        SESSIONS.name: _session_columns(seen),
        SESSION_ACCOUNTS.name: _session_account_columns(seen),
        ACCOUNTS.name: _account_columns(accounts, seen),
        BALANCES.name: _balance_columns(accounts, seen.account_seen_at),
        REFRESHES.name: _refresh_columns(accounts, seen.account_seen_at),
        TRANSACTIONS.name: transaction_columns(details),
        OWNERS.name: owner_columns(details),
        WATERMARKS.name: watermark_columns(details),
        REJECTS.name: _reject_columns(seen.rejects + details.rejects),
    }
    return {table.name: _arrow(table, columns[table.name], origin) for table in OBJECT_TABLES}


def _read_accounts(seen: ParsedObjects, pages: Sequence[Page]) -> None:
    """Every account of pages of the listing."""
    for page in pages:
        _read_list(seen, page.body, page.header.observed_at)


def _read_list(seen: ParsedObjects, body: bytes, at: int) -> None:
    """Every account of a list page, whole pages at a time where all of it is well-formed and known."""
    if seen.decode_individually:
        _read_each(seen, body, at)
        return
    try:
        accounts = ACCOUNT_LIST.decode(body).data
    except msgspec.DecodeError:
        _read_each(seen, body, at)
    else:
        seen.accounts += accounts
        seen.account_extra += [None] * len(accounts)
        seen.account_seen_at += [at] * len(accounts)


def _read_each(seen: ParsedObjects, body: bytes, at: int) -> None:
    """Every account of a list page, each by itself."""
    raws = RAW_LIST.decode(body).data
    unusual = 0
    for raw in raws:
        try:
            account = ACCOUNT.decode(raw)
        except msgspec.DecodeError:
            _read_account(seen, raw, at)
            unusual += 1
        else:
            _add(seen, account, None, at)
    seen.decode_individually = unusual > 0


def _add(seen: ParsedObjects, account: Account, extra: str | None, at: int) -> None:
    seen.accounts.append(account)
    seen.account_extra.append(extra)
    seen.account_seen_at.append(at)


def _read_account(seen: ParsedObjects, raw: msgspec.Raw, at: int) -> str | None:
    """One account; its id, or None where not even that can be read."""
    try:
        account, extra = decode(Account, raw)
    except msgspec.DecodeError as error:
        return _reject(seen, "account", raw, str(error), at)
    _add(seen, account, extra, at)
    return account.id


def _read_events(seen: ParsedObjects, pages: Sequence[Page]) -> None:
    """The account of each event, oldest first, as of the event's time.

    Stripe tells that time in whole seconds. An event counts as late in its second, after anything that was
    listed then, and events of one account and second follow each other by a microsecond.
    """
    turns: dict[tuple[str | None, int], int] = {}
    for page in sorted(pages, key=lambda page: -page.header.number):
        for raw in reversed(RAW_LIST.decode(page.body).data):
            try:
                event = EVENT.decode(raw)
            except msgspec.DecodeError as error:
                _reject(seen, "event", raw, str(error), page.header.observed_at)
                continue
            second = event.created * 1_000_000 + EVENTS_COUNT_AS
            account_id = object_id(event.data.object)
            turn = turns.get((account_id, second), 0)
            turns[account_id, second] = turn + 1
            _read_account(seen, event.data.object, second + turn)


EVENTS_COUNT_AS = 900_000
"""Microseconds within its second at which an event counts as having happened."""


def _read_session(seen: ParsedObjects, chain: Sequence[Page]) -> None:
    """A session's own page, then the rest of its accounts; or the answer that it is not there."""
    first, *rest = chain
    at = first.header.observed_at
    if first.header.status == ERASED:
        return
    if first.header.status != 200:
        seen.rejects.append(unknown("session", first.header.parent, at))
        return
    try:
        session, extra = decode(Session, first.body)
    except msgspec.DecodeError as error:
        _reject(seen, "session", msgspec.Raw(first.body), str(error), at)
        for page in chain:
            _read_rest(seen, page)
        return
    ids = [_read_account(seen, raw, at) for raw in session.accounts.data]
    for page in rest:
        ids += _read_rest(seen, page)
    seen.sessions.append(session)
    seen.session_extra.append(extra)
    seen.session_seen_at.append(at)
    seen.session_account_ids.append(_each_once(ids))


def _read_rest(seen: ParsedObjects, page: Page) -> list[str | None]:
    """The accounts of any page of a session's chain: the list that it is, or the one inside a session."""
    at, body = page.header.observed_at, page.body
    try:
        own = page.header.number == 0
        raws = SESSION_ACCOUNTS_ALONE.decode(body).accounts.data if own else RAW_LIST.decode(body).data
    except msgspec.DecodeError:
        return []  # a session without a list of accounts: all there is of it is in rejects
    return [_read_account(seen, raw, at) for raw in raws]


def _each_once(ids: Sequence[str | None]) -> list[str]:
    """The ids in order, one that came twice (a cursor was gone) at its first place; the unreadable as ``""``."""
    known: set[str] = set()
    return [i or "" for i in ids if not i or not (i in known or known.add(i))]  # type: ignore[func-returns-value]


def _reject(seen: ParsedObjects, kind: str, raw: msgspec.Raw, message: str, at: int) -> str | None:
    """Record an object that could not be read; its id, where that can."""
    seen.rejects.append(unreadable(kind, raw, message, at))
    return seen.rejects[-1].object_id


def _ids(values: Sequence[str | Expanded | None]) -> Sequence[str | None]:
    """The ids: each as it stands, or of the object that stands where it would."""
    return [value.id if value.__class__ is Expanded else value for value in values]  # type: ignore[misc]


_NO_HOLDER = AccountHolder(type="")


def _holder_columns(holders: Iterable[AccountHolder | None]) -> Columns:
    of = _fields(AccountHolder, [holder or _NO_HOLDER for holder in holders])
    return {
        "account_holder_type": [kind or None for kind in of["type"]],
        "account_holder_account_id": _ids(of["account"]),
        "account_holder_customer_id": _ids(of["customer"]),
        "account_holder_customer_account_id": _ids(of["customer_account"]),
    }


_NO_FILTERS = Filters()


def _session_columns(seen: ParsedObjects) -> Columns:
    sessions = seen.sessions
    filters = [s.filters or _NO_FILTERS for s in sessions]
    return {
        "session_id": [s.id for s in sessions],
        **_holder_columns(s.account_holder for s in sessions),
        "filter_account_subcategories": [f.account_subcategories for f in filters],
        "filter_countries": [f.countries for f in filters],
        "permissions": [s.permissions for s in sessions],
        "prefetch": [s.prefetch for s in sessions],
        "return_url": [s.return_url for s in sessions],
        "livemode": [s.livemode for s in sessions],
        "account_count": [len(ids) for ids in seen.session_account_ids],
        "extra": seen.session_extra,
        "observed_at": seen.session_seen_at,
    }


def _session_account_columns(seen: ParsedObjects) -> Columns:
    rows = [
        (session.id, account_id, position, at)
        for session, ids, at in zip(
            seen.sessions, seen.session_account_ids, seen.session_seen_at, strict=True
        )
        for position, account_id in enumerate(ids)
        if account_id
    ]
    return _columns(("session_id", "account_id", "position", "observed_at"), rows)


def _account_columns(of: Columns, seen: ParsedObjects) -> Columns:
    balances = of["balance"]
    return {
        "account_id": of["id"],
        **_holder_columns(of["account_holder"]),
        **{name: of[name] for name in AS_THEY_ARE},
        "created_at": of["created"],
        "ownership_id": _ids(of["ownership"]),
        "account_numbers": [numbers and _account_numbers(numbers) for numbers in of["account_numbers"]],
        "status_details": [details and _status_details(details) for details in of["status_details"]],
        "balance_type": [b.type if b else None for b in balances],
        "balance_as_of": [b.as_of if b else None for b in balances],
        "extra": seen.account_extra,
        "observed_at": seen.account_seen_at,
    }


AS_THEY_ARE = tuple(c.name for c in ACCOUNTS.columns if c.name in Account.__struct_fields__)
"""Columns of accounts that are attributes of the same name: where more is done to one, it is made anew after these."""


def _account_numbers(numbers: Sequence[AccountNumber]) -> list[dict[str, Any]]:
    return [
        {**msgspec.structs.asdict(n), "expected_expiry_date": _micros(n.expected_expiry_date)}
        for n in numbers
    ]


def _status_details(details: StatusDetails) -> dict[str, Any]:
    active = details.active
    if active is None:
        return {"active": None}
    until = _micros(active.expected_deactivation_date)
    return {"active": {**msgspec.structs.asdict(active), "expected_deactivation_date": until}}


def _balance_columns(of: Columns, seen_at: Sequence[int]) -> Columns:
    rows = [
        (account_id, *amounts, balance.type, balance.as_of, at)
        for account_id, balance, at in zip(of["id"], of["balance"], seen_at, strict=True)
        if balance is not None
        for amounts in amounts_by_currency(balance)
    ]
    names = ("account_id", "currency", "current", "available", "used", "balance_type", "as_of", "observed_at")
    return _columns(names, rows)


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
    refreshes = _fields(Refresh, [r for _, found in by_feature for r in found if r])
    return {
        "account_id": [*chain.from_iterable(compress(of["id"], found) for _, found in by_feature)],
        "feature": [feature for feature, found in by_feature for r in found if r],
        "status": refreshes["status"],
        "last_attempted_at": refreshes["last_attempted_at"],
        "next_refresh_available_at": refreshes["next_refresh_available_at"],
        "refresh_id": refreshes["id"],
        "observed_at": [*chain.from_iterable(compress(seen_at, found) for _, found in by_feature)],
    }


def _reject_columns(rejects: Sequence[Reject]) -> Columns:
    return _columns(Reject._fields, rejects)


def _fields(kind: type[msgspec.Struct], objects: Sequence[msgspec.Struct]) -> Columns:
    """Field → its values in ``objects``: taken apart and transposed in C, several times as fast as field by field."""
    return _columns(kind.__struct_fields__, [*map(msgspec.structs.astuple, objects)])


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Columns:
    """Rows → columns; no rows give empty columns."""
    values: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else ((),) * len(names)
    return dict(zip(names, values, strict=True))


def _micros(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1_000_000


def _arrow(table: Table, columns: Columns, origin: Origin) -> pa.Table:
    """``columns`` as an Arrow table of the table's schema; ``origin`` is the same in every row."""
    rows = len(columns["observed_at"])
    if not rows:
        return table.empty
    made = {
        "observed_at": pa.array(columns["observed_at"], pa.int64()).cast(TIMESTAMP),
        "run_id": pa.repeat(origin.run_id, rows),
        "stripe_account": pa.repeat(origin.stripe_account, rows),
    }
    arrays = [made[c.name] if c.name in made else _array(columns[c.name], c.type) for c in table.columns]
    return pa.Table.from_arrays(arrays, schema=table.schema)


_SECONDS = pa.timestamp("s", tz="UTC")


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == TIMESTAMP:
        return pa.array(values, _SECONDS).cast(TIMESTAMP)
    return pa.array(values, kind)
