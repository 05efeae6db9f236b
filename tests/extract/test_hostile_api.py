"""A hostile API: whatever Stripe answers, the lake is the truth or the run says in two lines why it is not."""

import dataclasses
import gzip
import math
import re
import shutil
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fincon.errors import PermissionDenied, StripeError
from fincon.extract.client import StripeClient
from fincon.extract.responses import (
    ATTEMPTS,
    BACKOFF_MAX_SECONDS,
    FIRST_ATTEMPTS,
    UNEXPECTED_ATTEMPTS,
    backoff_seconds,
)
from fincon.lake.tables import Lake
from fincon.landing.page_store import PageStore
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import publish, run_sync
from fincon.sandbox.faults import REASONS, RETRYABLE, Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.settings import Settings
from tests.conftest import START, Row, known_after, rows, settings_for, state, sync, truth

PREFIX = "/v1/financial_connections"
ACCOUNTS = f"{PREFIX}/accounts"
SESSION = f"{PREFIX}/sessions/{{id}}"
WORLD = World(seed=1, clock=START, accounts=230, sessions=30)
LATER = timedelta(days=3)
PER_SECOND = 2000.0


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    with running(WORLD) as it:
        yield it


@pytest.fixture
def sandbox(served: Sandbox) -> Iterator[Sandbox]:
    """One server for the module; each test finds it at the same clock and without faults."""
    served.set_clock(START)
    served.reset_requests()
    yield served
    served.faults = served.limits = None


@pytest.fixture(scope="module")
def first_run(served: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    served.set_clock(START)
    folder = tmp_path_factory.mktemp("first") / "data"
    sync(served.url, folder)
    return folder


@pytest.fixture
def copied(first_run: Path, data: Path) -> Path:
    """A data folder after one good run over the accounts, but with the views of the original."""
    shutil.copytree(first_run, data)
    return data


@pytest.fixture
def synced(copied: Path, data: Path) -> Path:
    """A data folder after one good run over the accounts."""
    publish(data, Lake(data / "lake"))
    return data


STALL_SECONDS = 60
"""How long an API that stalls would keep a run that waits for it."""


def impatient(url: str, data: Path, read_seconds: float = 30, **more: Any) -> Settings:
    """Settings that wait for little between two tries; for an answer only where a test is about answers that fail to come."""
    return dataclasses.replace(
        settings_for(url, data), read_seconds=read_seconds, backoff_seconds=0.002, **more
    )


def run(
    sandbox: Sandbox,
    data: Path,
    faults: Faults | None,
    *,
    sessions: bool = False,
    read_seconds: float = 30,
) -> SyncResult:
    """A run against faults; the clock has what was there before."""
    sandbox.faults = faults
    ids = tuple(sandbox.world.session_ids()) if sessions else ()
    try:
        return run_sync(impatient(sandbox.url, data, read_seconds), SyncRequest(session_ids=ids))
    finally:
        sandbox.faults = None


def written(data: Path) -> dict[str, int]:
    """The lake's files, with their sizes; without those that say what was attempted."""
    lake = [path for path in (data / "lake").rglob("*") if path.is_file()]
    return {str(path): path.stat().st_size for path in lake if "attempts" not in path.parts}


def of_accounts(world: World) -> dict[str, list[Row]]:
    """What a run without sessions can know."""
    return {**truth(world), "sessions": [], "session_accounts": []}


def is_two_lines(error: StripeError) -> bool:
    """Whether a person reads what happened in one line and what to do in another."""
    return bool(str(error)) and "\n" not in str(error) and bool(error.hint) and "\n" not in error.hint


# -- what passes


FAULTS_OF_LISTS = ("empty_page", "repeated_page")
PASSING = [
    ("rate_limit", "lock_timeout", "conflict"),
    ("server_error", "unavailable", "bad_gateway"),
    ("reset", "no_answer", "cut_short"),
    ("cut_short_quietly", "invalid_json"),
    ("timeout", *FAULTS_OF_LISTS),
]


@pytest.mark.parametrize("kinds", PASSING, ids="+".join)
def test_faults_that_pass_leave_no_trace(sandbox: Sandbox, data: Path, kinds: tuple[str, ...]) -> None:
    """A request that fails now and then is asked again, and the lake is the truth."""
    script = [
        Rule(Fault(kind, seconds=STALL_SECONDS), endpoint, nth=(2 + i, 7 + 2 * i))
        for i, kind in enumerate(kinds)
        for endpoint in (SESSION, ACCOUNTS)
        if endpoint == ACCOUNTS or kind not in FAULTS_OF_LISTS
    ]
    faults = Faults(script=script)
    outcome = run(sandbox, data, faults, sessions=True, read_seconds=1.5 if "timeout" in kinds else 30)
    assert set(faults.injected) == set(kinds)
    assert state(data) == truth(sandbox.world)
    assert outcome.failed_checks == {}
    assert outcome.run["rejected"] == 0
    assert outcome.run["requests"] == len(sandbox.requests)
    if "repeated_page" not in kinds:  # the first page of a session's list may well follow its own page
        assert outcome.run["retries"] == faults.injected.total()


@pytest.mark.quick
def test_every_fault_that_passes_is_tried() -> None:
    """No kind that the sandbox calls retryable is left out."""
    assert set(RETRYABLE) <= {kind for kinds in PASSING for kind in kinds}


@pytest.mark.parametrize("seed", [0, 1])
def test_an_api_that_fails_one_time_in_five_still_gives_the_truth(
    sandbox: Sandbox, data: Path, seed: int
) -> None:
    """With every fault that passes at 20 %, the lake is the truth."""
    kinds = (
        *RETRYABLE,
        Fault("timeout", seconds=STALL_SECONDS),
        "empty_page",
        "repeated_page",
        "endless",
        "cursor_gone",
    )
    faults = Faults(rate=0.2, seed=seed, kinds=kinds)
    outcome = run(sandbox, data, faults, sessions=True, read_seconds=0.5)
    assert faults.injected.total() > 3
    assert state(data) == truth(sandbox.world)
    assert outcome.failed_checks == {}


@pytest.mark.quick
def test_a_last_page_that_says_more_follows_costs_one_request(sandbox: Sandbox, data: Path) -> None:
    """A wrong has_more on the last page brings an empty page, and the lake is the truth."""
    pages = -(-sandbox.world.account_count // 100)
    run(sandbox, data, Faults(script=[Rule(Fault("endless"), ACCOUNTS, nth=(pages,))]))
    assert len(sandbox.requests) == pages + 1
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]


@pytest.mark.parametrize("query", ["session=", "limit=100&starting_after="])
def test_a_cursor_that_is_gone_is_replaced_by_one_before_it(sandbox: Sandbox, data: Path, query: str) -> None:
    """Where the object to go on after is gone, the run goes on after an earlier one, and nothing is doubled."""
    faults = Faults(script=[Rule(Fault("cursor_gone"), ACCOUNTS, query, nth=(1, 2, 4))])
    outcome = run(sandbox, data, faults, sessions=True)
    assert faults.injected["cursor_gone"] > 1, "the world has such pages"
    assert state(data) == truth(sandbox.world)
    assert outcome.failed_checks == {}


def test_accounts_linked_while_paging_push_none_out(sandbox: Sandbox, data: Path) -> None:
    """Every account and session that was there when the run began is in the lake when it ends."""
    before = truth(sandbox.world)
    count = sandbox.world.account_count
    faults = Faults(advance_every=1, advance_seconds=LATER.total_seconds())
    outcome = run(sandbox, data, faults, sessions=True)
    assert sandbox.world.account_count > count + 10, "accounts were linked meanwhile"
    after = state(data)
    for table, key in (("accounts", "account_id"), ("sessions", "session_id")):
        assert {row[key] for row in before[table]} <= {row[key] for row in after[table]}
    assert outcome.failed_checks == {}

    again = run(sandbox, data, None, sessions=True)
    assert state(data) == known_after(after, truth(sandbox.world))
    assert again.failed_checks == {}


@pytest.mark.parametrize("reason", REASONS)
def test_a_rate_limit_slows_down_what_it_names(sandbox: Sandbox, data: Path, reason: str) -> None:
    """A 429 with a reason halves the pace of the pacer that it names, and of no other."""
    sandbox.faults = Faults(script=[Rule(Fault("rate_limit", reason=reason), nth=(1,))])
    account, endpoint = paces(sandbox, data)
    slowed, other = (account, endpoint) if reason.startswith("global") else (endpoint, account)
    assert slowed < 0.6 * PER_SECOND
    assert other == PER_SECOND


def test_a_lock_timeout_is_tried_again_at_the_same_pace(sandbox: Sandbox, data: Path) -> None:
    """A 429 without a reason is about one object, not about speed."""
    sandbox.faults = Faults(script=[Rule(Fault("lock_timeout"), nth=(1,))])
    assert paces(sandbox, data) == (PER_SECOND, PER_SECOND)


def paces(sandbox: Sandbox, data: Path) -> tuple[float, float]:
    """The limiter's paces, of the account and of the endpoint, after one request that met one 429."""
    stripe = StripeClient(impatient(sandbox.url, data))
    stripe.get("accounts", ACCOUNTS, len)
    assert (stripe.counts["requests"], stripe.counts["throttled"]) == (2, 1)
    limiter = stripe._limiter
    stripe.close()
    return limiter._account.pace, limiter._pacer("accounts").pace


def test_stripe_says_how_long_to_wait(sandbox: Sandbox, data: Path) -> None:
    """Retry-After is waited for."""
    sandbox.faults = Faults(script=[Rule(Fault("unavailable", retry_after=0.4), nth=(1,))])
    began = time.monotonic()
    StripeClient(impatient(sandbox.url, data)).get("accounts", ACCOUNTS, len)
    assert time.monotonic() - began >= 0.4


def test_the_first_retry_waits_too(sandbox: Sandbox, data: Path) -> None:
    """Between a first failure and the second attempt stands the backoff, as between all others."""
    sandbox.faults = Faults(script=[Rule(Fault("unavailable"), nth=(1,))])
    settings = dataclasses.replace(impatient(sandbox.url, data), backoff_seconds=0.3)
    began = time.monotonic()
    StripeClient(settings).get("accounts", ACCOUNTS, len)
    assert len(sandbox.requests) == 2
    assert time.monotonic() - began >= 0.3


@pytest.mark.quick
def test_each_wait_is_twice_the_one_before_up_to_a_bound() -> None:
    """What is added at random is at most the first wait; the last of the attempts comes within 40 s of the first."""
    waits = [backoff_seconds(0.5, failures) for failures in range(1, ATTEMPTS)]
    assert all(0.5 * 2**n <= wait <= 0.5 * 2**n + 0.5 for n, wait in enumerate(waits))
    assert sum(waits) < 40
    assert backoff_seconds(0.5, 10) == BACKOFF_MAX_SECONDS


@pytest.mark.parametrize("retry_after", [math.nan, -5.0])
def test_a_retry_after_that_makes_no_sense_is_none(sandbox: Sandbox, data: Path, retry_after: float) -> None:
    """A Retry-After that is no time to wait does not stop a retry."""
    sandbox.faults = Faults(script=[Rule(Fault("unavailable", retry_after=retry_after), nth=(1,))])
    StripeClient(impatient(sandbox.url, data)).get("accounts", ACCOUNTS, len)
    assert len(sandbox.requests) == 2


# -- a list that is long enough to be walked in several ranges at once


@pytest.fixture(scope="module")
def long_list(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Path]]:
    """A world of many accounts, and a lake that knows them."""
    with running(World(seed=5, clock=START, accounts=1700, sessions=1)) as it:
        folder = tmp_path_factory.mktemp("long") / "data"
        sync(it.url, folder)
        yield it, folder


@pytest.fixture
def long_synced(long_list: tuple[Sandbox, Path], data: Path) -> Iterator[tuple[Sandbox, Path]]:
    """The same, for one test, when time has passed."""
    served, folder = long_list
    shutil.copytree(folder, data)
    served.set_clock(START + timedelta(hours=7))
    served.reset_requests()
    yield served, data
    served.faults = None


def test_a_long_list_is_the_truth_whatever_its_ranges_meet(long_synced: tuple[Sandbox, Path]) -> None:
    """Ranges walked side by side leave no account out and double none, though requests fail and cursors are gone."""
    sandbox, data = long_synced
    gone = Rule(Fault("cursor_gone"), ACCOUNTS, "starting_after", nth=(1, 2, 3, 6, 7, 12))
    faults = Faults(rate=0.2, kinds=(*RETRYABLE, "empty_page", "cursor_gone"), script=[gone])
    outcome = run(sandbox, data, faults)
    assert faults.injected.total() > 6
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]
    assert outcome.failed_checks == {}


def test_a_range_that_is_answered_with_the_top_of_the_list_is_noticed(
    long_synced: tuple[Sandbox, Path],
) -> None:
    """Where a cursor is ignored, the run says so and what to do, which then helps; never a silent gap."""
    sandbox, data = long_synced
    faults = Faults(script=[Rule(Fault("repeated_page"), ACCOUNTS, "starting_after", nth=range(1, 99))])
    # Whichever is seen first: a range that begins like the list, or one whose next page is its first.
    with pytest.raises(StripeError, match=r"begin with the same one|repeats an earlier one") as caught:
        run(sandbox, data, faults)
    assert is_two_lines(caught.value)
    sandbox.faults = None
    run_sync(impatient(sandbox.url, data), SyncRequest(restart=True))
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]


def test_a_long_list_that_grows_while_it_is_walked_loses_none(long_synced: tuple[Sandbox, Path]) -> None:
    """Every account that was there when the run began is in the lake, though others are linked meanwhile."""
    sandbox, data = long_synced
    before = {row["account_id"] for row in sandbox.world.truth()["accounts"]}
    outcome = run(sandbox, data, Faults(advance_every=2, advance_seconds=9 * 3600))
    assert sandbox.world.account_count > len(before)
    assert before <= {row["account_id"] for row in rows(data, "FROM accounts")}
    assert outcome.failed_checks == {}


def test_a_long_list_interrupted_in_several_ranges_goes_on_in_each(long_synced: tuple[Sandbox, Path]) -> None:
    """No page of any range is fetched twice, and the ranges still meet."""
    sandbox, data = long_synced
    with pytest.raises(PermissionDenied):
        run(sandbox, data, Faults(script=[Rule(Fault("forbidden"), nth=range(12, 999))]))
    [folder] = [path for path in (data / "pages").iterdir() if not (path / "fetched.json").exists()]
    kept = {page.header.request for page in PageStore(folder).read()}
    assert len(kept) == 11
    sandbox.reset_requests()
    outcome = run(sandbox, data, None)
    assert not kept & {f"{path}?{query}" for _, path, query in sandbox.requests}
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]
    assert outcome.failed_checks == {}


# -- what does not pass


@pytest.mark.parametrize(
    ("fault", "tries", "says"),
    [
        (Fault("forbidden"), 1, r"403 \(Request-Id req_\d+\): The provided key does not have the required"),
        (
            Fault("server_error"),
            ATTEMPTS,
            rf"500 \(Request-Id req_\d+\): An unknown error.* \({ATTEMPTS} tries\)",
        ),
        (Fault("server_error", should_retry=False), 1, r"500 \(Request-Id req_\d+\): An unknown error"),
        (Fault("unavailable", retry_after=0.01), ATTEMPTS, r"503 \(Request-Id req_\d+\).* tries\)"),
        (Fault("bad_gateway"), ATTEMPTS, r"502 \(Request-Id req_\d+\).* tries\)"),
        (Fault("conflict"), ATTEMPTS, r"409 \(Request-Id req_\d+\): Another request .* tries\)"),
        (Fault("rate_limit"), ATTEMPTS, r"429 \(Request-Id req_\d+\): Too many requests\..* tries\)"),
        (Fault("rate_limit", should_retry=False), 1, r"429 \(Request-Id req_\d+\): Too many requests"),
        (Fault("lock_timeout"), ATTEMPTS, r"429 \(Request-Id req_\d+\): Object is locked\..* tries\)"),
        (
            Fault("invalid_json"),
            ATTEMPTS,
            r"200 \(Request-Id req_\d+\) with a body that is not JSON.* tries\)",
        ),
        (Fault("cut_short_quietly"), ATTEMPTS, r"200 \(Request-Id req_\d+\) with a body that is not JSON"),
        (Fault("cut_short"), ATTEMPTS, r"the (answer|connection) .*broke off.* tries\)"),
        (Fault("reset"), ATTEMPTS, r"the connection failed or broke off.* tries\)"),
        (Fault("no_answer"), ATTEMPTS, r"the connection failed or broke off.* tries\)"),
        (
            Fault("empty_page"),
            UNEXPECTED_ATTEMPTS,
            r"empty page that says more follows \(Request-Id req_\d+\)",
        ),
        (
            Fault("repeated_page"),
            UNEXPECTED_ATTEMPTS,
            r"the list does not end \(Request-Id req_\d+\).* tries\)",
        ),
        (Fault("cursor_gone"), 10, r"does not know the last 10 objects"),
    ],
    ids=lambda value: f"{value.kind}-{value.should_retry}" if isinstance(value, Fault) else "",
)
def test_a_fault_that_stays_ends_the_run_and_touches_nothing(
    sandbox: Sandbox, copied: Path, fault: Fault, tries: int, says: str
) -> None:
    """Two lines name the request and what came back; of the run only its first page is there."""
    sandbox.advance(LATER)
    before = written(copied)
    with pytest.raises(StripeError) as caught:
        run(sandbox, copied, Faults(script=[Rule(fault, ACCOUNTS, "starting_after")]))
    assert re.search(says, str(caught.value))
    assert fault.kind == "cursor_gone" or str(caught.value).startswith(
        f"GET {ACCOUNTS}?limit=100&starting_after="
    )
    assert is_two_lines(caught.value)
    assert len(sandbox.requests) == 1 + tries, "the first page came, the second did not"
    assert written(copied) == before
    assert pages_of_the_last_run(copied) == 1


def pages_of_the_last_run(data: Path) -> int:
    """How many pages there are of the run that began last, which is not fetched whole."""
    folder = max((data / "pages").iterdir())
    assert not (folder / "fetched.json").exists()
    return len(list(folder.glob("*.zst")))


@pytest.mark.parametrize("kind", ["forbidden", "no_answer"])
def test_after_a_fault_that_stayed_the_views_answer_and_the_next_run_goes_on(
    sandbox: Sandbox, synced: Path, kind: str
) -> None:
    """Readers see the last whole run; the next one fetches only the rest, and the lake is the truth."""
    first = of_accounts(sandbox.world)
    sandbox.advance(LATER)
    with pytest.raises(StripeError):
        run(sandbox, synced, Faults(script=[Rule(Fault(kind), ACCOUNTS, "starting_after")]))
    assert state(synced) == first

    sandbox.reset_requests()
    outcome = run(sandbox, synced, None)
    assert len(sandbox.requests) == -(-sandbox.world.account_count // 100) - 1
    assert state(synced) == known_after(first, of_accounts(sandbox.world))
    assert outcome.failed_checks == {}
    assert outcome.resumed_pages == 1


@pytest.mark.quick
def test_a_list_that_does_not_end_is_noticed(sandbox: Sandbox, data: Path) -> None:
    """has_more for ever is followed for no more than a few requests beyond the list's end, and reported."""
    with pytest.raises(StripeError, match=r"more follows \(Request-Id req_\d+\)") as caught:
        run(sandbox, data, Faults(script=[Rule(Fault("endless"), ACCOUNTS)]))
    assert is_two_lines(caught.value)
    pages = -(-sandbox.world.account_count // 100)
    assert len(sandbox.requests) <= pages + UNEXPECTED_ATTEMPTS
    run(sandbox, data, None)
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]


def test_a_listing_that_goes_round_in_circles_after_a_resume_is_noticed(sandbox: Sandbox, data: Path) -> None:
    """A page that an interrupted run has on disk is known as a repetition to the run that goes on from it."""
    with pytest.raises(PermissionDenied):
        run(sandbox, data, Faults(script=[Rule(Fault("forbidden"), ACCOUNTS, "starting_after", nth=(2,))]))
    sandbox.reset_requests()
    with pytest.raises(StripeError, match="the list does not end"):
        run(sandbox, data, Faults(script=[Rule(Fault("repeated_page"), ACCOUNTS, nth=range(1, 200))]))
    assert len(sandbox.requests) <= 2 * UNEXPECTED_ATTEMPTS
    outcome = run(sandbox, data, None)
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]
    assert outcome.failed_checks == {}


@pytest.mark.quick
def test_a_403_among_sessions_ends_them_and_keeps_what_was_fetched(sandbox: Sandbox, data: Path) -> None:
    """A permission lost half way is an error, never an empty stream; what came before it is in, and so are the accounts."""
    # Few are answered: one whose answer comes late would begin the count of failures in a row anew.
    faults = Faults(script=[Rule(Fault("forbidden"), SESSION, nth=range(3, 99))])
    outcome = run(sandbox, data, faults, sessions=True)
    with pytest.raises(
        PermissionDenied, match=rf"1\d sessions .*with 403 \(GET {PREFIX}/sessions/fcsess_\w+, "
    ):
        outcome.raise_for_failures(strict=False)
    tried = [path for _, path, _ in sandbox.requests if "/sessions/" in path]
    assert len(tried) <= 12 + 2 * settings_for(sandbox.url, data).concurrency
    assert len(state(data)["sessions"]) == 2
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]

    outcome = run(sandbox, data, None, sessions=True)
    assert state(data) == truth(sandbox.world)
    assert outcome.failed_checks == {}


# -- an object that is not what it should be


@pytest.mark.quick
@pytest.mark.parametrize(
    "defects", [("amount_is_text", "no_id"), ("wrong_type", "amount_too_large")], ids="+".join
)
def test_one_bad_account_on_a_good_page_is_rejected_alone(
    sandbox: Sandbox, data: Path, defects: tuple[str, str]
) -> None:
    """An account that cannot be read is in rejects with its path and its bytes; all others are in the tables."""
    faults = [Rule(Fault("malformed", defect=d), ACCOUNTS, nth=(n,)) for n, d in enumerate(defects, start=1)]
    outcome = run(sandbox, data, Faults(script=faults))
    expected, found = of_accounts(sandbox.world), state(data)
    missing = account_ids(expected) - account_ids(found)
    assert len(missing) == outcome.run["rejected"] == 2
    for table, known in expected.items():
        assert found[table] == [row for row in known if row["account_id"] not in missing]
    rejects = rows(data, "FROM rejects")
    assert {row["object_id"] for row in rejects} - {None} <= missing
    assert [row["object_id"] for row in rejects].count(None) == defects.count("no_id")
    assert all(row["reason"] and row["path"] and row["raw"] for row in rejects)
    assert outcome.failed_checks == {}


def account_ids(known: dict[str, list[Row]]) -> set[str]:
    """The accounts of a state."""
    return {row["account_id"] for row in known["accounts"]}


def test_a_bad_account_that_is_good_again_is_in_the_tables(sandbox: Sandbox, data: Path) -> None:
    """What was rejected once is no less welcome the next time."""
    run(sandbox, data, Faults(script=[Rule(Fault("malformed"), nth=(1,))]))
    outcome = run(sandbox, data, None)
    assert state(data) == of_accounts(sandbox.world)
    assert outcome.failed_checks == {}


def test_bad_sessions_are_rejected_and_their_accounts_are_kept(sandbox: Sandbox, data: Path) -> None:
    """A session that cannot be read is in rejects; its accounts and all other sessions are in the tables."""
    ids = sandbox.world.session_ids()
    script = [
        Rule(Fault("malformed", defect=defect), SESSION, nth=(n,))
        for n, defect in ((3, "no_id"), (5, "wrong_type"))
    ]
    sandbox.faults = Faults(script=script)
    settings = impatient(sandbox.url, data, concurrency=1)
    outcome = run_sync(settings, SyncRequest(session_ids=tuple(ids), accounts=False))
    assert outcome.run["rejected"] == 2
    expected, found = truth(sandbox.world), state(data)
    assert [r for r in expected["sessions"] if r not in found["sessions"]] == [
        r for r in expected["sessions"] if r["session_id"] in (ids[2], ids[4])
    ]
    collected = {r["account_id"] for r in expected["session_accounts"]}
    assert account_ids(found) == collected
    assert outcome.failed_checks == {}


# -- an API that stalls, and servers that are not Stripe's

Script = Callable[[socket.socket, int], None]


@contextmanager
def served_by(script: Script) -> Iterator[tuple[str, list[str]]]:
    """A server that does to each request, counted from 1, what the script does; its URL and the requests."""
    requests: list[str] = []
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while not over.is_set():
                try:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        if not (piece := self.request.recv(65536)):
                            return
                        head += piece
                    requests.append(head.decode())
                    script(self.request, len(requests))
                except OSError:
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", requests
        finally:
            over.set()
            server.shutdown()
            thread.join()


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """An HTTP answer, whole."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Request-Id: req_7"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def drip(connection: socket.socket, data: bytes, every: float) -> None:
    """Send byte by byte."""
    pause = threading.Event()
    for byte in data:
        connection.sendall(bytes([byte]))
        pause.wait(every)


EMPTY = b'{"object": "list", "data": [], "has_more": false, "url": "/v1/financial_connections/accounts"}'


def test_an_api_that_says_nothing_cannot_hang_a_run(sandbox: Sandbox, data: Path) -> None:
    """Where no request is ever answered, the run ends after three tries of its time-out, and says so."""
    began = time.monotonic()
    sandbox.faults = Faults(script=[Rule(Fault("timeout", seconds=STALL_SECONDS))])
    with pytest.raises(StripeError, match=rf"no answer in time \({FIRST_ATTEMPTS} tries\)") as caught:
        run_sync(
            impatient(sandbox.url, data, read_seconds=0.3),
            SyncRequest(session_ids=tuple(sandbox.world.session_ids()[:9])),
        )
    assert time.monotonic() - began < STALL_SECONDS
    assert is_two_lines(caught.value)


@pytest.mark.parametrize("endpoint", [SESSION, ACCOUNTS])
@pytest.mark.first(1)
def test_an_api_that_falls_silent_half_way_cannot_hang_a_run(
    sandbox: Sandbox, data: Path, endpoint: str
) -> None:
    """Time-outs end a run that began well; the next one goes on with what is on disk."""
    began = time.monotonic()
    sandbox.faults = Faults(
        script=[Rule(Fault("timeout", seconds=STALL_SECONDS), endpoint, nth=range(3, 999))]
    )
    with pytest.raises(StripeError, match=rf"no answer in time \({ATTEMPTS} tries\)"):
        run_sync(
            impatient(sandbox.url, data, read_seconds=0.5),
            SyncRequest(session_ids=tuple(sandbox.world.session_ids()[:9])),
        )
    assert time.monotonic() - began < STALL_SECONDS
    sandbox.faults = None
    sandbox.reset_requests()
    outcome = run_sync(
        impatient(sandbox.url, data), SyncRequest(session_ids=tuple(sandbox.world.session_ids()[:9]))
    )
    assert outcome.resumed_pages >= 2
    assert state(data)["accounts"] == truth(sandbox.world)["accounts"]


@pytest.mark.parametrize(
    "part",
    [
        "body",
        "head",
    ],
)
def test_an_answer_that_only_drips_cannot_hang_a_run(data: Path, part: str) -> None:
    """A whole answer has three times the read time-out, however often a byte of it comes."""
    whole = answer(EMPTY, X_Slow="s" * 30)
    head = whole.index(b"\r\n\r\n") + 4 if part == "body" else whole.index(b"sss")

    def script(connection: socket.socket, number: int) -> None:
        connection.sendall(whole[:head])
        drip(
            connection, whole[head : head + 30], every=0.05
        )  # no silence is long, but all of it is over 0.6 s
        connection.sendall(whole[head + 30 :])

    with served_by(script) as (url, _), pytest.raises(StripeError, match="no answer in time"):
        run_sync(impatient(url, data, read_seconds=0.2), SyncRequest())


def test_a_compressed_answer_in_small_pieces_is_read_whole(data: Path) -> None:
    """Gzip may come in any pieces, down to one byte."""

    def script(connection: socket.socket, number: int) -> None:
        drip(connection, answer(gzip.compress(EMPTY), Content_Encoding="gzip"), every=0.0)

    with served_by(script) as (url, requests):
        run_sync(impatient(url, data), SyncRequest())
    assert len(requests) == 1
    assert "accept-encoding: gzip" in requests[0].lower()


@pytest.mark.quick
@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b'{"data": {}, "has_more": false}', b'"ok"'])
def test_json_that_is_no_list_is_not_taken_for_an_empty_one(data: Path, body: bytes) -> None:
    """An answer without a list of accounts ends the run with the request's id."""
    with (
        served_by(lambda connection, number: connection.sendall(answer(body))) as (url, requests),
        pytest.raises(
            StripeError, match=r"not what the API promises.*\(Request-Id req_7\).*tries\)"
        ) as caught,
    ):
        run_sync(impatient(url, data), SyncRequest())
    assert is_two_lines(caught.value)
    assert len(requests) == UNEXPECTED_ATTEMPTS
    assert rows(data, "FROM accounts") == []


def test_stripe_may_ask_to_be_asked_again(data: Path) -> None:
    """Stripe-Should-Retry: true makes an answer worth another try that is not by its status."""

    def script(connection: socket.socket, number: int) -> None:
        again = answer(b'{"error": {"message": "Not yet."}}', "400 Bad Request", Stripe_Should_Retry="true")
        connection.sendall(answer(EMPTY) if number == 3 else again)

    with served_by(script) as (url, requests):
        run_sync(impatient(url, data), SyncRequest())
    assert len(requests) == 3


@pytest.mark.quick
def test_a_redirect_is_an_error_and_the_key_does_not_go_along(data: Path) -> None:
    """No other host than the one that was named is sent anything."""
    with served_by(lambda connection, number: connection.sendall(answer(EMPTY))) as (other, stray):
        moved = answer(b"", "302 Found", Location=f"{other}/v1/financial_connections/accounts")
        with (
            served_by(lambda connection, number: connection.sendall(moved)) as (url, _),
            pytest.raises(StripeError, match=r"302 \(Request-Id req_7\)"),
        ):
            run_sync(impatient(url, data), SyncRequest())
    assert stray == []


@pytest.mark.quick
def test_what_stripe_says_stays_one_line_and_cannot_steer_the_terminal(data: Path) -> None:
    """Line breaks and control characters in an error's message do not reach the person's terminal."""
    refusal = rb'{"error": {"message": "No.\n\u001b[2Jfincon: all is well\r\nReally."}}'
    with (
        served_by(lambda connection, number: connection.sendall(answer(refusal, "400 Bad Request"))) as (
            url,
            _,
        ),
        pytest.raises(StripeError, match=r"400 \(Request-Id req_7\)") as caught,
    ):
        run_sync(impatient(url, data), SyncRequest())
    assert is_two_lines(caught.value)
    assert str(caught.value).isprintable()
