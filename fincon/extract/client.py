"""Send ``GET`` requests to Stripe, and nothing else: within its limits, and again where a failure may pass."""

import logging
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import requests
from urllib3.exceptions import HTTPError

from fincon.errors import BudgetExhausted, RetriesExhausted, Stopped, StripeError, UnexpectedAnswer
from fincon.extract.rate_limiter import Limiter, rates
from fincon.extract.responses import (
    ATTEMPTS,
    BODY_BYTES,
    FIRST_ATTEMPTS,
    FailedAttempt,
    StripeResponse,
    backoff_seconds,
    classify_response,
    is_too_large,
    request_id_of,
    too_large,
    unexpected_body,
)
from fincon.extract.server_clock import ServerClock
from fincon.extract.stopping import StopSignal
from fincon.extract.timeouts import SILENCES, PatientAdapter
from fincon.settings import LOOPBACK, Settings
from fincon.transforms.wording import pluralize

ADVICE = {
    "certificate": "Name the file of your own authority's certificates with FINCON_CA_BUNDLE.",
    "for another name": "Check the name in STRIPE_API_BASE: who answers there is not the server of that name.",
    "at this time": "Check this machine's clock; else whoever runs the server has to renew its certificate.",
    "name is not known": "Check the name in STRIPE_API_BASE, and the network of this machine.",
    "proxy": "Check FINCON_PROXY, or unset it to reach the server without one.",
    "https at this port": "Check the port and http or https in STRIPE_API_BASE.",
}
"""What a failure says that came before the first answer → what to do; the last one that fits."""

T = TypeVar("T")

LOG = logging.getLogger("fincon")
"""Which run it is, retries, Request-Ids. Silent on the command line; under Prefect, in the run's log."""

Params = Mapping[str, str | int | Sequence[str]]
"""Query parameters; a sequence is sent as one parameter for each of its items."""

CONNECT_SECONDS = 5.0

GZIP = 16 + zlib.MAX_WBITS
"""For zlib: gzip, the one packing that is asked for."""


class RequestBudget:
    """Count the requests that the clients of one sync may still make together; without ``max_requests``, any number.

    None at all may be made once ``is_active`` says no: the sync that they are made for has ended.
    """

    def __init__(
        self,
        max_requests: int | None = None,
        is_active: Callable[[], bool] = lambda: True,
        on_count: Callable[[Mapping[str, int]], object] = lambda counts: None,
    ) -> None:
        self.max_requests = max_requests
        self.counts: Counter[str] = Counter()
        """What all clients have cost together: as `StripeClient.counts`."""
        self._is_active = is_active
        self._on_count = on_count
        self._spent = 0
        self._lock = threading.Lock()

    def share(self, of: int) -> int | None:
        """Divide what is left by ``of``, for clients on other machines, which cannot share it. None is any number."""
        return None if self.max_requests is None else (self.max_requests - self._spent) // max(1, of)

    def spent_elsewhere(self, requests: int) -> None:
        """Take off what clients on other machines have made of their share."""
        with self._lock:
            self._spent += requests
            self.counts["requests"] += requests
            self._on_count(self.counts)

    def count(self, names: Sequence[str]) -> None:
        """Count what a client did."""
        with self._lock:
            self.counts.update(names)
            self._on_count(self.counts)

    def spend(self) -> None:
        """Take one request off.

        Raises:
            BudgetExhausted: there is none left. Stopped: the sync has ended.
        """
        with self._lock:
            if not self._is_active():
                raise Stopped
            if self.max_requests is not None and self._spent >= self.max_requests:
                raise BudgetExhausted(
                    f"{pluralize(self.max_requests, 'request was', 'requests were')} made, as --max-requests allows.",
                    "What was fetched is kept: run the same command again to go on.",
                )
            self._spent += 1


class StripeClient:
    """Send what one run asks of Stripe. Its threads share it; ``counts`` says what the run cost."""

    def __init__(
        self, settings: Settings, budget: RequestBudget | None = None, stop: StopSignal | None = None
    ) -> None:
        self.settings = settings
        self._budget = budget or RequestBudget()
        self._stop_signal = stop or StopSignal()
        self.counts: Counter[str] = Counter()
        """``requests``, ``retries``, ``throttled``, and requests by ``endpoint:…``."""
        self.run_id = ""
        """For the log."""
        self.on_count: Callable[[Mapping[str, int]], object] = lambda counts: None
        """Called with them whenever they have changed."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._answered = False
        self._clock = ServerClock(is_sandbox=urlsplit(settings.api_base).hostname in LOOPBACK)
        self.last_request_id = "none yet"
        """The ``Request-Id`` of the last answer: what Stripe's support asks for."""
        self._limiter = Limiter(*rates(settings), self._stop.wait)
        self._adapter = PatientAdapter(
            pool_connections=1, pool_maxsize=settings.concurrency + 1, max_retries=0
        )
        self._proxies = dict.fromkeys(("http", "https"), settings.proxy.reveal()) if settings.proxy else {}
        self._prepared = self._prepare()
        self._stop_signal.tell(self.abort)

    def get(
        self,
        endpoint: str,
        path: str,
        read: Callable[[bytes], T],
        params: Params | None = None,
    ) -> tuple[StripeResponse, T]:
        """Ask for ``path`` until a good answer comes, within bounds; return it, and what ``read`` makes of its body.

        ``endpoint`` names the limit that the request counts against. ``read`` raises `UnexpectedAnswer` where
        a body is not what the API promises.

        Raises:
            InvalidKey: 401. PermissionDenied, AccountDisconnected: 403. NotFound: 404. CursorNotFound: 400 for a cursor.
            RetriesExhausted: no good answer within the attempts. StripeError: any other refusal.
            Stopped: `stop` was called.
        """
        request = path + ("?" + urlencode(params, doseq=True) if params else "")
        for attempt in range(1, ATTEMPTS + 1):
            outcome = self._attempt(endpoint, request, read, again=attempt > 1)
            if not isinstance(outcome, FailedAttempt):
                return outcome
            error = outcome.error
            if not outcome.retryable:
                raise error
            allowed = outcome.max_attempts if self._answered else FIRST_ATTEMPTS
            if attempt >= allowed:
                break
            self._refuse_when_stopped()  # whoever stops shuts connections, which is no trouble of Stripe's
            wait = max(outcome.retry_after, backoff_seconds(self.settings.backoff_seconds, attempt))
            LOG.warning("%s; tried again in %.1f s", error, wait, extra={"run_id": self.run_id})
            self._stop.wait(wait)
        raise self._retries_exhausted(error, attempt)

    def _attempt(
        self, endpoint: str, request: str, read: Callable[[bytes], T], *, again: bool
    ) -> tuple[StripeResponse, T] | FailedAttempt:
        """Ask once, when the limits allow it."""
        self._refuse_when_stopped()
        self._limiter.wait(endpoint)
        self._refuse_when_stopped()
        self._count(endpoint, again=again)
        answer = self._send(endpoint, request)
        if isinstance(answer, FailedAttempt):
            return answer
        try:
            return answer, read(answer.body)
        except UnexpectedAnswer as error:
            return unexpected_body(answer, error)

    def _retries_exhausted(self, error: StripeError, tries: int) -> RetriesExhausted:
        if self._answered:
            hint = (
                "Stripe may be in trouble (https://status.stripe.com). "
                "What was fetched is kept: run the same command again to go on."
            )
        else:
            hint = f"Nothing answers at {self.settings.api_base} (STRIPE_API_BASE). Check the address and the network."
            for sign, advice in ADVICE.items():
                if sign in str(error):
                    hint = advice
        return RetriesExhausted(f"{error} ({tries} tries).", hint, error.refusal)

    def stop(self) -> None:
        """Make no more requests: every thread ends with its answer, and one that waits at once."""
        self._stop.set()

    def abort(self) -> None:
        """Stop, and wait for no answer either."""
        self._stop.set()
        self._adapter.shut()

    def go_on(self) -> None:
        """Take requests again after `stop`. Only once every thread that was stopped has ended."""
        if not self._stop_signal.is_set():
            self._stop.clear()

    def close(self) -> None:
        """Close the pooled connections."""
        self._stop_signal.forget(self.abort)
        self._adapter.close()

    def _refuse_when_stopped(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _prepare(self) -> requests.PreparedRequest:
        """Return what all requests have in common. Without a session: no .netrc replaces the key, no cookie is kept."""
        headers = {"Accept-Encoding": "gzip", "Stripe-Version": self.settings.stripe_version}
        if self.settings.stripe_account:
            headers["Stripe-Account"] = self.settings.stripe_account
        prepared = requests.PreparedRequest()
        prepared.prepare(
            method="GET",
            url=self.settings.api_base,
            headers={**requests.utils.default_headers(), **headers},
            hooks={},
        )
        return prepared

    def _request(self, path: str) -> requests.PreparedRequest:
        request = self._prepared.copy()  # to prepare each anew takes as long as to send it
        request.prepare_url(self.settings.api_base + path, None)
        request.headers["Authorization"] = "Bearer " + self.settings.key.reveal()
        return request

    def _count(self, endpoint: str, *, again: bool) -> None:
        self._budget.spend()
        self._add("requests", f"endpoint:{endpoint}", *(["retries"] if again else []))

    def _add(self, *names: str) -> None:
        with self._lock:
            self.counts.update(names)
            self.on_count(self.counts)
        self._budget.count(names)

    def _send(self, endpoint: str, request: str) -> StripeResponse | FailedAttempt:
        """Send the request and classify what comes, if anything does."""
        try:
            with self._adapter.send(
                self._request(request),
                timeout=(CONNECT_SECONDS, self.settings.read_seconds),
                verify=self.settings.ca_bundle or True,
                proxies=self._proxies,
                stream=True,
            ) as response:
                body = _read(response, SILENCES * self.settings.read_seconds)
        except (requests.RequestException, HTTPError, OSError) as error:
            return FailedAttempt(error=StripeError(f"GET {request}: {_plain(error)}"), retryable=True)
        self._answered = True
        self.last_request_id = request_id_of(response.headers)
        if response.status_code == 429:
            self._add("throttled")
            self._limiter.slow_down(endpoint, response.headers.get("Stripe-Rate-Limited-Reason", ""))
        date = self._clock.read(response.headers.get("Date"), request)
        if body is None or is_too_large(body):
            return too_large(request, self.last_request_id, date)
        return classify_response(request, response.status_code, response.headers, body, date)


def _read(response: requests.Response, seconds: float) -> bytes | None:
    """Return the whole body, unpacked, within ``seconds``, however slowly it drips; None where it exceeds `BODY_BYTES`.

    Raises:
        requests.Timeout: it took longer. ContentDecodingError: it is not packed as it says, or cut short.
    """
    deadline = time.monotonic() + seconds
    packing = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip", ""):
        raise requests.exceptions.ContentDecodingError
    inflate = zlib.decompressobj(wbits=GZIP) if packing == "gzip" else None
    body, is_empty = bytearray(), True
    while piece := response.raw.read1(1 << 20, decode_content=False):
        is_empty = False
        try:
            body += inflate.decompress(piece, BODY_BYTES + 1 - len(body)) if inflate else piece
        except zlib.error as error:
            raise requests.exceptions.ContentDecodingError from error
        if len(body) > BODY_BYTES:
            return None
        if time.monotonic() > deadline:
            raise requests.Timeout
    if inflate and not inflate.eof and not is_empty:
        raise requests.exceptions.ContentDecodingError
    return bytes(body)


def _plain(error: Exception) -> str:
    """Say in few words what went wrong below HTTP."""
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:.0f} s"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    text = str(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy (FINCON_PROXY) does not answer, or refuses"
    if isinstance(error, requests.exceptions.SSLError):
        if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
            return "the server does not speak https at this port"
        return _of_certificate(text) if "CERTIFICATE" in text else "no secure connection"
    if "NameResolution" in text or "Failed to resolve" in text:
        return "the server's name is not known"
    if "Connection refused" in text:
        return "the connection failed: nothing listens there"
    if isinstance(error, requests.ConnectionError):
        return "the connection failed or broke off"
    return f"the answer broke off ({type(error).__name__})"


def _of_certificate(text: str) -> str:
    """Say what is wrong with a certificate, by OpenSSL's words."""
    if "mismatch" in text:
        return "the server's certificate is for another name"
    if "expired" in text or "not yet valid" in text:
        return "the server's certificate is not valid at this time"
    return "the server's certificate is not trusted"
