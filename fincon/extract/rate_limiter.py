"""Keep to Stripe's rate limits on our side, with one pacer for the account and one for each endpoint.

Source: Stripe's documentation: 100 requests a second in live mode, 25 in test mode, and 25 on each endpoint.
"""

import threading
import time
from collections.abc import Callable

from fincon.settings import Settings

LIVE_PER_SECOND = 100.0
TEST_PER_SECOND = 25.0
ENDPOINT_PER_SECOND = 25.0

SAVED_TURNS = 5
"""How many turns that nobody took are made up for later: without any, each late thread costs a turn for good."""


def rates(settings: Settings) -> tuple[float, float]:
    """Return how many requests a second are made at most, for a Stripe account and on each endpoint."""
    of_mode = LIVE_PER_SECOND if settings.livemode else TEST_PER_SECOND
    own = settings.requests_per_second
    return own or of_mode, own or ENDPOINT_PER_SECOND


class Pacer:
    """Space turns evenly, and make up for a few that nobody took. `slow` halves the pace; each turn gives a little back."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.pace = per_second
        self._free_at = 0.0

    def reserve(self, now: float) -> float:
        """Take the next turn and return the time (of `time.monotonic`) at which it comes, or came."""
        at = max(now - SAVED_TURNS / self.pace, self._free_at)
        self._free_at = at + 1 / self.pace
        self.pace = min(self.per_second, self.pace + self.per_second / 50)
        return at

    def slow(self, now: float) -> None:
        """Halve the pace from now on, down to a sixteenth of the full one: Stripe said that it was too fast."""
        self.pace = max(self.pace / 2, self.per_second / 16)
        self._free_at = max(self._free_at, now + 1 / self.pace)


class Limiter:
    """Pace all threads of a run: `wait` before each request, `slow_down` after each 429."""

    def __init__(
        self, per_second: float, per_endpoint: float, wait: Callable[[float], object] = time.sleep
    ) -> None:
        self._lock = threading.Lock()
        self._account = Pacer(per_second)
        self._endpoints: dict[str, Pacer] = {}
        self._per_endpoint = per_endpoint
        self._wait = wait

    def wait(self, endpoint: str) -> None:
        """Block until a request to ``endpoint`` is allowed by both of its pacers."""
        with self._lock:
            now = time.monotonic()
            at = max(self._account.reserve(now), self._pacer(endpoint).reserve(now))
        if at > now:
            self._wait(at - now)

    def slow_down(self, endpoint: str, reason: str) -> None:
        """Slow the pacer that ``Stripe-Rate-Limited-Reason`` names; without a reason, none: an object was locked."""
        with self._lock:
            now = time.monotonic()
            if reason.startswith("global"):
                self._account.slow(now)
            elif reason:
                self._pacer(endpoint).slow(now)

    def _pacer(self, endpoint: str) -> Pacer:
        return self._endpoints.setdefault(endpoint, Pacer(self._per_endpoint))
