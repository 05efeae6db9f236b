"""Tell by the answers' ``Date`` when each was given, and notice a date that cannot be."""

import threading
import time
from email.utils import parsedate_to_datetime

from fincon.errors import StripeError

MAX_DRIFT_SECONDS = 600
"""How much the clocks of Stripe's servers may differ from each other within a run."""

MAX_AHEAD_SECONDS = 366 * 86_400
"""How much a run's answers may be ahead of this machine's clock, which may be wrong: a sandbox has a clock of its own."""


class ServerClock:
    """The clock of whoever answers the requests of one run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: tuple[int, float] | None = None
        """The first date, and what this machine's steady clock showed then."""

    def read(self, date: str | None, request: str) -> int:
        """Return Unix seconds by the header ``date`` of the answer to a request.

        An answer without a date is as old as the run's other answers say; the first one is dated by this machine.

        Raises:
            StripeError: it is too far from the run's other answers, or from this machine's clock: nothing that it says may be
                known, for it would pass for newer than all that comes after it.
        """
        found, now = _parse(date), time.monotonic()
        with self._lock:
            if self._first is None:
                if found is None:
                    return int(time.time())
                ahead = found - time.time()
                if ahead > MAX_AHEAD_SECONDS:
                    raise _absurd(request, date, ahead, "this machine's clock")
                self._first = (found, now)
            expected = self._first[0] + now - self._first[1]
        if found is None:
            return int(expected)
        if abs(found - expected) > MAX_DRIFT_SECONDS:
            raise _absurd(request, date, found - expected, "the run's other answers")
        return found


def _parse(date: str | None) -> int | None:
    try:
        return int(parsedate_to_datetime(date or "").timestamp())
    except (TypeError, ValueError, OverflowError):
        return None


def _absurd(request: str, date: str | None, seconds: float, other: str) -> StripeError:
    apart = (
        f"{abs(seconds) / 86_400:,.0f} days" if abs(seconds) > 86_400 else f"{abs(seconds) / 60:,.0f} minutes"
    )
    where = "after" if seconds > 0 else "before"
    shown = "".join(c for c in (date or "")[:40] if c.isprintable())
    return StripeError(
        f"GET {request}: the answer is dated {shown!r}, {apart} {where} {other}.",
        "Nothing of it was loaded. Check the clocks of this machine and of what stands between it and Stripe; then run again.",
    )
