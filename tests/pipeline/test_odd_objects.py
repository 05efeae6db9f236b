"""One odd object is rejected alone: its page is read, all else on it is in, and the run ends as any other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.transforms.odd_json import MAX_DEPTH, is_marked, readable
from tests.conftest import rows, settings_for
from tests.scripted_stripe import START, Answer, ScriptedStripe, account, event, serving, session

LONE_SURROGATE = r'"bad \ud83d end"'
DEEP = '{"a":' * 700 + "1" + "}" * 700

ODD = {
    "null": ("null", False),
    "a text": ('"not an account"', False),
    "a number": ("17", False),
    "a list": ("[[]]", False),
    "a high surrogate alone": (f'{{"id": "fca_odd", "display_name": {LONE_SURROGATE}}}', True),
    "a low surrogate alone": (r'{"id": "fca_odd", "display_name": "\udc00\ud83d"}', True),
    "a surrogate in a name": (r'{"id": "fca_odd", "\ud83d": 1}', True),
    "a surrogate in the id": (r'{"id": "fca_\ud83d"}', False),
    "a surrogate in bytes": ('{"id": "fca_odd", "display_name": "\ud83d"}', True),
    "nested 700 deep": (f'{{"id": "fca_odd", "new": {DEEP}}}', True),
    "lists nested 990 deep": (f'{{"id": "fca_odd", "balance": {"[" * 990 + "]" * 990}}}', True),
    "nested 5,000 deep": (f'{{"id": "fca_odd", "new": {"[" * 5000 + "]" * 5000}}}', True),
}
"""What it is → (as sent, whether its id can be told)."""


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    with serving(ScriptedStripe()) as it:
        yield it


def whole(odd: str) -> str:
    """An account's JSON with the odd attributes of ``odd``, or what is no object as it is."""
    if not odd.startswith("{"):
        return odd
    plain = json.dumps({k: v for k, v in account("fca_odd").items() if f'"{k}"' not in odd})
    return plain[:-1] + ", " + odd[1:]


def page(*items: str) -> bytes:
    """A page of the list with these items between two good accounts."""
    good = [json.dumps(account(f"fca_{n}", current=n)) for n in (1, 2)]
    listed = f'{{"object": "list", "data": [{good[0]}, {", ".join(items)}, {good[1]}], "has_more": false, "url": "/v1/x"}}'
    return listed.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("what", ODD)
@pytest.mark.first(1, 4)
def test_an_odd_account_is_rejected_alone(stripe: ScriptedStripe, data: Path, what: str) -> None:
    """On a page of the listing: the run ends, the good ones are in, the odd one in rejects, which can be read as JSON."""
    odd, has_id = ODD[what]
    stripe.intercept = lambda path, query: Answer(page(whole(odd))) if path.endswith("/accounts") else None
    outcome = run_sync(settings_for(stripe.url, data), SyncRequest())
    assert outcome.run["rejected"] == 1
    assert rows(data, "SELECT account_id FROM accounts ORDER BY 1") == [
        {"account_id": "fca_1"},
        {"account_id": "fca_2"},
    ]
    [found] = rows(
        data, "SELECT object_type, object_id, reason, raw::JSON AS raw, json_valid(raw) AS valid FROM rejects"
    )
    assert (found["object_type"], found["valid"]) == ("account", True)
    assert (found["object_id"] == "fca_odd") is has_id
    assert found["reason"]
    assert run_sync(settings_for(stripe.url, data), SyncRequest()).run["rows_added"] == 0


@pytest.mark.parametrize("choice", ["hash", "drop"])
def test_odd_objects_are_no_obstacle_to_redaction(stripe: ScriptedStripe, data: Path, choice: Any) -> None:
    stripe.intercept = lambda path, query: Answer(page(*(whole(odd) for odd, _ in ODD.values())))
    run_sync(settings_for(stripe.url, data, FINCON_PII_KEY="k" * 16), SyncRequest(pii=choice))
    assert rows(data, "SELECT count(*) AS n FROM accounts WHERE account_id IN ('fca_1', 'fca_2')") == [
        {"n": 2}
    ]


@pytest.mark.parametrize("what", ["a high surrogate alone", "null", "nested 5,000 deep"])
@pytest.mark.first(1)
def test_an_odd_account_of_a_session_is_rejected_alone(stripe: ScriptedStripe, data: Path, what: str) -> None:
    """The session is in, with the accounts that can be read."""
    odd, _ = ODD[what]
    own = json.dumps(session("fcsess_1"))[:-1].encode()
    stripe.intercept = lambda path, query: Answer(own + b', "accounts": ' + page(whole(odd)) + b"}")
    outcome = run_sync(settings_for(stripe.url, data), SyncRequest(session_ids=("fcsess_1",), accounts=False))
    assert outcome.run["rejected"] == 1
    assert rows(data, "SELECT count(*) AS n FROM accounts") == [{"n": 2}]
    assert rows(data, "SELECT account_count FROM sessions") == [{"account_count": 3}]


def test_a_session_that_is_odd_itself_is_rejected_and_its_accounts_are_in(
    stripe: ScriptedStripe, data: Path
) -> None:
    own = json.dumps(session("fcsess_1", return_url="X"))[:-1].replace('"X"', LONE_SURROGATE).encode()
    stripe.intercept = lambda path, query: Answer(own + b', "accounts": ' + page("null") + b"}")
    outcome = run_sync(settings_for(stripe.url, data), SyncRequest(session_ids=("fcsess_1",), accounts=False))
    assert outcome.run["rejected"] == 2
    assert rows(data, "SELECT object_type FROM rejects ORDER BY 1") == [
        {"object_type": "account"},
        {"object_type": "session"},
    ]
    assert rows(data, "SELECT count(*) AS n FROM accounts") == [{"n": 2}]


def test_an_odd_event_is_rejected_alone(stripe: ScriptedStripe, data: Path) -> None:
    stripe.accounts = [account("fca_1"), account("fca_2")]
    settings = settings_for(stripe.url, data)
    run_sync(settings, SyncRequest())
    stripe.clock += 60
    stripe.accounts = [
        account(f"fca_{n}", current=777) for n in (1, 2)
    ]  # the account of the odd event is fetched
    events = [event(f"evt_{n}", account(f"fca_{n}", current=777), START + 30) for n in (1, 2)]
    bad = json.dumps(event("evt_3", account("fca_1", display_name="X"), START + 31)).replace(
        '"X"', LONE_SURROGATE
    )
    listed = ", ".join([json.dumps(events[0]), "null", bad, '"text"', json.dumps(events[1])])
    body = f'{{"object": "list", "data": [{listed}], "has_more": false, "url": "/v1/events"}}'.encode()
    stripe.intercept = lambda path, query: Answer(body) if path == "/v1/events" else None
    assert run_sync(settings, SyncRequest(events=True)).run["rejected"] == 3
    assert rows(data, "SELECT DISTINCT current FROM balances") == [{"current": 777}]


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.text() | st.just("\ufdd0\\ud83d"),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_that_can_be_read_stays_byte_for_byte_and_bears_no_mark(value: Any) -> None:
    """Pairs of surrogates, escaped backslashes before what looks like half of one, and U+FDD0 itself are no oddity."""
    for body in (json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode()):
        assert readable(body) == body
        assert not is_marked(body)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_what_is_nested_too_deeply_is_cut_out_and_nothing_else(depth: int) -> None:
    """Brackets in texts do not count."""
    lists = depth - 1  # the object around is one level too
    body = f'{{"a": {"[" * lists}"]"{"]" * lists}, "b": "{"[{" * 600}\\"", "c": {{}}}}'.encode()
    kept = readable(body)
    assert (kept == body) == (depth == MAX_DEPTH)
    assert is_marked(kept) == (depth > MAX_DEPTH)
    assert json.loads(kept)["b"] == "[{" * 600 + '"'
