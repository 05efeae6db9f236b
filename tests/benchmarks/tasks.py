"""What is measured, one task a process; each prints its figures as one line of JSON."""

import gc
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def peak_mb() -> int:
    """The most memory this process ever held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def cpu() -> float:
    """CPU seconds of this process, user and system."""
    return time.process_time()


def _page(world: Any, start: int) -> bytes:
    """A page of 100 accounts, pretty-printed as Stripe does."""
    import orjson

    data = [world.account_json(index) for index in range(start, start + 100)]
    page = {"object": "list", "data": data, "has_more": True, "url": "/v1/financial_connections/accounts"}
    return orjson.dumps(page, option=orjson.OPT_INDENT_2)


def transform(size: str) -> dict[str, Any]:
    """Pages → Arrow → Parquet parts, against ``orjson.loads`` of the same bytes; CPU, median of 5, interleaved."""
    import orjson

    from flows.lake import stage
    from sandbox.world import World
    from transforms.envelope import Header, Page

    world = World(accounts=int(size), sessions=0)
    bodies = [_page(world, start) for start in range(0, min(int(size), 10_000), 100)]
    repeat = max(1, int(size) // 10_000)

    def pages() -> Any:
        for number in range(repeat * len(bodies)):
            header = Header(
                stream="accounts", number=number, offset=number * 100, count=100, request="", request_id="",
                status=200, observed_at=1_780_000_000_000_000 + number, cursor=None,
            )  # fmt: skip
            yield Page(header, bodies[number % len(bodies)])

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            stage(pages(), "run", Path(folder))

    def floor() -> None:
        for page in pages():
            orjson.loads(page.body)

    before = peak_mb()
    times: dict[Callable[[], None], list[float]] = {ours: [], floor: []}
    for _ in range(5 if repeat < 10 else 3):
        for task, taken in times.items():
            gc.collect()
            start = cpu()
            task()
            taken.append(cpu() - start)
    ratio = statistics.median(a / b for a, b in zip(times[ours], times[floor], strict=True))
    seconds = statistics.median(times[ours])
    return {
        "x orjson": round(ratio, 2),
        "CPU s per 1 M": round(seconds * 1e6 / (repeat * len(bodies) * 100), 1),
        "peak MB": peak_mb(),
        "of it before": before,
    }


def sync(folder: str) -> dict[str, Any]:
    """One sync of every account, from HTTP to published views."""
    from flows.settings import load_settings
    from flows.steps import Order, run_sync

    start_wall, start_cpu = time.monotonic(), cpu()
    run = run_sync(load_settings(data=Path(folder) / "data"), Order()).run
    wall = time.monotonic() - start_wall
    return {
        "accounts/s": round(run["accounts_seen"] / wall),
        "wall s": round(wall, 2),
        "CPU s": round(cpu() - start_cpu, 2),
        "peak MB": peak_mb(),
        "requests": run["requests"],
        "rows added": run["rows_added"],
    }


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"transform": transform, "sync": sync}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))  # noqa: T201
