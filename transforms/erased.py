"""Pages without the objects of those who were erased."""

from collections.abc import Callable
from typing import Any

import msgspec

Hides = Callable[..., bool]
"""Asked with the ids that an object names (its own, its holder's): must it be left out?"""

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


class _Names(msgspec.Struct):
    id: Any = None
    account_holder: dict[str, Any] | None = None
    data: dict[str, msgspec.Raw] | None = None
    """Of an event: its ``object`` names ids as well."""


_NAMES = msgspec.json.Decoder(_Names)


def without_hidden(body: bytes, is_erased: Hides) -> bytes:
    """A list page, or a session with its list of accounts, without the items that ``is_erased`` names.

    A body from which nothing is to be left out is returned byte for byte.
    """
    tree = _OBJECT.decode(body)
    if "data" not in tree:  # a session
        inner = without_hidden(bytes(tree["accounts"]), is_erased) if "accounts" in tree else b""
        if not inner or inner == bytes(tree["accounts"]):
            return body
        return msgspec.json.encode({**tree, "accounts": msgspec.Raw(inner)})
    items = _ARRAY.decode(tree["data"])
    kept = [item for item in items if not is_erased(*named(bytes(item)))]
    if len(kept) == len(items):
        return body
    return msgspec.json.encode({**tree, "data": msgspec.Raw(msgspec.json.encode(kept))})


def named(raw: bytes) -> list[str]:
    """The ids that an object names: its own and those of its holder, expanded or not."""
    try:
        found = _NAMES.decode(raw)
    except msgspec.DecodeError:
        return []
    holder = (found.account_holder or {}).values()
    ids = [value.get("id") if isinstance(value, dict) else value for value in (found.id, *holder)]
    inside = named(bytes(found.data["object"])) if found.data and "object" in found.data else []
    return [*(i for i in ids if isinstance(i, str)), *inside]
