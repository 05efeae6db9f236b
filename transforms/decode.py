"""Bytes → Structs and, apart from them, the attributes that a Struct does not know: nothing that Stripe sends is lost."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, reduce
from operator import attrgetter, or_
from types import NoneType
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, cast, get_args, get_origin

import msgspec
import pyarrow as pa
from msgspec import Raw, Struct

from fincon.transforms.odd_json import MAX_DEPTH, is_marked, readable
from fincon.transforms.stripe_objects import (
    Account,
    Authorization,
    Known,
    Owner,
    RawList,
    Session,
    Transaction,
)

T = TypeVar("T", bound=Known)

_RAW_LIST = msgspec.json.Decoder(RawList)
OBJECT = msgspec.json.Decoder(dict[str, Raw])
ARRAY = msgspec.json.Decoder(list[Raw])

Names = Mapping[type[Struct], frozenset[str]]
"""Attributes that were met and are not known, by the Struct that does not know them."""

MAX_LEARNED = 64
"""Attributes that are learned of one kind of object; were there more, their names would be data."""

LEARNED_A_PAGE = 8
"""How often a page is begun again to learn of it; the objects of one with more to learn are read one by one."""

_ITEM = re.compile(r"at `\$\.data\[(\d+)\]")
"""Which item of a page msgspec's message is about."""

_LEARNABLE = re.compile(r"[A-Za-z0-9_. -]{1,64}")
_ABSENT = Raw(b"")


class ObjectDecoder(Generic[T]):
    """Decodes objects of one kind, at full speed also where they have attributes that nobody knows.

    An attribute is learned when it is first met: from then on its objects are decoded into a Struct made for the
    purpose, which holds it as raw JSON.
    """

    def __init__(self, kind: type[T], object_type: str) -> None:
        self.kind = kind
        self.object_type = object_type
        """What it is called in ``rejects``."""
        self._learned: dict[type[Struct], frozenset[str]] = {}
        self._now = _compiled(kind, frozenset())

    def decode_list(self, body: bytes) -> tuple[list[T], list[str | None]]:
        """The objects of a list's body, and of each its unknown attributes as `decode` says.

        Raises:
            msgspec.DecodeError: one is not well-formed or odd, or there are many attributes that were not met before.
        """
        _refuse_odd(body)
        found = self._decode_page(body, LEARNED_A_PAGE)
        return found, [*map(self._extra_of, found)] if self._now.read_extra else [None] * len(found)

    def _decode_page(self, body: bytes, tries: int) -> list[T]:
        try:
            return cast("list[T]", self._now.page.decode(body).data)
        except msgspec.ValidationError as error:
            at, before = _ITEM.search(str(error)), self._now
            if not at or not tries:
                raise
            self._learn(raw_items(body)[int(at[1])])
            if self._now is before:
                raise
            return self._decode_page(body, tries - 1)

    def decode(self, raw: Raw) -> tuple[T, str | None]:
        """One object, and its unknown attributes as compact JSON (None when every attribute is known).

        Raises:
            msgspec.ValidationError: a known attribute has another type than the reference gives it, or is missing;
                the message ends with its path.
            msgspec.DecodeError: ``raw`` is not JSON, or is odd (`transforms.odd_json`).
        """
        _refuse_odd(raw)
        try:
            found = self._now.one.decode(raw)
        except msgspec.ValidationError:
            known, extra = split(self.kind, raw)
            found = _compiled(self.kind, frozenset()).one.decode(known)
            self._learn(raw)
            return found, None if extra is None else compact(extra)
        return found, self._extra_of(found)

    def _extra_of(self, found: T) -> str | None:
        extra = self._now.read_extra(found) if self._now.read_extra else None
        return extra[0] if extra else None

    def _learn(self, raw: Raw) -> None:
        names = {kind: set(known) for kind, known in self._learned.items()}
        for kind, name in unknown_names(self.kind, raw):
            if _LEARNABLE.fullmatch(name):
                names.setdefault(kind, set()).add(name)
        if sum(map(len, names.values())) <= MAX_LEARNED:
            self._learned = {kind: frozenset(found) for kind, found in names.items()}
            self._now = _compiled(self.kind, frozenset(self._learned.items()))


def _refuse_odd(raw: bytes | Raw) -> None:
    if is_marked(raw):
        raise msgspec.DecodeError(
            f"Half a character, or nested more than {MAX_DEPTH} deep (U+FDD0 stands for it)"
        )


class Decoders:
    """The decoders of every kind of object, for the pages of one run after another: what is learned from some serves the rest."""

    def __init__(self) -> None:
        self.sessions = ObjectDecoder(Session, "session")
        self.accounts = ObjectDecoder(Account, "account")
        self.authorizations = ObjectDecoder(Authorization, "authorization")
        self.transactions = ObjectDecoder(Transaction, "transaction")
        self.owners = ObjectDecoder(Owner, "owner")


class _Compiled(NamedTuple):
    one: msgspec.json.Decoder[Any]
    page: msgspec.json.Decoder[Any]
    read_extra: "_Reader | None"


@lru_cache(maxsize=256)
def _compiled(kind: type[Struct], learned: frozenset[tuple[type[Struct], frozenset[str]]]) -> _Compiled:
    """Decoders of a kind of object that holds the attributes ``learned`` beside those that it knows."""
    names = dict(learned)
    extended = _extended(kind, names)
    page = msgspec.defstruct("Page", [("data", list[extended]), ("has_more", bool)], gc=False)  # type: ignore[valid-type]
    return _Compiled(msgspec.json.Decoder(extended), msgspec.json.Decoder(page), _extra_reader(kind, names))


def _extended(kind: type[Struct], learned: Names) -> type[Struct]:
    """``kind`` with a field of raw JSON for each learned attribute, after its own, there and in its inner Structs."""
    if not any(inner in learned for inner in _structs_within(kind)):
        return kind
    own = [_defined(field, _substituted(field.type, learned)) for field in msgspec.structs.fields(kind)]
    fields = [f"unknown_{i}" for i, _ in enumerate(_in_order(kind, learned))]
    return msgspec.defstruct(
        kind.__name__,
        own + [(name, Raw, _ABSENT) for name in fields],
        rename=dict(zip(fields, _in_order(kind, learned), strict=True)),
        forbid_unknown_fields=True,
        gc=False,
    )


def _in_order(kind: type[Struct], learned: Names) -> list[str]:
    return sorted(learned.get(kind, ()))


def _defined(field: msgspec.structs.FieldInfo, annotation: Any) -> tuple[str, Any] | tuple[str, Any, Any]:
    return (field.name, annotation) if field.required else (field.name, annotation, field.default)


def _substituted(annotation: Any, learned: Names) -> Any:
    """A field's type with the extended Structs in place of those in it (``Balance | None``, ``list[AccountNumber]``)."""
    if isinstance(annotation, type) and issubclass(annotation, Known):
        return _extended(annotation, learned)
    if not any(_structs_in(annotation)):
        return annotation
    parts = [_substituted(part, learned) for part in get_args(annotation)]
    return list[parts[0]] if get_origin(annotation) is list else reduce(or_, parts)  # type: ignore[valid-type]


@cache
def _structs_within(kind: type[Struct]) -> frozenset[type[Struct]]:
    """A Struct and all that stand anywhere in it."""
    inner = {found for field in msgspec.structs.fields(kind) for found in _structs_in(field.type)}
    return frozenset({kind}.union(*(_structs_within(found) for found in inner)))


def _structs_in(annotation: Any) -> Iterator[type[Struct]]:
    """The `Known` Structs in a field's type."""
    if get_origin(annotation) is Annotated:
        return  # what stays raw, such as a session's accounts, is read as objects of its own
    if isinstance(annotation, type) and issubclass(annotation, Known):
        yield annotation
    for part in get_args(annotation):
        yield from _structs_in(part)


_Extra = tuple[str, Raw]
"""Unknown attributes as JSON, and the first of their values: where it stands in the page tells their order."""

_Reader = Callable[[Any], _Extra | None]


def _extra_reader(kind: type[Struct], learned: Names) -> _Reader | None:
    """What reads the learned attributes of an object, nested as `split` does; None where it has none to read."""
    parts: dict[str, tuple[str, _Reader]] = {
        name: (f"unknown_{i}", _read_raw) for i, name in enumerate(_in_order(kind, learned))
    }
    for name, inner in _inner_structs(kind).items():
        if inner and (reader := _extra_reader(inner, learned)):
            parts[name] = (name, _inside(reader))
    keyed = [(f"{msgspec.json.encode(n).decode()}:", field, read) for n, (field, read) in parts.items()]
    if not keyed:
        return None
    if len(keyed) == 1:
        [(only_key, only_field, read_only)] = keyed
        opening = "{" + only_key

        def read_one(found: Any) -> _Extra | None:
            extra = read_only(getattr(found, only_field))
            return (opening + extra[0] + "}", extra[1]) if extra else None

        return read_one
    values_of = attrgetter(*(field for _, field, _ in keyed))
    looks = [(key, read, *_look(kind, field, learned)) for key, field, read in keyed]

    def read_all(found: Any) -> _Extra | None:
        extras = []
        for value, (key, read, look, nothing) in zip(values_of(found), looks):  # noqa: B905 - as long, and faster
            # Most objects have nothing to read, and a look in C tells.
            if value is None or value is _ABSENT or (look and look(value) == nothing):
                continue
            if extra := read(value):
                extras.append((key + extra[0], extra[1]))
        if len(extras) > 1:
            extras.sort(key=_place)
        return _as_object(extras)

    return read_all


def _look(kind: type[Struct], field: str, learned: Names) -> tuple[Callable[[Any], Any] | None, Any]:
    """Return what looks for learned attributes in the object of a field, and what it sees where there are none.

    None where that is no single object, or one that holds others in which such attributes may be.
    """
    types = {one.name: one.type for one in msgspec.structs.fields(kind)}
    own = [one for one in get_args(types.get(field)) if one is not NoneType] or [types.get(field)]
    if len(own) > 1 or not isinstance(own[0], type) or not issubclass(own[0], Known):
        return None, None
    if any(inner in learned for inner in _structs_within(own[0]) - {own[0]}):
        return None, None
    names = [f"unknown_{i}" for i, _ in enumerate(_in_order(own[0], learned))]
    return attrgetter(*names), _ABSENT if len(names) == 1 else (_ABSENT,) * len(names)


def _inside(read: _Reader) -> _Reader:
    """What reads an attribute's object with ``read``, or each item of its list, by its index."""

    def read_inside(value: Any) -> _Extra | None:
        if isinstance(value, list):
            items = [(i, extra) for i, item in enumerate(value) if (extra := read(item))]
            return _as_object([(f'"{i}":{text}', first) for i, (text, first) in items])
        return None if value is None else read(value)

    return read_inside


def _read_raw(raw: Raw) -> _Extra | None:
    return None if raw is _ABSENT else (compact(raw), raw)


def _as_object(extras: Sequence[_Extra]) -> _Extra | None:
    return (f"{{{','.join([text for text, _ in extras])}}}", extras[0][1]) if extras else None


def _place(extra: _Extra) -> int:
    """Where in memory a value stands: all of one page are slices of the same bytes, so that this is their order."""
    return int(pa.py_buffer(extra[1]).address)


def raw_items(body: bytes) -> list[Raw]:
    """Return the items of a list's body, not decoded yet.

    Raises:
        msgspec.DecodeError: it is no list.
    """
    try:
        return _RAW_LIST.decode(body).data
    except (msgspec.DecodeError, RecursionError):
        return _RAW_LIST.decode(readable(body)).data


def compact(raw: bytes | Raw) -> str:
    """``raw`` JSON without its white space; every number stays digit for digit as it was sent."""
    return msgspec.json.format(bytes(raw), indent=-1).decode()


def split(kind: type[Struct], raw: Raw) -> tuple[Raw, Raw | None]:
    """``raw`` in two: what ``kind`` defines, and the rest nested as it stood (None when there is no rest).

    Values are carried over as bytes, never read, so no number in them can
    change. An item of a list that has unknown attributes stands in an object keyed by its index. What is not an object
    is left as it is.
    """
    if first_byte(raw) != b"{":
        return raw, None
    structs = _inner_structs(kind)
    known: dict[str, Raw] = {}
    extra: dict[str, Raw] = {}
    for name, value in OBJECT.decode(raw).items():
        if name not in structs:
            extra[name] = value
            continue
        inner = structs[name]
        known[name], deeper = (value, None) if inner is None else _split_inside(inner, value)
        if deeper is not None:
            extra[name] = deeper
    return _raw(known), _raw(extra) if extra else None


def _split_inside(kind: type[Struct], raw: Raw) -> tuple[Raw, Raw | None]:
    if first_byte(raw) != b"[":
        return split(kind, raw)
    parts = [split(kind, item) for item in ARRAY.decode(raw)]
    extra = {str(i): deeper for i, (_, deeper) in enumerate(parts) if deeper is not None}
    return _raw([known for known, _ in parts]), _raw(extra) if extra else None


def unknown_names(kind: type[Struct], raw: Raw) -> Iterator[tuple[type[Struct], str]]:
    """Each attribute of ``raw`` that is not known, at any depth, with the Struct that does not know it."""
    match first_byte(raw):
        case b"[":
            for item in ARRAY.decode(raw):
                yield from unknown_names(kind, item)
        case b"{":
            structs = _inner_structs(kind)
            for name, value in OBJECT.decode(raw).items():
                if name not in structs:
                    yield kind, name
                elif inner := structs[name]:
                    yield from unknown_names(inner, value)


def first_byte(raw: bytes | Raw) -> bytes:
    """The byte that tells what kind of JSON ``raw`` is."""
    return bytes(raw).lstrip()[:1]


@cache
def _inner_structs(kind: type[Struct]) -> dict[str, type[Struct] | None]:
    """Attribute → the `Known` Struct in its type, if any."""
    return {field.encode_name: next(_structs_in(field.type), None) for field in msgspec.structs.fields(kind)}


def _raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))
