"""A read-only Stripe client on requests: it sends ``GET`` alone, keeps to the limits, and retries what may pass."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
import requests
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from fincon.errors import (
    AccountDisconnected,
    BudgetExhausted,
    CursorNotFound,
    InvalidKey,
    NotFound,
    PermissionDenied,
    RetriesExhausted,
    RunFailed,
    StripeError,
    UnexpectedAnswer,
)
from fincon.extract.rate_limiter import ENDPOINT_PER_SECOND, LIVE_PER_SECOND, TEST_PER_SECOND, Limiter
from fincon.extract.timeouts import SILENCES, PatientAdapter
from fincon.settings import Settings

T = TypeVar("T")

LOG = logging.getLogger("fincon")
"""Which run it is, retries, Request-Ids. Silent on the command line; under Prefect, in the run's log."""

Params = Mapping[str, str | int | Sequence[str]]
"""Query parameters; a sequence is sent as one parameter for each of its items."""

PREFIX = "/v1/financial_connections"
CONNECT_SECONDS = 5.0

ATTEMPTS = 7
"""Tries of one request. With the default backoff, the last comes about 40 s after the first."""

BACKOFF_MAX_SECONDS = 20

UNEXPECTED_ATTEMPTS = 3
"""Tries of a request whose answers are well-formed but not what the API promises."""

FIRST_ATTEMPTS = 3
"""Tries while nothing has answered yet in this run: a wrong address is told within seconds."""

RETRIED = frozenset({409, 429, 500, 502, 503, 504})

CURSORS = ("starting_after", "ending_before", "transaction_refresh[after]")
"""Parameters that name after what to go on."""

PARENTS = ("account", "ownership")
"""Parameters that name whose list is asked for: one that is not there answers 400, as a path that is not answers 404."""


@dataclass(frozen=True)
class StripeResponse:
    """A body that is JSON, and what is known of the request that brought it."""

    body: bytes
    request: str
    request_id: str
    date: int
    """Unix seconds by Stripe's clock, or by this machine's where the answer has no ``Date``."""


class ErrorBody(msgspec.Struct):
    """The part of Stripe's error envelope that a person needs."""

    type: str = ""
    code: str | None = None
    message: str = ""
    param: str | None = None


class _Envelope(msgspec.Struct):
    error: ErrorBody


class RequestBudget:
    """How many requests the clients of a sync may still make together; without ``max_requests``, any number.

    None at all once ``lasts`` says no: the sync that they are made for has ended.
    """

    def __init__(self, max_requests: int | None = None, lasts: Callable[[], bool] = lambda: True) -> None:
        self._lasts = lasts
        self.max_requests = max_requests
        self._made = 0
        self._stopped = False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Allow no more."""
        self._stopped = True

    def share(self, of: int) -> int | None:
        """What is left, divided by ``of``: for clients on other machines, which cannot share it. None = any number."""
        return None if self.max_requests is None else (self.max_requests - self._made) // max(1, of)

    def take(self) -> None:
        """One more request.

        Raises:
            BudgetExhausted: there is none left. RunFailed: it was stopped.
        """
        with self._lock:
            if self._stopped or not self._lasts():
                raise RunFailed("The sync was stopped.", "Run the same command again to go on.")
            if self.max_requests is not None and self._made >= self.max_requests:
                raise BudgetExhausted(
                    f"{self.max_requests:,} requests were made, as --max-requests allows.",
                    "What was fetched is kept: run the same command again to go on.",
                )
            self._made += 1


class StripeClient:
    """What one run sends to Stripe. Shared by its threads; ``counts`` says what it cost."""

    def __init__(self, settings: Settings, budget: RequestBudget | None = None) -> None:
        self.settings = settings
        self._allowance = budget or RequestBudget()
        self.counts: Counter[str] = Counter()
        """``requests``, ``retries``, ``throttled``, and requests by ``endpoint:…``."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._answered = False
        self.last_request_id = "none yet"
        """The ``Request-Id`` of the last answer: what Stripe's support asks for."""
        default = LIVE_PER_SECOND if settings.livemode else TEST_PER_SECOND
        self._limiter = Limiter(
            settings.requests_per_second or default,
            settings.requests_per_second or ENDPOINT_PER_SECOND,
            self._stop.wait,
        )
        self._http = requests.Session()
        self._http.trust_env = False  # no .netrc may replace the key, no proxy is taken by accident
        adapter = PatientAdapter(pool_connections=1, pool_maxsize=settings.concurrency + 1, max_retries=0)
        self._http.mount(settings.api_base, adapter)
        self._http.headers["Stripe-Version"] = settings.stripe_version
        if settings.stripe_account:
            self._http.headers["Stripe-Account"] = settings.stripe_account
        self._http.auth = self._sign

    def get(
        self,
        endpoint: str,
        path: str,
        read: Callable[[bytes], T],
        params: Params | None = None,
    ) -> tuple[StripeResponse, T]:
        """``GET path``, retried within bounds, and what ``read`` makes of the body.

        ``endpoint`` names the limit that the request counts against. ``read`` raises `UnexpectedAnswer` where
        a body is not what the API promises; that is tried again, but less often than an answer that is none.

        Raises:
            InvalidKey: 401. PermissionDenied, AccountDisconnected: 403. NotFound: 404. CursorNotFound: 400 for a cursor.
            RetriesExhausted: no good answer within the tries. StripeError: any other refusal.
        """
        request = path + ("?" + urlencode(params, doseq=True) if params else "")
        retry = Retry(
            total=ATTEMPTS,
            backoff_factor=self.settings.backoff_seconds,
            backoff_jitter=self.settings.backoff_seconds,
            backoff_max=BACKOFF_MAX_SECONDS,
        )
        for attempt in count(1):  # ends at ATTEMPTS
            self._count(endpoint, again=attempt > 1)
            self._limiter.wait(endpoint)
            outcome = self._try(endpoint, request)
            if isinstance(outcome, StripeResponse):
                try:
                    return outcome, read(outcome.body)
                except UnexpectedAnswer as error:
                    outcome = _unexpected(outcome, error)
            if not outcome.again:
                raise outcome.error
            if attempt >= (outcome.tries if self._answered else FIRST_ATTEMPTS) or self._stop.is_set():
                raise self._retries_exhausted(outcome.error, attempt)
            retry = retry.increment("GET", request, error=outcome.error)
            wait = max(outcome.after, retry.get_backoff_time())
            LOG.info("%s; tried again in %.1f s", outcome.error, wait)
            self._stop.wait(wait)
        raise AssertionError("unreachable")

    def _retries_exhausted(self, error: StripeError, tries: int) -> RetriesExhausted:
        if self._answered:
            hint = (
                "Stripe may be in trouble (https://status.stripe.com). "
                "What was fetched is kept: run the same command again to go on."
            )
        else:
            hint = f"Nothing answers at {self.settings.api_base} (STRIPE_API_BASE). Check the address and the network."
        return RetriesExhausted(f"{error} ({tries} tries).", hint)

    def stop(self) -> None:
        """Make every waiting thread give up at once."""
        self._stop.set()

    def go_on(self) -> None:
        """Take requests again after `stop`. Only once every thread that was stopped has ended."""
        self._stop.clear()

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = "Bearer " + self.settings.key.reveal()
        return request

    def _count(self, endpoint: str, *, again: bool) -> None:
        self._allowance.take()
        with self._lock:
            self.counts["requests"] += 1
            self.counts["retries"] += again
            self.counts[f"endpoint:{endpoint}"] += 1

    def _try(self, endpoint: str, request: str) -> "StripeResponse | FailedAttempt":
        try:
            with self._http.get(
                self.settings.api_base + request,
                timeout=(CONNECT_SECONDS, self.settings.read_seconds),
                allow_redirects=False,
                stream=True,
            ) as response:
                body = _read(response, SILENCES * self.settings.read_seconds)
        except (requests.RequestException, HTTPError, OSError) as error:
            return FailedAttempt(StripeError(f"GET {request}: {_plain(error)}"), again=True)
        self._answered = True
        self.last_request_id = response.headers.get("Request-Id", "none given")
        if response.status_code == 429:
            with self._lock:
                self.counts["throttled"] += 1
            self._limiter.throttled(endpoint, response.headers.get("Stripe-Rate-Limited-Reason", ""))
        return classify_response(request, response, body)


def _unexpected(answer: StripeResponse, error: UnexpectedAnswer) -> "FailedAttempt":
    said = f"GET {answer.request}: {error} (Request-Id {answer.request_id})"
    return FailedAttempt(StripeError(said), again=True, tries=UNEXPECTED_ATTEMPTS)


@dataclass(frozen=True)
class FailedAttempt:
    """Why a try failed, whether another may help, how many there may be, and for how many seconds to wait."""

    error: StripeError
    again: bool
    after: float = 0.0
    tries: int = ATTEMPTS


def _read(response: requests.Response, seconds: float) -> bytes:
    """The whole body, within ``seconds``, however slowly it drips."""
    deadline = time.monotonic() + seconds
    pieces = []
    while piece := response.raw.read1(1 << 20, decode_content=True):
        pieces.append(piece)
        if time.monotonic() > deadline:
            raise requests.Timeout
    return b"".join(pieces)


def classify_response(
    request: str, response: requests.Response, body: bytes
) -> "StripeResponse | FailedAttempt":
    """An answer, or why it is none."""
    headers, status = response.headers, response.status_code
    request_id = headers.get("Request-Id", "none given")
    said = f"GET {request}: Stripe answered {status} (Request-Id {request_id})"
    if status == 200:
        try:
            msgspec.json.decode(body, type=msgspec.Raw)
            body.decode("utf-8")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return FailedAttempt(StripeError(f"{said} with a body that is not JSON: {error}"), again=True)
        return StripeResponse(body, request, request_id, _date(headers))
    again = {"true": True, "false": False}.get(headers.get("Stripe-Should-Retry", ""), status in RETRIED)
    refusal = _error_of(body)
    said += f": {refusal.message}" if refusal else ""
    if status == 401:
        hint = "Check STRIPE_API_KEY: it is wrong, expired or revoked, or not of this account."
        return FailedAttempt(InvalidKey(said, hint), again=False)
    if status == 403 and refusal and refusal.code == "account_invalid":
        hint = "It was disconnected from the platform, or never was of it: connect it again, or leave it out."
        return FailedAttempt(AccountDisconnected(said, hint), again=False)
    if status == 403:
        hint = "Give the restricted key the permission that Stripe names (Dashboard, Developers, API keys)."
        return FailedAttempt(PermissionDenied(said, hint), again=False)
    missing = refusal.param if refusal and refusal.code == "resource_missing" else None
    if missing in CURSORS:
        return FailedAttempt(CursorNotFound(said), again=False)
    if status == 404 or (status == 400 and missing in PARENTS):
        return FailedAttempt(
            NotFound(said, "Check the id and the key's account and mode.", request_id, body, _date(headers)),
            again=False,
        )
    return FailedAttempt(
        StripeError(said, "Nothing fetched so far is lost: run the same command again to go on."),
        again=again,
        after=_retry_after(headers),
    )


def _error_of(body: bytes) -> ErrorBody | None:
    try:
        error = msgspec.json.decode(body, type=_Envelope).error
    except msgspec.DecodeError:
        return None
    error.message = "".join(c if c.isprintable() else " " for c in error.message)  # it is shown on a terminal
    return error


def _date(headers: Mapping[str, str]) -> int:
    try:
        return int(parsedate_to_datetime(headers["Date"]).timestamp())
    except (KeyError, ValueError):
        return int(time.time())


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return min(max(float(headers.get("Retry-After", 0)), 0.0), 60.0)
    except ValueError:
        return 0.0


def _plain(error: Exception) -> str:
    """What went wrong below HTTP, in few words."""
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:.0f} s"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return f"no secure connection ({error})"
    if isinstance(error, requests.ConnectionError):
        return "the connection failed or broke off"
    return f"the answer broke off ({type(error).__name__})"
