"""Each attribute and event type of Stripe's own package, as the lock has it, is known to fincon, or left out for a reason.

What Stripe adds fails here when the lock moves: docs/upgrading.md says what to do then.
"""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
import stripe
from stripe import Event
from stripe.financial_connections import Account, AccountOwner, Authorization, Session, Transaction

from fincon.extract.events import TYPES
from fincon.lake.upgrade import columns_within
from fincon.settings import STRIPE_VERSION
from fincon.transforms.flatten import flatten
from fincon.transforms.page import Origin
from fincon.transforms.schemas import NOT_KEPT, OBJECT_TABLES
from tests.transforms.test_reference import SESSION, page, sources_of

RESOURCES: dict[str, Any] = {
    "session": Session,
    "account": Account,
    "transaction": Transaction,
    "owner": AccountOwner,
    "authorization": Authorization,
}

LEFT_OUT = {
    **NOT_KEPT,
    "authorization.object": "the table's name says it",
    "session.bank_account_token": "its bearer can use it, and it names a person: it is never written",
    "session.filters.country": "it lands in filter_countries, as a list of one",
}
"""Attributes that are no column's source, each with the reason."""


def attributes(resource: Any, path: str) -> Iterator[str]:
    """Yield the path of each attribute that a typed resource has, and of those of the objects written out within it."""
    for name, annotation in resource.__annotations__.items():
        if name == "OBJECT_NAME" or name.startswith("_"):
            continue
        inner = next(objects_within(annotation, resource), None)
        if inner is None:
            yield f"{path}.{name}"
        else:
            yield from attributes(inner, f"{path}.{name}")


def objects_within(annotation: Any, resource: Any) -> Iterator[Any]:
    """Yield the classes of an annotation that are written out within the resource; others stand for themselves."""
    if isinstance(annotation, type) and annotation.__qualname__.startswith(f"{resource.__qualname__}."):
        yield annotation
    for part in get_args(annotation):
        yield from objects_within(part, resource)


def landing() -> set[str]:
    """The attributes that a column keeps, or a field of one that is a struct."""
    return {
        path.replace(column.name, source, 1)
        for table in OBJECT_TABLES
        for column in table.columns
        for source in sources_of(column)
        for path in [column.name, *columns_within([table.schema.field(column.name)])]
    }


@pytest.mark.parametrize("root", RESOURCES)
def test_every_attribute_of_stripes_typed_resources_lands_or_is_left_out_for_a_reason(root: str) -> None:
    found = [*attributes(RESOURCES[root], root)]
    assert len(found) >= 7
    assert [path for path in found if path not in landing() | LEFT_OUT.keys()] == []


def test_the_walk_finds_what_is_nested_and_what_is_new() -> None:
    """So the test above cannot pass for having seen nothing."""
    found = {path for root, resource in RESOURCES.items() for path in attributes(resource, root)}
    assert {
        "session.limits.accounts", "session.manual_entry.mode", "session.filters.require_payment_method_support",
        "session.filters.country", "account.status_details.active.cause", "account.balance.cash.available",
        "account.account_numbers.supported_networks", "transaction.status_transitions.void_at", "owner.raw_address",
    } <= found  # fmt: skip


def test_every_event_type_of_the_product_is_asked_for() -> None:
    kind = Event.__annotations__["type"]
    said = {name for part in [kind, *get_args(kind)] for name in get_args(part)}
    assert {name for name in said if str(name).startswith("financial_connections.")} == set(TYPES)
    assert len(TYPES) <= 20, "Stripe takes no more types in one request"


def test_the_version_asked_for_is_the_packages_own() -> None:
    """Its shapes are what the Structs were held against."""
    assert stripe.api_version == STRIPE_VERSION


def test_a_session_of_the_newest_version_lands_in_columns() -> None:
    newer = {
        "filters": {"account_subcategories": ["checking"], "country": "GB", "require_payment_method_support": "all"},
        "limits": {"accounts": 3},
        "manual_entry": {"mode": "automatic"},
    }  # fmt: skip
    [row] = flatten([page("sessions", "fcsess_1", {**SESSION, **newer})], Origin("run"))[
        "sessions"
    ].to_pylist()
    assert row["filter_countries"] == ["GB"]
    assert row["filter_require_payment_method_support"] == "all"
    assert (row["limit_accounts"], row["manual_entry_mode"]) == (3, "automatic")
    assert row["extra"] is None


def test_countries_of_either_version_land_in_one_column() -> None:
    def countries(filters: dict[str, Any]) -> Any:
        table = flatten([page("sessions", "s", {**SESSION, "filters": filters})], Origin("run"))["sessions"]
        return table["filter_countries"][0].as_py()

    assert countries({"countries": ["US", "CA"]}) == ["US", "CA"]
    assert countries({"country": "GB", "countries": None}) == ["GB"]
    assert countries({"country": "US", "countries": ["US", "CA"]}) == ["US", "CA"]
    assert countries({"country": None}) is None
    assert countries({"countries": []}) == []
