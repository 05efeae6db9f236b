"""A page that is read at one go is read, kept and summed up as if it had been looked at piece by piece."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fincon.sandbox.world import World
from fincon.transforms.flatten import flatten
from fincon.transforms.list_page import list_page
from fincon.transforms.odd_json import readable
from fincon.transforms.page import Header, Origin, Page, ReadPage
from fincon.transforms.plain_page import PlainReader
from fincon.transforms.reconcile import sums_of_pages
from fincon.transforms.redaction import redact

HEADER = Header(
    stream="accounts", number=0, offset=0, count=9, request="", request_id="", status=200,
    observed_at=1_780_000_000_000_000, cursor=None,
)  # fmt: skip

WORLD = World(accounts=60, sessions=0)
ACCOUNTS = [WORLD.account_json(index) for index in range(WORLD.account_count)]

DEEP: Any = "end"
for _ in range(600):
    DEEP = [DEEP]

ODD: dict[str, Callable[[dict[str, Any]], object]] = {
    "a secret": lambda one: one.update({"client_secret": "s"}),
    "a token": lambda one: one.update(access_token=None),
    "an address": lambda one: one.update(hosted_url="https://a.example"),
    "a secret inside": lambda one: one.update(new={"a": [{"b": {"my_Secret": 1}}]}),
    "a secret where all else is known": lambda one: one["balance_refresh"].update({"x_token": "t"}),
    "an id that lets its bearer act": lambda one: one.update(display_name="pi_1_secret_2"),
    "a bank token": lambda one: one.update(institution_name="btok_1"),
    "a nested value": lambda one: one.update(new=DEEP),
    "an escape": lambda one: one.update(display_name='a "quoted" name'),
    "half a character": lambda one: one.update(display_name="\ud800"),
    "another type": lambda one: one.update(created="today"),
    "an object in the place of an id": lambda one: one.update(ownership={"id": "fcao_1", "b_secret": 1}),
    "a holder in the place of its id": lambda one: one.update(
        account_holder={"type": "customer", "customer": {"id": "cus_1", "invoice_url": "https://a.example"}}
    ),
    "no id": lambda one: one.pop("id", None),
}
HARMLESS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a new attribute": lambda one: one.update(new={"a": [1, {"b": None}]}),
    "a new number": lambda one: one["balance"].update(exact=1.10),
    "other letters": lambda one: one.update(display_name="Crédit Zürich 銀行"),
    "no balance": lambda one: one.update(balance=None),
    "an attribute less": lambda one: one.pop("last4", None),
}


def page_of(*accounts: Any, **more: Any) -> bytes:
    """A list as Stripe sends it."""
    whole = {
        "object": "list",
        "data": accounts,
        "has_more": True,
        "url": "/v1/financial_connections/accounts",
    }
    return json.dumps({**whole, **more}, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")


def agrees(body: bytes) -> bool:
    """Whether a page is read at one go; all that follows from it is as it is otherwise."""
    found = PlainReader().read(body)
    if found is None or found.plain is None:
        return False
    page = Page(HEADER, body)
    read = ReadPage.of(page, found.plain)
    assert redact(body, "accounts") == readable(body) == body
    plain = list_page(body)
    assert (found.ids, found.created, found.count, found.has_more) == (
        plain.ids,
        plain.created,
        plain.count,
        plain.has_more,
    )
    origin = Origin("run", "acct_1", "v")
    assert flatten([read], origin) == flatten([page], origin)
    assert sums_of_pages([read]) == sums_of_pages([page])
    return True


@pytest.mark.parametrize("what", HARMLESS)
def test_a_page_on_which_nothing_is_odd_is_read_at_one_go(what: str) -> None:
    accounts = json.loads(json.dumps(ACCOUNTS))
    HARMLESS[what](next(one for one in accounts[7:] if one["balance"]))
    assert agrees(page_of(*accounts))


@pytest.mark.parametrize("what", ODD)
def test_a_page_on_which_something_is_odd_is_not(what: str) -> None:
    accounts = json.loads(json.dumps(ACCOUNTS))
    ODD[what](next(one for one in accounts[7:] if one["balance_refresh"]))
    reader = PlainReader()
    for _ in range(2):  # what was learned from it makes no difference
        assert reader.read(page_of(*accounts)) is None
    assert reader.read(page_of(*ACCOUNTS))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"not JSON",
        page_of(*ACCOUNTS)[:-1],
        page_of(*ACCOUNTS).replace(b"fca_", b"\xff", 1),
        page_of(),
        page_of(*ACCOUNTS, ACCOUNTS[0]),
        page_of(*ACCOUNTS, None),
        page_of(*ACCOUNTS, url="https://a.example"),
        page_of(*ACCOUNTS, object="search_result"),
        page_of(*ACCOUNTS, next_page_cursor="t"),
        page_of(*ACCOUNTS, display_name="Jane"),
    ],
)
def test_what_is_no_plain_list_is_not(body: bytes) -> None:
    assert PlainReader().read(body) is None


SECRET = b'"client_secret": "s"'


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (b'"last4"', b'"new": {%b}, "new": 1, "last4"' % SECRET),
        (b'"last4"', b'"ownership": {"id": "a", %b}, "last4"' % SECRET),
        (b'"data"', b'"data": [{"id": "fca_1", %b}], "data"' % SECRET),
        (b'"data"', b'"data": [{"id": "pi_1_secret_2"}], "data"'),
        (b'"/v1', b'"/pi_1_secret_2/v1'),
        (b'"url"', b'"url": "https://a.example/token", "url"'),
        (b'"usd": ', b'"access_token": 5, "usd": '),
    ],
)
@pytest.mark.parametrize("is_known", [None, True, False])
def test_no_secret_is_kept_in_what_another_of_its_name_stands_before(
    where: bytes, what: bytes, is_known: bool | None
) -> None:
    """Of two equal names the last counts; the page is written as it came."""
    body = page_of(*ACCOUNTS).replace(where, what, 1)
    assert body != page_of(*ACCOUNTS)

    def find(digests: bytes) -> tuple[list[bool], list[bool]]:
        known = [bool(is_known)] * (len(digests) // 16)
        return known, known

    assert PlainReader(None if is_known is None else find).read(body) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 59), st.sampled_from([*ODD, *HARMLESS])), max_size=4))
def test_whatever_stands_on_a_page_it_is_read_as_piece_by_piece(changes: list[tuple[int, str]]) -> None:
    accounts = json.loads(json.dumps(ACCOUNTS))
    for place, what in changes:
        try:
            {**ODD, **HARMLESS}[what](accounts[place])
        except (AttributeError, KeyError):
            continue  # there is nothing to change
    agrees(page_of(*accounts))


def test_who_is_known_is_passed_over_and_the_rest_is_read_as_ever() -> None:
    """By place: the digests of a page follow each other."""
    body, asked = page_of(*ACCOUNTS), []

    def find(digests: bytes) -> tuple[list[bool], list[bool]]:
        asked.append(digests)
        known = [number % 3 == 0 for number in range(len(digests) // 16)]
        return known, [True] * len(known)

    found = PlainReader(find).read(body)
    assert found
    assert found.plain
    listed = found.plain.listed
    assert listed
    assert listed.digests == asked[0]
    assert found.ids == listed.ids == [one["id"] for one in ACCOUNTS]
    changed = [one for number, one in enumerate(ACCOUNTS) if number % 3]
    assert [one.id for one in found.plain.accounts] == [one["id"] for one in changed]
    assert listed.has_balance == [
        number % 3 == 0 or one["balance"] is not None for number, one in enumerate(ACCOUNTS)
    ]
    read = ReadPage.of(Page(HEADER, body), found.plain)
    rest = Page(HEADER, page_of(*changed))
    assert flatten([read], Origin("run")) == flatten([rest], Origin("run"))
    assert sums_of_pages([read]) == sums_of_pages([rest])


def test_an_object_that_differs_in_one_byte_has_another_digest() -> None:
    seen: list[bytes] = []

    def find(digests: bytes) -> tuple[list[bool], list[bool]]:
        seen.append(digests)
        return [False], [False]

    reader = PlainReader(find)
    for name in ("Everyday", "Everyday ", "everyday"):
        reader.read(page_of({**ACCOUNTS[0], "display_name": name}))
    assert len({*seen}) == 3
