"""What must be so of whatever is flattened, told by Python's own JSON reader and nothing of ours."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from fincon.transforms.decode import Decoders
from fincon.transforms.flatten import flatten
from fincon.transforms.list_page import created_accounts, list_page
from fincon.transforms.odd_json import readable
from fincon.transforms.page import Header, Origin, Page
from fincon.transforms.reconcile import Sums, differences, sums_of_pages, sums_of_rejects
from fincon.transforms.redaction import redact
from fincon.transforms.schemas import OBJECT_TABLES
from tests.fuzz.mutate import PLANTED

START = 1_767_225_600_000_000
JSON_COLUMNS = {table.name: [c.name for c in table.columns if c.json] for table in OBJECT_TABLES}

MARKS = {
    b'"financial_connections.session"': "sessions",
    b'"/v1/events"': "events",
    b'"/v1/financial_connections/transactions"': "transactions",
    b'/owners"': "owners",
}
"""What stands on the first page of a chain, and what it is a chain of; of accounts there is nothing of this."""

KEPT = {
    "accounts": {"accounts": "account_id", "authorizations": "authorization_id"},
    "transactions": {"transactions": "transaction_id"},
    "owners": {"owners": "owner_id"},
}
"""Where the objects are that stand on pages of accounts (and so on those of sessions and events), of transactions, of owners."""

TYPES = {
    "account": "accounts",
    "authorization": "accounts",
    "event": "accounts",
    "transaction": "transactions",
    "owner": "owners",
}
"""Of which of these an object in ``rejects`` is one."""

TEXTS = {"transactions": ("description", "status"), "owners": ("name", "email", "phone", "raw_address")}
"""What is compared beside amounts, as it was sent."""


Refused = Counter[tuple[int, str | None]]
"""Events in rejects: when their page was seen, and their id."""


class Lost(AssertionError):
    """Something is neither in a table nor in rejects, or is not what was sent."""


def accepted(body: bytes, *, of_session: bool) -> bool:
    """Whether the fetching would keep this body of an answer 200: the checks of the client and of paging."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
        body.decode("utf-8")
        page = list_page(body, of_session=of_session)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return not page.has_more or bool(page.ids)


def stream_of(bodies: list[bytes]) -> str:
    """What an input is a chain of, by its first page; mutants keep their seed's kind."""
    return next((stream for mark, stream in MARKS.items() if mark in bodies[0]), "accounts")


def pages_of(bodies: list[bytes], number: int) -> list[Page]:
    """As they are kept on disk: a page of the listing or of events, or a session's or an account's chain of its own."""
    stream = stream_of(bodies)
    parent = {"sessions": f"fcsess_{number}", "transactions": f"fca_{number}", "owners": f"fca_{number}"}
    return [
        Page(
            Header(
                stream=stream, parent=parent.get(stream, ""),
                number=place, offset=0, count=0, request="", request_id="", status=200,
                observed_at=START + number * 10 + place, cursor=None,
            ),
            redact(readable(body), stream),
        )
        for place, body in enumerate(bodies)
    ]  # fmt: skip


def items_of(pages: list[Page], refused_events: Refused) -> list[Any]:
    """The objects on them; of events those that are not in rejects, which are struck off there."""
    found = []
    for page in pages:
        tree = json.loads(page.body, object_pairs_hook=_object)
        own = page.header.stream == "sessions" and not page.header.number
        items = (tree["accounts"] if own else tree)["data"]
        if page.header.stream == "events":
            often = Counter(map(_id, items))
            items = [
                _unclear(_account_of(item))
                if often[_id(item)] > 1 or isinstance(item, Ambiguous)
                else STRUCK_OFF
                if _strike_off(refused_events, (page.header.observed_at, _id(item)))
                else _account_of(item)
                for item in items
            ]
        else:  # what stands there twice, and says the same, is seen once
            items = [
                *{(repr(item) if _id(item) else place): item for place, item in enumerate(items)}.values()
            ]
        found += [item for item in items if item is not STRUCK_OFF]
    return found


STRUCK_OFF = object()


def _strike_off(refused: Refused, event: tuple[int, str | None]) -> bool:
    found = refused[event] > 0
    refused[event] -= found
    return found


def _account_of(event: Any) -> Any:
    try:
        return event["data"]["object"]
    except (KeyError, TypeError, IndexError):
        return None


class Ambiguous(dict[str, Any]):
    """An object with two ids: which of them is its id, JSON does not say."""


def _unclear(account: Any) -> Ambiguous:
    return Ambiguous(account if isinstance(account, dict) else {})


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = sum(name == "id" for name, _ in pairs) > 1
    return Ambiguous(pairs) if twice else dict(pairs)


def look(
    inputs: list[list[Page]], views: duckdb.DuckDBPyConnection, decoders: Decoders | None = None
) -> dict[str, int]:
    """Flatten them together, as a run does, and compare.

    Raises:
        Lost: by count, by id, by amount or by what was planted. Anything else that is raised is a crash.
    """
    pages = [page for chain in inputs for page in chain]
    tables = flatten(pages, Origin("run"), decoders)
    for chain in inputs:
        if chain[0].header.stream == "sessions":
            created_accounts(chain[0].body)
    rejects = tables["rejects"].to_pylist()
    if any(not row["reason"] or row["raw"] is None for row in rejects):
        raise Lost("a reject that does not say why, or what it is")
    for kind in KEPT:
        _compare(kind, inputs, tables, rejects)
    of_sessions = sum(chain[0].header.stream == "sessions" for chain in inputs)
    kept = tables["sessions"].num_rows + sum(row["object_type"] == "session" for row in rejects)
    if of_sessions != kept:
        raise Lost(f"{of_sessions - kept} sessions")
    if disagree := disagreement(pages, tables):
        raise Lost(f"sums: {disagree}")
    _find_planted(pages, tables)
    _readable(tables, views)
    counted = ("accounts", "sessions", "authorizations", "transactions", "owners", "rejects")
    return {name: tables[name].num_rows for name in counted}


def _compare(kind: str, inputs: list[list[Page]], tables: dict[str, pa.Table], rejects: list[Any]) -> None:
    """Compare the objects of a kind, one of `KEPT`, with what is kept of them.

    Raises:
        Lost: by id, by amount or by text.
    """
    streams = {kind} if kind != "accounts" else {"accounts", "sessions", "events"}
    chains = [chain for chain in inputs if chain[0].header.stream in streams]
    refused = [row for row in rejects if TYPES.get(row["object_type"]) == kind]
    events = Counter(
        (_micros(row["observed_at"]), row["object_id"]) for row in refused if row["object_type"] == "event"
    )
    items = [item for chain in chains for item in items_of(chain, events)]
    rows = [row for name in KEPT[kind] for row in tables[name].to_pylist()]
    ids = [row[own] for row in rows for own in KEPT[kind].values() if row.get(own) is not None]
    refused_ids = [row["object_id"] for row in refused if row["object_type"] != "event"]
    kept = Counter([*ids, *refused_ids, *(i for _, i in events.elements())])
    unclear = [item for item in items if isinstance(item, Ambiguous)]
    sent = Counter(_id(item) for item in items if not isinstance(item, Ambiguous))
    if sent - kept or kept.total() != sent.total() + len(unclear):
        raise Lost(f"{kind}: sent and not kept {dict(sent - kept)}, kept and not sent {dict(kept - sent)}")
    if kind == "owners" and (none := sum(not items_of(chain, events) for chain in chains)) != len(rows) - len(
        ids
    ):
        raise Lost(f"ownerless: {none} accounts without owners became {len(rows) - len(ids)}")
    wanted = set(ids) - {*refused_ids, *map(_id, unclear)}
    found = [item for item in items if _id(item) in wanted]
    if kind == "accounts":
        authorizations = {*tables["authorizations"]["authorization_id"].to_pylist()}
        amounts = Counter(a for item in found if _id(item) not in authorizations for a in _amounts_of(item))
        known = _balances(tables["balances"], wanted)
    else:
        names = ("id", *TEXTS[kind], *(("amount", "currency") if kind == "transactions" else ()))
        amounts = Counter(tuple(item.get(name) for name in names) for item in found)
        columns = (*KEPT[kind].values(), *names[1:])
        known = Counter(tuple(row[name] for name in columns) for row in rows if row[columns[0]] in wanted)
    if amounts != known:
        raise Lost(f"values of {kind}: {dict(amounts - known)} became {dict(known - amounts)}")


def _micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _find_planted(pages: list[Page], tables: dict[str, pa.Table]) -> None:
    """Find what was planted and still has such a name: in ``extra`` of its object, or with all of it in ``rejects``.

    Raises:
        Lost: one is nowhere.
    """
    sent = {mark for page in pages for tree in _read_of(page) for mark in _planted_in(tree)}
    texts = (tables[name][column].to_pylist() for name, columns in JSON_COLUMNS.items() for column in columns)
    raws = (row["raw"] for row in tables["rejects"].select(["raw"]).to_pylist())
    kept = {mark for column in (*texts, raws) for text in column if text for mark in PLANTED.findall(text)}
    if lost := sent - kept:
        raise Lost(f"planted: {sorted(lost)[:5]}")


def _read_of(page: Page) -> list[Any]:
    """All of a page but the envelopes of events, of which their objects alone are kept."""
    tree = json.loads(page.body)
    return [tree] if page.header.stream != "events" else [_account_of(item) for item in tree["data"]]


def _planted_in(tree: Any, *, inside: bool = False) -> Iterator[str]:
    """Yield what was planted and does not stand where an attribute is known: such a one need not be kept as it is."""
    if isinstance(tree, str) and inside:
        yield from PLANTED.findall(tree)
    if isinstance(tree, dict | list):
        for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _planted_in(value, inside=inside or str(name).startswith("news_"))


def disagreement(pages: list[Page], tables: dict[str, pa.Table]) -> list[tuple[str, str, int, int]]:
    """Where the sums over pages and over the rows made of them differ, as every run compares them."""
    rows: Sums = Counter()
    for row in tables["balances"].to_pylist():
        if row["currency"] is None:
            continue  # a balance that names no currency
        rows[row["currency"], "rows"] += 1
        for kind in ("current", "available", "used"):
            rows[row["currency"], kind] += row[kind] or 0
    rejects = [(row["object_type"], row["raw"]) for row in tables["rejects"].to_pylist()]
    return differences(sums_of_pages(pages), sums_of_rejects(rejects), rows)


def _id(item: Any) -> str | None:
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) else None


def _amounts_of(item: Any) -> Iterator[tuple[Any, ...]]:
    """(account, kind, currency, amount) as sent."""
    balance = item.get("balance") or {}
    for kind, amounts in (
        ("current", balance.get("current")),
        ("available", (balance.get("cash") or {}).get("available")),
        ("used", (balance.get("credit") or {}).get("used")),
    ):
        yield from ((item["id"], kind, currency, amount) for currency, amount in (amounts or {}).items())


def _balances(table: pa.Table, wanted: set[str]) -> Counter[Any]:
    return Counter(
        (row["account_id"], kind, row["currency"], row[kind])
        for row in table.to_pylist()
        for kind in ("current", "available", "used")
        if row[kind] is not None and row["account_id"] in wanted
    )


def _readable(tables: dict[str, pa.Table], views: duckdb.DuckDBPyConnection) -> None:
    """The views give JSON columns DuckDB's JSON type: a text that it cannot read would stop every query on them."""
    for name, columns in JSON_COLUMNS.items():
        for column in columns:
            texts = tables[name].select([column])
            if texts[column].null_count < len(texts):
                views.register("texts", texts)
                views.execute(f"SELECT count({column}::JSON) FROM texts").fetchall()
                views.unregister("texts")
