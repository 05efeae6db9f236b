"""What must be so of whatever is flattened, told by Python's own JSON reader and nothing of ours."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from fincon.transforms.flatten import flatten
from fincon.transforms.list_page import created_accounts, list_page
from fincon.transforms.page import Header, Origin, Page
from fincon.transforms.reconcile import Sums, differences, sums_of_pages, sums_of_rejects
from fincon.transforms.redaction import redact
from fincon.transforms.schemas import OBJECT_TABLES

START = 1_767_225_600_000_000
JSON_COLUMNS = {table.name: [c.name for c in table.columns if c.json] for table in OBJECT_TABLES}


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
    if b'"financial_connections.session"' in bodies[0]:
        return "sessions"
    return "events" if b'"/v1/events"' in bodies[0] else "accounts"


def pages_of(bodies: list[bytes], number: int) -> list[Page]:
    """As they are kept on disk: a page of the listing or of events, or the chain of a session of its own."""
    stream = stream_of(bodies)
    return [
        Page(
            Header(
                stream=stream, parent=f"fcsess_{number}" if stream == "sessions" else "",
                number=place, offset=0, count=0, request="", request_id="", status=200,
                observed_at=START + number * 10 + place, cursor=None,
            ),
            redact(body, "accounts"),
        )
        for place, body in enumerate(bodies)
    ]  # fmt: skip


def items_of(pages: list[Page], refused_events: Refused) -> list[Any]:
    """The accounts on them; of events those that are not in rejects, which are struck off there."""
    found = []
    for page in pages:
        tree = json.loads(page.body, object_pairs_hook=_object)
        items = (tree["accounts"] if page.header.parent and not page.header.number else tree)["data"]
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


def look(inputs: list[list[Page]], views: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Flatten them together, as a run does, and compare.

    Raises:
        Lost: by count, by id or by amount. Anything else that is raised is a crash.
    """
    tables = flatten([page for pages in inputs for page in pages], Origin("run"))
    for page in (pages[0] for pages in inputs if pages[0].header.parent):
        created_accounts(page.body)
    rejects = tables["rejects"].to_pylist()
    seen_at = tables["rejects"]["observed_at"].cast(pa.int64()).to_pylist()
    events = Counter(
        (at, row["object_id"])
        for at, row in zip(seen_at, rejects, strict=True)
        if row["object_type"] == "event"
    )
    items = [item for pages in inputs for item in items_of(pages, events)]
    ids = tables["accounts"]["account_id"].to_pylist()
    refused = [row["object_id"] for row in rejects if row["object_type"] == "account"]
    kept = Counter([*ids, *refused, *(i for _, i in events.elements())])
    unclear = [item for item in items if isinstance(item, Ambiguous)]
    sent = Counter(_id(item) for item in items if not isinstance(item, Ambiguous))
    if sent - kept or kept.total() != sent.total() + len(unclear):
        raise Lost(f"accounts: sent and not kept {dict(sent - kept)}, kept and not sent {dict(kept - sent)}")
    sessions = sum(1 for pages in inputs if pages[0].header.parent)
    lost = sessions - tables["sessions"].num_rows - sum(row["object_type"] == "session" for row in rejects)
    if lost:
        raise Lost(f"{lost} sessions")
    if any(not row["reason"] or row["raw"] is None for row in rejects):
        raise Lost("a reject that does not say why, or what it is")
    wanted = set(ids) - {*refused, *map(_id, unclear)}
    amounts = Counter(found for item in items if _id(item) in wanted for found in _amounts_of(item))
    if amounts != (known := _balances(tables["balances"], wanted)):
        raise Lost(f"amounts: {dict(amounts - known)} became {dict(known - amounts)}")
    if disagree := disagreement([page for pages in inputs for page in pages], tables):
        raise Lost(f"sums: {disagree}")
    _readable(tables, views)
    return {"accounts": len(ids), "sessions": tables["sessions"].num_rows, "rejects": len(rejects)}


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
