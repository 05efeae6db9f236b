"""News is told once, to local receivers in the forms of a webhook, of Slack and of mail, and names nobody unless asked."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email import message_from_string
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from fincon.errors import InvalidKey, RunFailed
from fincon.pipeline.alert import body, find_news, tell
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.settings import Secret
from fincon.warehouse.alert_memory import receiver_name
from fincon.warehouse.alerts import Alert, find_alerts
from tests.conftest import rows, settings_for, sync
from tests.scripted_stripe import Answer, ScriptedStripe, account, serving
from tests.typed import Shown, typed
from tests.warehouse.test_views import publish_rows

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning")  # what Apprise imports


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    """One account, of whom an attribute is new to fincon."""
    with serving(ScriptedStripe(accounts=[account("fca_1", category="credit", mood="sunny")])) as served:
        yield served


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """A receiver of JSON: its host and port, and what it got."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def mailbox() -> Iterator[tuple[int, list[str]]]:
    """A server of mail that takes all: its port, and the messages."""
    got: list[str] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rwb") as talk:
            talk.write(b"220 here\r\n")
            talk.flush()
            for line in talk:
                word = line[:4].upper()
                if word == b"DATA":
                    talk.write(b"354 go on\r\n")
                    talk.flush()
                    text = b""
                    while (part := talk.readline()) != b".\r\n":
                        text += part
                    got.append(text.decode())
                talk.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
                talk.flush()
                if word == b"QUIT":
                    return

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1], got
    thread.join(10)
    listening.close()


def alert(data: Path, *arguments: str, **env: str) -> Shown:
    return typed("alert", "--data", str(data), *arguments, cwd=data.parent, env=env)


@pytest.mark.slow
def test_a_row_is_told_once_and_again_when_it_comes_back(
    stripe: ScriptedStripe, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "unknown_attributes.sql").write_text(
        "-- Somebody is in a mood.\n"
        "SELECT account_id, 'mood' AS attribute FROM accounts WHERE json_exists(extra, '$.mood')"
    )
    sync(stripe.url, data)
    with webhook() as (host, got):
        urls = {"FINCON_ALERT_URLS": f"json://{host}/secret-path", "FINCON_ALERTS_DIR": str(tmp_path / "own")}
        first = alert(data, **urls)
        assert first.code == 0, first.err
        [message] = got
        assert message["title"] == "fincon: unknown_attributes (1)"
        assert "fincon alert --dry-run" in message["message"]
        assert "fca_1" not in message["message"]
        assert alert(data, **urls).err == "Nothing is new.\n"
        assert len(got) == 1
        stripe.accounts = [account("fca_1", category="credit")]
        sync(stripe.url, data)
        assert alert(data, **urls).code == 0
        stripe.accounts = [account("fca_1", category="credit", mood="grey")]
        sync(stripe.url, data)
        assert alert(data, "--details", **urls).code == 0
        assert len(got) == 2
        assert "account_id fca_1, attribute mood" in got[1]["message"]
        assert "secret-path" not in first.err + first.out


@pytest.mark.slow
def test_what_no_receiver_took_is_told_the_next_time(stripe: ScriptedStripe, data: Path) -> None:
    sync(stripe.url, data)
    with webhook(500) as (host, _):
        failed = alert(data, FINCON_ALERT_URLS=f"json://{host}/secret-path")
    assert failed.code == 1
    assert "number 1" in failed.err
    assert "secret-path" not in failed.err
    with webhook() as (host, got):
        assert alert(data, FINCON_ALERT_URLS=f"json://{host}").code == 0
    assert len(got) == 1


@pytest.mark.slow
def test_failures_slack_and_mail(stripe: ScriptedStripe, data: Path) -> None:
    """A run that fails is news once for as long as it fails; Mattermost's hook has the form of Slack's."""
    sync(stripe.url, data)
    stripe.intercept = lambda path, query: Answer({"error": {"message": "no"}}, 401)
    with webhook() as (host, got), mailbox() as (port, mails):
        urls = f"mmost://{host}/token mailto://127.0.0.1:{port}?smtp=127.0.0.1&from=me@example.com&to=you@example.com"
        env = {"STRIPE_API_KEY": "sk_test_sandboxkey", "STRIPE_API_BASE": stripe.url}
        assert typed("sync", cwd=data.parent, env=env).code == 1
        done = alert(data, FINCON_ALERT_URLS=urls)
        assert done.code == 0, done.err
        assert typed("sync", cwd=data.parent, env=env).code == 1
        assert alert(data, FINCON_ALERT_URLS=urls).err == "Nothing is new.\n"
    [slack], [mail] = got, mails
    assert "failed_runs: 1 new row" in slack["text"]
    parsed = message_from_string(mail, policy=default)
    assert parsed["Subject"] == "fincon: failed_runs (1), unknown_attributes (1)"
    mail_body = parsed.get_body()
    assert mail_body
    assert "failed_runs: 1 new row" in mail_body.get_content()
    assert "again and again.<br>\r\nunknown_attributes: 1 new row" in mail_body.get_content()


@pytest.mark.slow
def test_a_receiver_that_failed_is_told_again_and_no_other_and_alerts_told_says_who_was(
    stripe: ScriptedStripe, data: Path
) -> None:
    sync(stripe.url, data)
    with webhook() as (good, got), webhook(500) as (bad, refused):
        urls = [Secret(f"json://{good}/secret-path"), Secret(f"json://{bad}/secret-path")]
        with pytest.raises(RunFailed, match=r"Of 2 receivers .* did not take the message: number 2"):
            tell(data, urls, details=False)
        with pytest.raises(RunFailed, match="number 2"):
            tell(data, urls, details=False)
        assert (len(got), len(refused)) == (1, 2)
        told = rows(data, "FROM alerts_told")
        assert [(row["alert"], row["receiver"]) for row in told] == [
            ("unknown_attributes", receiver_name(urls[0]))
        ]
        assert "secret-path" not in str(told)
        assert find_news(data, urls[:1]) == []
        assert len(find_news(data, urls)) == 1


@pytest.mark.slow
def test_what_was_told_before_receivers_were_told_apart_is_told_to_none_of_them(
    stripe: ScriptedStripe, data: Path
) -> None:
    sync(stripe.url, data)
    keys = {alert.name: alert.keys for alert in find_alerts(data)}
    before = {name: dict.fromkeys(of, "2026-11-01T00:00:00+00:00") for name, of in keys.items()}
    (data / "alerts.json").write_text(json.dumps(before))
    with webhook() as (host, got):
        assert tell(data, [Secret(f"json://{host}")], details=False) == []
    assert got == []
    sync(stripe.url, data)
    assert rows(data, "SELECT receiver, first_told_at::DATE::VARCHAR AS day FROM alerts_told") == [
        {"receiver": "", "day": "2026-11-01"}
    ]


def test_rows_are_told_as_people_read_them() -> None:
    """Amounts with their currency's decimals, times in UTC to the second, and of what is empty nothing; mail keeps lines."""
    at = datetime(2026, 11, 27, 10, 0, 0, 123456, UTC)
    amount = Decimal("1234.5000")
    rows = [("", "usd", amount, at), ("acct_1", "jpy", Decimal("0.0000"), None), (None, "kwd", amount, at)]
    columns = ("stripe_account", "currency", "available_amount", "as_of")
    alert = Alert(name="low", meaning="Low.", columns=columns, rows=rows, keys=["a", "b", "c"])
    assert body([alert], details=True).splitlines()[1:4] == [
        "  currency usd, available_amount 1,234.50, as_of 2026-11-27 10:00:00Z",
        "  stripe_account acct_1, currency jpy, available_amount 0",
        "  currency kwd, available_amount 1,234.500, as_of 2026-11-27 10:00:00Z",
    ]


def test_a_first_sync_that_fails_is_told(stripe: ScriptedStripe, data: Path) -> None:
    stripe.intercept = lambda path, query: Answer({"error": {"message": "no"}}, 401)
    with pytest.raises(InvalidKey):
        sync(stripe.url, data)
    assert rows(data, "SELECT status, hint <> '' AS hint FROM attempts") == [
        {"status": "failed", "hint": True}
    ]
    assert [alert.name for alert in find_news(data, [])] == ["failed_runs"]


def test_a_dry_run_shows_the_rows_and_remembers_nothing(stripe: ScriptedStripe, data: Path) -> None:
    sync(stripe.url, data)
    for _ in range(2):
        shown = alert(data, "--dry-run")
        assert "attribute mood" in shown.out
        assert "1 new row would be told" in shown.err
    assert alert(data).code == 2


def test_own_alerts_stand_beside_ours_and_in_their_place(
    stripe: ScriptedStripe, data: Path, tmp_path: Path
) -> None:
    sync(stripe.url, data)
    own = tmp_path / "own"
    own.mkdir()
    (own / "many.sql").write_text("-- There are accounts.\nSELECT count(*) AS n, 'many' AS key FROM accounts")
    (own / "unknown_attributes.sql").write_text("")
    shown = alert(data, "--dry-run", FINCON_ALERTS_DIR=str(own))
    assert shown.out.splitlines()[:3] == [
        "fincon: many (1)",
        "many: 1 new row. There are accounts.",
        "  n 1",
    ]
    (own / "many.sql").write_text("FROM nowhere")
    wrong = alert(data, "--dry-run", FINCON_ALERTS_DIR=str(own))
    assert (wrong.code, "alert many" in wrong.err) == (2, True)


@pytest.mark.slow
def test_own_checks_are_run_by_a_sync_and_by_check(
    stripe: ScriptedStripe, data: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "nobody.sql").write_text("-- There is no account.\nFROM accounts")
    env = {
        "STRIPE_API_KEY": "sk_test_sandboxkey",
        "STRIPE_API_BASE": stripe.url,
        "FINCON_CHECKS_DIR": str(own),
    }
    done = typed("sync", cwd=data.parent, env=env)
    assert done.code == 1
    assert "checks failed: nobody (1 row)" in done.err
    checked = typed("check", cwd=data.parent, env=env)
    assert checked.code == 1
    assert "FAIL  nobody: There is no account." in checked.out
    result = run_sync(settings_for(stripe.url, data), SyncRequest())
    assert result.failed_checks == {}


def test_an_institution_in_trouble_is_told_while_that_lasts(tmp_path: Path) -> None:
    """By days ago: failures, and what is good; trouble of which nothing was heard for a week is told to nobody."""
    at = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    banks = {
        "now": (range(2), ()),
        "for a day": (range(1), ()),
        "over": (range(1, 2), (0,)),
        "old": ((8,), ()),
    }
    refreshes = [
        {"account_id": f"fca_{bank}{number}", "feature": "balance", "status": status}
        | {"last_attempted_at": (at - timedelta(days=days)).isoformat()}
        | {"observed_at": (at - timedelta(days=days)).isoformat()}
        for bank, (bad, good) in banks.items()
        for status, when in (("failed", bad), ("succeeded", (*good, *range(10, 15))))
        for days in when
        for number in range(3)
    ]
    accounts = [
        {"account_id": f"fca_{bank}{number}", "institution_name": bank}
        for bank in banks
        for number in range(3)
    ]
    publish_rows(tmp_path / "data", {"accounts": accounts, "refreshes": refreshes}, datetime.now(UTC))
    [found] = [alert for alert in find_alerts(tmp_path / "data") if alert.name == "institution_incidents"]
    name, failures = found.columns.index("institution_name"), found.columns.index("accounts")
    assert sorted((row[name], row[failures]) for row in found.rows) == [("for a day", 3), ("now", 3)]
    assert len(set(found.keys)) == 2
