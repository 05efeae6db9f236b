"""Personal data: what becomes of it before a page is kept, so that no page, row, reject or ``extra`` says more."""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Literal

import msgspec

Choice = Literal["keep", "hash", "drop"]

IMPERSONAL_OF_OWNERS = frozenset({"id", "object", "ownership", "refreshed_at"})
"""What an owner may say plainly. All else about a person is personal, attributes that nobody knows yet too."""

_SUSPECT = re.compile(rb"display_name|last4|\\u00")
"""Bytes without a match hold no personal data of an account: a name is spelt out, or spelt in escapes."""

PERSONAL_OF_ACCOUNTS = frozenset({"display_name", "last4"})

PREFIX = "pii_"
"""With what a hash begins, so that nobody takes it for a name."""

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True)
class Privacy:
    """The choice, and the key of its hashes. ``chosen`` is false where nobody made one: then all is kept."""

    choice: Choice = "keep"
    key: bytes = field(default=b"", repr=False)
    chosen: bool = False

    @property
    def mark(self) -> str:
        """The choice as ``runs`` and ``watermarks`` say it, a hash with its key's fingerprint; empty where none was made."""
        if self.choice == "hash":
            return f"hash:{self._digest('fingerprint')[:8]}"
        return self.choice if self.chosen else ""

    def redact(self, raw: msgspec.Raw) -> bytes:
        """A personal value as JSON, treated. Null stays null, and blank text becomes it: it tells nothing apart.

        Equal people still join: text is hashed (HMAC-SHA-256) in lower case and with single spaces.
        """
        if self.choice == "drop" or bytes(raw).strip() == b"null":
            return b"null"
        try:
            text = msgspec.json.decode(raw, type=str)
        except msgspec.ValidationError:
            text = msgspec.json.format(bytes(raw), indent=-1).decode()
        plain = " ".join(text.lower().split())
        return f'"{PREFIX}{self._digest(plain)}"'.encode() if plain else b"null"

    def _digest(self, text: str) -> str:
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


def without_personal(body: bytes, stream: str, privacy: Privacy) -> bytes:
    """``body`` with its personal data treated: of owners all that is not known to be none, of accounts their names
    and last digits, at any depth. A body with none is returned byte for byte.

    Raises:
        msgspec.DecodeError: a body that may hold personal data is not JSON.
    """  # noqa: D205 - one sentence, over two lines
    if privacy.choice == "keep":
        return body
    if stream == "owners":
        return _owners(body, privacy)
    return _treated(msgspec.Raw(body), privacy)


def _owners(body: bytes, privacy: Privacy) -> bytes:
    tree = _OBJECT.decode(body)
    if "data" not in tree:
        return body  # the answer that there is no such account
    owners = [
        {
            name: value if name in IMPERSONAL_OF_OWNERS else msgspec.Raw(privacy.redact(value))
            for name, value in _OBJECT.decode(owner).items()
        }
        for owner in _ARRAY.decode(tree["data"])
    ]
    return msgspec.json.encode({**tree, "data": owners})


def _treated(raw: msgspec.Raw, privacy: Privacy) -> bytes:
    if not _SUSPECT.search(raw):
        return bytes(raw)
    match bytes(raw).lstrip()[:1]:
        case b"{":
            kept = {
                name: privacy.redact(value) if name in PERSONAL_OF_ACCOUNTS else _treated(value, privacy)
                for name, value in _OBJECT.decode(raw).items()
            }
            return msgspec.json.encode({name: msgspec.Raw(value) for name, value in kept.items()})
        case b"[":
            return msgspec.json.encode([msgspec.Raw(_treated(item, privacy)) for item in _ARRAY.decode(raw)])
        case _:
            return bytes(raw)
