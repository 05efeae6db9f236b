"""Real pages, spoiled: in their structure mostly, sometimes in their bytes."""

import json
import random
import re
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from itertools import count
from typing import Any

from fincon.sandbox import objects
from fincon.sandbox.world import World

Tree = Any
Pages = list[bytes]
"""A page of the listing, or of events, alone; or all pages of a session, or of an account's transactions or owners."""

ODD = (
    None, True, False, 0, -1, 1, 12.5, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30,
    253_402_300_799, 253_402_300_800, -62_135_596_801, "", " ", "0", "12", "12.50", "null", "é", "日本", "\x00",
    "a\x00b", "\u2028", "\ufeff", "'", '"', "`", "\\", " - at `$.id`", "fca_1", "x" * 70_000, [], {}, [None], [[]],
    [1, "a"], {"": 0}, {"id": None}, {"id": 7}, {"id": "fca_1"}, {"id": ["fca_1"]}, {"usd": 1}, {"usd": "1"},
    {"usd": None}, {"": 1}, {"USD": 2**63}, {"data": []}, {"object": "list", "data": [], "has_more": False},
)  # fmt: skip
"""Values where others stood."""

RAW = (
    "1e400", "-1e400", "1e5", "1.0", "-0", "-0.0", "0.1e1", "1E+2", "9" * 400, "0." + "0" * 400 + "1", "1e-400",
    '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\u0073ecret"', '"a\\/b"', '"\\u0069d"',
    "[" * 60 + "]" * 60, '{"a":' * 60 + "1" + "}" * 60, '{"id":"a","id":"b"}', '{"id":"a","id":7}', '{"usd":1,"usd":2}',
    '{"a":1,"a":2}', " 1 ", "[ 1 , 2 ]", '{"client_secret":{"a":"b"}}', "9007199254740993.0", "18446744073709551616",
)  # fmt: skip
"""JSON that Python would not write."""

NAMES = (
    "id", "object", "data", "has_more", "accounts", "balance", "current", "cash", "available", "as_of", "type", "livemode",
    "created", "client_secret", "Secret", "secret_not", "", " ", "new", "é", "\x00", "$", "a.b", "`", "0", "usd", "x" * 300,
    "permissions", "status_details", "account_holder", "ownership", "account_numbers", "url", "total_count",
)  # fmt: skip

PREFIX = "/v1/financial_connections"

AMOUNTS = ("current", "available", "used")
"""Objects whose names are data, namely currencies."""

PLANTED = re.compile(r"planted-[0-9]+z")
"""What is found again wherever the object is that it was planted on."""

SNIPPETS = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"null", b"true", b"0", b"-", b".", b"e9", b"\\u0000", b"\\ud800",
    b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\x00", b" ", b"\n", b'"id":', b'"data":[],', b'"has_more":false,', b'"a":1,',
)  # fmt: skip


def seeds() -> list[Pages]:
    """Pages as the sandbox writes them, each also with an attribute on every object that nobody knows.

    They are lists of a few accounts, transactions or owners, sessions with the rest of their accounts, and events of accounts
    and of authorizations.
    """
    found: list[list[Tree]] = []
    for seed in (1, 2):
        world = World(seed=seed, clock=datetime(2026, 7, 1, tzinfo=UTC), accounts=160, sessions=40)
        accounts = [world.account_json(index) for index in range(world.account_count)]
        for size in (1, 2, 3, 3, 5):
            starts = range(0, 60, size * 4)
            found += ([_list(accounts[start : start + size])] for start in starts)
        for session_id in world.session_ids():
            session = world.session(session_id)
            assert session
            tree = world.session_json(session)
            del tree["accounts"]["data"][4:]
            rest = accounts[session.accounts[0] : session.accounts[0] + 2] if session.accounts else []
            found.append([tree, *([_list(rest)] if rest and len(found) % 2 else [])])
        pairs = (accounts[start : start + 2] for start in range(0, 60, 2))
        found += ([_list([_event(account) for account in pair], "/v1/events")] for pair in pairs)
        found += (
            [_list([_event(_authorization(seed, n)) for n in (0, i)], "/v1/events")] for i in range(1, 20)
        )
        for index in range(40):
            transactions = [objects.transaction(one) for one in world.transactions(index)[:6]]
            found.append([_list(part, f"{PREFIX}/transactions") for part in _parts(transactions, index)])
            owners = [objects.owner(one) for one in world.owners(index)[:6]]
            url = f"{PREFIX}/accounts/{world.account_id(index)}/owners"
            found.append([_list(part, url) for part in _parts(owners, index)])
    return [[*map(_dump, pages)] for pages in [*found, *map(planted, found)]]


def planted(pages: list[Tree]) -> list[Tree]:
    """The same pages with an attribute on every object, at any depth, that no reference names; each says another `PLANTED`."""
    found = deepcopy(pages)
    numbers = count()

    def plant(tree: Tree, *, knows_names: bool = True) -> None:
        items = tree if isinstance(tree, list) else [*tree.values()] if isinstance(tree, dict) else []
        names = tree.keys() if isinstance(tree, dict) else ()
        for name, value in zip(names or [""] * len(items), items, strict=True):
            plant(value, knows_names=name not in AMOUNTS)
        is_plumbing = {"has_more", "api_version", "idempotency_key"} & {*names} or set(names) == {"object"}
        if isinstance(tree, dict) and knows_names and not is_plumbing:
            text = f"planted-{next(numbers)}z"
            tree[f"news_{len(items) % 4}"] = (text, {"note": text}, [text, None], [{"a": {"b": text}}])[
                len(names) % 4
            ]

    for page in found:
        plant(page)
    return found


def _parts(items: list[Tree], number: int) -> list[list[Tree]]:
    """A list on one page; of every third, on two."""
    return [items[:2], items[2:]] if number % 3 == 0 and len(items) > 2 else [items]


def _list(items: list[Tree], url: str = f"{PREFIX}/accounts") -> Tree:
    return {"object": "list", "data": items, "has_more": False, "url": url}


def _authorization(seed: int, number: int) -> Tree:
    return {
        "id": f"fcauth_{seed}_{number}", "object": "financial_connections.authorization", "institution": f"fcinst_{number}",
        "account_holder": {"type": "customer", "customer": "cus_1"}, "display_name": None, "institution_name": "Case Bank",
        "livemode": False, "status": ("active", "inactive")[number % 2],
        "status_details": {"inactive": {"action": "relink_required"}} if number % 2 else {"active": None},
    }  # fmt: skip


def _event(of: Tree) -> Tree:
    return {
        "id": "evt_" + of["id"], "object": "event", "api_version": "2026-06-24.dahlia",
        "created": of.get("created", 1_780_000_000),
        "data": {"object": of}, "livemode": False, "pending_webhooks": 0,
        "request": {"id": None, "idempotency_key": None}, "type": f"{of['object']}.created",
    }  # fmt: skip


def _dump(tree: Tree) -> bytes:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


def spoiled(pages: Pages, dice: random.Random) -> Pages:
    """The same pages with one or more of them spoiled."""
    found = list(pages)
    for _ in range(dice.choice((1, 1, 1, 2))):
        place = dice.randrange(len(found))
        if dice.random() < 0.2:
            found[place] = _bytes(found[place], dice)
        else:
            found[place] = _structure(found[place], dice)
    return found


def _bytes(body: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        at = dice.randrange(len(body) + 1)
        match dice.randrange(4):
            case 0:
                body = body[:at] + dice.choice(SNIPPETS) + body[at:]
            case 1:
                body = body[:at] + dice.choice(SNIPPETS) + body[at + 1 :]
            case 2:
                body = body[:at] + bytes([dice.randrange(32, 127)]) + body[at + 1 :]
            case _:
                body = body[:at] + body[at + dice.randrange(1, 6) :]
    return body


def _structure(body: bytes, dice: random.Random) -> bytes:
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        return _bytes(body, dice)
    raw: dict[str, str] = {}
    for _ in range(dice.choice((1, 1, 2, 3, 6))):
        tree = _change(tree, dice, raw)
    try:
        text = json.dumps(tree, separators=(",", ":"), ensure_ascii=dice.random() < 0.5)
        for mark, token in raw.items():
            text = text.replace(f'"{mark}"', token)
        return text.encode("utf-8")
    except (UnicodeEncodeError, ValueError, RecursionError):
        return body


def _change(tree: Tree, dice: random.Random, raw: dict[str, str]) -> Tree:
    """One change somewhere in the tree."""
    places: list[tuple[Tree, Any]] = []
    _walk(tree, places)
    # The items themselves and what is in them, rather than the page's plumbing.
    places = [place for place in places if place[1] not in ("data", "has_more", "accounts")] or places
    if not places:
        return _odd(dice, raw)
    holder, key = dice.choice(places)
    if dice.random() < 0.03:
        everywhere: list[tuple[Tree, Any]] = []
        _walk(tree, everywhere)
        holder, key = dice.choice(everywhere)
    value = holder[key]
    change: Callable[[], None] = dice.choice(
        (
            lambda: holder.__setitem__(key, _odd(dice, raw)),
            lambda: holder.__setitem__(key, _odd(dice, raw)),
            lambda: holder.__delitem__(key),
            lambda: _rename(holder, key, dice),
            lambda: _add(value if isinstance(value, dict | list) else holder, dice, raw),
            lambda: _add(value if isinstance(value, dict | list) else holder, dice, raw),
            lambda: holder.__setitem__(key, dice.choice(([value], {"id": value}, {"x": value}, str(value)))),
            lambda: _repeat(holder, key, dice, raw),
            lambda: _elsewhere(places, holder, key, dice),
        )
    )
    change()
    return tree


def _walk(tree: Tree, places: list[tuple[Tree, Any]], depth: int = 0) -> None:
    if depth > 30:
        return
    for key, value in (
        tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    ):
        places.append((tree, key))
        _walk(value, places, depth + 1)


def _odd(dice: random.Random, raw: dict[str, str]) -> Tree:
    if dice.random() < 0.35:
        mark = f"@raw{len(raw)}@"
        raw[mark] = dice.choice(RAW)
        return mark
    return deepcopy(dice.choice(ODD))


def _rename(holder: Tree, key: Any, dice: random.Random) -> None:
    if isinstance(holder, dict):
        holder[dice.choice((*NAMES, f"{key}x", str(key).upper()))] = holder.pop(key)


def _add(into: Tree, dice: random.Random, raw: dict[str, str]) -> None:
    if isinstance(into, dict):
        into[dice.choice(NAMES)] = _odd(dice, raw)
    else:
        into.insert(dice.randrange(len(into) + 1), _odd(dice, raw))


def _repeat(holder: Tree, key: Any, dice: random.Random, raw: dict[str, str]) -> None:
    """An item twice, or an attribute twice under one name."""
    if isinstance(holder, list):
        holder.insert(dice.randrange(len(holder) + 1), holder[key])
        return
    mark = f"@raw{len(raw)}@"
    try:
        raw[mark] = f"{json.dumps(dice.choice(ODD))},{json.dumps(key)}:{json.dumps(holder[key])}"
    except (ValueError, RecursionError):
        return
    holder[key] = mark


def _elsewhere(places: list[tuple[Tree, Any]], holder: Tree, key: Any, dice: random.Random) -> None:
    """Some other part of the page in this place, as a copy."""
    other, name = dice.choice(places)
    holder[key] = json.loads(json.dumps(other[name]))
