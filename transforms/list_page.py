"""What paging needs of a body before anything else of it is read."""

from typing import Any

import msgspec
from msgspec import Struct

from fincon.transforms.stripe_objects import RawList


class _SessionWithList(Struct, gc=False):
    accounts: RawList


SESSION_LIST = msgspec.json.Decoder(_SessionWithList)
"""Reads the list of accounts inside a session, whatever else is wrong with that."""


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
