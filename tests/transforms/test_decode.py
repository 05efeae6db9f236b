"""Unknown attributes are kept as they were sent, whether their like was met before or not."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import DecodeError, Raw

from fincon.transforms.decode import MAX_LEARNED, ObjectDecoder, compact, raw_items, split
from fincon.transforms.odd_json import readable
from fincon.transforms.stripe_objects import Account
from tests.transforms.test_reference import ACCOUNT

_NEW = st.dictionaries(
    st.sampled_from(["new_one", "another", "Zeta", "é", 'with "quotes"', "", "a\\b", "data"]),
    st.sampled_from([None, 1.50, 12345678901234567890, "text", [1, {"a": []}], {"x": {"y": "z"}}]),
    max_size=3,
)
_PLACES = st.fixed_dictionaries(
    dict.fromkeys(
        ("", "balance", "balance/cash", "balance_refresh", "account_holder", "status_details/active"), _NEW
    )
    | {"account_numbers/0": _NEW, "account_numbers/1": _NEW}
)


def account(new: dict[str, dict[str, Any]], first: bool) -> dict[str, Any]:
    """An account with new attributes at each place, after or before those that are known."""
    it = copy.deepcopy(ACCOUNT)
    it["account_numbers"] = [{"status": "a"}, {"status": "b"}]
    for place, attributes in new.items():
        inner: Any = it
        for step in place.split("/") if place else []:
            inner = inner[int(step)] if isinstance(inner, list) else inner[step]
        known = dict(inner)
        inner.clear()
        inner.update({**attributes, **known} if first else {**known, **attributes})
    return it


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_PLACES, st.booleans()), min_size=1, max_size=6), st.sampled_from([None, 2]))
def test_what_is_learned_is_read_as_it_would_be_when_first_met(
    objects: list[Any], indent: int | None
) -> None:
    """The same ``extra``, byte for byte, from a decoder that knows all of a page and from one that knows nothing."""
    body = json.dumps({"data": [account(*it) for it in objects], "has_more": False}, indent=indent).encode()
    expected = [split(Account, raw)[1] for raw in raw_items(body)]
    decoder = ObjectDecoder(Account, "account")
    met = [decoder.decode(raw)[1] for raw in raw_items(body)]
    again = [decoder.decode(raw)[1] for raw in raw_items(body)]
    assert met == again == [None if extra is None else compact(extra) for extra in expected]


def page(*accounts: dict[str, Any]) -> bytes:
    return json.dumps({"data": accounts, "has_more": False}).encode()


def test_an_attribute_is_taken_apart_once_and_then_costs_nothing() -> None:
    """A page is read at one go from the first on, though each of its accounts has new attributes, at two depths."""
    new = {**ACCOUNT, "new_one": {"a": 1}, "balance_refresh": {**ACCOUNT["balance_refresh"], "another": 2}}
    decoder = ObjectDecoder(Account, "account")
    for _ in range(2):
        objects, extra = decoder.decode_list(page(ACCOUNT, *[new] * 50))
        assert len(objects) == 51
        assert extra == [None, *['{"balance_refresh":{"another":2},"new_one":{"a":1}}'] * 50]


def test_more_names_than_any_object_has_are_not_learned_but_kept() -> None:
    """Names that are data: the memory of a decoder does not grow with them."""
    decoder = ObjectDecoder(Account, "account")
    for number in range(3 * MAX_LEARNED):
        raw = Raw(json.dumps({**ACCOUNT, f"key_{number}": number}).encode())
        assert decoder.decode(raw)[1] == f'{{"key_{number}":{number}}}'
    assert sum(map(len, decoder._learned.values())) <= MAX_LEARNED


def test_a_page_with_an_odd_object_is_not_read_as_a_whole() -> None:
    """Of half a character another stands in its place: the object is read by itself, and rejected, and no other is."""
    it = copy.deepcopy(ACCOUNT) | {"display_name": "@"}
    odd = readable(json.dumps({"data": [it]}).replace('"@"', r'"\ud83d"').encode())
    with pytest.raises(DecodeError, match="Half a character"):
        ObjectDecoder(Account, "account").decode_list(odd)
