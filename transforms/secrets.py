"""What must never be kept: attributes that let their bearer act."""

import re

import msgspec

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])

_SUSPECT = re.compile(rb"(?i)secret|\\u00[4-7]")
"""Bytes without a match hold no secret: an attribute's name is spelt out, or spelt in escapes."""


def without_secrets(body: bytes) -> bytes:
    """``body`` without any attribute whose name ends in ``secret`` (``client_secret``), at any depth.

    All other values stay byte for byte. A body with no such name is returned as it is; one that is not JSON
    raises ``msgspec.DecodeError``.
    """
    return _clean(msgspec.Raw(body)) if _SUSPECT.search(body) else body


def _clean(raw: msgspec.Raw) -> bytes:
    """``raw`` without secrets; itself when it has none, so that only what must change is written anew."""
    match bytes(raw).lstrip()[:1]:
        case b"{":
            items = _OBJECT.decode(raw)
            kept = {name: _clean(value) for name, value in items.items() if not is_secret(name)}
            if kept.keys() == items.keys() and all(kept[name] == bytes(items[name]) for name in kept):
                return bytes(raw)
            return msgspec.json.encode({name: msgspec.Raw(value) for name, value in kept.items()})
        case b"[":
            parts = _ARRAY.decode(raw)
            cleaned = [_clean(part) for part in parts]
            if all(new == bytes(old) for new, old in zip(cleaned, parts, strict=True)):
                return bytes(raw)
            return msgspec.json.encode([msgspec.Raw(part) for part in cleaned])
        case _:
            return bytes(raw)


def is_secret(name: str) -> bool:
    """Whether an attribute of this name may not be kept."""
    return name.lower().endswith("secret")
