"""Stripe's published limits in real time, over all endpoints and on each one; and its latency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from fincon.sandbox.ids import mix


@dataclass
class Bucket:
    """A token bucket that holds one second's worth of requests."""

    rate: float
    tokens: float
    filled: float

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self.tokens = min(self.rate, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Limits:
    """How fast requests are let through, and how long each takes.

    Rates are requests per second for one Stripe account: `live` and `test` over all endpoints, by the key's
    mode, `endpoint` on each one. `latency` is in seconds and varies by the share `jitter`. `now` tells the seconds.
    `throttled` counts the requests refused, by reason.
    """

    live: float = 100
    test: float = 25
    endpoint: float = 25
    latency: float = 0.0
    jitter: float = 0.2
    now: Callable[[], float] = monotonic
    throttled: Counter[str] = field(default_factory=Counter, init=False)
    _buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict, init=False, repr=False)

    def refuse(self, endpoint: str, *, live: bool, account: str = "") -> str | None:
        """Give the reason to refuse a request for a Stripe account, or None to let it through."""
        checks = (
            ("global-rate", "live" if live else "test", self.live if live else self.test),
            ("endpoint-rate", endpoint, self.endpoint),
        )
        for reason, name, rate in checks:
            now = self.now()
            if not self._buckets.setdefault((account, name), Bucket(rate, rate, now)).take(now):
                self.throttled[reason] += 1
                return reason
        return None

    def delay(self, number: int) -> float:
        """How long the request of a number takes, in seconds."""
        share = (mix(number) & 0xFFFF) / 0x8000 - 1
        return max(0.0, self.latency * (1 + self.jitter * share))
