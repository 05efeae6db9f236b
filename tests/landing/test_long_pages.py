"""A long page, which is searched in another way, is kept as any other: without what lets its bearer act."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fincon.privacy import LONG, Erased, as_kept
from fincon.transforms.redaction import REMOVED, Privacy, redact
from tests.transforms.test_redaction import _JSON, SPELLINGS, _spelt_in_escapes

LINES = json.dumps(["an ordinary line, of which there are many on a page"] * 300)


def page(inside: str) -> bytes:
    made = f'{{"before": {LINES}, "data": {inside}, "after": {LINES}}}'.encode()
    assert len(made) > LONG
    return made


def kept(body: bytes) -> bytes:
    return as_kept(body, "accounts", Privacy(), Erased())


@settings(max_examples=200, deadline=None)
@given(_JSON, st.booleans(), st.booleans(), st.sampled_from([None, 2]))
def test_of_any_page_is_kept_what_is_kept_of_a_short_one(
    value: Any, ascii_only: bool, escaped: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    body = page(_spelt_in_escapes(text) if escaped else text)
    assert kept(body) == redact(body, "accounts")


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_secret_goes_however_its_name_is_spelt(name: str) -> None:
    found = kept(page(f'{{"id": "fca_1", "{name}": "leak", "livemode": false}}'))
    assert json.loads(found)["data"] == {"id": "fca_1", "livemode": False}


@pytest.mark.parametrize("name", ["url", "hosted_URL", "xreturn_url", "7return_url"])
@pytest.mark.parametrize("gap", [0, 3, 20_000])
def test_an_address_goes_wherever_it_begins_and_a_path_stays(name: str, gap: int) -> None:
    space = " " * gap
    assert json.loads(kept(page(f'{{"{name}"{space}:{space}"https://x"}}')))["data"] == {}
    path = page(f'{{"{name}"{space}:{space}"/v1/x"}}')
    assert kept(path) == path


def test_an_id_that_lets_its_bearer_act_goes_from_a_text() -> None:
    assert json.loads(kept(page('{"note": "it is btok_1"}')))["data"] == {"note": f"it is {REMOVED}"}
