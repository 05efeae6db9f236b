"""A sync that is stopped ends at once, wherever it waits; the lock is free, and the next one goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fincon.errors import Stopped
from fincon.extract.stopping import StopSignal
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.settings import Settings
from fincon.storage.lock import writer_lock
from tests.conftest import Child, environ, rows, settings_for
from tests.scripted_stripe import START, Answer, ScriptedStripe, account, serving, session

WITHIN_SECONDS = 2.0
PAGES = 57
LIST = "/v1/financial_connections/accounts"


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    """57 pages of accounts, ten to a page, and as many sessions."""
    count = PAGES * 10
    accounts = [account(f"fca_{n:04d}", created=START - n) for n in range(count)]
    sessions = {f"fcsess_{n:02d}": session(f"fcsess_{n:02d}") for n in range(PAGES)}
    with serving(ScriptedStripe(accounts, sessions, page_size=10)) as it:
        yield it


def at_request(stripe: ScriptedStripe, number: int, do: Callable[[], object]) -> None:
    """Call ``do`` when so many requests have been made."""

    def intercept(path: str, query: object) -> Answer | None:
        if len(stripe.requests) == number:
            do()
        return None

    stripe.intercept = intercept


def stopped(settings: Settings, request: SyncRequest, stop: StopSignal, progress: object = None) -> float:
    """Run until it is stopped; return when it had ended (`time.monotonic`). Whoever comes then has the folder."""
    with pytest.raises(Stopped, match="What was fetched is kept"):
        run_sync(settings, request, stop=stop, progress=progress)  # type: ignore[arg-type]
    ended = time.monotonic()
    with writer_lock(settings.data):
        return ended


def goes_on(stripe: ScriptedStripe, settings: Settings, request: SyncRequest) -> SyncResult:
    """The next sync, which asks for nothing that is on disk."""
    stripe.intercept = lambda path, query: None
    before = set(stripe.requests)
    stripe.requests.clear()
    result = run_sync(settings, request)
    assert result.resumed_pages > 0
    assert len(stripe.requests) <= len(set(stripe.requests) - before) + settings.concurrency
    assert rows(settings.data, "SELECT count(*) AS n FROM accounts") == [{"n": len(stripe.accounts)}]
    return result


@pytest.mark.parametrize("what", ["a list", "sessions", "two Stripe accounts"])
@pytest.mark.first(1)
def test_no_thread_makes_another_request(what: str, stripe: ScriptedStripe, data: Path) -> None:
    """Stopped in the middle of its pages: each thread has at most the answer that it waited for."""
    settings, stop = settings_for(stripe.url, data), StopSignal()
    request = SyncRequest(
        session_ids=tuple(stripe.sessions) if what == "sessions" else (),
        stripe_accounts=("acct_1", "acct_2") if what == "two Stripe accounts" else (),
    )
    at_request(stripe, 12, stop.stop)
    stopped(settings, request, stop)
    made = len(stripe.requests)
    assert made <= 12 + 2 * settings.concurrency
    time.sleep(0.2)
    assert len(stripe.requests) == made
    if what != "two Stripe accounts":
        goes_on(stripe, settings, request)


@pytest.mark.parametrize("what", ["an answer", "a retry", "a turn"])
def test_no_wait_is_waited_to_its_end(what: str, stripe: ScriptedStripe, data: Path) -> None:
    """Not for an answer that does not come, not for Retry-After, and not for the rate limit."""
    released, reached = threading.Event(), threading.Event()

    def intercept(path: str, query: object) -> Answer | None:
        if len(stripe.requests) < 3:
            return None
        reached.set()
        if what == "an answer":
            released.wait(30)
        if what == "a retry":
            return Answer({"error": {"message": "later"}}, 503, headers={"Retry-After": "50"})
        return None

    stripe.intercept = intercept
    slow = {"FINCON_REQUESTS_PER_SECOND": "0.05"} if what == "a turn" else {}
    settings, stop, asked = settings_for(stripe.url, data, **slow), StopSignal(), [0.0]
    if what == "a turn":
        at_request(stripe, 1, reached.set)

    def stop_then() -> None:
        assert reached.wait(20)
        asked[0] = time.monotonic()
        stop.stop()

    other = threading.Thread(target=stop_then)
    other.start()
    try:
        assert stopped(settings, SyncRequest(), stop) - asked[0] < WITHIN_SECONDS
    finally:
        released.set()
        other.join()


def test_a_run_that_is_being_loaded_stops_and_is_loaded_by_the_next(
    stripe: ScriptedStripe, data: Path
) -> None:
    """Between two pages; nothing of it is asked for again."""
    settings, stop = settings_for(stripe.url, data), StopSignal()

    class StopsIt:
        def stage(self, name: str, total: int | None) -> Callable[[int], object]:
            return lambda count: stop.stop() if name == "pages into tables" else None

    request = SyncRequest(session_ids=tuple(stripe.sessions))
    stopped(settings, request, stop, StopsIt())
    stripe.requests.clear()
    run_sync(settings, replace(request, accounts=False, refetch="never"))
    assert stripe.requests == []  # all that is asked for now is known
    assert rows(data, "SELECT count(*) AS n FROM accounts") == [{"n": PAGES * 10}]


@pytest.mark.slow
def test_an_exception_in_the_main_thread_ends_the_process(stripe: ScriptedStripe, data: Path) -> None:
    """As Prefect's, when a worker cancels a run: no thread goes on behind it, and none is waited for that hangs."""
    released, reached = threading.Event(), threading.Event()

    def intercept(path: str, query: object) -> Answer | None:
        if len(stripe.requests) >= 5:
            reached.set()
            released.wait(30)
        return None

    stripe.intercept = intercept
    code = f"""
import signal, sys
from pathlib import Path
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.settings import load_settings
signal.signal(signal.SIGTERM, lambda *args: sys.exit(143))
run_sync(load_settings(data=Path({str(data)!r})), SyncRequest())
"""
    env = {**os.environ, **environ(stripe.url)}
    with Child([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert reached.wait(30)
            process.send_signal(signal.SIGTERM)
            sent = time.monotonic()
            _, told = process.communicate(timeout=20)
            took = time.monotonic() - sent
        finally:
            released.set()
            process.kill()
    assert (process.returncode, told) == (143, "")
    assert took < WITHIN_SECONDS
    assert len(stripe.requests) <= 6
    stripe.intercept = lambda path, query: None
    run_sync(settings_for(stripe.url, data), SyncRequest())
