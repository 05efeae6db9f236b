"""Where the key goes, how much an answer may take, and what of it reaches a terminal or a log."""

import dataclasses
import gzip
import logging
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from fincon.errors import FinconError, StripeError, UsageError
from fincon.extract.client import StripeClient
from fincon.extract.pagination import parse_list_page
from fincon.extract.responses import UNEXPECTED_ATTEMPTS, FailedAttempt, classify_response
from fincon.settings import Settings, load_settings
from tests.conftest import KEY, settings_for
from tests.scripted_stripe import Answer, ScriptedStripe, account, serving

ACCOUNTS = "/v1/financial_connections/accounts"
ESCAPE = "\x1b]0;owned\x07\x9b31m\u202e"


@pytest.mark.parametrize(
    "base",
    [
        r"http://127.0.0.2:80\@127.0.0.1",
        r"http://evil.example\@127.0.0.1:1",
        "http://evil.example@127.0.0.1:1",
        "http://127.0.0.1:1@evil.example",
        "https://user:hunter2@api.stripe.com",
        "https://api.stripe.com:hunter2@evil.example",
        "http://127.0.0.1\t.evil.example",
        "http://127.0.0.1\n@evil.example",
        "http://127.0.0.1%2eevil.example",
        "http://127.0.0.1#@evil.example",
        "http://127.0.0.1?@evil.example",
        "http://127.0.0.1;@evil.example",
        "http:\\\\127.0.0.1",
        "http:///127.0.0.1",
        "http:127.0.0.1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:x",
        "http://[::1",
        "http://[::1%25eth0]",
        "http://127\uff0e0.0.1",
        "http://\u24db\u24de\u24d2alhost",
        "http://2130706433",
        "http://localhost.evil.example",
        "https://",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
    ],
)
def test_no_key_goes_to_an_address_that_could_be_read_in_two_ways(base: str, tmp_path: Path) -> None:
    """It is refused before anything is sent or written, and a password in it is not repeated."""
    with pytest.raises(UsageError, match="STRIPE_API_BASE") as refused:
        load_settings({"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": base}, tmp_path / "data")
    assert "hunter2" not in str(refused.value) + refused.value.hint
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("base", "host"),
    [
        ("https://api.stripe.com", "api.stripe.com"),
        ("https://gateway.example:8443/stripe/", "gateway.example:8443"),
        ("http://127.0.0.1:12111", "127.0.0.1:12111"),
        ("HTTP://LocalHost:1", "localhost:1"),
        ("http://[::1]:12111", "[::1]:12111"),
    ],
)
def test_a_plain_address_is_taken_and_is_where_requests_sends_the_key(base: str, host: str) -> None:
    settings = load_settings({"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": base})
    sent = requests.Request("GET", settings.api_base + ACCOUNTS).prepare().url or ""
    assert sent.lower().startswith(f"{base.partition(':')[0].lower()}://{host}/")


def impatient(stripe: ScriptedStripe, data: Path) -> Settings:
    return dataclasses.replace(settings_for(stripe.url, data), backoff_seconds=0.01)


def refused(stripe: ScriptedStripe, data: Path, read: Callable[[bytes], object] = len) -> StripeError:
    """What a request ends with."""
    client = StripeClient(impatient(stripe, data))
    with pytest.raises(StripeError) as error:
        client.get("accounts", ACCOUNTS, read)
    client.close()
    assert client.last_request_id.isprintable()
    return error.value


def bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b" " * (1 << 20)) for _ in range(megabytes)) + packer.flush()


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
@pytest.mark.first(1)
def test_a_body_has_a_bound(packed: bool, data: Path) -> None:
    """An answer of 300 KB that unpacks to 300 MB takes no more memory than the largest that is read."""
    body = bomb(300) if packed else b" " * (65 << 20)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    with serving(ScriptedStripe(intercept=lambda path, query: Answer(body, headers=headers))) as stripe:
        tracemalloc.start()
        try:
            error = refused(stripe, data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert "larger than 64 MB" in str(error)
        assert len(stripe.requests) == UNEXPECTED_ATTEMPTS
    assert peak < 250 << 20


@pytest.mark.parametrize(
    ("item", "objects", "says"),
    [
        (b"{},", 20_000, "a page of 20,001 objects"),
        (b"{},", 20_000_000, "far too many objects"),
        (b"[", 60_000_000, "far too many objects"),
    ],
)
@pytest.mark.first(1)
def test_a_page_of_far_too_many_objects_is_never_read(
    item: bytes, objects: int, says: str, data: Path
) -> None:
    """Each would take many times the room that it has in the answer."""
    packer = zlib.compressobj(1, wbits=31)
    many = (packer.compress(item * 10_000) for _ in range(objects // 10_000))
    parts = [packer.compress(b'{"object":"list","has_more":false,"data":['), *many, packer.compress(b"{}]}")]
    answer = Answer(b"".join(parts) + packer.flush(), headers={"Content-Encoding": "gzip"})
    with serving(ScriptedStripe(intercept=lambda path, query: answer)) as stripe:
        tracemalloc.start()
        try:
            assert says in str(refused(stripe, data, parse_list_page))
            assert tracemalloc.get_traced_memory()[1] < 250 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("spoil", "headers"),
    [
        (lambda body: body[:-9], {"Content-Encoding": "gzip"}),
        (lambda body: body[1:], {"Content-Encoding": "gzip"}),
        (lambda body: body, {"Content-Encoding": "br"}),
    ],
    ids=["cut short", "not gzip", "not asked for"],
)
def test_a_body_that_is_not_packed_as_it_says_is_asked_for_again(
    spoil: Callable[[bytes], bytes], headers: dict[str, str], data: Path
) -> None:
    whole = gzip.compress(b'{"object": "list", "data": [], "has_more": false}')

    def intercept(path: str, query: object) -> Answer:
        if len(stripe.requests) == 1:
            return Answer(spoil(whole), headers=headers)
        return Answer(whole, headers={"Content-Encoding": "gzip"})

    with serving(ScriptedStripe(intercept=intercept)) as stripe:
        answer, _ = StripeClient(impatient(stripe, data)).get("accounts", ACCOUNTS, len)
        assert answer.body == gzip.decompress(whole)
        assert len(stripe.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"error": {"message": ESCAPE, "code": ESCAPE, "param": ESCAPE}}, 400),
        Answer({"error": {"message": ESCAPE}}, 500),
        Answer({"error": {"message": ESCAPE}}, 401),
        Answer(f'{{"{ESCAPE}'.encode()),
        Answer(f"<{ESCAPE}>".encode(), 404),
    ],
    ids=lambda answer: str(answer.status),
)
def test_nothing_that_steers_a_terminal_is_in_a_message_or_a_log(
    answer: Answer, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not from a body, and not from a header."""
    hostile = "\x1b]0;owned\x07\x9b31m"
    answer = dataclasses.replace(
        answer, headers={"Request-Id": hostile, "Stripe-Rate-Limited-Reason": hostile}
    )
    stripe = ScriptedStripe([account("fca_1")], intercept=lambda path, query: answer)
    with serving(stripe), caplog.at_level(logging.INFO, "fincon"):
        error = refused(stripe, data)
    assert (str(error) + error.hint).isprintable()
    assert "owned" in str(error)
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_a_refusal_that_is_no_text_is_a_refusal() -> None:
    """As of a proxy that answers in Latin-1: it says nothing, and is none the less one."""
    failed = classify_response("/t", 402, {}, b'{"error": {"message": "Refus\xe9"}}', 1_780_000_000)
    assert isinstance(failed, FailedAttempt)
    assert "402" in str(failed.error)


def test_no_error_of_fincons_steers_a_terminal() -> None:
    """Whatever is put into it; lines stay lines."""
    error = FinconError(f"one\ntwo {ESCAPE}", ESCAPE)
    assert str(error).startswith("one\ntwo \\x1b]0;owned")
    assert all(line.isprintable() for line in (str(error) + error.hint).splitlines())
