"""What paging needs of a body before anything else of it is read."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from fincon.transforms.decode import raw_items
from fincon.transforms.stripe_objects import RawList


class _SessionWithList(Struct, gc=False):
    accounts: RawList


SESSION_LIST = msgspec.json.Decoder(_SessionWithList)
"""Reads the list of accounts inside a session, whatever else is wrong with that."""


class _Item(Struct, gc=False):
    id: Any = None
    created: Any = None


class _Items(Struct, gc=False):
    data: list[_Item | str | int | float | bool | list[Any] | None]
    """Items of any kind: one that is no object spoils no page."""
    has_more: bool


class _ItemsOfSession(Struct, gc=False):
    accounts: _Items


_ITEMS = msgspec.json.Decoder(_Items)
_ITEMS_OF_SESSION = msgspec.json.Decoder(_ItemsOfSession)


class ListPage(Struct, frozen=True):
    """What paging needs to know of a page: the ids on it in order, and whether more follow."""

    ids: list[str]
    created: list[int]
    """When each was created, in Unix seconds; 0 where it does not say."""
    count: int
    has_more: bool


def list_body(items: Iterable[bytes | msgspec.Raw]) -> bytes:
    """Return the body of a list of ``items``, each of them JSON, of which all is there."""
    return b'{"object":"list","has_more":false,"data":[%b]}' % b",".join(map(bytes, items))


def list_page(body: bytes, *, of_session: bool = False) -> ListPage:
    """Return the `ListPage` of a list's body, or of the list inside a session's. Items without an id that can be read only count.

    Raises:
        msgspec.DecodeError: the body is no list (or no session), as in ``{"error": …}``.
    """
    found = _ITEMS_OF_SESSION.decode(body).accounts if of_session else _ITEMS.decode(body)
    items = [item for item in found.data if isinstance(item, _Item) and isinstance(item.id, str)]
    created = [item.created if isinstance(item.created, int) else 0 for item in items]
    return ListPage([item.id for item in items], created, len(found.data), found.has_more)


def created_accounts(body: bytes) -> list[tuple[int, str]]:
    """Return (created, id) of the accounts inside a session's own page, where both can be read; else nothing."""
    try:
        page = list_page(body, of_session=True)
    except msgspec.DecodeError:
        return []
    return [(created, i) for created, i in zip(page.created, page.ids, strict=True) if created]


class _Ownership(Struct, gc=False):
    id: str
    owners: msgspec.Raw


class _Owned(Struct, gc=False):
    id: str
    ownership: _Ownership


_OWNED = msgspec.json.Decoder(_Owned)


def expanded_owners(body: bytes) -> dict[str, tuple[str, bytes]]:
    """Return account → its ownership's id and list of owners, of the accounts on a list that show their ownership whole.

    Raises:
        msgspec.DecodeError: the body is no list.
    """
    found = {}
    for item in raw_items(body):
        try:
            account = _OWNED.decode(item)
        except (msgspec.DecodeError, RecursionError):
            continue  # no object, or no ownership that is one
        found[account.id] = (account.ownership.id, bytes(account.ownership.owners))
    return found
