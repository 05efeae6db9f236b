"""What is measured, one task a process; each prints its figures as one line of JSON."""

import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Figures = dict[str, Any]

COUNT = "SELECT count(*) FROM accounts"
TOTALS = "FROM balance_totals"


def peak_mb() -> int:
    """The most memory this process ever held, in MiB (without that of the process that started it)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def cpu() -> float:
    """CPU seconds of this process, user and system."""
    return time.process_time()


def transform(size: str, kind: str) -> Figures:
    """Pages → Arrow → Parquet parts, against `orjson.loads` and DuckDB's `read_json`: CPU, interleaved, medians.

    ``kind`` is ``mixed`` (unknown attributes on one account of fifty) or ``known`` (on none).
    """
    import orjson

    from fincon.lake.staging import stage
    from fincon.sandbox.world import World
    from fincon.transforms.page import Origin
    from tests.benchmarks import duckdb_way
    from tests.benchmarks.pages import bodies, enveloped

    found = list(bodies(World(accounts=int(size), sessions=0), unknown=kind == "mixed"))
    rounds: dict[str, list[float]] = {"ours": [], "orjson": [], "duckdb": []}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "pages.json"
        file.write_bytes(b"".join(found))

        def ours(folder: Path) -> None:
            stage(enveloped(found, 1_780_000_000), Origin("run"), folder)

        def floor(folder: Path) -> None:
            for content in found:
                orjson.loads(content)

        def read_json(folder: Path) -> None:
            duckdb_way.convert(file, folder)

        for turn in range(8):
            for name, do in (("orjson", floor), ("ours", ours), ("duckdb", read_json)):
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    gc.collect()
                    start = cpu()
                    do(Path(folder))
                    taken = cpu() - start
                if turn:  # the first is for warming up
                    rounds[name].append(taken)
    middle = {name: statistics.median(taken) for name, taken in rounds.items()}
    accounts = len(found) * 100
    return {
        "x orjson": _ratio(rounds["ours"], rounds["orjson"]),
        "x read_json": _ratio(rounds["ours"], rounds["duckdb"]),
        "read_json x orjson": _ratio(rounds["duckdb"], rounds["orjson"]),
        "CPU s per 1 M": round(middle["ours"] / accounts * 1e6, 1),
        "bytes per account": round(sum(map(len, found)) / accounts),
    }


def new_attribute(size: str) -> Figures:
    """Pages → Arrow: where each account has one attribute that fincon does not know, against where none has. CPU, medians."""
    import orjson

    from fincon.sandbox.world import World
    from fincon.transforms.flatten import flatten
    from fincon.transforms.page import Origin
    from tests.benchmarks.pages import bodies, enveloped

    def with_attribute(body: bytes, where: str) -> bytes:
        tree = orjson.loads(body)
        for account in tree["data"]:
            ((where and account.get(where)) or account)["state_of_it"] = {"n": 1.5}
        return orjson.dumps(tree, option=orjson.OPT_INDENT_2)

    known = list(bodies(World(accounts=int(size), sessions=0), unknown=False))
    pages = {
        "known": known,
        "top": [with_attribute(body, "") for body in known],
        "nested": [with_attribute(body, "balance_refresh") for body in known],
    }
    rounds: dict[str, list[float]] = {kind: [] for kind in pages}
    for turn in range(12):
        for kind, found in pages.items():
            batches = list(enveloped(found, 1_780_000_000))
            gc.collect()
            start = cpu()
            for number in range(0, len(batches), 10):
                flatten(batches[number : number + 10], Origin("run"))
            if turn:  # the first is for warming up
                rounds[kind].append(cpu() - start)
    return {
        "x known": _ratio(rounds["top"], rounds["known"]),
        "nested x known": _ratio(rounds["nested"], rounds["known"]),
        "ms a page": round(statistics.median(rounds["top"]) / len(known) * 1e3, 2),
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2)


def memory(size: str) -> Figures:
    """The transform alone: how much memory it needs at most."""
    from fincon.lake.staging import stage
    from fincon.sandbox.world import World
    from fincon.transforms.page import Origin
    from tests.benchmarks.pages import bodies, enveloped

    some = list(bodies(World(accounts=min(int(size), 10_000), sessions=0)))[:100]

    def pages() -> Iterator[bytes]:
        for number in range(int(size) // 100):
            yield some[number % len(some)]

    before = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        start = cpu()
        stage(enveloped(pages(), 1_780_000_000), Origin("run"), Path(folder))
        seconds = cpu() - start
    return {"peak MB": peak_mb(), "of it before": before, "CPU s": round(seconds, 1)}


class Stages:
    """When each stage of a run began."""

    def __init__(self) -> None:
        self.began: list[tuple[str, float, float]] = []

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """A stage begins."""
        self.began.append((name, time.monotonic(), cpu()))
        return lambda count: None

    def seconds(self) -> dict[str, str]:
        """Wall and CPU seconds of each stage."""
        ends = [*self.began[1:], ("", time.monotonic(), cpu())]
        return {
            name: f"{end - start:.2f} ({end_cpu - start_cpu:.2f} CPU)"
            for (name, start, start_cpu), (_, end, end_cpu) in zip(self.began, ends, strict=True)
        }


def sync(folder: str, ids: str = "", mode: str = "accounts") -> Figures:
    """One run, from HTTP to published views, of the sessions whose ids are in the file ``ids``, if any.

    ``mode``: with every ``accounts``, what the ``events`` say, the ``sessions`` alone, or every account of each ``connected``
    Stripe account. Without a ``folder`` the environment says where the data is.
    """
    from fincon.cli.sync import without_pandas
    from fincon.settings import keep_numpy_to_one_thread, load_settings

    without_pandas()  # as the command does, and what follows
    keep_numpy_to_one_thread()
    from fincon.pipeline.id_files import read_session_ids
    from fincon.pipeline.request import SyncRequest
    from fincon.pipeline.sync import run_sync

    sessions = read_session_ids(ids).plain if ids else ()
    stages = Stages()
    start_wall, start_cpu = time.monotonic(), cpu()
    settings = load_settings(data=Path(folder) / "data" if folder else None)
    order = SyncRequest(
        session_ids=sessions,
        accounts=mode in ("accounts", "connected"),
        events=mode == "events",
        connected=mode == "connected",
    )
    result = run_sync(settings, order, progress=stages)
    run = {name: sum(one[name] for one in result.runs) for name in SUMMED}
    wall = time.monotonic() - start_wall
    return {
        "rows": run["accounts_seen"],
        "accounts/s": round(run["accounts_seen"] / wall),
        "wall s": round(wall, 2),
        "CPU s": round(cpu() - start_cpu, 2),
        "peak MB": peak_mb(),
        "requests": run["requests"],
        "throttled": run["throttled"],
        "rows added": run["rows_added"],
        "check s": round(result.seconds["check"], 3),
        "stages": stages.seconds(),
    }


def orjson_page() -> Figures:
    """What `orjson.loads` of a page takes: how fast the machine is just now."""
    import orjson

    from fincon.sandbox.world import World
    from tests.benchmarks.pages import bodies

    found = list(bodies(World(accounts=5_000, sessions=0)))
    start = cpu()
    for body in found * 10:
        orjson.loads(body)
    return {"ms": 100 * (cpu() - start) / len(found)}


SUMMED = ("accounts_seen", "requests", "throttled", "rows_added")


def quiet(folder: str, runs: str) -> Figures:
    """So many runs, one after another in one process, that read events."""
    from fincon.pipeline.request import SyncRequest
    from fincon.pipeline.sync import run_sync
    from fincon.settings import load_settings

    settings = load_settings(data=Path(folder) / "data" if folder else None)
    for _ in range(int(runs)):
        run_sync(settings, SyncRequest(events=True))
    return {"runs": int(runs)}


def due(folder: str) -> Figures:
    """Of which accounts of a lake the transactions are due: all that were refreshed, for none were read yet."""
    from fincon.cli.sync import without_pandas

    without_pandas()
    from fincon.lake.incremental import DueQuery, due_accounts, read_refreshes
    from fincon.lake.tables import Lake
    from fincon.transforms.page import Origin

    before, start, start_cpu = peak_mb(), time.monotonic(), cpu()
    with Lake(Path(folder) / "data" / "lake") as made:
        asked = DueQuery(stripe_account="", feature="transaction", pii="", now=time.time_ns() // 1_000)
        found = due_accounts(made, asked, read_refreshes((), Origin("run")))
    return {
        "due": len(found),
        "s": round(time.monotonic() - start, 2),
        "CPU s": round(cpu() - start_cpu, 2),
        "peak MB": peak_mb(),
        "of it before": before,
    }


def ids(accounts: str, sessions: str, clock: str, file: str) -> Figures:
    """Write the ids of a world's sessions; and the fewest requests that bring all of its sessions and accounts."""
    from fincon.sandbox.objects import EMBEDDED
    from fincon.sandbox.world import World

    world = World(clock=datetime.fromisoformat(clock), accounts=int(accounts), sessions=int(sessions))
    found = world.session_ids()
    Path(file).write_text("\n".join(found))
    sizes = [len(session.accounts) for session in map(world.session, found) if session]
    return {
        "sessions": len(found),
        "accounts": world.account_count,
        "session requests": len(found),
        "list requests": -(-world.account_count // 100)
        + sum(-(-(n - EMBEDDED) // 100) for n in sizes if n > EMBEDDED),
    }


def lake(folder: str, accounts: str, versions: str, hours: str = "24", every: str = "1") -> Figures:
    """A lake of so many versions, so many hours apart, loaded without HTTP; the views published every so many runs."""
    from fincon.lake.append import record_runs
    from fincon.lake.snapshots import latest_files_by_table, renew_snapshots
    from fincon.lake.tables import Lake
    from fincon.sandbox.world import World
    from fincon.warehouse.views import publish
    from tests.benchmarks.pages import later, listing, load_pages

    data = Path(folder) / "data"
    data.mkdir(parents=True, exist_ok=True)
    made = Lake(data / "lake")
    world = World(accounts=int(accounts), sessions=0)
    loads, rows = [], 0
    for number in range(int(versions)):
        run_id = f"run-{number:06}"
        start = time.monotonic()
        load_pages(made, listing(later(world, timedelta(hours=number * int(hours)))), run_id)
        now = datetime.now(UTC)
        row = {
            "run_id": run_id,
            "mode": "accounts",
            "status": "succeeded",
            "started_at": now,
            "finished_at": now,
        }
        rows += record_runs(made, [row])[0]["rows_added"]
        if number % int(every) == int(every) - 1 or number == int(versions) - 1:
            renew_snapshots(made)
            publish(data, latest_files_by_table(made))
        loads.append(time.monotonic() - start)
    tenth = max(1, len(loads) // 10)
    return {
        "rows": rows,
        "load s, first": round(statistics.median(loads[:tenth]), 2),
        "load s, last": round(statistics.median(loads[-tenth:]), 2),
        "peak MB": peak_mb(),
    }


def transactions(folder: str, count: str) -> Figures:
    """A lake of so many transactions, loaded without HTTP from the pages of a world's accounts, and published."""
    from fincon.lake.append import record_runs
    from fincon.lake.snapshots import latest_files_by_table, renew_snapshots
    from fincon.lake.tables import Lake
    from fincon.sandbox.world import World
    from fincon.warehouse.views import publish
    from tests.benchmarks.pages import load_pages, transaction_pages

    data = Path(folder) / "data"
    data.mkdir(parents=True, exist_ok=True)
    start, start_cpu = time.monotonic(), cpu()
    with Lake(data / "lake") as made:
        load_pages(made, transaction_pages(World(accounts=int(count) // 20, sessions=0), int(count)), "run")
        now = datetime.now(UTC)
        row = {
            "run_id": "run",
            "mode": "transactions",
            "status": "succeeded",
            "started_at": now,
            "finished_at": now,
        }
        rows = record_runs(made, [row])[0]["rows_added"]
        renew_snapshots(made)
        publish(data, latest_files_by_table(made))
    return {
        "rows": rows,
        "wall s": round(time.monotonic() - start, 2),
        "CPU s": round(cpu() - start_cpu, 2),
        "peak MB": peak_mb(),
    }


def ask_transactions(folder: str) -> Figures:
    """Every row of the questions about transactions, into Arrow: the first answer, and the median of five more."""
    from fincon.warehouse.connection import connect

    figures: Figures = {}
    for name in ("transaction_monthly", "recurring_transactions"):
        taken, rows = [], 0
        for _ in range(6):
            start = time.monotonic()
            with connect(Path(folder) / "data") as views:
                rows = views.sql(f"FROM {name}").to_arrow_table().num_rows
            taken.append(time.monotonic() - start)
        figures[f"{name} s"] = round(statistics.median(taken[1:]), 3)
        figures[f"{name} s, first"] = round(taken[0], 3)
        figures[f"{name} rows"] = rows
    return {**figures, "peak MB": peak_mb()}


def compact(folder: str) -> Figures:
    """`fincon compact`."""
    from fincon.pipeline.compact import compact

    start = time.monotonic()
    compact(Path(folder) / "data", 7, 7)
    return {"wall s": round(time.monotonic() - start, 2), "peak MB": peak_mb()}


def ask(folder: str) -> Figures:
    """The two queries: the first answer of a process, and the median of seven more, each on a new connection."""
    from fincon.warehouse.connection import connect

    figures: Figures = {}
    for name, query in (("count s", COUNT), ("balance_totals s", TOTALS)):
        taken = []
        for _ in range(8):
            start = time.monotonic()
            with connect(Path(folder) / "data") as views:
                views.execute(query).fetchall()
            taken.append(time.monotonic() - start)
        figures[name] = round(statistics.median(taken[1:]), 3)
        figures[f"{name}, first"] = round(taken[0], 3)
    with connect(Path(folder) / "data") as views:
        kinds = ("base", "tail")
        sizes = {kind: _rows(views, f"lake.accounts_{kind}") for kind in kinds}
        figures["snapshot + since"] = " + ".join(f"{sizes[kind]:,}" for kind in kinds)
        figures["versions"] = _rows(views, "lake.accounts")
    return {**figures, "peak MB": peak_mb()}


def _rows(views: Any, name: str) -> int:
    import duckdb

    try:
        return int(views.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0])
    except duckdb.CatalogException:
        return 0  # there is no such part


def desk(what: str, *arguments: str) -> Figures:
    """What an analyst waits for (`tests.benchmarks.desk`): make the lake, or ask a question of it."""
    from tests.benchmarks import desk as of_desk

    does: dict[str, Callable[..., Figures]] = {
        "make": of_desk.make,
        "account": of_desk.an_account,
        "ask": of_desk.ask,
    }
    return does[what](*arguments)


TASKS: dict[str, Callable[..., Figures]] = {
    task.__name__: task
    for task in (
        transform,
        new_attribute,
        memory,
        sync,
        ids,
        lake,
        transactions,
        orjson_page,
        quiet,
        due,
        compact,
        ask,
        ask_transactions,
        desk,
    )
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))  # noqa: T201
