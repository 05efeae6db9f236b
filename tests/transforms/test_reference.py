"""Every attribute of Stripe's reference lands in a column, or is left out for a reason that is written down."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fincon.transforms.flatten import flatten
from fincon.transforms.page import Header, Origin, Page
from fincon.transforms.schemas import FEATURES, NOT_KEPT, OBJECT_TABLES, TABLES, Column, Table

REFERENCE = Path(__file__).parents[1] / "golden" / "session_object_reference.txt"
"""The reference of the session object as Stripe's page reads when it is copied as text."""

ATTRIBUTE = re.compile(
    r"- ((?:[a-z0-9]+[._] ?)*[a-z0-9]+?)"  # a name, which may be broken after a point or an underscore
    r"(?:nullable )?(?:array of (?:objects|enums|strings)|string|object|enum|boolean|timestamp|integer)"
)

NEWER = {
    "session.account_holder.customer_account",
    "account.account_holder.customer_account",
    "account.account_numbers",
    "account.status_details",
    "session.filters.require_payment_method_support",
    "session.limits.accounts",
    "session.manual_entry.mode",
    *(f"authorization.account_holder.{name}" for name in ("type", "account", "customer", "customer_account")),
    *(
        f"authorization.{name}"
        for name in ("id", "institution", "institution_name", "display_name", "livemode")
    ),
    *("authorization.status", "authorization.status_details"),
}
"""Attributes that Stripe's SDK has and the reference has not yet."""


PUBLISHED = {
    root: json.loads((REFERENCE.parent / folder / file).read_text())["data"][0]
    for root, folder, file in (
        ("transaction", "published_transaction", "transactions.json"),
        ("owner", "published_owner", "owners.json"),
    )
}
"""The objects that the session's reference does not have, as Stripe publishes a sample of each, whole."""


@cache
def attributes() -> tuple[str, ...]:
    """The reference's attributes in order, as ``session.…`` and, for those of ``accounts.data``, ``account.…``; then
    those of what Stripe publishes as samples.
    """  # noqa: D205 - one sentence, over two lines
    names = (match[1].replace(" ", "") for match in ATTRIBUTE.finditer(REFERENCE.read_text()))
    found = (re.sub(r"^session\.accounts\.data\.", "account.", f"session.{name}") for name in names)
    return (*found, *(path for root, it in PUBLISHED.items() for path in paths_of(it, root)))


def paths_of(it: dict[str, Any], root: str) -> Iterator[str]:
    for name, value in it.items():
        yield f"{root}.{name}"
        if isinstance(value, dict):
            yield from paths_of(value, f"{root}.{name}")


def parts(attribute: str) -> list[str]:
    return [other for other in attributes() if other.startswith(attribute + ".")]


def sources(tables: Iterable[Table] = TABLES) -> set[str]:
    return {source for table in tables for column in table.columns for source in sources_of(column)}


def sources_of(column: Column) -> set[str]:
    """A source with ``{feature}`` stands for one of each feature; a column may have no source."""
    return {column.source.replace("{feature}", feature) for feature in FEATURES} - {""}


def not_landed(landing: set[str]) -> list[str]:
    """The attributes with no column, no reason, and (for an object) not all of their parts landed."""

    def landed(attribute: str) -> bool:
        if attribute in landing or NOT_KEPT.get(attribute, "").strip():
            return True
        return bool(parts(attribute)) and all(landed(part) for part in parts(attribute))

    return [attribute for attribute in attributes() if not landed(attribute)]


# -- the reference


def test_the_parser_finds_every_attribute():
    found = attributes()
    assert len(found) == len(set(found)) >= 55
    named = """session.id session.account_holder.customer session.accounts session.accounts.data
        session.accounts.has_more session.client_secret session.filters.account_subcategories session.return_url
        account.id account.object account.account_holder account.balance.as_of account.balance.cash.available
        account.balance.credit.used account.balance.current account.balance_refresh.next_refresh_available_at
        account.last4 account.ownership transaction.status_transitions.posted_at owner.email
        account.supported_payment_method_types account.transaction_refresh.id"""
    assert set(named.split()) <= set(found)


def test_every_attribute_of_the_reference_lands_or_is_left_out_for_a_reason():
    assert not_landed(sources()) == []


@pytest.mark.parametrize("source", sorted(s for s in sources() & set(attributes()) if not parts(s)))
def test_an_attribute_whose_column_goes_is_reported(source: str):
    """But for an object all of whose parts land in columns of their own."""
    assert source in not_landed(sources() - {source})


def test_no_reason_is_given_for_what_the_reference_does_not_have_or_a_column_keeps():
    assert set(NOT_KEPT) <= set(attributes()) - sources()


def test_no_column_claims_a_source_that_stripe_does_not_send():
    assert sources() <= set(attributes()) | NEWER


def test_every_table_and_column_says_what_it_means():
    for table in TABLES:
        assert table.meaning.endswith("."), table.name
        for column in table.columns:
            assert column.meaning.endswith((".", "…")), f"{table.name}.{column.name}"
            assert (table.schema.field(column.name).metadata or {})[b"meaning"].decode() == column.meaning


# -- a column's source is where its values come from

HOLDER = {"type": "t", "account": "acct_1", "customer": "cus_1", "customer_account": "acct_2"}
ATTEMPT = {"last_attempted_at": 5, "next_refresh_available_at": 6, "status": "s", "id": "fctxnref_1"}
ACCOUNT = {
    "id": "fca_1",
    "account_holder": HOLDER,
    "account_numbers": [{"status": "s"}],
    "balance": {
        "as_of": 1,
        "current": {"usd": 10},
        "type": "cash",
        "cash": {"available": {"usd": 20}},
        "credit": {"used": {"usd": 30}},
    },
    "balance_refresh": ATTEMPT,
    "category": "c",
    "created": 2,
    "display_name": "d",
    "institution_name": "i",
    "last4": "4444",
    "livemode": False,
    "ownership": "fcaowns_1",
    "ownership_refresh": ATTEMPT,
    "permissions": ["p"],
    "status": "s",
    "status_details": {"active": {"cause": "c"}},
    "subcategory": "s",
    "subscriptions": ["s"],
    "supported_payment_method_types": ["s"],
    "transaction_refresh": ATTEMPT,
}
SESSION = {
    "id": "fcsess_1",
    "account_holder": HOLDER,
    "accounts": {"data": [ACCOUNT], "has_more": False},
    "filters": {"account_subcategories": ["a"], "countries": ["c"], "require_payment_method_support": "s"},
    "limits": {"accounts": 1},
    "livemode": False,
    "manual_entry": {"mode": "m"},
    "permissions": ["p"],
    "prefetch": ["p"],
    "return_url": "r",
}


AUTHORIZATION = {
    "id": "fcauth_1",
    "object": "financial_connections.authorization",
    "account_holder": HOLDER,
    "display_name": "d",
    "institution": "fcinst_1",
    "institution_name": "i",
    "livemode": False,
    "status": "s",
    "status_details": {"active": {"cause": "c"}, "inactive": {"action": "a"}},
}

STREAMS: dict[str, str] = {"session": "sessions", "transaction": "transactions", "owner": "owners"}


def sample() -> dict[str, dict[str, Any]]:
    """One object of each stream, with no part in common."""
    found: dict[str, dict[str, Any]] = json.loads(
        json.dumps({"session": SESSION, **PUBLISHED, "authorization": AUTHORIZATION})
    )
    found["transaction"]["status_transitions"]["void_at"] = 7  # a sample's null could not change
    return found


def columns_of(objects: dict[str, dict[str, Any]]) -> dict[tuple[str, str], list[Any]]:
    """(table, column) → values, of a page of each stream."""
    pages = [page("sessions", "fcsess_1", objects["session"])]
    told = {"id": "evt_1", "created": 1, "data": {"object": objects["authorization"]}}
    pages += [page("events", "", {"data": [told], "has_more": False})]
    details = {root: it for root, it in objects.items() if root in PUBLISHED}
    pages += [page(STREAMS[root], "fca_1", {"data": [it], "has_more": False}) for root, it in details.items()]
    tables = flatten(pages, Origin("run"))
    assert tables["rejects"].num_rows == 0, tables["rejects"].to_pylist()
    return {
        (name, column): values
        for name, table in tables.items()
        for column, values in table.to_pydict().items()
    }


def page(stream: str, parent: str, body: dict[str, Any]) -> Page:
    header = Header(
        stream=stream,
        parent=parent,
        number=0,
        offset=0,
        count=1,
        request="/",
        request_id="req_1",
        status=200,
        observed_at=0,
        cursor=None,
    )
    return Page(header, json.dumps(body).encode())


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value + "_changed"
        case list():
            return [*value, changed(value[0])]
        case dict():
            return {key: changed(inner) for key, inner in value.items()}
        case _:
            raise TypeError(value)


def with_change(source: str) -> dict[str, dict[str, Any]]:
    """`sample` with another value where ``source`` points."""
    objects = sample()
    root, *path, last = source.split(".")
    inside = objects["session"]["accounts"]["data"][0] if root == "account" else objects[root]
    for name in path:
        inside = inside[name]
    if source == "account.balance":
        inside["balance"]["current"]["eur"] = 1
    elif source == "session.accounts":
        inside["accounts"]["data"] += [{**inside["accounts"]["data"][0], "id": "fca_second"}]
    elif source == "session.accounts.data":
        inside["data"][0] = {**inside["data"][0], "id": "fca_other"}
    else:
        inside[last] = changed(inside[last])
    return objects


SOURCED = [
    (table.name, column.name, source)
    for table in OBJECT_TABLES
    for column in table.own_columns
    for source in sorted(sources_of(column))
]


@pytest.mark.parametrize(("table", "column", "source"), SOURCED)
def test_a_column_changes_with_its_source(table: str, column: str, source: str):
    """The source that a column names is where its values come from."""
    before, after = columns_of(sample()), columns_of(with_change(source))
    assert after[table, column] != before[table, column]


@pytest.mark.parametrize("source", sorted(sources(OBJECT_TABLES)))
def test_no_column_changes_with_an_attribute_that_is_not_its_source(source: str):
    """``extra`` included: it holds nothing that a column holds. Objects' ids and lists' lengths aside."""
    before, after = columns_of(sample()), columns_of(with_change(source))
    named = {(table, column) for table, column, name in SOURCED if name == source}
    moved = {key for key in before if before[key] != after[key]}
    if source in ("session.accounts", "session.accounts.data"):
        named = {key for key in before if key[0] != "sessions"} | {("sessions", "account_count")}
    if source == "account.id":
        named |= {("session_accounts", "account_id")}
    if source == "account.balance":
        named |= {key for key in before if key[0] == "balances"}
    assert moved <= named
