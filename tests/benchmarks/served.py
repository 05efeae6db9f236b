"""What the benchmarks ask, each in a process of its own: `python -m tests.benchmarks.served replay|sandbox …`.

``replay`` answers from pages rendered beforehand, in 0.1 ms or so: what is measured against it is the client.
``sandbox`` is the sandbox itself, held to Stripe's limits if asked. ``s3`` is a bucket, ``lakes``, that takes 30 ms for each
request and says at ``/-/requests`` how many there were. All print ``url=…`` when they answer, and
one line of JSON when they are interrupted.
"""

import argparse
import asyncio
import json
import signal
from collections import defaultdict
from datetime import datetime
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fincon.sandbox.limits import Limits
from fincon.sandbox.server import serve
from fincon.sandbox.world import World
from tests.benchmarks.pages import PAGE, bodies
from tests.benchmarks.slow_bucket import bucket


class Watched(Limits):
    """Limits that note when each request came, and whether it was let through."""

    def __init__(self, **limits: float) -> None:
        super().__init__(**limits)
        self.let_through: dict[str, list[float]] = defaultdict(list)
        self.refused: dict[str, int] = defaultdict(int)

    def refuse(self, endpoint: str, *, live: bool, account: str = "") -> str | None:
        """As the sandbox does."""
        reason = super().refuse(endpoint, live=live, account=account)
        if reason is None:
            self.let_through[endpoint].append(monotonic())
        else:
            self.refused[endpoint] += 1
        return reason

    def seen(self) -> dict[str, Any]:
        """By endpoint: requests let through and refused, and over how many seconds they came."""
        return {
            endpoint.rpartition("/financial_connections/")[2]: {
                "requests": len(times),
                "throttled": self.refused[endpoint],
                "seconds": round(times[-1] - times[0], 3),
                "most in 10 s": max(sum(a <= t < a + 10 for t in times) for a in times[::25]),
            }
            for endpoint, times in self.let_through.items()
        }


class Replay(asyncio.Protocol):
    """HTTP/1.1, of which no more is spoken than requests needs: GET and keep-alive."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers = answers
        self.read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self.read += data
        while b"\r\n\r\n" in self.read:
            head, _, self.read = self.read.partition(b"\r\n\r\n")
            query = parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query)
            self.transport.write(self.answers[query.get("starting_after", [""])[0]])  # type: ignore[attr-defined]


def rendered(world: World) -> dict[str, bytes]:
    """Whole answers by cursor."""
    date = world.clock.strftime("%a, %d %b %Y %H:%M:%S GMT")
    answers, cursor = {}, ""
    for number, content in enumerate(bodies(world), start=1):
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
            f"Date: {date}\r\nRequest-Id: req_{number:014}\r\n\r\n"
        )
        answers[cursor] = head.encode() + content
        cursor = world.account_id(max(0, world.account_count - number * PAGE))
    return answers


async def replay(world: World) -> None:
    """Serve every page of a world until interrupted."""
    answers = rendered(world)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    server = await loop.create_server(lambda: Replay(answers), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"url=http://127.0.0.1:{port}", flush=True)  # noqa: T201
    await stop.wait()
    server.close()


def main() -> None:
    """Serve a world."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["replay", "sandbox", "s3"])
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=0)
    parser.add_argument("--connected", type=int, default=0)
    parser.add_argument("--clock", type=datetime.fromisoformat, default="2026-06-01T12:00+00:00")
    parser.add_argument(
        "--limited", action="store_true", help="Stripe's limits, and 150 ms ± 20 %% an answer"
    )
    given = parser.parse_args()
    if given.kind == "s3":
        bucket()
        return
    world = World(
        clock=given.clock, accounts=given.accounts, sessions=given.sessions, connected=given.connected
    )
    limits = Watched(latency=0.15, jitter=0.2) if given.limited else None
    if given.kind == "replay":
        asyncio.run(replay(world))
    else:
        serve(world, limits=limits, on_ready=lambda url: print(f"url={url}", flush=True))  # noqa: T201
    print(json.dumps(limits.seen() if limits else {}))  # noqa: T201


if __name__ == "__main__":
    main()
