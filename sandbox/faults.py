"""What goes wrong between a client and Stripe, on purpose: by rate, or by a script of rules.

Faults are chosen by the number of the request: the same requests in the same order meet the same faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from fincon.sandbox.ids import mix
from fincon.sandbox.model import Json

RETRYABLE = (
    "rate_limit", "lock_timeout", "conflict", "server_error", "unavailable", "bad_gateway", "reset",
    "no_answer", "cut_short", "cut_short_quietly", "invalid_json",
)  # fmt: skip
KINDS = (
    *RETRYABLE, "timeout", "empty_page", "repeated_page", "endless", "cursor_gone", "malformed", "forbidden",
    "invalid_key", "drip", "bad_request", "account_inactive", "never_refreshed",
)  # fmt: skip
REASONS = ("global-rate", "global-concurrency", "endpoint-rate", "endpoint-concurrency", "resource-specific")
DEFECTS = ("amount_is_text", "no_id", "wrong_type", "amount_too_large")


@dataclass(frozen=True)
class Fault:
    """One fault.

    - Errors: `rate_limit` (429 with `reason`), `lock_timeout` (429 without), `conflict` (409),
      `server_error` (500), `unavailable` (503), `bad_gateway` (502 in HTML), `forbidden` (403), `invalid_key` (401),
      `bad_request`, `account_inactive`, `never_refreshed` (400; the last two with Stripe's own codes),
      `cursor_gone` (400, where the request has a cursor, or names a refresh).
    - Connections: `reset` (torn down), `no_answer` (closed without a byte), `timeout` (the same after
      `seconds`), `cut_short` (less body than Content-Length says), `drip` (a whole body, over `seconds`).
    - Bodies: `cut_short_quietly` (half a body, with the Content-Length of that half), `invalid_json`,
      `malformed` (one object spoiled by `defect`).
    - Lists: `empty_page` with has_more, `repeated_page` (the first one, whatever the cursor), `endless`
      (has_more on every page).

    `should_retry` and `retry_after` add Stripe's and HTTP's advice to an answer that is an error.
    """

    kind: str
    reason: str = "endpoint-rate"
    retry_after: float | None = None
    should_retry: bool | None = None
    seconds: float = 30.0
    defect: str = "amount_is_text"

    def __post_init__(self) -> None:
        for value, known in ((self.kind, KINDS), (self.reason, REASONS), (self.defect, DEFECTS)):
            if value not in known:
                raise ValueError(f"No such fault: {value!r}; choose from {', '.join(known)}")

    def headers(self) -> dict[str, str]:
        """Give the headers of an answer that is an error."""
        found = {}
        if self.kind == "rate_limit":
            found["Stripe-Rate-Limited-Reason"] = self.reason
        if self.retry_after is not None:
            found["Retry-After"] = f"{self.retry_after:g}"
        if self.should_retry is not None:
            found["Stripe-Should-Retry"] = "true" if self.should_retry else "false"
        return found


ERRORS: dict[str, tuple[int, Json]] = {
    "rate_limit": (
        429,
        {"type": "invalid_request_error", "code": "rate_limit", "message": "Too many requests."},
    ),
    "lock_timeout": (
        429,
        {
            "type": "invalid_request_error",
            "code": "lock_timeout",
            "message": "Object is locked.",
        },
    ),
    "conflict": (409, {"type": "invalid_request_error", "message": "Another request is using this object."}),
    "server_error": (500, {"type": "api_error", "message": "An unknown error occurred."}),
    "unavailable": (503, {"type": "api_error", "message": "Stripe is unavailable for a moment."}),
    "invalid_key": (
        401,
        {"type": "invalid_request_error", "message": "Invalid API Key provided: sk_test_********"},
    ),
    "forbidden": (
        403,
        {
            "type": "invalid_request_error",
            "code": "more_permissions_required",
            "message": "The provided key does not have the required permissions for this endpoint: "
            "it needs 'rak_financial_connections_accounts_read' (financial_connections.accounts).",
        },
    ),
    "bad_request": (
        400,
        {"type": "invalid_request_error", "message": "This account cannot be read at the moment."},
    ),
    "account_inactive": (
        400,
        {
            "type": "invalid_request_error",
            "code": "financial_connections_account_inactive",
            "message": "The Financial Connections account is inactive.",
            "param": "account",
        },
    ),
    "never_refreshed": (
        400,
        {
            "type": "invalid_request_error",
            "code": "financial_connections_no_successful_transaction_refresh",
            "message": "The Financial Connections account has had no successful transaction refresh.",
            "param": "account",
        },
    ),
    "cursor_gone": (
        400,
        {
            "type": "invalid_request_error",
            "code": "resource_missing",
            "message": "No such financial_connections.account: the cursor's object is gone",
            "param": "starting_after",
        },
    ),
}


@dataclass
class Rule:
    """A line of a script: the fault that meets the requests which match.

    `endpoint` is a pattern such as `/v1/financial_connections/accounts/{id}` ("" is any), `query` a part of
    the query string, `path` a part of the path, `nth` the numbers among the matching requests, counted from 1
    (none: all of them). Requests that have `unless` in their query string are spared.
    """

    fault: Fault
    endpoint: str = ""
    query: str = ""
    nth: Collection[int] = ()
    path: str = ""
    unless: str = ""
    seen: int = field(default=0, init=False)

    def meets(self, endpoint: str, query: str, path: str) -> bool:
        """Whether a request meets this rule's fault; counts it if it matches."""
        if not self.matches(endpoint, query, path):
            return False
        self.seen += 1
        return not self.nth or self.seen in self.nth

    def matches(self, endpoint: str, query: str, path: str) -> bool:
        """Whether a request is one of those that the rule is about."""
        is_spared = self.unless != "" and self.unless in query
        return self.endpoint in ("", endpoint) and self.query in query and self.path in path and not is_spared


@dataclass
class Faults:
    """Which faults happen: those of the `script` first, then one of `kinds` at a `rate` between 0 and 1.

    `advance_seconds` every `advance_every` requests moves the world's clock on, so that accounts are linked
    while a client is paging. `injected` counts the faults by kind.
    """

    rate: float = 0.0
    seed: int = 1
    kinds: Sequence[str | Fault] = RETRYABLE
    script: Sequence[Rule] = ()
    advance_every: int = 0
    advance_seconds: float = 0.0
    injected: Counter[str] = field(default_factory=Counter, init=False)
    served: int = field(default=0, init=False)

    def choose(self, endpoint: str, query: str, path: str = "") -> Fault | None:
        """Give the fault that meets the next request, if any."""
        self.served += 1
        met = [rule.fault for rule in self.script if rule.meets(endpoint, query, path)]
        fault = met[0] if met else self._by_rate()
        if fault is not None:
            self.injected[fault.kind] += 1
        return fault

    def spoils(self, endpoint: str, query: str, path: str) -> bool:
        """Whether the script has a fault for such a request, by its endpoint or path, now or at another time."""
        return any(rule.matches(endpoint, query, path) for rule in self.script if rule.endpoint or rule.path)

    def _by_rate(self) -> Fault | None:
        dice = mix(self.served ^ self.seed << 32)
        if not self.kinds or (dice & 0xFFFF_FFFF) / 2**32 >= self.rate:
            return None
        kind = self.kinds[(dice >> 32) % len(self.kinds)]
        return kind if isinstance(kind, Fault) else Fault(kind, reason=REASONS[(dice >> 48) % len(REASONS)])

    def drift(self) -> timedelta:
        """How far the world's clock moves before the request just counted."""
        due = self.advance_every and self.served % self.advance_every == 0
        return timedelta(seconds=self.advance_seconds if due else 0)


def spoil(body: Json, kind: str, defect: str) -> Json:
    """Give an answer made wrong: pages that do not end, or an object that is not what it should be."""
    is_list = body.get("object") == "list"
    if kind == "malformed":
        objects = body["data"] if is_list else [body]
        if objects:
            _spoil_object(objects, defect)
    elif is_list:
        body["has_more"] = True
        if kind == "empty_page":
            body["data"] = []
    return body


def _spoil_object(objects: list[Json], defect: str) -> None:
    rich = [one for one in objects if (one.get("balance") or {}).get("current")]
    chosen = (rich or objects)[len(rich or objects) // 2]
    if defect == "no_id":
        del chosen["id"]
    elif defect == "wrong_type" or not rich:
        chosen["livemode"] = "no"
    else:
        current = chosen["balance"]["current"]
        current[next(iter(current))] = "12.50" if defect == "amount_is_text" else 2**63
