"""What Stripe adds tomorrow says nothing of a person where personal data is hashed or dropped.

A marker is planted at random places of random objects, and searched for in every byte that is written: pages and
Parquet, unpacked.
"""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fincon.extract.pagination import no_page
from fincon.lake.staging import stage
from fincon.landing.page_store import PageStore
from fincon.transforms.list_page import list_page
from fincon.transforms.page import Origin, Page
from fincon.transforms.redaction import Choice, Privacy, redact
from tests.test_secrets_at_rest import contents
from tests.transforms.test_reference import ACCOUNT, PUBLISHED, SESSION

MARKER = "Zoë Marker-7f3e@example"
EVENT = {
    "id": "evt_1",
    "object": "event",
    "api_version": "2026-10-28.endive",
    "created": 1_795_000_000,
    "data": {"object": ACCOUNT, "previous_attributes": {"display_name": "before"}},
    "livemode": False,
    "pending_webhooks": 0,
    "request": {"id": None, "idempotency_key": None},
    "type": "financial_connections.account.refreshed_balance",
}
EXPANDED = {
    **ACCOUNT,
    "account_holder": {"type": "customer", "customer": {"id": "cus_1", "object": "customer"}},
}
OBJECTS: dict[str, list[dict[str, Any]]] = {
    "sessions": [SESSION, {**SESSION, "accounts": {"data": [EXPANDED, ACCOUNT], "has_more": False}}],
    "accounts": [{"data": [ACCOUNT, EXPANDED], "has_more": False, "object": "list", "url": "/v1/x"}],
    "events": [{"data": [EVENT], "has_more": False}],
    "transactions": [{"data": [PUBLISHED["transaction"]], "has_more": False}],
    "owners": [{"data": [PUBLISHED["owner"]], "has_more": False}],
}

Plant = Callable[[], None]


def hiding_places(it: Any) -> Iterator[Plant]:
    """Every way to put the marker into an object or a list, at whatever depth.

    Beside what is known, in place of a value of another type (an expandable attribute may be a text), and as a key.
    """
    if isinstance(it, dict):
        for shape in (MARKER, [MARKER], {"name": MARKER}, {MARKER: 1}, [[{"deep": {"er": [MARKER]}}]]):
            yield lambda shape=shape: it.update(new_attribute=shape)
        yield lambda: it.update({MARKER: {"is": "a key"}})
        for name, value in it.items():
            if isinstance(value, int) or name in {"balance", "balance_refresh", "filters", "permissions"}:
                yield lambda name=name: it.update({name: MARKER})
            if not isinstance(value, dict):
                yield lambda name=name: it.update({name: {"name": MARKER}})
            yield lambda name=name: it.update({name: [{"name": MARKER}]})
            yield from hiding_places(value)
    if isinstance(it, list):
        yield lambda: it.append({"name": MARKER})
        yield lambda: it.append([MARKER])
        for item in it:
            yield from hiding_places(item)


def is_a_page(stream: str, body: dict[str, Any]) -> bool:
    """Whether it is fetched at all: an answer that is no list is not written."""
    try:
        list_page(json.dumps(body).encode(), of_session=stream == "sessions")
    except msgspec.DecodeError:
        return False
    return True


def written(stream: str, body: dict[str, Any], privacy: Privacy) -> Iterator[bytes]:
    """All bytes of the page and of the staged Parquet files, unpacked."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = PageStore(folder / "pages", privacy=privacy)
        parent = "" if stream in {"accounts", "events"} else "parent_1"
        header = replace(no_page(stream, parent), number=0, observed_at=1_795_000_000_000_000)
        page = store.write(Page(header, json.dumps(body, ensure_ascii=False).encode()))
        stage([page], Origin("run"), folder)
        found = [path for path in folder.rglob("*") if path.is_file()]
        assert len(found) > 1
        for path in found:
            yield from contents(path)


@pytest.mark.parametrize("choice", ["hash", "drop"])
@pytest.mark.parametrize("stream", OBJECTS)
@pytest.mark.first(5)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_nobody_knows_is_in_no_byte_that_is_written(
    choice: Choice, stream: str, data: st.DataObject
) -> None:
    body = copy.deepcopy(data.draw(st.sampled_from(OBJECTS[stream])))
    for _ in range(data.draw(st.integers(1, 3))):
        data.draw(st.sampled_from([*hiding_places(body)]))()
    assume(is_a_page(stream, body))
    spelt = [MARKER.encode(), json.dumps(MARKER).strip('"').encode(), b"Marker-7f3e"]
    privacy = Privacy(choice, b"k" * 16, chosen=True)
    assert [c for c in written(stream, body, privacy) if any(marker in c for marker in spelt)] == []


def test_the_search_finds_a_marker_that_is_kept() -> None:
    body = {"data": [{**ACCOUNT, "new_attribute": {"name": MARKER}}], "has_more": False}
    assert len([c for c in written("accounts", body, Privacy()) if b"Marker-7f3e" in c]) > 1


@pytest.mark.parametrize("choice", ["hash", "drop"])
@pytest.mark.parametrize("stream", OBJECTS)
def test_what_is_known_and_not_personal_stays(choice: Choice, stream: str) -> None:
    """Of a page without an unknown attribute, the personal ones alone are changed; names of unknown ones stay."""
    body = copy.deepcopy(OBJECTS[stream][0])
    kept = json.loads(redact(json.dumps(body).encode(), stream, Privacy(choice, b"k" * 16, chosen=True)))
    changed = {name for name, one, other in pairs(body, kept) if one != other}
    personal = {"display_name", "last4", "name", "email", "phone", "raw_address"}
    assert changed <= personal
    assert (changed != set()) == (stream != "transactions")
    target = body if stream == "sessions" else body["data"][0]
    target["limits_of_next_year"] = {"x": 1}
    assert b'"limits_of_next_year"' in redact(
        json.dumps(body).encode(), stream, Privacy(choice, b"k" * 16, chosen=True)
    )


def pairs(one: Any, other: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each scalar of two trees of the same shape, with its attribute's name."""
    assert type(one) is type(other) or other is None or not isinstance(one, dict | list)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            yield from pairs(one[key], other[key], key)
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            yield from pairs(a, b, name)
    else:
        yield name, one, other


@pytest.mark.parametrize("choice", ["keep", "hash", "drop"])
def test_a_token_and_a_hosted_address_are_in_no_byte(choice: Choice) -> None:
    """A session as of 2026-10-28.endive: its bank_account_token names the holder, and its url drives the session."""
    token = {"id": "btok_LEAK", "bank_account": {"account_holder_name": "LEAK", "routing_number": "LEAK"}}
    body = {
        **SESSION,
        "bank_account_token": token,
        "client_secret": "fcsess_client_secret_LEAK",
        "limits": {"accounts": 3},
        "ui_mode": "hosted",
        "url": "https://connect.example/hosted/LEAK",
    }
    found = list(written("sessions", body, Privacy(choice, b"k" * 16, chosen=True)))
    assert [content for content in found if b"LEAK" in content] == []
    assert any(b'"ui_mode"' in content for content in found)


def test_an_expanded_object_says_no_more_than_its_id() -> None:
    """The customer that stands where its id would is not spelt out in the page either."""
    body = {
        "data": [
            {**ACCOUNT, "account_holder": {"type": "customer", "customer": {"id": "cus_1", "email": "a@b.c"}}}
        ]
    }
    kept = redact(json.dumps(body).encode(), "accounts", Privacy("drop", chosen=True))
    assert b"a@b.c" not in kept
    assert json.loads(kept)["data"][0]["account_holder"]["customer"] == {"id": "cus_1", "email": None}
