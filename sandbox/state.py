"""What changes while the sandbox runs: its world's clock, the requests it has seen, its limits and faults."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from time import monotonic

import orjson
from starlette.responses import Response

from fincon.sandbox.endpoints import match
from fincon.sandbox.faults import Faults
from fincon.sandbox.limits import Limits
from fincon.sandbox.model import Json
from fincon.sandbox.webhooks import Webhooks
from fincon.sandbox.world import World

CONTROL = "/_sandbox"  # the path of the sandbox's own controls
REMEMBERED = 100_000
AGE = range(2000, 2200)
"""The years in which a world's clock can begin or be set."""
MOST_SPEED = 86_400
"""How fast the clock can run: a day in a second."""


def pattern_of(path: str) -> str:
    """Give the pattern of the endpoint that a path leads to."""
    found = match(path)
    return found[0].pattern if found else "unknown"


def render(body: Json, status: int = 200) -> Response:
    """Give a JSON answer, printed as Stripe prints it."""
    content = orjson.dumps(body, option=orjson.OPT_INDENT_2) + b"\n"
    return Response(content, status, media_type="application/json")


class State:
    """A running sandbox's state; settings may be replaced at any time."""

    def __init__(
        self,
        world: World,
        *,
        keys: Collection[str] | None = None,
        denied: Collection[str] = (),
        faults: Faults | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.world = world
        self.keys = None if keys is None else frozenset(keys)
        self.denied = frozenset(denied)
        self.faults = faults
        self.limits = limits
        self.revoked: set[str] = set()
        """Connected accounts that the platform's keys may no longer act for, though the list still has them."""
        self.held: Callable[[str], bool] = lambda path: False
        """Whether a request to a path still has to wait: for tests of what happens meanwhile."""
        self.webhooks: Webhooks | None = None
        """Where events are sent as they happen."""
        self.speed = 0.0
        """How many of its seconds the clock runs on in a second; 0 = it stands still."""
        self._ticked = monotonic()
        self.served = 0
        self.reset()

    def reset(self) -> None:
        """Forget the requests seen so far."""
        self.counts: Counter[tuple[str, str]] = Counter()
        self.requests: deque[tuple[str, str, str]] = deque(maxlen=REMEMBERED)
        self.by_account: Counter[str] = Counter()

    def record(self, method: str, path: str, query: str, account: str = "") -> None:
        """Remember a request for a Stripe account ("" is the key's own)."""
        self.by_account[account] += 1
        self.served += 1
        self.counts[method, pattern_of(path)] += 1
        self.requests.append((method, path, query))

    def set_clock(self, clock: datetime) -> None:
        """Set the world's clock."""
        self.world = self.world.at(clock)
        if self.webhooks:
            self.webhooks.move_on(self.world)

    def tick(self) -> None:
        """Let the clock run on as its speed says, once a second at most: what is worked out of a moment is kept."""
        since = monotonic() - self._ticked
        if since >= 1:
            self._ticked += since
            self.advance(timedelta(seconds=int(since * self.speed)))

    def advance(self, by: timedelta) -> None:
        """Move the world's clock on."""
        if by:
            self.set_clock(self.world.clock + by)
