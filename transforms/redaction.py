"""What is kept of an answer: nothing that lets its bearer act, nobody who was erased, and personal data as was chosen.

All that is written goes through `redact` first, so that no page, row, reject or ``extra`` says more.
"""

import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec
from msgspec import Raw

from fincon.transforms.decode import ARRAY, OBJECT, compact, first_byte
from fincon.transforms.identities import REMOVED, without_mentions
from fincon.transforms.known_attributes import OBJECTS, PAGES, Place

Choice = Literal["keep", "hash", "drop"]

PREFIX = "pii_"
"""With what a hash begins, so that nobody takes it for a name."""

_HASH = re.compile(PREFIX + "[0-9a-f]{64}")

MAX_DEPTH = 100
"""No attribute that is known is nested as deeply; of what is, nothing is kept that may let its bearer act."""

IsErased = Callable[..., bool]
"""Asked with the ids that an object names (its own, its holder's): must it be left out?"""


@dataclass(frozen=True)
class Privacy:
    """The choice about personal data, and the key of its hashes. ``chosen`` is false where nobody made one: all is kept."""

    choice: Choice = "keep"
    key: bytes = field(default=b"", repr=False)
    chosen: bool = False

    @property
    def policy_id(self) -> str:
        """The choice as ``runs`` and ``watermarks`` say it, a hash with its key's fingerprint; empty where none was made."""
        if self.choice == "hash":
            return f"hash:{self._digest('fingerprint')[:8]}"
        return self.choice if self.chosen else ""

    def redact(self, raw: Raw) -> bytes:
        """Return what is kept, as JSON, of a personal value: its hash or null.

        Null stays null, and blank text becomes it: it tells nothing apart. Equal people still join: text is hashed
        (HMAC-SHA-256) in lower case and with single spaces.
        """
        if self.choice == "drop" or bytes(raw).strip() == b"null":
            return b"null"
        try:
            text = msgspec.json.decode(raw, type=str)
        except msgspec.ValidationError:
            text = compact(raw)
        return f'"{self.hash(text)}"'.encode() if text.strip() else b"null"

    def hash(self, text: str) -> str:
        """Return what stands for a text: the same for all that differ in case and spaces alone."""
        if _HASH.fullmatch(text):
            return text  # of an earlier run: it is what stands for the text already
        return PREFIX + self._digest(" ".join(text.lower().split()))

    def _digest(self, text: str) -> str:
        return hmac.digest(self.key, text.encode(), "sha256").hex()


KEEP = Privacy()


class _Rules(NamedTuple):
    privacy: Privacy
    is_erased: IsErased | None
    suspicious: bool
    """Whether what is walked may hold anything that lets its bearer act."""

    @property
    def keep(self) -> bool:
        """Whether personal data is kept."""
        return self.privacy.choice == "keep"


def redact(body: bytes, stream: str, privacy: Privacy = KEEP, is_erased: IsErased | None = None) -> bytes:
    """Return ``body``, a page of ``stream``, as it may be written. One with nothing to redact is returned byte for byte.

    Under every choice, attributes that let their bearer act are left out, and in texts and names `REMOVED` stands in the
    place of ids that do; objects are left out that name an id which ``is_erased``. Where personal data is hashed or
    dropped, so is every attribute that fincon does not know, at any depth, and whatever stands where another type is
    known.

    Raises:
        msgspec.DecodeError: ``body`` is not JSON, and something in it may have to go.
    """
    rules = _Rules(privacy, is_erased, may_let_its_bearer_act(body))
    if rules.keep and not rules.suspicious and is_erased is None:
        return body
    kept = _walk(Raw(body), PAGES[stream], rules, 0)
    return body if kept == body or compact(kept) == compact(body) else kept


def redact_object(raw: bytes, kind: str, privacy: Privacy) -> bytes:
    """Return what may be kept of an object of a kind (`account`, `owner`, …), or of some of its attributes."""
    return compact(
        Raw(_walk(Raw(raw), OBJECTS.get(kind, Place()), _Rules(privacy, None, suspicious=False), 0))
    ).encode()


def _walk(raw: Raw, place: Place, rules: _Rules, depth: int) -> bytes:
    """Return what is kept of the JSON that stands at a place."""
    content = bytes(raw)
    if rules.suspicious and not may_let_its_bearer_act(content):
        rules = rules._replace(suspicious=False)
    may_hold_erased = rules.is_erased is not None and place.holds_objects
    if rules.keep and not rules.suspicious and not may_hold_erased:
        return content
    if depth > MAX_DEPTH:
        return b"null"
    place = place.of_kind(content)
    match content.lstrip()[:1]:
        case b"{" if rules.keep or place.is_object:
            if rules.suspicious or may_hold_erased or not place.has_only_known(content):
                kept = _attributes(raw, place, rules, depth)
            elif place.personal:
                kept = _personal_attributes(raw, place, rules)
            else:
                return content
            return msgspec.json.encode(kept)
        case b"[" if rules.keep or place.items:
            found = ARRAY.decode(raw)
            items = [item for item in found if not _is_erased(item, rules)] if may_hold_erased else found
            if rules.keep and not rules.suspicious:
                return content if len(items) == len(found) else msgspec.json.encode(items)
            inner = place.items or _ANYTHING
            return msgspec.json.encode([Raw(_walk(item, inner, rules, depth + 1)) for item in items])
        case b'"' if rules.keep or b'"' in place.scalars:
            return _without_bearer_ids(raw) if rules.suspicious else content
        case first if rules.keep or first in place.scalars or first == b"n":
            return content
        case _:
            return rules.privacy.redact(raw)


def _personal_attributes(raw: Raw, place: Place, rules: _Rules) -> dict[str, Raw]:
    """Return an object of which all is known, with only what is personal redacted."""
    kept = OBJECT.decode(raw)
    for name in place.personal & kept.keys():
        kept[name] = Raw(rules.privacy.redact(kept[name]))
    return kept


def _attributes(raw: Raw, place: Place, rules: _Rules, depth: int) -> dict[str, Raw]:
    """Return what is kept of an object's attributes."""
    privacy = rules.privacy
    kept: dict[str, Raw] = {}
    for name, value in OBJECT.decode(raw).items():
        if rules.suspicious and lets_its_bearer_act(name, bytes(value)):
            continue
        inner = place.attribute(name)
        if inner is not None:
            kept[name] = Raw(_walk(value, inner, rules, depth + 1))
        elif rules.keep:
            kept[_BEARER_ID.sub(REMOVED, name)] = Raw(_walk(value, _ANYTHING, rules, depth + 1))
        elif place.attributes is not None and _ATTRIBUTE_NAME.fullmatch(name):
            kept[name] = Raw(privacy.redact(value))
        elif privacy.choice == "hash":  # the name is data, such as an id; with ``drop`` nothing is left of it
            kept[privacy.hash(name)] = Raw(privacy.redact(value))
    return kept


def _is_erased(item: Raw, rules: _Rules) -> bool:
    return rules.is_erased is not None and rules.is_erased(*ids_named(bytes(item)))


_ANYTHING = Place()
_ATTRIBUTE_NAME = re.compile(r"(?=.{1,48}\Z)[a-z]+[0-9]?(?:_[a-z]+[0-9]?)*")
"""How Stripe names attributes; another name is taken for data (an id, a person's name)."""


# -- what lets its bearer act

_BEARER_ENDINGS = ("token", "url")
_HARMLESS = frozenset({"return_url", "doc_url", "request_log_url"})
"""Addresses that lead to the platform's own pages, or to Stripe's documentation and logs."""

_BEARER_ID = re.compile(r"btok_\w*|\w+_secret_\w+", re.ASCII)
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_ADDRESS = re.compile(rb'"\s*:\s*+(?!null\b|"\\?/)')


def lets_its_bearer_act(name: str, value: bytes) -> bool:
    """Return whether an attribute may not be kept: a secret, a token, or an address that is no path of the API."""
    lower = name.lower()
    if "secret" in lower:
        return True
    if not lower.endswith(_BEARER_ENDINGS) or lower in _HARMLESS:
        return False
    is_path = lower.endswith("url") and (value == b"null" or value.startswith((b'"/', rb'"\/')))
    return not is_path


def may_let_its_bearer_act(body: bytes) -> bool:
    """Return whether anything that does may be in ``body``, spelt out or in escapes.

    Plain searches, for a pattern takes ten times as long.
    """
    lower = body.lower()
    return (
        b"secret" in lower
        or any(_is_token(lower, at) for at in _places(lower, b"tok"))
        or any(is_address(lower, at) for at in _places(lower, b'url"'))
        or (b"\\" in lower and _ESCAPED_LETTER.search(lower) is not None)
    )


def _places(text: bytes, word: bytes) -> Iterator[int]:
    """Yield where a word stands in a text, which is gone through once."""
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + len(word))


def _is_token(lower: bytes, at: int) -> bool:
    return lower.startswith(b'token"', at) or lower.startswith(b"btok_", max(0, at - 1))


def is_address(text: bytes, at: int) -> bool:
    """Return whether the ``url"`` at a place of a text ends the name of an address that may not be kept."""
    return bool(_ADDRESS.match(text, at + 3)) and text[max(0, at - 8) : at].lower() != b'"return_'


def _without_bearer_ids(raw: Raw) -> bytes:
    text = msgspec.json.decode(raw, type=str)
    kept = _BEARER_ID.sub(REMOVED, text)
    return bytes(raw) if kept == text else msgspec.json.encode(kept)


_PERSONAL_WORDS = re.compile(
    r"[^\s@<>\"'(,;]+@[^\s@>\"'),;]+|\b(?:sk|rk|pk)_(?:live|test)_\w+|(?<!\w)\+?\d[\d ().-]{7,}\d\b", re.ASCII
)
"""In what Stripe says of an error: an e-mail address, a key, a long number. Ids stay, so that one can ask for them."""


def without_personal(words: str) -> str:
    """Return what Stripe said of an error as it may be kept under every choice."""
    return _PERSONAL_WORDS.sub(REMOVED, _BEARER_ID.sub(REMOVED, words))


# -- who was erased


_ID = re.compile(rb"(?<![A-Za-z0-9])(?:fca|fcsess|cus|acct)_\w+", re.ASCII)


def without_erased_ids(body: bytes, is_erased: IsErased) -> bytes:
    """Return a page with `REMOVED` in the place of ids that were erased: what is somebody else's may mention them."""
    gone = [found for found in {one.decode() for one in _ID.findall(body)} if is_erased(found)]
    if not gone:
        return body
    return without_mentions(body.decode(errors="surrogateescape"), gone).encode(errors="surrogateescape")


_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def ids_named(raw: bytes) -> list[str]:
    """Return the ids that an object names: its own and those of its holder, expanded or not; of an event, its object's too.

    Whatever shape they stand in: who was erased is not to come back because something else is odd.
    """
    if first_byte(raw) != b"{":
        return _texts(raw)
    named = OBJECT.decode(raw)
    data = named.get("data", _NULL)
    inside = OBJECT.decode(data).get("object", _NULL) if first_byte(data) == b"{" else _NULL
    whose = [text for name in ("id", "account_holder") for text in _texts(bytes(named.get(name, _NULL)))]
    return whose + ids_named(bytes(inside))


def _texts(raw: bytes) -> list[str]:
    """Return all texts within a value: one object is few."""
    found = []
    for text in _TEXT.findall(raw):
        try:
            found.append(msgspec.json.decode(text, type=str))
        except msgspec.DecodeError:
            continue  # no text, and so no id
    return found


_NULL = Raw(b"null")
