"""Sums over raw pages by the plainest way there is, to compare with the rows that were made of them.

Nothing here knows of `transforms.stripe_objects`: what is read wrongly there is read again, differently.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from transforms.envelope import Page

Sums = Counter[tuple[str, str]]
"""(currency, ``rows`` | ``current`` | ``available`` | ``used``) → how many balances, or the sum in minor units."""

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


_ITEMS = msgspec.json.Decoder(list[Raw])
_ACCOUNT = msgspec.json.Decoder(_Account)
_ANYTHING = msgspec.json.Decoder()

T = TypeVar("T", bound=Struct)


def sums_of_pages(pages: Iterable[Page]) -> Sums:
    """The sums over every account on list pages, in sessions and in events, each time that it stands there."""
    return _sums(account for page in pages if page.header.status == 200 for account in _accounts_on(page))


def sums_of_rejects(rejects: Iterable[tuple[str, str | None]]) -> Sums:
    """The sums over rejected accounts, given as (object_type, raw): what pages hold and tables do not.

    A rejected session is passed over: its accounts are read all the same.
    """
    raws = ((kind, Raw(raw.encode())) for kind, raw in rejects if raw is not None and kind != "session")
    return _sums(_of_event(raw) if kind == "event" else raw for kind, raw in raws)


def differences(pages: Sums, rejects: Sums, rows: Sums) -> list[tuple[str, str, int, int]]:
    """(currency, of what, on the pages, in the rows) wherever they differ, to the unit."""
    expected = Counter(pages)
    expected.subtract(rejects)
    return [
        (*key, expected[key], rows[key]) for key in sorted({*expected, *rows}) if expected[key] != rows[key]
    ]


def _accounts_on(page: Page) -> Iterator[Raw]:
    tree = _read(_Page, page.body)
    inner = tree if tree.accounts == _NULL else _read(_Page, tree.accounts)
    try:
        items = _ITEMS.decode(inner.data)
    except msgspec.DecodeError:
        return  # a session without a list of accounts
    yield from map(_of_event, items) if page.header.stream == "events" else items


def _of_event(raw: Raw) -> Raw:
    return _read(_EventData, _read(_Event, raw).data).object


def _read(kind: type[T], raw: Raw | bytes) -> T:
    """``raw`` as ``kind``, which is empty where it is no object."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        return kind()


def _sums(accounts: Iterable[Raw]) -> Sums:
    found: Sums = Counter()
    for account in accounts:
        balance = _anything(_balance(account))
        maps = {
            "current": _part(balance, "current"),
            "available": _part(_part(balance, "cash"), "available"),
            "used": _part(_part(balance, "credit"), "used"),
        }
        found.update((currency, "rows") for currency in {*maps["current"], *maps["available"], *maps["used"]})
        for name, amounts in maps.items():
            for currency, amount in amounts.items():
                found[currency, name] += amount if type(amount) is int else 0
    return found


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
