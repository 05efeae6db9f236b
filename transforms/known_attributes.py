"""What is known to stand at each place of a page, and is not personal: compiled from the Structs and from the columns.

An attribute is known where a Struct of `transforms.stripe_objects` has it, and personal where its column says so.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import Struct

from fincon.transforms.schemas import PERSONAL
from fincon.transforms.stripe_objects import Account, Authorization, Event, Owner, Session, Transaction

_CURRENCY = re.compile(r"[a-z]{3,4}")
"""What may be a key of a map of amounts; any other is taken for data."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What may stand at one place, beside null; whatever else stands there is not known."""

    scalars: bytes = b""
    """The first bytes of texts, numbers and booleans that may."""
    attributes: Mapping[str, "Place"] | None = None
    """Of an object that may."""
    personal: frozenset[str] = frozenset()
    """Those that are personal."""
    amounts: "Place | None" = None
    """Of a map by currency that may: its values."""
    items: "Place | None" = None
    """Of a list that may."""
    holds_objects: bool = False
    """Whether it is a list of objects (or leads to one) that may belong to someone who was erased."""
    kinds: Mapping[str, "Place"] = field(default_factory=dict)
    """Where objects of several kinds may stand: those that are not of the first, by what their ``object`` says."""
    only_known: msgspec.json.Decoder[Any] | None = None
    """Decodes an object of which all is known, at any depth, and nothing is personal below its own attributes."""

    @property
    def is_object(self) -> bool:
        """Whether an object may stand here."""
        return self.attributes is not None or self.amounts is not None

    def of_kind(self, content: bytes) -> "Place":
        """Return the place of an object as it says that it is: an attribute known of one kind is not known of another."""
        try:
            return self.kinds.get(_KIND.decode(content).object, self) if self.kinds else self
        except msgspec.DecodeError:
            return self

    def attribute(self, name: str) -> "Place | None":
        """Return the place of an attribute, or of a currency's amount; None for one that is not known."""
        found = self.attributes.get(name) if self.attributes else None
        return found or (self.amounts if self.amounts and _CURRENCY.fullmatch(name) else None)

    def has_only_known(self, content: bytes) -> bool:
        """Return whether all of an object is known. One look in C spares one at each attribute."""
        if self.only_known is None:
            return False
        try:
            self.only_known.decode(content)
        except msgspec.DecodeError:
            return False
        return True

    def __or__(self, other: "Place") -> "Place":
        """Return a place where either may stand."""
        either = [place.attributes for place in (self, other) if place.attributes is not None]
        return Place(
            scalars=self.scalars + other.scalars,
            attributes={name: place for known in either for name, place in known.items()} if either else None,
            personal=self.personal | other.personal,
            amounts=self.amounts or other.amounts,
            items=self.items or other.items,
            holds_objects=self.holds_objects or other.holds_objects,
            only_known=self.only_known or other.only_known,
        )


class _Kind(Struct):
    object: str = ""


_KIND = msgspec.json.Decoder(_Kind)

PERSON = Place()
"""Where nothing but null may be written as it stands."""

TEXT, NUMBER, BOOLEAN = Place(scalars=b'"'), Place(scalars=b"-0123456789"), Place(scalars=b"tf")
_SCALARS: Mapping[Any, Place] = {str: TEXT, int: NUMBER, bool: BOOLEAN, Any: TEXT | NUMBER | BOOLEAN}

_ROOTS = {
    Account: "account",
    Authorization: "authorization",
    Session: "session",
    Transaction: "transaction",
    Owner: "owner",
}
"""How the sources of columns name each kind of object."""


def place_of(annotation: Any, path: str) -> Place:
    """Compile the type of a field that columns name ``path``."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return _place_of_struct(annotation, _ROOTS.get(annotation, path))
    arguments, origin = get_args(annotation), get_origin(annotation)
    if origin is Annotated:  # a number within bounds, or raw JSON of a kind
        if not _is_raw(annotation):
            return place_of(arguments[0], path)
        first, *others = get_args(arguments[1]) or (arguments[1],)
        kinds = {str(one.__struct_defaults__[0]): place_of(one, path) for one in others}
        return replace(place_of(first, path), kinds=kinds)
    if origin is list:
        return Place(items=place_of(arguments[0], path), holds_objects=_is_raw(arguments[0]))
    if origin is dict:
        return Place(amounts=place_of(arguments[1], path))
    return reduce(or_, [place_of(part, path) for part in arguments if part is not type(None)], Place())


@cache  # an account stands on pages of several streams; to compile it takes a few ms
def _place_of_struct(kind: type[Struct], path: str) -> Place:
    fields = msgspec.structs.fields(kind)
    personal = {f.encode_name for f in fields if f"{path}.{f.encode_name}" in PERSONAL}
    places = {
        f.encode_name: PERSON if f.encode_name in personal else place_of(f.type, f"{path}.{f.encode_name}")
        for f in fields
    }
    strict = _strict(kind, personal)
    return Place(
        attributes=places,
        personal=frozenset(personal),
        holds_objects=any(place.holds_objects for place in places.values()),
        only_known=msgspec.json.Decoder(strict) if strict else None,
    )


def _strict(annotation: Any, personal: Collection[str] = ()) -> Any:
    """Return a type that takes only what is known, or None where raw JSON of a kind is within."""
    if annotation is Any:
        return str | int | float | bool | None
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        fields = [
            (f.name, msgspec.Raw if f.encode_name in personal else _strict(f.type), None)
            for f in msgspec.structs.fields(annotation)
        ]
        if any(kind is None for _, kind, _ in fields):
            return None
        return msgspec.defstruct(annotation.__name__, fields, forbid_unknown_fields=True, gc=False)
    arguments, origin = get_args(annotation), get_origin(annotation)
    if origin is dict:
        return dict[Annotated[str, msgspec.Meta(pattern=f"^{_CURRENCY.pattern}$")], arguments[1]]  # type: ignore[valid-type]
    if origin is list:
        inner = _strict(arguments[0])
        return list[inner] if inner else None  # type: ignore[valid-type]
    if origin is Annotated:
        return None if _is_raw(annotation) else annotation
    parts = [_strict(part) for part in arguments]
    return reduce(or_, parts) if parts and None not in parts else None if parts else annotation


def _is_raw(annotation: Any) -> bool:
    return get_origin(annotation) is Annotated and get_args(annotation)[0] is msgspec.Raw


def _list_of(kind: type[Struct]) -> Place:
    items = Place(items=place_of(kind, ""), holds_objects=True)
    url = {"object": TEXT, "url": TEXT, "has_more": BOOLEAN, "total_count": NUMBER}
    return Place(attributes={"data": items, **url, "error": _ERROR}, holds_objects=True)


_ERROR = Place(
    attributes=dict.fromkeys(("type", "code", "message", "param", "doc_url", "request_log_url"), TEXT)
)
"""Stripe's answer that there is no such object."""

PAGES: Mapping[str, Place] = {
    "sessions": place_of(Session, "") | _list_of(Account),
    "accounts": _list_of(Account),
    "events": _list_of(Event),
    "webhooks": _list_of(Event),
    "single_accounts": _list_of(Account),
    "transactions": _list_of(Transaction),
    "owners": _list_of(Owner),
}
"""The pages of each stream. A session's chain begins with the session and goes on with lists of its accounts."""

OBJECTS: Mapping[str, Place] = {
    kind: place_of(struct, "")
    for struct, kind in (
        (Account, "account"),
        (Session, "session"),
        (Transaction, "transaction"),
        (Owner, "owner"),
        (Event, "event"),
    )
}
"""Each kind of object, by the name that ``rejects`` has for it."""
