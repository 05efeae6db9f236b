"""Read a page of accounts at one go, where nothing on it is odd, secret or repeated: no other reading finds more on it.

Of any other page nothing is said here: it is looked at piece by piece, by `transforms.odd_json`, `transforms.list_page`,
`transforms.redaction` and `transforms.decode`.
"""

import hashlib
from collections.abc import Callable, Sequence
from operator import attrgetter

import msgspec
from msgspec import Raw, Struct

from fincon.transforms.decode import Decoders
from fincon.transforms.list_page import ListPage, list_body, list_page
from fincon.transforms.odd_json import MAX_DEPTH
from fincon.transforms.page import Listed, PlainPage
from fincon.transforms.redaction import may_let_its_bearer_act
from fincon.transforms.stripe_objects import Account, Expanded

DIGEST = 16
"""Bytes of an object's digest: of two objects that differ, not one pair in 2^64 has the same."""

Find = Callable[[bytes], tuple[Sequence[bool], Sequence[bool]]]
"""Digests, one after the other → of each whether its object is known as it stands there, and has a balance then."""

_ODD = (b"\\", b"\xed")
"""Without these there are no escapes, and so neither half a character nor a name in disguise: `transforms.odd_json`."""


class _Page(Struct, forbid_unknown_fields=True, gc=False):
    """A list of which all is known but its items."""

    data: list[Raw]
    has_more: bool
    object: str = "list"
    url: str = "/"


_PAGE = msgspec.json.Decoder(_Page)
_ID, _CREATED = attrgetter("id"), attrgetter("created")


class PlainReader:
    """Reads pages of one run after another: what is learned of unknown attributes on some serves the rest."""

    def __init__(self, find: Find | None = None) -> None:
        """Pass over the objects that ``find`` knows as they stand there; without it none, and take no digests."""
        self._find = find
        self._decoder = Decoders().accounts

    def read(self, body: bytes) -> ListPage | None:
        """Return a page of accounts with what stands on it (`ListPage.plain`); None where it is to be looked at more closely."""
        if any(one in body for one in _ODD) or may_let_its_bearer_act(body):
            return None
        try:
            body.decode()
            page = _PAGE.decode(body)
            if not page.data or page.object != "list" or not page.url.startswith("/"):
                return None
            found = self._read(body, page)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return found if found and len({*found.ids}) == found.count == len(page.data) else None

    def _read(self, body: bytes, page: _Page) -> ListPage | None:
        digests = b""
        known: Sequence[bool] = ()
        had_balance: Sequence[bool] = ()
        if self._find:
            digests = b"".join([hashlib.sha256(item).digest()[:DIGEST] for item in page.data])
            known, had_balance = self._find(digests)
        if not any(known):
            accounts, extra = self._decoder.decode_list(body)
            ids, created = [*map(_ID, accounts)], [*map(_CREATED, accounts)]
        else:
            listed = list_page(body)
            ids, created = listed.ids, listed.created
            changed = [item for item, is_known in zip(page.data, known, strict=True) if not is_known]
            body = list_body(changed)
            accounts, extra = self._decoder.decode_list(body) if changed else ([], [])
        if not _are_shallow(accounts, extra):
            return None
        new = (account.balance is not None for account in accounts)
        seen = None
        if self._find:
            has_balance = [
                had if is_known else next(new) for is_known, had in zip(known, had_balance, strict=True)
            ]
            seen = Listed(ids, digests, known, has_balance)
        return ListPage(ids, created, len(ids), page.has_more, PlainPage(accounts, extra, body, seen))


def _are_shallow(accounts: Sequence[Account], extra: Sequence[str | None]) -> bool:
    """Return whether nothing in accounts is nested deeply: known attributes are not, and what is has more characters.

    Of an object in an id's place the id alone is read, and so nothing is known of the rest.
    """
    if any(len(text) > 2 * MAX_DEPTH for text in extra if text):
        return False
    holders = [account.account_holder for account in accounts if account.account_holder]
    ids = (
        *(account.ownership.__class__ for account in accounts),
        *(one.__class__ for h in holders for one in (h.account, h.customer, h.customer_account)),
    )
    return Expanded not in ids
