"""What a page of 100 accounts, or of 100 events, costs in CPU time: `python -m sandbox.bench`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from time import process_time

import orjson

from fincon.sandbox.endpoints import match
from fincon.sandbox.model import Json
from fincon.sandbox.query import Query
from fincon.sandbox.world import World

PREFIX = "financial_connections.account."


def cost(pages: list[Callable[[], Json]]) -> float:
    """Milliseconds of CPU to render a page to bytes: the median of all of them."""
    times = []
    for page in pages:
        begun = process_time()
        orjson.dumps(page(), option=orjson.OPT_INDENT_2)
        times.append((process_time() - begun) * 1000)
    return median(times)


def accounts(world: World, first: int) -> Callable[[], Json]:
    """Make a page of 100 accounts, from the account `first` on."""
    return lambda: {"data": [world.account_json(index) for index in range(first, first + 100)]}


def request(world: World, path: str, query: str) -> Callable[[], Json]:
    """Make what a request is answered with."""
    found = match(path)
    if found is None:
        raise ValueError(f"There is no endpoint for {path}")
    endpoint, id_ = found
    # Another clock is another world, so that nothing is remembered from one page to the next.
    return lambda: endpoint.answer(world.at(world.clock), Query(query.encode(), endpoint.params), id_, path)


if __name__ == "__main__":
    a_million = World(accounts=1_000_000)
    for start in (0, 500_000, 990_000):
        took = cost([accounts(a_million, start + page * 100) for page in range(90)])
        sys.stdout.write(f"accounts from {start}: {took:.2f} ms\n")
    for name in ("*", "created", "disconnected", "reactivated", "refreshed_ownership"):
        took = cost([request(a_million, "/v1/events", f"limit=100&type={PREFIX}{name}")] * 15)
        sys.stdout.write(f"events of type {name}: {took:.1f} ms\n")
