"""Of a page of the listing, those accounts alone are read that are not byte for byte as they are known."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from fincon.sandbox.world import World
from fincon.transforms.flatten import flatten
from fincon.transforms.listed import DIGEST, compare
from fincon.transforms.page import Header, ListedPage, Origin, Page
from fincon.transforms.reconcile import sums_of_pages

HEADER = Header(
    stream="accounts", number=0, offset=0, count=9, request="", request_id="", status=200,
    observed_at=1_780_000_000_000_000, cursor=None,
)  # fmt: skip

WORLD = World(accounts=60, sessions=0)
ACCOUNTS = [WORLD.account_json(index) for index in range(WORLD.account_count)]


def page_of(*accounts: Any) -> bytes:
    """A list as Stripe sends it."""
    whole = {
        "object": "list",
        "data": accounts,
        "has_more": True,
        "url": "/v1/financial_connections/accounts",
    }
    return json.dumps(whole, indent=2).encode()


class Known:
    """What knows each third account, or the accounts at some places, and notes what it was asked."""

    def __init__(self, *places: int) -> None:
        self.places = places
        self.asked: list[bytes] = []

    def __call__(self, digests: bytes) -> tuple[Sequence[bool], Sequence[bool]]:
        """Tell which accounts are known."""
        self.asked.append(digests)
        known = [place in self.places for place in range(len(digests) // DIGEST)]
        return known, known


@pytest.mark.parametrize("places", [(), (0,), (3, 4, 59), range(60)])
def test_who_is_known_is_passed_over_and_the_rest_is_read_as_ever(places: Sequence[int]) -> None:
    """Rows and sums are those of a page on which the others stand alone."""
    body, find = page_of(*ACCOUNTS), Known(*places)
    listed = compare(body, find)
    assert listed
    assert listed.ids == [one["id"] for one in ACCOUNTS]
    assert listed.digests == find.asked[0]
    read = ListedPage.of(Page(HEADER, body), listed)
    rest = Page(HEADER, page_of(*(one for place, one in enumerate(ACCOUNTS) if place not in places)))
    assert tuple(read) == (HEADER, body), "what is kept is the whole page"
    assert flatten([read], Origin("run")) == flatten([rest], Origin("run"))
    assert sums_of_pages([read]) == sums_of_pages([rest])


def test_an_account_that_differs_in_one_byte_has_another_digest() -> None:
    """Wherever on the page it stands, it has the same."""
    find = Known()
    for name in ("Everyday", "Everyday ", "everyday"):
        compare(page_of({**ACCOUNTS[0], "display_name": name}), find)
    compare(page_of(ACCOUNTS[1], {**ACCOUNTS[0], "display_name": "Everyday"}), find)
    first, *others, last = find.asked
    assert len({first, *others}) == 3
    assert last[DIGEST:] == first


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        page_of(),
        page_of(*ACCOUNTS, ACCOUNTS[0]),
        page_of(*ACCOUNTS, None),
        page_of({**ACCOUNTS[0], "id": None}),
    ],
)
def test_of_a_page_on_which_somebody_has_no_name_of_their_own_nothing_is_said(body: bytes) -> None:
    assert compare(body, Known(0)) is None
