"""Each fault of the sandbox reaches a client as that fault; limits hold in real time; both can be counted."""

import socket
import time

import pytest
import requests
from urllib3.exceptions import IncompleteRead

from fincon.sandbox.faults import ERRORS, REASONS, RETRYABLE, Fault, Faults, Rule
from fincon.sandbox.limits import Limits
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.prefect_server import until

KEY = "sk_test_" + "a" * 24
ACCOUNTS = "/v1/financial_connections/accounts"
WORLD = World(accounts=120, sessions=40)


@pytest.fixture(scope="module")
def plain():
    with running(WORLD) as it:
        yield it


@pytest.fixture
def sandbox(plain: Sandbox):
    plain.reset_requests()
    yield plain
    plain.faults = plain.limits = None
    plain.set_clock(WORLD.clock)


def get(sandbox: Sandbox, path: str = ACCOUNTS, timeout: float = 5, **params: object) -> requests.Response:
    return requests.get(sandbox.url + path, params=params, auth=(KEY, ""), timeout=timeout)


def always(sandbox: Sandbox, kind: str, **details: object) -> Faults:
    sandbox.faults = Faults(script=[Rule(Fault(kind, **details))])
    return sandbox.faults


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_come_with_their_status_and_stripes_envelope(sandbox, kind):
    always(sandbox, kind, retry_after=0.5, should_retry=False)
    answer = get(sandbox, starting_after=WORLD.account_id(5))
    assert answer.status_code == ERRORS[kind][0]
    assert answer.json() == {"error": ERRORS[kind][1]}
    assert answer.headers["Retry-After"] == "0.5"
    assert answer.headers["Stripe-Should-Retry"] == "false"
    assert answer.headers["Request-Id"]


@pytest.mark.parametrize("reason", REASONS)
def test_rate_limits_name_their_reason_and_a_lock_timeout_does_not(sandbox, reason):
    always(sandbox, "rate_limit", reason=reason)
    answer = get(sandbox)
    assert (answer.status_code, answer.headers["Stripe-Rate-Limited-Reason"]) == (429, reason)
    always(sandbox, "lock_timeout")
    answer = get(sandbox)
    assert answer.status_code == 429
    assert not {"Stripe-Rate-Limited-Reason", "Retry-After", "Stripe-Should-Retry"} & answer.headers.keys()


def test_a_bad_gateway_is_html(sandbox):
    always(sandbox, "bad_gateway")
    answer = get(sandbox)
    assert answer.status_code == 502
    assert answer.text.startswith("<html>")


def test_connections_break(sandbox):
    always(sandbox, "reset")
    with pytest.raises(requests.ConnectionError, match="reset"):
        get(sandbox)
    always(sandbox, "no_answer")
    with pytest.raises(requests.ConnectionError, match="without response"):
        get(sandbox)
    always(sandbox, "timeout", seconds=0.2)
    with pytest.raises(requests.ConnectionError, match="without response"):
        get(sandbox)
    always(sandbox, "timeout")
    with pytest.raises(requests.ReadTimeout):
        get(sandbox, timeout=0.2)


def test_bodies_are_cut_short_or_no_json(sandbox):
    always(sandbox, "cut_short")
    with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
        get(sandbox)
    assert isinstance(caught.value.args[0].args[-1], IncompleteRead)
    for kind in ("cut_short_quietly", "invalid_json"):
        always(sandbox, kind)
        answer = get(sandbox)
        assert answer.status_code == 200
        with pytest.raises(requests.JSONDecodeError):
            answer.json()


def test_pages_that_do_not_end(sandbox):
    good = get(sandbox, limit=5).json()
    oldest = WORLD.account_id(0)
    always(sandbox, "empty_page")
    assert get(sandbox).json() == {**good, "data": []}
    always(sandbox, "repeated_page")
    assert get(sandbox, limit=5, starting_after=good["data"][-1]["id"]).json() == good
    always(sandbox, "endless")
    assert get(sandbox, starting_after=WORLD.account_id(1)).json()["has_more"] is True
    assert get(sandbox, starting_after=oldest).json() == {**good, "data": []}


@pytest.mark.parametrize("defect", ["amount_is_text", "no_id", "wrong_type", "amount_too_large"])
def test_one_object_of_a_page_is_malformed(sandbox, defect):
    good = get(sandbox, limit=100).json()["data"]
    always(sandbox, "malformed", defect=defect)
    bad = get(sandbox, limit=100).json()["data"]
    differing = [(one, other) for one, other in zip(good, bad, strict=True) if one != other]
    assert len(differing) == 1
    ((_, other),) = differing
    if defect.startswith("amount"):
        assert {"12.50", 2**63} & set(other["balance"]["current"].values())
    else:
        assert "id" not in other or other["livemode"] == "no"


def test_a_script_names_endpoint_query_and_turn(sandbox):
    rule = Rule(Fault("forbidden"), endpoint=ACCOUNTS, query="limit=3", nth=(2, 3))
    sandbox.faults = Faults(script=[rule])
    assert [get(sandbox, limit=3).status_code for _ in range(4)] == [200, 403, 403, 200]
    assert get(sandbox, limit=2).status_code == 200
    assert get(sandbox, ACCOUNTS + "/" + WORLD.account_id(1)).status_code == 200
    assert sandbox.faults.injected == {"forbidden": 2}
    assert len(sandbox.requests) == 6


def test_the_rate_holds_and_the_seed_decides():
    def run(seed: int) -> list[str | None]:
        faults = Faults(rate=0.2, seed=seed)
        met = [faults.choose(ACCOUNTS, "") for _ in range(2000)]
        return [fault and fault.kind for fault in met]

    first = run(1)
    assert first == run(1) != run(2)
    assert sum(kind is not None for kind in first) == pytest.approx(400, abs=60)
    assert set(first) - {None} == set(RETRYABLE)


def test_an_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="choose from"):
        Fault("no_such_kind")


def test_accounts_are_linked_while_paging(sandbox):
    sandbox.faults = Faults(advance_every=2, advance_seconds=86_400 * 3)
    first = get(sandbox, limit=50).json()
    second = get(sandbox, limit=50, starting_after=first["data"][-1]["id"]).json()
    assert len({one["id"] for one in first["data"] + second["data"]}) == 100
    newest = get(sandbox, limit=1).json()["data"][0]["id"]
    assert newest != first["data"][0]["id"]


def test_limits_hold_in_all_and_on_each_endpoint(sandbox):
    seconds = [0.0]
    limits = sandbox.limits = Limits(test=12, endpoint=10, now=lambda: seconds[0])
    one = ACCOUNTS + "/" + WORLD.account_id(1)
    answers = [get(sandbox, limit=1) for _ in range(25)] + [get(sandbox, one) for _ in range(10)]
    reasons = [answer.headers.get("Stripe-Rate-Limited-Reason") for answer in answers]
    assert reasons[:10] == [None] * 10
    assert set(reasons) == {None, "endpoint-rate", "global-rate"}
    assert sum(limits.throttled.values()) == sum(answer.status_code == 429 for answer in answers)
    seconds[0] += 0.3
    assert get(sandbox, one).ok


def test_an_answer_takes_as_long_as_the_latency(sandbox):
    limits = sandbox.limits = Limits(latency=0.15)
    assert all(0.12 <= limits.delay(number) <= 0.18 for number in range(1000))
    begun = time.monotonic()
    get(sandbox)
    assert time.monotonic() - begun >= 0.12


def test_latency_holds_up_no_one_else(sandbox):
    """While one request has a minute to wait, another is answered."""
    sandbox.limits = Limits(latency=60)
    with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2]))) as waiting:
        waiting.sendall(f"GET {ACCOUNTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        until(lambda: sandbox.requests)
        sandbox.limits = None
        assert get(sandbox).ok
        waiting.setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting.recv(1)
