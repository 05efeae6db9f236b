"""Tell by the answers' ``Date`` when each was given, and notice a date that cannot be."""

import threading
import time
from email.utils import parsedate_to_datetime

from fincon.errors import StripeError
from fincon.transforms.wording import pluralize

DRIFT_SECONDS = 600
"""How much the clocks of Stripe's servers may differ from each other within a run."""

AHEAD_SECONDS = 3_600
"""How much the first answer of a run may be ahead of this machine's clock, which may be wrong."""

SANDBOX_SECONDS = 366 * 86_400
"""What both bounds are for a server of this machine: a sandbox has a clock of its own, which may be moved."""


class ServerClock:
    """The clock of whoever answers the requests of one run."""

    def __init__(self, *, is_sandbox: bool) -> None:
        self._drift = SANDBOX_SECONDS if is_sandbox else DRIFT_SECONDS
        self._ahead = SANDBOX_SECONDS if is_sandbox else AHEAD_SECONDS
        self._lock = threading.Lock()
        self._first: tuple[int, float] | None = None
        """The first date, and what this machine's steady clock showed then."""

    def read(self, date: str | None, request: str) -> int:
        """Return Unix seconds by the header ``date`` of the answer to a request.

        An answer without a date is as old as the run's other answers say; the first one is dated by this machine.

        Raises:
            StripeError: it is too far from the run's other answers, or ahead of this machine's clock: what it says would pass
                for newer than all that comes after it.
        """
        found, now = _parse(date), time.monotonic()
        with self._lock:
            if self._first is None:
                if found is None:
                    return int(time.time())
                if found - time.time() > self._ahead:
                    raise _absurd(request, date, found - time.time(), "this machine's clock")
                self._first = (found, now)
            expected = self._first[0] + now - self._first[1]
        if found is None:
            return int(expected)
        if abs(found - expected) > self._drift:
            raise _absurd(request, date, found - expected, "the run's other answers")
        return found


def _parse(date: str | None) -> int | None:
    try:
        return int(parsedate_to_datetime(date or "").timestamp())
    except (TypeError, ValueError, OverflowError):
        return None


def _absurd(request: str, date: str | None, seconds: float, other: str) -> StripeError:
    unit, size = ("day", 86_400) if abs(seconds) > 86_400 else ("minute", 60)
    apart = pluralize(round(abs(seconds) / size), unit)
    where = "after" if seconds > 0 else "before"
    shown = "".join(c for c in (date or "")[:40] if c.isprintable())
    return StripeError(
        f"GET {request}: the answer is dated {shown!r}, {apart} {where} {other}.",
        "Nothing of it was loaded. Check the clocks of this machine and of what stands between it and Stripe; then run again.",
    )
