"""A lake as large as an analyst's, made without HTTP, and what each question of `sql/questions` takes on it."""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from fincon.lake.append import record_runs
from fincon.lake.snapshots import latest_files_by_table, renew_snapshots
from fincon.lake.tables import Lake, plain_schema
from fincon.sandbox.world import World
from fincon.transforms.page import Header, Page
from fincon.transforms.schemas import OWNERS, REFRESHES, TRANSACTIONS, WATERMARKS, Table
from fincon.warehouse.connection import connect
from fincon.warehouse.views import publish
from tests.benchmarks.pages import later, listing, load_pages

ACCOUNTS_A_LOT = 20_000
WEEKS = 3
LIMIT = 5

BY_DAY = (
    "balance_daily",
    "cash_flow_daily",
    "balance_backcast",
    "running_balance",
    "classified_transactions",
)
"""Questions with a row for each account and day, or transaction: they are asked for their first rows, or by an account."""

BY_PARAMETER = ("debit_risk",)
"""Questions that are macros alone."""


def make(folder: str, accounts: str, sessions: str, transactions: str = "") -> dict[str, Any]:
    """Load accounts on three weekly listings, their transactions (so many at most), owners and sessions; publish."""
    data = Path(folder) / "data"
    data.mkdir(parents=True, exist_ok=True)
    world = World(accounts=int(accounts), sessions=int(sessions))
    start = time.monotonic()
    with Lake(data / "lake") as lake:
        for week in range(WEEKS - 1, -1, -1):
            now = later(world, -timedelta(weeks=week))
            load_pages(lake, listing(now), run_id := f"run-{WEEKS - week}")
            _record(lake, run_id, "accounts")
        _load(lake, "run-sessions", "sessions", _session_pages(world))
        left = int(transactions) if transactions else None
        for number, lot in enumerate(range(0, world.account_count, ACCOUNTS_A_LOT)):
            found = _transactions(world, range(lot, min(lot + ACCOUNTS_A_LOT, world.account_count)))[:left]
            _append(lake, TRANSACTIONS, found, f"run-t{number}")
            left = None if left is None else left - found.num_rows
            if left == 0:
                break
        _append(lake, OWNERS, _owners(world), "run-owners")
        _append(lake, WATERMARKS, _watermarks(lake), "run-marks")
        renew_snapshots(lake)
        publish(data, latest_files_by_table(lake))
    return {"s": round(time.monotonic() - start, 1)}


def _record(lake: Lake, run_id: str, mode: str) -> None:
    now = datetime.now(UTC)
    about = {"run_id": run_id, "mode": mode, "status": "succeeded", "stripe_account": ""}
    record_runs(lake, [{**about, "started_at": now, "finished_at": now}])


def _load(lake: Lake, run_id: str, mode: str, pages: Iterator[Page]) -> None:
    load_pages(lake, pages, run_id)
    _record(lake, run_id, mode)


def _append(lake: Lake, table: Table, columns: pa.Table, run_id: str) -> None:
    """Append rows as a run's, those columns null that are not given."""
    seen = {"stripe_account": "", "run_id": run_id}
    for name, value in seen.items():
        columns = columns.append_column(name, pa.array([value] * columns.num_rows, pa.string()))
    whole = [
        columns[field.name].cast(field.type)
        if field.name in columns.column_names
        else pa.nulls(columns.num_rows, field.type)
        for field in table.schema
    ]
    lake.append(table, pa.Table.from_arrays(whole, schema=plain_schema(table)), [run_id])
    _record(lake, run_id, table.name)


def _session_pages(world: World) -> Iterator[Page]:
    """Yield the sessions of a world whose accounts stand on one page."""
    for number, session_id in enumerate(world.session_ids()):
        session = world.session(session_id)
        body = world.session_json(session) if session else {}
        if not body or body["accounts"]["has_more"]:
            continue
        header = Header(
            stream="sessions", parent=session_id, number=0, offset=0, count=len(body["accounts"]["data"]),
            request="", request_id="", status=200, observed_at=world.time * 1_000_000 + number, cursor=None,
        )  # fmt: skip
        yield Page(header, json.dumps(body).encode())


def _times(seconds: Sequence[int | None]) -> pa.Array:
    return pa.array(seconds, pa.timestamp("s", "UTC"))


def _transactions(world: World, indexes: Sequence[int]) -> pa.Table:
    found = [one for index in indexes for one in world.transactions(index)]
    of = dict(zip(found[0]._fields, zip(*found, strict=True), strict=True))
    renamed = {"transaction_id": "id", "account_id": "account", "transaction_refresh_id": "refresh"}
    plain = {name: of[name] for name in ("amount", "currency", "description", "status")}
    plain |= {name: of[old] for name, old in renamed.items()}
    times = {name: _times(of[name]) for name in ("transacted_at", "posted_at", "void_at")}
    times |= {"updated_at": _times(of["updated"]), "observed_at": _times([world.time] * len(found))}
    return pa.table({**plain, **times, "livemode": [False] * len(found)})


def _owners(world: World) -> pa.Table:
    rows = world.owners_truth()
    columns = {
        name: [row.get(name) for row in rows] for name in ("owner_id", "account_id", "ownership_id", "name")
    }
    columns |= {name: [row.get(name) for row in rows] for name in ("email", "phone", "raw_address")}
    return pa.table({**columns, "observed_at": _times([world.time] * len(rows))})


def _watermarks(lake: Lake) -> pa.Table:
    """Return the watermarks of a lake of which all transactions and owners were read."""
    with lake.query() as query:
        query.register("no_rows", WATERMARKS.schema.empty_table())
        return query.sql(
            "SELECT account_id, feature, max_by(last_attempted_at, observed_at) AS last_attempted_at,"
            " max_by(status, observed_at) AS status, max_by(refresh_id, observed_at) AS refresh_id,"
            " max(observed_at) AS observed_at"
            f" FROM read_parquet({lake.files(REFRESHES)}) WHERE feature != 'balance' GROUP BY ALL"
        ).to_arrow_table()


def an_account(folder: str) -> dict[str, Any]:
    """Find an account of some sixty posted transactions whose balance is known."""
    found = (
        "FROM transactions SEMI JOIN balances USING (stripe_account, account_id)"
        " WHERE status = 'posted' GROUP BY account_id"
    )
    with connect(Path(folder) / "data") as views:
        [(account,)] = views.execute(
            f"SELECT account_id {found} ORDER BY abs(count(*) - 60), account_id LIMIT 1"
        ).fetchall()
    return {"account": account}


def ask(folder: str, name: str, account: str) -> dict[str, Any]:
    """Ask one question: its whole result, its first rows, and of one account alone where it says of which a row is."""
    data = Path(folder) / "data"
    figures: dict[str, Any] = {}
    with connect(data) as views:
        columns = [column for column, *_ in views.execute(f"DESCRIBE {name}").fetchall()]
        for key, query in (
            ("first rows s", f"FROM {name} LIMIT {LIMIT}"),
            ("one account s", f"FROM {name} WHERE account_id = '{account}'"),
            ("whole s", f"FROM {name}"),
        ):
            if (key == "one account s" and "account_id" not in columns) or (
                key == "whole s" and name in BY_DAY
            ):
                continue
            taken, rows = [], 0
            for _ in range(1 if key == "whole s" else 3):
                start, start_cpu = time.monotonic(), time.process_time()
                reader = views.sql(query).to_arrow_reader(100_000)
                rows = sum(batch.num_rows for batch in reader)
                taken.append((time.monotonic() - start, time.process_time() - start_cpu))
            figures[key], figures[f"{key} CPU"] = (
                round(statistics.median(one), 3) for one in zip(*taken, strict=True)
            )
            figures[f"{key.removesuffix(' s')} count"] = rows
            figures[f"{key.removesuffix(' s')} MB"] = _peak_mb()
    return figures


def _peak_mb() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
