"""What a page of 100 accounts costs in CPU time: `python -m sandbox.bench`."""

from __future__ import annotations

import sys
from time import process_time

import orjson

from sandbox.world import World


def page_cost(accounts: int, first: int, pages: int = 50) -> float:
    """Milliseconds of CPU to render a page of 100 accounts to bytes, from the account `first` on."""
    world = World(accounts=accounts)
    begun = process_time()
    for page in range(pages):
        indexes = range(first + page * 100, first + page * 100 + 100)
        orjson.dumps({"data": [world.account_json(index) for index in indexes]}, option=orjson.OPT_INDENT_2)
    return (process_time() - begun) * 1000 / pages


if __name__ == "__main__":
    for start in (0, 500_000, 990_000):
        sys.stdout.write(f"from account {start}: {page_cost(1_000_000, start):.2f} ms\n")
