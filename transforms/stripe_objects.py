"""What Stripe sends: one msgspec Struct per object of the Financial Connections reference.

A field is required where the reference says that it is always there, and optional where it says nullable; a
null and an absent key are the same. Enumerations are open, so they are ``str``. The Structs forbid unknown
attributes, so that a page with one is noticed and `unknown` can keep what it carries.
"""

from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

Minor = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""An amount in the currency's minor unit, as Stripe's API reference defines it; it fits a BIGINT."""

Unix = Annotated[int, Meta(ge=-62_135_596_800, le=253_402_300_799)]
"""Seconds since the Unix epoch, UTC; between the years 1 and 9999, which every reader can show."""

Amounts = dict[str, Minor]
"""Lower-case ISO currency code → amount in that currency's minor unit."""


class Known(Struct, forbid_unknown_fields=True, gc=False):
    """An object all of whose attributes are known; another attribute is an error that `unknown` resolves."""


class Expanded(Struct, gc=False):
    """An object that stands where its id would, because ``expand[]`` asked for it. Only its id is read."""

    id: str


class AccountHolder(Known):
    """``account_holder``: whose account it is."""

    type: str
    account: str | Expanded | None = None
    customer: str | Expanded | None = None
    customer_account: str | Expanded | None = None


class Cash(Known):
    """``balance.cash``: set when ``balance.type`` is ``cash``."""

    available: Amounts | None = None


class Credit(Known):
    """``balance.credit``: set when ``balance.type`` is ``credit``."""

    used: Amounts | None = None


class Balance(Known):
    """``balance``: what the institution said at ``as_of``. The three maps may name different currencies."""

    as_of: Unix
    current: Amounts
    type: str
    cash: Cash | None = None
    credit: Credit | None = None


class Refresh(Known):
    """``balance_refresh``, ``ownership_refresh``, ``transaction_refresh``: the last attempt and its outcome."""

    last_attempted_at: Unix
    status: str
    next_refresh_available_at: Unix | None = None
    id: str | None = None


class AccountNumber(Known):
    """An item of ``account_numbers`` (newer than the reference)."""

    identifier_type: str | None = None
    status: str | None = None
    supported_networks: list[str] | None = None
    expected_expiry_date: Unix | None = None


class ActiveDetails(Known):
    """``status_details.active``: what threatens an active account, and what to do about it."""

    action: str | None = None
    cause: str | None = None
    expected_deactivation_date: Unix | None = None


class StatusDetails(Known):
    """``status_details`` (newer than the reference)."""

    active: ActiveDetails | None = None


class Account(Known):
    """A ``financial_connections.account``."""

    id: str
    category: str
    created: Unix
    institution_name: str
    livemode: bool
    status: str
    subcategory: str
    supported_payment_method_types: list[str]
    object: str = "financial_connections.account"
    account_holder: AccountHolder | None = None
    account_numbers: list[AccountNumber] | None = None
    balance: Balance | None = None
    balance_refresh: Refresh | None = None
    display_name: str | None = None
    last4: str | None = None
    ownership: str | Expanded | None = None
    ownership_refresh: Refresh | None = None
    permissions: list[str] | None = None
    status_details: StatusDetails | None = None
    subscriptions: list[str] | None = None
    transaction_refresh: Refresh | None = None


class Filters(Known):
    """``session.filters``: which kinds of accounts the session may collect."""

    account_subcategories: list[str] | None = None
    countries: list[str] | None = None


class RawList(Struct, gc=False):
    """A list object whose items are not decoded yet. Its ``url`` is not followed: see docs/decisions.md."""

    data: list[msgspec.Raw]
    has_more: bool


class AccountList(Struct, gc=False):
    """A page of accounts, all of them well-formed and with no unknown attribute: the common case."""

    data: list[Account]
    has_more: bool


class SessionAccounts(Known):
    """``session.accounts``: the first of its accounts, not decoded yet. ``account_count`` counts them all itself."""

    data: list[msgspec.Raw]
    has_more: bool
    object: str = "list"
    total_count: int | None = None
    url: str | None = None


class _SessionWithAccounts(Struct, gc=False):
    accounts: RawList


SESSION_ACCOUNTS_ALONE = msgspec.json.Decoder(_SessionWithAccounts)


class Session(Known):
    """A ``financial_connections.session``. Its accounts stay undecoded: a bad one does not spoil it."""

    id: str
    accounts: SessionAccounts
    livemode: bool
    permissions: list[str]
    object: str = "financial_connections.session"
    account_holder: AccountHolder | None = None
    client_secret: Any = None
    filters: Filters | None = None
    prefetch: list[str] | None = None
    return_url: str | None = None


class StatusTransitions(Known):
    """``transaction.status_transitions``: when it was booked, or cancelled."""

    posted_at: Unix | None = None
    void_at: Unix | None = None


class Transaction(Known):
    """A ``financial_connections.transaction``."""

    id: str
    account: str
    amount: Minor
    currency: str
    description: str
    livemode: bool
    status: str
    transacted_at: Unix
    transaction_refresh: str
    updated: Unix
    object: str = "financial_connections.transaction"
    status_transitions: StatusTransitions | None = None


class Owner(Known):
    """A ``financial_connections.account_owner``. Without personal data (``--pii drop``) it has no name."""

    id: str
    ownership: str
    object: str = "financial_connections.account_owner"
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    raw_address: str | None = None
    refreshed_at: Unix | None = None


class TransactionList(Struct, gc=False):
    """A page of transactions, all of them well-formed and with no unknown attribute: the common case."""

    data: list[Transaction]
    has_more: bool


class EventData(Struct, gc=False):
    """``event.data``: the account as it was, not decoded yet."""

    object: msgspec.Raw


class Event(Struct, gc=False):
    """An ``event`` of an account. Only when it was, and of what, is read."""

    created: Unix
    data: EventData


EVENT = msgspec.json.Decoder(Event)

T = TypeVar("T", Account, Session, Transaction, Owner)

ACCOUNT = msgspec.json.Decoder(Account)
_STRICT: dict[Any, msgspec.json.Decoder[Any]] = {
    Account: ACCOUNT,
    **{kind: msgspec.json.Decoder(kind) for kind in (Session, Transaction, Owner)},
}
ACCOUNT_LIST = msgspec.json.Decoder(AccountList)
RAW_LIST = msgspec.json.Decoder(RawList)
TRANSACTION_LIST = msgspec.json.Decoder(TransactionList)


def decode(kind: type[T], raw: bytes | msgspec.Raw) -> tuple[T, str | None]:
    """One object, and its unknown attributes as compact JSON (None when every attribute is known).

    Raises:
        msgspec.ValidationError: a known attribute has another type than the reference gives it, or is
            missing; the message ends with its path.
        msgspec.DecodeError: ``raw`` is not JSON.
    """
    try:
        return _STRICT[kind].decode(raw), None
    except msgspec.ValidationError:
        known, extra = split(kind, msgspec.Raw(raw))
        decoded: T = _STRICT[kind].decode(known)
        return decoded, None if extra is None else compact(extra)


def compact(raw: bytes | msgspec.Raw) -> str:
    """``raw`` JSON without its white space; every number stays digit for digit as it was sent."""
    return msgspec.json.format(bytes(raw), indent=-1).decode()


def split(kind: type[Struct], raw: msgspec.Raw) -> tuple[msgspec.Raw, msgspec.Raw | None]:
    """``raw`` in two: what ``kind`` defines, and the rest nested as it stood (None when there is no rest).

    Values are carried over as bytes, never read, so no number in them can change. An item of a list that has
    unknown attributes stands in an object keyed by its index. What is not an object is left as it is.
    """
    if bytes(raw).lstrip()[:1] != b"{":
        return raw, None
    fields = _fields(kind)
    known: dict[str, msgspec.Raw] = {}
    extra: dict[str, msgspec.Raw] = {}
    for name, value in _OBJECT.decode(raw).items():
        if name not in fields:
            extra[name] = value
            continue
        inner = fields[name]
        known[name], deeper = (value, None) if inner is None else _split_inside(inner, value)
        if deeper is not None:
            extra[name] = deeper
    return _raw(known), _raw(extra) if extra else None


def _split_inside(kind: type[Struct], raw: msgspec.Raw) -> tuple[msgspec.Raw, msgspec.Raw | None]:
    if bytes(raw).lstrip()[:1] != b"[":
        return split(kind, raw)
    parts = [split(kind, item) for item in _ARRAY.decode(raw)]
    extra = {str(i): deeper for i, (_, deeper) in enumerate(parts) if deeper is not None}
    return _raw([known for known, _ in parts]), _raw(extra) if extra else None


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


@cache
def _fields(kind: type[Struct]) -> dict[str, type[Struct] | None]:
    """Attribute → the Struct in its type, if any."""
    return {field.encode_name: _known_struct(field.type) for field in msgspec.structs.fields(kind)}


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _known_struct(annotation: Any) -> type[Struct] | None:
    """The `Known` Struct in a field's type (``Balance | None``, ``list[AccountNumber] | None``), if any."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, Known) else None
    inner = (_known_struct(part) for part in getattr(annotation, "__args__", ()))
    return next((kind for kind in inner if kind is not None), None)


class _AnyId(Struct, gc=False):
    id: Any = None


class _ListIds(Struct, gc=False):
    data: list[_AnyId]
    has_more: bool


class _SessionIds(Struct, gc=False):
    accounts: _ListIds


_LIST_IDS = msgspec.json.Decoder(_ListIds)
_SESSION_IDS = msgspec.json.Decoder(_SessionIds)


class ListPage(Struct, frozen=True):
    """What paging needs to know of a page: the ids on it in order, and whether more follow."""

    ids: list[str]
    count: int
    has_more: bool


def list_page(body: bytes, *, of_session: bool = False) -> ListPage:
    """`ListPage` of a list's body, or of the list inside a session's. Items without an id only count.

    Raises:
        msgspec.DecodeError: the body is no list (or no session), as in ``{"error": …}``.
    """
    found = _SESSION_IDS.decode(body).accounts if of_session else _LIST_IDS.decode(body)
    ids = [item.id for item in found.data if isinstance(item.id, str)]
    return ListPage(ids, len(found.data), found.has_more)


class _CreatedAccount(Struct, gc=False):
    id: Any = None
    created: Any = None


class _CreatedAccounts(Struct, gc=False):
    data: list[_CreatedAccount]


class _CreatedInSession(Struct, gc=False):
    accounts: _CreatedAccounts


_CREATED_IN_SESSION = msgspec.json.Decoder(_CreatedInSession)


def created_accounts(body: bytes) -> list[tuple[int, str]]:
    """(created, id) of the accounts inside a session's own page, where both can be read; else nothing."""
    try:
        found = _CREATED_IN_SESSION.decode(body).accounts.data
    except msgspec.DecodeError:
        return []
    return [(a.created, a.id) for a in found if isinstance(a.id, str) and isinstance(a.created, int)]
