"""Every attempt at a sync is on record, whatever became of it, with what it cost."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from fincon.errors import DataFolderLocked, InvalidKey, RunFailed, StripeError
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.server import Sandbox
from fincon.storage.lock import writer_lock
from tests.conftest import FINCON, Child, environ, rows, settings_for, sync
from tests.scripted_stripe import Answer, Query, ScriptedStripe, account, serving
from tests.typed import typed

REFUSED = Answer({"error": {"type": "invalid_request_error", "message": "Invalid API Key provided."}}, 401)
FORBIDDEN = Answer(
    {"error": {"type": "invalid_request_error", "message": "The key lacks a permission."}}, 403
)
ATTEMPTS = "FROM attempts ORDER BY started_at, ended_at"


def status(data: Path) -> Any:
    """What `fincon status --json` says."""
    done = typed("status", "--json", "--data", str(data), cwd=data.parent)
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    """A list of three pages."""
    with serving(ScriptedStripe(accounts=[account(f"fca_{n:03}") for n in range(250)])) as served:
        yield served


def test_success_a_bad_key_and_a_403_each_leave_their_row(stripe: ScriptedStripe, data: Path) -> None:
    done = sync(stripe.url, data)
    for answer in (REFUSED, FORBIDDEN):
        stripe.intercept = lambda path, query, answer=answer: answer  # type: ignore[misc]
        with pytest.raises(StripeError):
            sync(stripe.url, data)
    first, refused, forbidden = rows(data, ATTEMPTS)
    assert (first["status"], first["run_id"], first["error"]) == ("succeeded", done.run["run_id"], None)
    assert first["requests"] == done.run["requests"] == sum(first["requests_by_endpoint"].values())
    for row, code in ((refused, 401), (forbidden, 403)):
        assert row["status"] == "failed"
        assert f"{code}" in row["error"]
        assert row["request_id"].startswith("req_")
        assert row["request_id"] in row["error"]
        assert row["hint"]
        assert row["requests"] >= 1
    assert sum(row["requests"] for row in (first, refused, forbidden)) == len(stripe.requests)


def test_what_failed_before_there_were_views_is_shown_by_status(stripe: ScriptedStripe, data: Path) -> None:
    stripe.intercept = lambda path, query: REFUSED
    with pytest.raises(InvalidKey):
        sync(stripe.url, data)
    shown = typed("status", cwd=data.parent)
    assert (shown.code, shown.err) == (0, "")
    assert "failed  accounts" in shown.out
    assert "Request-Id req_" in shown.out
    stripe.intercept = lambda path, query: None
    sync(stripe.url, data)
    assert [row["status"] for row in rows(data, ATTEMPTS)] == ["failed", "succeeded"]


def test_a_killed_attempt_is_on_record_with_its_requests_and_they_count(
    stripe: ScriptedStripe, data: Path
) -> None:
    held = Event()

    def hold(path: str, query: Query) -> None:
        if "starting_after" in query:
            held.wait(60)

    stripe.intercept = hold
    env = {**os.environ, **environ(stripe.url)}
    with Child([str(FINCON), "sync"], cwd=data.parent, env=env) as process:
        while len(stripe.requests) < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    held.set()
    made = len(stripe.requests)
    [killed] = status(data)["not_succeeded"]
    assert (killed["status"], killed["requests"]) == ("interrupted", made)

    done = sync(stripe.url, data)
    assert done.run["requests"] == len(stripe.requests)
    killed, last = rows(data, ATTEMPTS)
    assert (killed["status"], killed["requests"]) == ("interrupted", made)
    assert (last["status"], last["requests"]) == ("succeeded", len(stripe.requests) - made)
    assert sum(status(data)["requests_this_month"].values()) == len(stripe.requests)


def test_a_folder_in_use_leaves_skipped_which_the_next_run_puts_into_the_table(
    sandbox: Sandbox, data: Path
) -> None:
    sync(sandbox.url, data)
    with writer_lock(data), pytest.raises(DataFolderLocked):
        sync(sandbox.url, data)
    assert typed("status", cwd=data.parent).out.splitlines()[1].split()[2] == "skipped"
    sync(sandbox.url, data)
    assert [row["status"] for row in rows(data, ATTEMPTS)] == ["succeeded", "skipped", "succeeded"]


def test_a_missing_key_is_on_record_where_there_is_a_lake(sandbox: Sandbox, data: Path) -> None:
    sync(sandbox.url, data)
    assert typed("events", cwd=data.parent).code == 2
    failed = rows(data, ATTEMPTS)[-1]
    said = (failed["status"], failed["mode"], failed["error"])
    assert said == ("failed", "events", "STRIPE_API_KEY is not set.")


def test_a_spent_budget_is_an_interruption_that_the_next_run_goes_on_from(
    sandbox: Sandbox, data: Path
) -> None:
    done = typed("sync", "--max-requests", "1", cwd=data.parent, env=environ(sandbox.url))
    assert done.code == 0
    sync(sandbox.url, data)
    first, second = rows(data, ATTEMPTS)
    assert (first["status"], second["status"]) == ("interrupted", "succeeded")
    assert first["run_id"] == second["run_id"]
    assert "--max-requests" in first["error"]


def test_each_stripe_account_has_its_own_row(data: Path) -> None:
    with serving(ScriptedStripe(accounts=[account("fca_1")])) as stripe:
        run_sync(settings_for(stripe.url, data), SyncRequest(stripe_accounts=("acct_1", "acct_2")))
        found = rows(data, "FROM attempts ORDER BY stripe_account")
        assert [row["stripe_account"] for row in found] == ["acct_1", "acct_2"]
        assert sum(row["requests"] for row in found) == len(stripe.requests)
        assert len({row["attempt_id"] for row in found}) == 1


@pytest.mark.slow
def test_a_rejected_object_is_a_failure_where_the_request_is_strict(data: Path) -> None:
    with serving(ScriptedStripe(accounts=[account("fca_1"), account("fca_2", livemode="no")])) as stripe:
        run_sync(settings_for(stripe.url, data), SyncRequest(strict=True))
    assert [row["status"] for row in rows(data, ATTEMPTS)] == ["succeeded", "failed"]


def test_no_id_of_anybody_is_kept_of_a_failure(stripe: ScriptedStripe, data: Path) -> None:
    """A cursor in the request that failed names an account; an erasure would find it."""
    sync(stripe.url, data)
    stripe.intercept = lambda path, query: FORBIDDEN if "starting_after" in query else None
    with pytest.raises((StripeError, RunFailed)):
        sync(stripe.url, data)
    error = rows(data, ATTEMPTS)[-1]["error"]
    assert "fca_…" in error
    assert "fca_0" not in error


def test_a_disk_that_is_full_leaves_its_row_once_there_is_room(
    stripe: ScriptedStripe, disk: Callable[[int], Path]
) -> None:
    """Where no file can be made, the attempt's own is there already: the one before left it."""
    data = disk(64_000) / "data"
    sync(stripe.url, data)
    filler = data.parent / "filler"
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    with suppress(OSError), (data.parent / "rest").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    with pytest.raises(RunFailed):
        sync(stripe.url, data)
    [failed] = status(data)["not_succeeded"]
    assert failed["status"] == "failed"
    assert "No space left" in failed["error"]
    filler.unlink()
    sync(stripe.url, data)
    assert [row["status"] for row in rows(data, ATTEMPTS)] == ["succeeded", "failed", "succeeded"]
