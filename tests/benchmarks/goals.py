"""The benchmarks of what a user waits for beside a first listing: a page, a quiet minute, a bucket, many Stripe accounts."""

import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import requests

from fincon.lake.version_sql import SQL
from tests.benchmarks.desk import BY_PARAMETER
from tests.benchmarks.processes import Figures, Server, measure, seconds_of, served
from tests.benchmarks.suite_rows import Row

MINUTE_LATER = "2026-06-01T12:01+00:00"
FEW, MANY = 1_000, 20_000
PAGE = 100


def each_page(*, full: bool) -> Iterator[Row]:
    """What a page more costs in a whole sync, first and unchanged, and what a sync costs without: CPU, medians of three."""
    many = 100_000 if full else MANY
    found: dict[tuple[str, int], list[float]] = {}
    loads: list[float] = []
    with (
        served("replay", "--accounts", str(FEW)) as few_server,
        served("replay", "--accounts", str(many)) as many_server,
    ):
        for _ in range(3):
            for size, server in ((FEW, few_server), (many, many_server)):
                with tempfile.TemporaryDirectory() as folder:
                    for name in ("first", "unchanged"):
                        figures = measure("sync", folder, **server.reached())
                        found.setdefault((name, size), []).append(figures["CPU s"])
            loads.append(measure("orjson_page")["ms"])
    for name, bar in (("first", 3.5), ("unchanged", 2.5)):
        few, more = (statistics.median(found[name, size]) for size in (FEW, many))
        a_page = 1000 * (more - few) / ((many - FEW) / PAGE)
        fixed = few - a_page / 1000 * FEW / PAGE
        shown: Figures = {
            "CPU ms a page": round(a_page, 2),
            "fixed CPU s": round(fixed, 2),
            "x orjson.loads of the page": round(a_page / statistics.median(loads), 1),
        }
        bars = {"CPU ms a page": ("<=", bar)} | ({"fixed CPU s": ("<=", 0.9)} if name == "first" else {})
        yield Row(f"a sync of {many:,} accounts, {name}", shown, bars)


def quiet(*, full: bool) -> Iterator[Row]:
    """`fincon events` where nothing happened: the whole process, and of it the checks; again after many such runs."""
    accounts, runs = (100_000, 330) if full else (MANY, 30)
    with (
        tempfile.TemporaryDirectory() as folder,
        served("sandbox", "--accounts", str(accounts), "--clock", MINUTE_LATER) as server,
    ):
        measure("sync", folder, **server.reached())
        for name, more in (("", 3), (f", after {runs} runs", runs)):
            measure("quiet", folder, more, **server.reached())
            yield _quiet_row(f"quiet events, {accounts:,} accounts{name}", folder, server)


def _quiet_row(name: str, folder: str, server: Server) -> Row:
    data = str(Path(folder) / "data")
    walls, taken = [], []
    for _ in range(5):
        walls.append(seconds_of("events", FINCON_DATA=data, **server.reached()))
        taken.append(measure("sync", folder, "", "events", **server.reached()))
    figures = {
        "s": round(statistics.median(walls), 2),
        "checks s": statistics.median(one["check s"] for one in taken),
        "CPU s": statistics.median(one["CPU s"] for one in taken),
        "peak MB": max(one["peak MB"] for one in taken),
    }
    return Row(name, figures, {"s": ("<=", 0.8), "checks s": ("<=", 0.1)})


def quiet_in_a_bucket(*, full: bool) -> Iterator[Row]:
    """The same on S3, 30 ms a request: how many, and how long."""
    accounts, runs = (100_000, 30) if full else (5_000, 12)
    with tempfile.TemporaryDirectory() as work, served("s3") as s3:
        reached = {"FINCON_DATA": "s3://lakes/one", "FINCON_WORK": work, **_credentials(s3.url)}
        with served("sandbox", "--accounts", str(accounts), "--clock", MINUTE_LATER) as server:
            env = {**server.reached(), **reached}
            measure("sync", "", **env)
            for name, more in (("", 3), (f", after {runs} runs", runs)):
                measure("quiet", "", more, **env)
                before = _requests(s3.url)
                seconds = round(seconds_of("events", **env), 2)
                asked = _requests(s3.url) - before
                figures: Figures = {
                    "requests": asked.total(),
                    "s": seconds,
                    "by kind": dict(asked.most_common()),
                }
                yield Row(
                    f"quiet events in a bucket{name}", figures, {"requests": ("<=", 40), "s": ("<=", 2.5)}
                )


def _credentials(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
    }


def _requests(url: str) -> Counter[str]:
    """Kind of request → how many there were."""
    return Counter(dict(requests.get(f"{url}/-/requests", timeout=30).json()))


def stripe_accounts(*, full: bool) -> Iterator[Row]:
    """Many Stripe accounts in one process, from a sandbox that costs what it costs: pages a second."""
    connected, each = (100, 2_000) if full else (20, 1_000)
    world = ("--accounts", str(each), "--connected", str(connected))
    with tempfile.TemporaryDirectory() as folder, served("sandbox", *world) as server:
        before = server.cpu()
        figures = measure("sync", folder, "", "connected", **server.reached())
        kept = {key: figures[key] for key in ("requests", "wall s", "CPU s", "peak MB")}
        kept["pages/s"] = round(figures["rows"] / PAGE / figures["wall s"], 1)  # those that are needed
        kept["server CPU s"] = round(server.cpu() - before, 2)
    yield Row(f"{connected} Stripe accounts of {each:,} accounts", kept, {"pages/s": (">=", 80)})


def due(*, full: bool) -> Iterator[Row]:
    """Of which accounts the transactions are due: by a lake, loaded without HTTP, in which all of them are."""
    accounts = 1_000_000 if full else 100_000
    with tempfile.TemporaryDirectory() as folder:
        measure("lake", folder, accounts, 1)
        yield Row(
            f"due of {accounts:,} accounts",
            measure("due", folder),
            {"s": ("<=", 3.0), "peak MB": ("<=", 300.0)},
        )


QUESTION_BARS = {"whole s": 3.0, "first rows s": 1.0, "one account s": 0.1, "whole MB": 500}
"""Of every question: all of its rows, the first five, those of one account; and the memory of its process."""


def questions(*, full: bool) -> Iterator[Row]:
    """Each question of `sql/questions`, in a process of its own; the worst by each bar, and how many miss it."""
    accounts, sessions, transactions = (100_000, 5_000, 5_000_000) if full else (12_000, 500, 600_000)
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        measure("desk", "make", folder, accounts, sessions, transactions)
        account = measure("desk", "account", folder)["account"]
        for name in sorted({path.stem for path in (SQL / "questions").glob("*.sql")} - {*BY_PARAMETER}):
            found[name] = measure("desk", "ask", folder, name, account)
    for figure, bar in QUESTION_BARS.items():
        taken = {name: of[figure] for name, of in found.items() if figure in of}
        slowest = sorted(taken, key=taken.__getitem__, reverse=True)
        yield Row(
            f"questions over {accounts:,} accounts: {figure}",
            {
                "worst": taken[slowest[0]],
                "missed by": sum(value > bar for value in taken.values()),
                "which": ", ".join(f"{name} {taken[name]:g}" for name in slowest[:6]),
            },
            {"worst": ("<=", bar)},
        )
