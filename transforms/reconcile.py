"""Sums over raw pages by the plainest way there is, to compare with the rows that were made of them.

Nothing here knows of `transforms.stripe_objects`: what is read wrongly there is read again, differently.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from fincon.transforms.page import ListedPage, Page
from fincon.transforms.streams import STREAMS, stream_named

Sums = Counter[tuple[str, str]]
"""(currency, ``rows`` | ``current`` | ``available`` | ``used``) → how many balances, or the sum in minor units."""

_Maps = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""The maps ``current``, ``cash.available`` and ``credit.used`` of one balance, as they were sent."""

_NULL = Raw(b"null")


class _Page(Struct):
    """A list, or a session with one."""

    accounts: Raw = _NULL
    data: Raw = _NULL


class _Event(Struct):
    data: Raw = _NULL


class _EventData(Struct):
    object: Raw = _NULL


class _Account(Struct):
    balance: Raw = _NULL
    id: Any = None


class _Available(Struct, gc=False):
    available: dict[str, Any] | None = None


class _Used(Struct, gc=False):
    used: dict[str, Any] | None = None


class _Amounts(Struct, gc=False):
    current: dict[str, Any] | None = None
    cash: _Available | None = None
    credit: _Used | None = None


class _WithAmounts(Struct, gc=False):
    balance: _Amounts | None = None
    id: Any = None


class _PlainList(Struct, gc=False):
    data: list[_WithAmounts]


_PLAIN_LIST = msgspec.json.Decoder(_PlainList)
_ITEMS = msgspec.json.Decoder(list[Raw])
_ACCOUNT = msgspec.json.Decoder(_Account)
_ANYTHING = msgspec.json.Decoder()

_HOLDING_A_BALANCE = {stream.object_type for stream in STREAMS.values() if stream.has_accounts} - {"session"}

T = TypeVar("T", bound=Struct)


def sums_of_pages(pages: Iterable[Page]) -> Sums:
    """The sums over every account on list pages, in sessions and in events, each time that it stands there."""
    found: Sums = Counter()
    for page in pages:
        add_page(found, page)
    return found


def add_page(found: Sums, page: Page) -> None:
    """Add what is on one page to the sums; a list on which nothing is odd at one go, which is several times as fast."""
    if page.header.status != 200 or not stream_named(page.header.stream).has_accounts:
        return
    if isinstance(page, ListedPage):
        page = page.to_read
    try:
        plain = _PLAIN_LIST.decode(page.body).data if page.header.stream == "accounts" else None
    except msgspec.DecodeError:
        plain = None
    if plain is None or len({str(account.id) for account in plain}) < len(plain):
        _add(found, map(_maps_of, _accounts_on(page)))
    else:
        _add(found, (_maps(account.balance) for account in plain if account.balance))


def sums_of_rejects(rejects: Iterable[tuple[str, str | None]]) -> Sums:
    """The sums over rejected accounts, given as (object_type, raw): what pages hold and tables do not.

    A rejected session is passed over: its accounts are read all the same. So is an object that is no account: a
    transaction with an attribute ``balance`` was not counted on its page either.
    """
    raws = (
        (kind, Raw(raw.encode())) for kind, raw in rejects if raw is not None and kind in _HOLDING_A_BALANCE
    )
    found: Sums = Counter()
    _add(found, (_maps_of(_of_event(raw) if kind == "event" else raw) for kind, raw in raws))
    return found


def differences(pages: Sums, rejects: Sums, rows: Sums) -> list[tuple[str, str, int, int]]:
    """(currency, of what, on the pages, in the rows) wherever they differ, to the unit."""
    expected = Counter(pages)
    expected.subtract(rejects)
    return [
        (*key, expected[key], rows[key]) for key in sorted({*expected, *rows}) if expected[key] != rows[key]
    ]


def _accounts_on(page: Page) -> Iterator[Raw]:
    tree = _read(_Page, page.body)
    own = page.header.stream == "sessions" and page.header.number == 0
    inner = _read(_Page, tree.accounts) if own else tree
    try:
        items = _ITEMS.decode(inner.data)
    except msgspec.DecodeError:
        return  # a session without a list of accounts
    if stream_named(page.header.stream).object_type == "event":
        yield from map(_of_event, items)
    else:
        yield from _each_once(items)


def _each_once(items: Iterable[Raw]) -> Iterator[Raw]:
    """Yield the items of a page. One that stands there twice, and says the same, is seen once, if it says who it is."""
    seen = set()
    for item in items:
        text = msgspec.json.format(bytes(item), indent=-1)
        if text not in seen:
            yield item
        if isinstance(_read(_Account, item).id, str):
            seen.add(text)


def _of_event(raw: Raw) -> Raw:
    return _read(_EventData, _read(_Event, raw).data).object


def _read(kind: type[T], raw: Raw | bytes) -> T:
    """``raw`` as ``kind``, which is empty where it is no object."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        return kind()


def _add(found: Sums, balances: Iterable[_Maps]) -> None:
    # A map for each sum: to count by pairs takes twice as long.
    sums: tuple[dict[str, int], ...] = ({}, {}, {})
    rows: dict[str, int] = {}
    for maps in balances:
        current, available, used = maps
        for currency in {**current, **available, **used}:
            rows[currency] = rows.get(currency, 0) + 1
        for added, amounts in zip(sums, maps, strict=True):
            for currency, amount in amounts.items():
                added[currency] = added.get(currency, 0) + (amount if type(amount) is int else 0)
    for name, added in zip(("rows", "current", "available", "used"), (rows, *sums), strict=True):
        for currency, amount in added.items():
            found[currency, name] += amount


def _maps(balance: _Amounts) -> _Maps:
    return (
        balance.current or {},
        (balance.cash and balance.cash.available) or {},
        (balance.credit and balance.credit.used) or {},
    )


def _maps_of(account: Raw) -> _Maps:
    balance = _anything(_balance(account))
    return (
        _part(balance, "current"),
        _part(_part(balance, "cash"), "available"),
        _part(_part(balance, "credit"), "used"),
    )


def _balance(account: Raw) -> Raw:
    try:
        return _ACCOUNT.decode(account).balance
    except msgspec.DecodeError:
        return _NULL  # no object, and so none with a balance


def _anything(raw: Raw) -> Any:
    """``raw`` as it stands; by Python's own reader where a number in it is beyond what msgspec takes."""
    try:
        return _ANYTHING.decode(raw)
    except msgspec.DecodeError:
        return json.loads(bytes(raw), parse_int=_integer)


def _integer(digits: str) -> int:
    """No amount has more digits; Python refuses to read thousands of them."""
    return int(digits) if len(digits) <= 20 else 0


def _part(tree: Any, name: str) -> dict[str, Any]:
    """The object of that name within ``tree``, or an empty one."""
    found = tree.get(name) if isinstance(tree, dict) else None
    return found if isinstance(found, dict) else {}
