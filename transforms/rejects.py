"""Objects that could not be read, as rows of ``rejects``."""

from typing import NamedTuple

import msgspec

from fincon.transforms.decode import compact


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


def unknown(kind: str, identity: str, at: int, parent: str | None = None) -> Reject:
    """An object that is not there."""
    return Reject(kind, identity, parent, None, "Stripe does not know it (404)", None, at)


def object_id(raw: msgspec.Raw) -> str | None:
    """The id of an object that may be anything."""
    try:
        return msgspec.json.decode(raw, type=_Id).id
    except msgspec.DecodeError:
        return None
