"""Nothing that lets its bearer act is kept, under any choice, and taking it out changes nothing else."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fincon.transforms.redaction import REMOVED, Choice, Privacy, redact
from fincon.transforms.streams import STREAMS

VALUE = "fcsess_1_secret_abc"
SPELLINGS = [
    "client_secret",
    "secret",
    "secrets",
    "secret_hint",
    "CLIENT_SECRET",
    "clientSecret",
    r"client_\u0073ecret",
    r"client_secre\u0074",
    r"\u0043lient_secret",
    r"\u0063\u006c\u0069\u0065\u006e\u0074\u005f\u0073\u0065\u0063\u0072\u0065\u0074",
    "bank_account_token",
    r"bank_account_toke\u006e",
]


def exact(body: bytes) -> Any:
    """JSON with each number as its digits, so that no two spellings of one pass for equal."""
    return json.loads(body, parse_int="int {}".format, parse_float="float {}".format)


# -- what is taken out


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize(
    "value", [f'"{VALUE}"', "null", "true", "-1.50", f'["{VALUE}"]', f'{{"x": {{"y": "{VALUE}"}}}}']
)
def test_a_secret_goes_however_its_name_is_spelt_and_whatever_it_holds(name: str, value: str):
    body = f'{{"id": "fcsess_1", "{name}": {value}, "livemode": false}}'.encode()
    assert exact(redact(body, "sessions")) == {"id": "fcsess_1", "livemode": False}


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ('{"client_secret": "s"}', {}),
        ('{"a": {"b": {"client_secret": "s", "c": "d"}}}', {"a": {"b": {"c": "d"}}}),
        ('[{"client_secret": "s"}, {"a": null}]', [{}, {"a": None}]),
        ('{"data": [[{"client_secret": "s", "id": "x"}]]}', {"data": [[{"id": "x"}]]}),
        ('{"secret": 1, "client_secret": 2, "Secret": 3, "id": "x"}', {"id": "x"}),
        ('\n { "a" : [ { "client_secret" : "s" } , { } ] }\n', {"a": [{}, {}]}),
        ('{"url": "https://connect.example/x", "hosted": {"url": "HTTP://x", "n": 1}}', {"hosted": {"n": 1}}),
        (r'{"hosted": {"onward_url": ["x"], "ur\u006c": "h", "url": "\u0068ttps:"}}', {"hosted": {}}),
        ('{"notes": ["btok_1", {"is": "it is btok_2!", "btok_3": "a_secret_b"}]}',
         {"notes": [REMOVED, {"is": f"it is {REMOVED}!", REMOVED: REMOVED}]}),
        (r'{"note": "\u0062tok\u005f1"}', {"note": REMOVED}),
    ],
)  # fmt: skip
def test_a_secret_goes_at_any_depth(body: str, kept: object):
    assert json.loads(redact(body.encode(), "sessions")) == kept


def test_what_stands_beside_a_secret_keeps_its_order_and_its_digits():
    body = b'{"z": 1.10, "client_secret": "s", "a": 123456789012345678901234567890, "e": 1E400, "n": -0}'
    found = exact(redact(body, "sessions"))
    assert list(found.items()) == [
        ("z", "float 1.10"),
        ("a", "int 123456789012345678901234567890"),
        ("e", "float 1E400"),
        ("n", "int -0"),
    ]


@pytest.mark.parametrize("choice", ["keep", "hash", "drop"])
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    "inside", ['{"data": [%s], "has_more": false}', "%s", '{"accounts": {"data": [%s]}}']
)
def test_it_goes_under_every_choice_on_every_stream(choice: Choice, stream: str, inside: str):
    """At the top, in lists, in events' objects, and where another type is known."""
    thing = '{"id": "btok_A", "client_secret": "leak", "url": "https://leak", "livemode": "btok_A"}'
    inner = f'{{"object": {thing}, "previous_attributes": {thing}}}'
    body = inside % f'{{"bank_account_token": {{"x": "leak"}}, "data": {inner}, "account": {thing}}}'
    kept = redact(body.encode(), stream, Privacy(choice, b"k" * 16, chosen=True))
    assert b"leak" not in kept
    assert b"btok_" not in kept


# -- what stays


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {\n  "id": "fca_1",\n  "amount": 1.0\n}\n',
        b'{"note": "the client_secret is not here", "list": ["client_secret", "secret", "token"]}',
        b'{"tokens": 1, "tokenized": 2, "urls": 3, "identifier_type": "tokenized_account_number"}',
        b'{"url": "/v1/financial_connections/accounts", "data": []}',
        rb'{"url": "\/v1\/financial_connections\/accounts", "data": []}',
        b'{"url": null, "return_url": "https://platform.example/back", "doc_url": "https://stripe.com/docs"}',
        rb'{"note": "\u0073ecret \u00e9 \ud83d\ude00"}',
        b'{"a": {"b": [1, 2.50, {"c": "secret"}]}}',
        b"[]",
        b'"client_secret"',
        b"12.50",
    ],
)
def test_a_body_without_a_secret_stays_byte_for_byte(body: bytes):
    assert redact(body, "sessions") == body


def test_only_the_object_that_held_a_secret_is_written_anew():
    """A value that holds no secret keeps even its white space when its neighbour had one."""
    body = b'{"client_secret": "s", "a": { "b" : [ 1.0 ] }}'
    assert redact(body, "sessions") == b'{"a":{ "b" : [ 1.0 ] }}'


@pytest.mark.parametrize("body", [b'{"client_secret": "s"', b'{"client_secret": "s"} more', b'["secret", ]'])
def test_a_torn_body_that_may_hold_a_secret_is_refused(body: bytes):
    """Bytes in which a secret cannot be found for sure are not passed on."""
    with pytest.raises(ValueError, match=r"malformed|truncated"):
        redact(body, "sessions")


@pytest.mark.parametrize("depth", [90, 400])
def test_what_is_nested_deeply_is_searched_or_goes(depth: int):
    body = (
        b'{"id": "x", "a": '
        + b'{"b": [' * (depth // 2)
        + b'{"client_secret": "leak"}'
        + b"]}" * (depth // 2)
        + b"}"
    )
    kept = redact(body, "accounts")
    assert b"leak" not in kept
    assert json.loads(kept)["id"] == "x"


# -- any JSON

_NAMES = st.sampled_from(
    ["id", "a", "client_secret", "Secret", "xSECRET", "secrets", "secret_", "é", VALUE]
) | st.text(max_size=8)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["secret", "client_secret", VALUE])
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=15,
)


def _spelt_in_escapes(text: str) -> str:
    """The same JSON with each letter of every ``secret`` as an escape; other escapes stay as they are."""
    return re.sub("(?i)secret", lambda m: "".join(f"\\u{ord(c):04x}" for c in m[0]), text)


def _goes(name: str, value: Any) -> bool:
    """Whether an attribute lets its bearer act: a secret, a token, an address that is no path."""
    if re.search("secret|token$", name, re.IGNORECASE | re.ASCII):
        return True
    return name.lower().endswith("url") and value is not None and not str(value).startswith("/")


def _stripped(value: Any) -> Any:
    """What must be left, written as plainly as can be."""
    if isinstance(value, dict):
        return {k: _stripped(v) for k, v in value.items() if not _goes(k, v)}
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    return value.replace(VALUE, REMOVED) if isinstance(value, str) else value


@settings(max_examples=200, deadline=None)
@given(_JSON, st.booleans(), st.booleans(), st.sampled_from([None, 2]))
def test_any_json_loses_its_secrets_and_nothing_else(
    value: Any, ascii_only: bool, escaped: bool, indent: int | None
):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    body = (_spelt_in_escapes(text) if escaped else text).encode()
    found = redact(body, "sessions")
    assert exact(found) == _stripped(exact(body))
    assert redact(found, "sessions") == found
    if _stripped(value) == value and "\\" not in text:
        assert found == body


@pytest.mark.parametrize(
    "body", [b'{"a": {"client_secret": "x"}, "a": 2}', b'{"client_secret": 1, "client_secret": 2, "b": 3}']
)
def test_a_secret_cannot_hide_behind_a_name_that_stands_twice(body: bytes) -> None:
    assert b"secret" not in redact(body, "sessions")
