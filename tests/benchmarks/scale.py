"""`python -m tests.benchmarks.scale`: what docs/scale.md says, measured on the sandbox's world, then worked out.

The world is served at Stripe's limits with 150 ms an answer, its clock set on by a day; what is measured is the client.
"""

import argparse
import resource
import time
from datetime import timedelta
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.world import World
from fincon.settings import load_settings
from tests.benchmarks.processes import Figures, served

PAGE, PER_SECOND, AT_ONCE = 100, 25, 8
GETS_A_TRANSACTION, GETS_A_MONTH = 500, 10_000
"""Stripe's read allocation: per transaction over 30 days, and what there is at least a month."""

START = "2026-06-01T12:00+00:00"


def size_of(folder: Path) -> int:
    """Bytes of the files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def cpu() -> float:
    """CPU seconds of this process, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def sync(url: str, data: Path, order: SyncRequest) -> Figures:
    """One sync by a live key, and what it took."""
    settings = load_settings({"STRIPE_API_KEY": "sk_live_benchmark", "STRIPE_API_BASE": url}, data)
    before, start, start_cpu = size_of(data) if data.exists() else 0, time.monotonic(), cpu()
    run = run_sync(settings, order).run
    return {
        "requests": run["requests"],
        "s": round(time.monotonic() - start, 1),
        "CPU s": round(cpu() - start_cpu, 1),
        "accounts": run["accounts_seen"],
        "rows added": run["rows_added"],
        "bytes added": size_of(data) - before,
        "bytes of the lake": size_of(data / "lake"),
        "bytes of pages": size_of(data / "pages"),
    }


def measured(accounts: int, connected: int) -> dict[str, Figures]:
    """One Stripe account of many accounts, listed and by events a minute later; and many Stripe accounts of few."""
    later = (World().clock + timedelta(minutes=1)).isoformat()
    few = max(PAGE, accounts // connected)
    platform = ("--accounts", few, "--connected", connected)
    found = {}
    with TemporaryDirectory() as scratch:
        one, many = Path(scratch, "one"), Path(scratch, "many")
        for name, clock, data, order, arguments in (
            ("one, listed", START, one, SyncRequest(), ("--accounts", accounts)),
            ("one, events of a minute", later, one, SyncRequest(events=True), ("--accounts", accounts)),
            ("many, listed", START, many, SyncRequest(connected=True), platform),
            ("many, events of a minute", later, many, SyncRequest(events=True, connected=True), platform),
        ):  # fmt: skip
            with served("sandbox", "--limited", "--clock", clock, *map(str, arguments)) as server:
                found[name] = sync(server.url, data, order)
    return found


def changes_a_day(accounts: int) -> float:
    """Events a day and account, over the whole of the last day of a world."""
    world = World(accounts=accounts, sessions=0)
    events = world.events
    kinds = range(7)
    return sum(1 for _ in events.walk(world.time - 86_400, world.time, kinds)) / world.account_count


def worked_out(stripe_accounts: int, accounts: int, cpu_a_page: float, bytes_an_account: float) -> Figures:
    """What listing ``accounts`` in ``stripe_accounts`` costs, on paper."""
    pages = ceil(accounts / stripe_accounts / PAGE)
    requests = stripe_accounts * pages + (ceil(stripe_accounts / PAGE) if stripe_accounts > 1 else 0)
    slowest = pages / PER_SECOND
    latency = requests * 0.15 / (AT_ONCE if stripe_accounts > 1 else 4)
    hours = max(slowest, latency, requests * cpu_a_page) / 3600
    return {
        "Stripe accounts": stripe_accounts,
        "accounts": accounts,
        "requests": requests,
        "hours by Stripe's limit": round(slowest / 3600, 2),
        "hours, one process": round(hours, 2),
        "workers to reach the limit": ceil(max(latency, requests * cpu_a_page) / max(slowest, 600)),
        "GB of lake": round(accounts * bytes_an_account / 1e9, 2),
        "GETs a month and Stripe account, nightly": 30 * pages,
        "transactions a month that allow it": 0
        if 30 * pages <= GETS_A_MONTH
        else ceil(30 * pages / GETS_A_TRANSACTION),
    }


def main() -> None:
    """Measure, then work out."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__)
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--connected", type=int, default=100)
    given = parser.parse_args()
    found = measured(given.accounts, given.connected)
    for name, figures in found.items():
        print(f"{name:<26}", figures)  # noqa: T201
    print("events a day and account  ", round(changes_a_day(min(given.accounts, 5_000)), 2))  # noqa: T201
    one = found["one, listed"]
    cpu_a_page, an_account = one["CPU s"] / one["requests"], one["bytes of the lake"] / one["accounts"]
    print(f"CPU s a page {cpu_a_page:.4f}, bytes of lake an account and version {an_account:.0f}")  # noqa: T201
    for stripe_accounts, accounts in (
        (1, 1_000_000),
        (1, 100_000_000),
        (100, 1_000_000),
        (100, 100_000_000),
        (10_000, 1_000_000),
        (10_000, 100_000_000),
    ):
        print(worked_out(stripe_accounts, accounts, cpu_a_page, an_account))  # noqa: T201


if __name__ == "__main__":
    main()
