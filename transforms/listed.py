"""Tell of the accounts on a page of the listing which are byte for byte as they are known."""

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from fincon.transforms.decode import raw_items
from fincon.transforms.list_page import list_body, list_page
from fincon.transforms.page import Listed

DIGEST = 16
"""Bytes of an account's digest: of two that differ, not one pair in 2^64 has the same."""

Find = Callable[[bytes], tuple[Sequence[bool], Sequence[bool]]]
"""Digests, one after the other → of each whether its account is known as it stands there, and then whether it has a balance."""


def compare(body: bytes, find: Find) -> Listed | None:
    """Return what stands on a page, by what ``find`` knows; None where nobody can tell: an id is missing, or there twice."""
    try:
        page = list_page(body)
    except msgspec.DecodeError:
        return None
    if not page.ids or len({*page.ids}) < page.count:
        return None
    items = raw_items(body)
    digests = b"".join([hashlib.sha256(item).digest()[:DIGEST] for item in items])
    known, had_balance = find(digests)
    changed = body
    if any(known):
        changed = list_body(item for item, is_known in zip(items, known, strict=True) if not is_known)
    return Listed(page.ids, digests, known, had_balance, changed)
