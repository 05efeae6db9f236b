"""Tell what an answer of Stripe's means: a body to read, or a failure, and whether another attempt may help.

Every rule by which the product tries something again (what is not here is tried once):

what is tried again      after which failure                         how often, how far apart             where
-----------------------  ------------------------------------------  -----------------------------------  --------------------
a request                no connection, no answer in time, one that  `ATTEMPTS`; `backoff_seconds`,       classify_response,
                         breaks off or is no JSON; `RETRIED`, or as  or Retry-After where that is longer  client.get
                         Stripe-Should-Retry says
  with an answer         that is not what the API promises           `UNEXPECTED_ATTEMPTS`, likewise      unexpected_body
  with no answer yet     of any request in this run                  `FIRST_ATTEMPTS`, likewise           client.get
the next page of a list  the object to go on after is gone           the `CURSORS_TRIED` before it        pagination
new transactions         Stripe forgot the refresh to go on after    once, from the first transaction     features
a task of a flow run     RetriesExhausted: a request's are used up   the flow's retries, retry_seconds    flows/tasks
a command, a flow run    another run holds the data folder           for wait_seconds                     landing/run_folder
a renewal of the lease   S3 or the network failed                    every RENEWED_EVERY seconds          storage/lease
a commit to a table      none: another writer was there              never                                lake/tables
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from fincon.errors import (
    AccountDisconnected,
    CursorNotFound,
    InvalidKey,
    NotFound,
    PermissionDenied,
    Refusal,
    StripeError,
    UnexpectedAnswer,
)
from fincon.transforms.odd_json import readable
from fincon.transforms.page import UNREADABLE
from fincon.transforms.redaction import without_personal

ATTEMPTS = 7
"""Attempts at one request. With the default backoff, the last comes some 33 s after the first has failed."""

UNEXPECTED_ATTEMPTS = 3
"""Attempts at a request whose answers are well-formed but not what the API promises."""

BODY_BYTES = 64 << 20
"""The largest body that is read, unpacked. A page of a hundred accounts has some 300 KB."""

MOST_OBJECTS = 400_000
"""How many objects and lists a body may hold, at any depth. A page of a hundred accounts has some 2,000."""

FIRST_ATTEMPTS = 3
"""Attempts while nothing has answered yet in this run: a wrong address is told within seconds."""

BACKOFF_MAX_SECONDS = 20.0
RETRY_AFTER_MAX_SECONDS = 60.0

RETRIED = frozenset({409, 429, 500, 502, 503, 504})
"""Statuses that may pass, where the answer does not say it itself with ``Stripe-Should-Retry``."""

SHOULD_RETRY = {"true": True, "false": False}

CODE = re.compile(r"[a-z0-9_]{1,100}")
"""How Stripe's codes look; whatever else stands in their place is not kept."""

SHOWN = 1_000
"""Characters of Stripe's own words that are shown."""

CURSORS = ("starting_after", "ending_before", "transaction_refresh[after]")
"""Parameters that name after what to go on."""

PARENTS = ("account", "ownership")
"""Parameters that name whose list is asked for: one that is not there answers 400, as a path that is not answers 404."""


@dataclass(frozen=True)
class StripeResponse:
    """A body that is JSON, `readable`, and what is known of the request that brought it."""

    body: bytes
    request: str
    request_id: str
    date: int
    """Unix seconds, by Stripe's clock: see `ServerClock`."""


@dataclass(frozen=True, kw_only=True)
class FailedAttempt:
    """Why an attempt failed, and whether another may help."""

    error: StripeError
    retryable: bool
    retry_after: float = 0.0
    """Seconds that Stripe asks to wait for."""
    max_attempts: int = ATTEMPTS


class ErrorBody(msgspec.Struct):
    """The part of Stripe's error envelope that a person needs."""

    type: str = ""
    code: str | None = None
    message: str = ""
    param: str | None = None


class _Envelope(msgspec.Struct):
    error: ErrorBody


def classify_response(
    request: str, status: int, headers: Mapping[str, str], body: bytes, date: int
) -> StripeResponse | FailedAttempt:
    """Return the answer, given at ``date`` (Unix seconds), or why it is none."""
    request_id = request_id_of(headers)
    said = f"GET {request}: Stripe answered {status} (Request-Id {request_id})"
    if status == 200:
        try:
            body = readable(body)
            msgspec.json.decode(body, type=msgspec.Raw)
            body.decode("utf-8")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            broken = f"{said} with a body that is not JSON: {error}"
            refusal = _unreadable("a body that is not JSON", request, request_id, date)
            return FailedAttempt(error=StripeError(broken, refusal=refusal), retryable=True)
        return StripeResponse(body, request, request_id, date)
    told = _read_error(body)
    if told.message:
        said += f": {told.message}"
    refusal = Refusal(
        status=status,
        code=told.code if told.code and CODE.fullmatch(told.code) else "",
        words=told.message,
        request=request,
        request_id=request_id,
        date=date,
    )
    if refused := _final(said, refusal, told.param):
        return FailedAttempt(error=refused, retryable=False)
    hint = "Nothing fetched so far is lost: run the same command again to go on."
    return FailedAttempt(
        error=StripeError(said, hint, refusal),
        retryable=SHOULD_RETRY.get(headers.get("Stripe-Should-Retry", ""), status in RETRIED),
        retry_after=_retry_after(headers),
    )


def _final(said: str, refusal: Refusal, param: str | None) -> StripeError | None:
    """Return the error for an answer that no other attempt changes; None for any other."""
    status = refusal.status
    if status == 401:
        hint = "Check STRIPE_API_KEY: it is wrong, expired or revoked, or not of this account."
        return InvalidKey(said, hint, refusal)
    if status == 403 and refusal.code == "account_invalid":
        hint = "It was disconnected from the platform, or never was of it: connect it again, or leave it out."
        return AccountDisconnected(said, hint, refusal)
    if status == 403:
        hint = "Give the restricted key the permission that Stripe names (Dashboard, Developers, API keys)."
        return PermissionDenied(said, hint, refusal)
    missing = param if refusal.code == "resource_missing" else None
    if missing in CURSORS:
        return CursorNotFound(said, refusal=refusal)
    if status == 404 or (status == 400 and missing in PARENTS):
        return NotFound(said, "Check the id and the key's account and mode.", refusal)
    return None


def unexpected_body(answer: StripeResponse, error: UnexpectedAnswer) -> FailedAttempt:
    """Return the failure for a body that is JSON but not what the API promises."""
    said = f"GET {answer.request}: {error} (Request-Id {answer.request_id})"
    refusal = _unreadable(str(error), answer.request, answer.request_id, answer.date)
    return FailedAttempt(
        error=StripeError(said, refusal=refusal), retryable=True, max_attempts=UNEXPECTED_ATTEMPTS
    )


def is_too_large(body: bytes) -> bool:
    """Return whether a body holds more objects and lists than any the API sends: read, each takes far more room than there."""
    return len(body) > MOST_OBJECTS and body.count(b"{") + body.count(b"[") > MOST_OBJECTS


def too_large(request: str, request_id: str, date: int) -> FailedAttempt:
    """Return the failure for a body that is larger than any the API sends."""
    what = f"the answer is larger than {BODY_BYTES >> 20} MB unpacked, or holds far too many objects"
    error = StripeError(
        f"GET {request}: {what} (Request-Id {request_id})",
        refusal=_unreadable(what, request, request_id, date),
    )
    return FailedAttempt(error=error, retryable=True, max_attempts=UNEXPECTED_ATTEMPTS)


def _unreadable(what: str, request: str, request_id: str, date: int) -> Refusal:
    """Return what stands for an answer 200 with which nothing can be done."""
    words = without_personal(_one_line(what))
    return Refusal(status=UNREADABLE, code="", words=words, request=request, request_id=request_id, date=date)


def backoff_seconds(first: float, failures: int) -> float:
    """Return how many seconds to wait after so many ``failures`` in a row.

    It is ``first`` after one failure and doubles with each; up to ``first`` is added at random, so that requests that
    failed together do not come back together.
    """
    jitter = random.random()  # noqa: S311 - nothing secret
    return min(first * (2.0 ** (failures - 1) + jitter), BACKOFF_MAX_SECONDS)


def _read_error(body: bytes) -> ErrorBody:
    """Return what Stripe says of a failure, without personal data; nothing where the body is not its error envelope."""
    try:
        error = msgspec.json.decode(body, type=_Envelope).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ErrorBody()
    error.message = without_personal(_one_line(error.message))
    return error


def request_id_of(headers: Mapping[str, str]) -> str:
    """Return the ``Request-Id`` as it may be shown: whoever answers may put anything there."""
    return _one_line(headers.get("Request-Id", "none given"))


def _one_line(text: str) -> str:
    """Return the beginning of a text, with a blank for whatever would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:SHOWN])


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        seconds = float(headers.get("Retry-After", 0))
    except ValueError:
        return 0.0
    return min(seconds, RETRY_AFTER_MAX_SECONDS) if seconds > 0 else 0.0  # neither for -5 nor for NaN
