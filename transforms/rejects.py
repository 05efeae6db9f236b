"""Objects that could not be read, as rows of ``rejects``."""

from typing import NamedTuple

import msgspec

from fincon.transforms.decode import compact
from fincon.transforms.page import UNREADABLE, Header
from fincon.transforms.streams import STREAMS


class Reject(NamedTuple):
    """A row of ``rejects``; ``observed_at`` in microseconds."""

    object_type: str
    object_id: str | None
    parent_id: str | None
    path: str | None
    reason: str
    raw: str | None
    observed_at: int


REPEATED = "It stands there more than once, with other values"
"""Why an object is rejected that another of its id stands beside."""


class _Deleted(msgspec.Struct):
    id: str
    deleted: bool


def deleted_id(raw: msgspec.Raw) -> str | None:
    """The id of an object of which Stripe says that it is no more (``{"id": …, "deleted": true}``); None of any other."""
    try:
        found = msgspec.json.decode(raw, type=_Deleted)
    except msgspec.DecodeError:
        return None
    return found.id if found.deleted else None


_OF_A_DELETED = {"id", "object", "deleted", "livemode"}


def says_more(deleted: msgspec.Raw) -> bool:
    """Whether a deleted object has attributes beside those that say so: they belong into ``rejects``, not to be lost."""
    return not msgspec.json.decode(deleted, type=dict[str, msgspec.Raw]).keys() <= _OF_A_DELETED


class _Id(msgspec.Struct):
    id: str


def unreadable(kind: str, raw: msgspec.Raw, message: str, at: int, parent: str | None = None) -> Reject:
    """An object that msgspec refused with ``message``, which ends with the path of the field at fault."""
    reason, _, path = message.partition(" - at `")
    return Reject(kind, object_id(raw), parent, path.rstrip("`") or "$", reason, compact(raw), at)


ABOUT_THE_ACCOUNT = {
    "financial_connections_account_inactive": (
        "The account is inactive: its holder must link it again before more can be read."
    ),
    "financial_connections_no_successful_transaction_refresh": (
        "No refresh of its transactions has succeeded yet; after the first that does they can be read."
    ),
}
"""Stripe's codes that are about the account that was asked for, and what they mean."""


def refused(kind: str, header: Header, parent: str | None = None) -> Reject:
    """An object that is not there, or that Stripe does not let be read: what it said, in its words."""
    words = f": {header.words}" if header.words else ""
    if header.status == 404:
        reason = f"Stripe does not know it (404){words}"
    elif header.status == UNREADABLE:
        reason = f"Stripe's answer is not what its API promises{words}"
    else:
        reason = f"Stripe answered {refusal_code(header)}{words}"
    if STREAMS[header.stream].feature and header.status != 404:
        reason = f"Its {header.stream} cannot be read. {reason}"
    if meaning := ABOUT_THE_ACCOUNT.get(header.code):
        reason += f" ({meaning})"
    return Reject(kind, header.parent or None, parent, None, reason, None, header.observed_at)


def refusal_code(header: Header) -> str:
    """A refusal's status and code, as ``watermarks.refusal`` has them."""
    return f"{header.status} {header.code}".strip()


def object_id(raw: msgspec.Raw) -> str | None:
    """The id of an object that may be anything."""
    try:
        return msgspec.json.decode(raw, type=_Id).id
    except msgspec.DecodeError:
        return None
