"""A webhook is on disk before it is answered with 200, and what Stripe did not send is refused, counted and kept nowhere."""

import json
import logging
import socket
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from fincon.errors import UsageError
from fincon.landing.spool import Spool
from fincon.listen import receiver, server
from fincon.listen.receiver import MAX_BODY, Wanted
from fincon.listen.signature import refusal
from fincon.privacy import Erased
from fincon.sandbox.server import running
from fincon.sandbox.webhooks import happened, signature, thin
from fincon.sandbox.world import World
from fincon.settings import Secret, webhook_secrets
from fincon.transforms.redaction import Privacy
from tests.conftest import START
from tests.listen.posting import OWN, SECRET, Listener, listening
from tests.scripted_stripe import account, event

NOW = 1_800_000_000


def refreshed(number: int = 1, **more: Any) -> dict[str, Any]:
    return event(f"evt_{number}", account(f"fca_{number}"), NOW) | more


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    """One server for all, which takes a moment to stop."""
    with listening(tmp_path_factory.mktemp("unused")) as found:
        yield found


@pytest.fixture
def listener(served: Listener, tmp_path: Path) -> Listener:
    """A listener that has taken nothing yet."""
    served.receiver.__init__(Spool(tmp_path / "data"), [Secret(SECRET)], OWN)  # type: ignore[misc]
    return served


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_an_event_is_on_disk_for_its_owner_alone_when_it_is_answered(listener: Listener) -> None:
    assert listener.post(refreshed()) == 200
    (file,) = listener.receiver.spool.files()
    assert json.loads(file.read_bytes())["data"] == [refreshed()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert listener.health() == (
        200,
        {
            "status": "ok", "reason": None, "received": 1, "duplicate": 0, "ignored": {}, "refused": {},
            "loaded": 0, "waiting": 1,
        },
    )  # fmt: skip


BODY = json.dumps(refreshed()).encode()
REFUSED: dict[str, tuple[bytes, dict[str, Any], int, str]] = {
    "no signature": (BODY, {"Stripe-Signature": ""}, 400, "unsigned"),
    "a signature of no form": (BODY, {"Stripe-Signature": "v1=00,t=now"}, 400, "unsigned"),
    "another secret": (BODY, {"secret": "whsec_other"}, 400, "forged"),
    "no secret": (BODY, {"secret": ""}, 400, "forged"),
    "signed for another body": (BODY, {"Stripe-Signature": signature(b"{}", SECRET, int(time.time()))}, 400, "forged"),
    "signed long ago": (BODY, {"at": time.time() - 400}, 400, "replayed"),
    "signed in the future": (BODY, {"at": time.time() + 4000}, 400, "replayed"),
    "no body": (b"", {}, 400, "unreadable"),
    "no JSON": (BODY[:-1], {}, 400, "unreadable"),
    "no object": (b"[1]", {}, 400, "unreadable"),
    "no event": (b"{}", {}, 400, "unreadable"),
    "no id": (json.dumps(refreshed() | {"id": ""}).encode(), {}, 400, "unreadable"),
    "no text": (BODY.replace(b"Everyday", b"\xff\xfe"), {}, 400, "unreadable"),
    "nested without end": (BODY.replace(b'"Everyday"', b"[" * 90_000 + b"]" * 90_000), {}, 400, "unreadable"),
    "large": (BODY.replace(b"Everyday", b"x" * MAX_BODY), {}, 413, "large"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_stripe_did_not_send_so_is_refused_counted_and_kept_nowhere(
    what: str, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    body, how, status, reason = REFUSED[what]
    with caplog.at_level(logging.DEBUG):
        assert listener.post(body, **how) == status
    assert listener.health()[1]["refused"] == {reason: 1}
    assert listener.receiver.spool.files() == []
    assert SECRET not in caplog.text
    assert "Everyday" not in caplog.text
    assert listener.post(refreshed()) == 200, "and the next is taken"


def test_a_body_whose_length_is_not_told_is_bounded_as_well(listener: Listener) -> None:
    parts = (b"x" * 100_000 for _ in range(20))
    try:
        status = requests.post(
            listener.url, parts, headers={"Stripe-Signature": "t=1,v1=0"}, timeout=20
        ).status_code
    except requests.ConnectionError:
        status = 413  # it was closed while more was being sent
    assert status == 413
    assert listener.health()[1]["refused"] == {"large": 1}


def test_while_a_secret_is_changed_either_counts_and_so_does_either_signature(tmp_path: Path) -> None:
    with listening(
        tmp_path, Wanted(livemode=False, stripe_accounts=frozenset({""})), "whsec_old", "whsec_new"
    ) as found:
        assert [
            found.post(refreshed(n), secret=f"whsec_{of}") for n, of in enumerate(("old", "new", "third"))
        ] == [*(200, 200, 400)]
    now, secrets = int(time.time()), [Secret("whsec_new")]
    both = f"{signature(b'{}', 'whsec_old', now)},v0=1,{signature(b'{}', 'whsec_new', now).partition(',')[2]}"
    assert refusal(both, b"{}", secrets, now) == ""
    assert refusal(both, b"{}", secrets, now + 299) == ""
    assert refusal(both, b"{}", secrets, now + 301) == "replayed"
    assert refusal(both, b"{} ", secrets, now) == "forged"


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("", None),
        (" , ", None),
        ("sk_test_1", None),
        ("whsec_a bcdefgh", None),
        ("whsec_of_your_endpoint", None),
        ("whsec_111111", 1),
        ("whsec_111111, whsec_222222,", 2),
    ],
)
def test_the_secrets_are_read_from_the_environment_and_never_shown(value: str, count: int | None) -> None:
    if count is None:
        with pytest.raises(UsageError, match="STRIPE_WEBHOOK_SECRET") as refused:
            webhook_secrets({"STRIPE_WEBHOOK_SECRET": value})
        assert not value.strip(" ,") or value not in str(refused.value)
    else:
        found = webhook_secrets({"STRIPE_WEBHOOK_SECRET": value})
        assert len(found) == count
        assert "whsec" not in repr(found)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"livemode": True}, "mode"),
        ({"account": "acct_other"}, "account"),
        ({"type": "charge.succeeded"}, "type"),
        ({"type": "financial_connections.session.updated"}, "type"),
    ],
)
def test_what_no_run_would_read_is_answered_with_200_so_that_stripe_is_content(
    more: dict[str, Any], reason: str, listener: Listener
) -> None:
    assert listener.post(refreshed(**more)) == 200
    assert (listener.health()[1]["ignored"], listener.receiver.spool.count()) == ({reason: 1}, 0)


def test_events_of_connected_accounts_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    wanted = Wanted(livemode=False, stripe_accounts=frozenset(), connected=True)
    with listening(tmp_path, wanted) as found:
        found.post(refreshed(1, account="acct_1"))
        found.post(refreshed(2))
        assert list(found.receiver.spool.by_account()) == ["acct_1"]


def test_an_event_that_is_sent_many_times_at_once_is_kept_once_and_taken_each_time(
    listener: Listener,
) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: listener.post(refreshed()), range(24))) == {200}
    assert listener.receiver.spool.count() == 1
    health = listener.health()[1]
    assert (health["received"], health["duplicate"]) == (1, 23)


def open_request(listener: Listener, *, head: bool = True) -> socket.socket:
    """A connection on which a request was begun and not ended."""
    found = socket.create_connection(("127.0.0.1", listener.port), timeout=20)
    found.sendall(b"POST /stripe/events HTTP/1.1\r\nHost: x\r\n")
    if head:
        found.sendall(b"Stripe-Signature: t=1,v1=0\r\nContent-Length: 100\r\n\r\n{")
    return found


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side closes it without an answer."""
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_a_body_that_does_not_come_is_not_waited_for(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "BODY_SECONDS", 0.05)
    with open_request(listener) as slow:
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")
    assert listener.health()[1]["refused"] == {"slow": 1}


def test_a_head_that_does_not_come_is_not_waited_for(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    with open_request(listener, head=False) as slow:
        assert is_closed(slow)
    assert listener.health()[1]["refused"] == {"slow": 1}


def test_a_flood_is_answered_with_503_and_counted(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "MAX_IN_FLIGHT", 1)
    with open_request(listener):
        until(lambda: listener.receiver._in_flight == 1)
        assert listener.post(refreshed()) == 503
    until(lambda: listener.receiver._in_flight == 0)
    assert listener.post(refreshed()) == 200
    assert listener.health()[1]["refused"] == {"busy": 1, "cut short": 1}


def test_more_connections_than_there_may_be_are_closed(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    with open_request(listener, head=False), open_request(listener, head=False) as second:
        assert is_closed(second)
    assert listener.receiver.refused == {"busy": 1}


def test_an_event_that_cannot_be_written_is_not_taken_and_health_says_so(listener: Listener) -> None:
    folder = listener.receiver.spool.folder
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    assert listener.post(refreshed()) == 503
    status, health = listener.health()
    assert (status, health["status"], health["refused"]) == (503, "failing", {"disk": 1})
    folder.unlink()
    assert listener.post(refreshed()) == 200
    assert (listener.health()[0], listener.receiver.spool.count()) == (200, 1)


def test_secrets_are_not_kept_and_what_is_said_of_people_is_treated_as_the_lake_does(
    listener: Listener,
) -> None:
    listener.receiver.privacy = Privacy("hash", b"k" * 16, chosen=True)
    one = refreshed(bank_account_token={"id": "btok_A", "x": "leak"}, note="Jane Smith")
    assert listener.post(one) == 200
    for word in (b"leak", b"btok_", b"Jane", b"Everyday"):
        assert word not in listener.spooled
    assert b"fca_1" in listener.spooled
    assert b"pii_" in listener.spooled


def test_who_was_erased_is_not_kept(listener: Listener) -> None:
    key = b"key"
    listener.receiver.erased = Erased(key, frozenset({Erased(key).hash("fca_1")}))
    assert [listener.post(refreshed(n)) for n in (1, 2)] == [200, 200]
    assert b"fca_1" not in listener.spooled
    assert b"fca_2" in listener.spooled


def test_while_it_is_not_known_what_people_chose_nothing_is_kept(listener: Listener) -> None:
    """Stripe sends it again; kept, it would be in clear."""
    listener.receiver.not_known = "what is to be left out cannot be read"
    assert listener.post(refreshed()) == 503
    status, health = listener.health()
    assert (status, health["refused"], listener.receiver.spool.files()) == (503, {"choice": 1}, [])
    listener.receiver.not_known = ""
    assert (listener.post(refreshed()), listener.health()[0]) == (200, 200)


@pytest.mark.parametrize("do", ["erase", "redact"])
def test_what_a_killed_listener_left_half_written_holds_nobody(listener: Listener, do: str) -> None:
    assert listener.post(refreshed()) == 200
    spool = listener.receiver.spool
    (file,) = spool.files()
    part = file.rename(file.with_name(f".{file.name}.part"))
    if do == "erase":
        spool.erase(["fca_1"])
    else:
        spool.redact(Privacy("drop", chosen=True))
    assert not part.exists()


def test_an_event_that_does_not_say_its_mode_is_not_kept(listener: Listener) -> None:
    one = refreshed()
    del one["livemode"]
    assert listener.post(one) == 200
    assert (listener.health()[1]["ignored"], listener.receiver.spool.count()) == ({"mode": 1}, 0)


def test_of_a_thin_event_the_account_is_kept_that_it_names(listener: Listener) -> None:
    assert listener.post(thin(refreshed())) == 200
    (kept,) = json.loads(listener.spooled)["data"]
    assert (kept["object"], kept["created"], kept["data"]["object"]["id"]) == ("v2.core.event", NOW, "fca_1")
    assert listener.post(thin(refreshed()) | {"id": "evt_9", "related_object": None}) == 200
    assert listener.health()[1]["ignored"] == {"type": 1}


@pytest.mark.parametrize(
    "created", ["2027-01-15T08:00:00Z", "2027-01-15T09:00:00.000+01:00", "2027-01-15T08:00:00", NOW]
)
def test_the_time_of_a_thin_event_is_read_in_each_form(created: Any, listener: Listener) -> None:
    assert listener.post(thin(refreshed()) | {"created": created}) == 200
    assert json.loads(listener.spooled)["data"][0]["created"] == NOW


def test_the_sandbox_sends_what_happens_until_it_is_taken(tmp_path: Path) -> None:
    """Of a platform's connected accounts too, each event once in the spool however often it came."""
    wanted = Wanted(livemode=False, stripe_accounts=frozenset({""}), connected=True)
    world = World(seed=2, clock=START, accounts=20, sessions=0, connected=1)
    with running(world) as sandbox, listening(tmp_path / "data", wanted) as found:
        found.receiver.spool.folder.parent.mkdir()
        found.receiver.spool.folder.write_text("in the way")
        wish = {"url": found.url, "secret": SECRET, "twice": 0.5}
        assert requests.post(f"{sandbox.url}/_sandbox/webhooks", json=wish, timeout=20).ok
        sandbox.advance(timedelta(hours=12))
        until(lambda: found.receiver.refused["disk"] > 0)
        found.receiver.spool.folder.unlink()
        sender = sandbox.state.webhooks
        assert sender is not None
        sender.wait()
        ids = {one["id"] for one in happened(sandbox.world, world.time)}
        waiting = found.receiver.spool.by_account()
    assert waiting.keys() == {"", *sandbox.connected}
    kept = [event_id for files in waiting.values() for events in files.values() for event_id, _ in events]
    assert sorted(kept) == sorted(ids)
    assert sender.sent > len(ids)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/stripe/events", 405), ("POST", "/", 404), ("POST", "/health", 404)],
)
def test_nothing_else_is_answered(method: str, path: str, status: int, listener: Listener) -> None:
    assert (
        requests.request(method, f"http://127.0.0.1:{listener.port}{path}", timeout=20).status_code == status
    )
