"""The latest state is the newer of snapshot and what came since, of each object; one account's answer touches its rows alone."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fincon.lake.snapshots import LatestFiles
from fincon.transforms.schemas import TABLES, TRANSACTIONS
from fincon.warehouse.connection import connect
from fincon.warehouse.views import publish
from tests.warehouse.test_views import typed_row

ACCOUNTS = 200


def transaction(number: int, amount: int, day: int) -> dict[str, Any]:
    return {
        "transaction_id": f"fctxn_{number}",
        "account_id": f"fca_{number % ACCOUNTS:04d}",
        "currency": "usd",
        "amount": amount,
        "status": "posted",
        "posted_at": "2026-10-01T00:00:00Z",
        "observed_at": f"2026-11-{day:02d}T12:00:00Z",
    }


def lake(data: Path, snapshot: list[dict[str, Any]], since: list[dict[str, Any]]) -> Path:
    """A lake of transactions alone: a snapshot of them, and what came since."""
    data.mkdir()
    files = {}
    for name, rows in (("snapshot", snapshot), ("since", since)):
        typed = [typed_row(TRANSACTIONS, row, datetime.now(UTC)) for row in rows]
        files[name] = str(data / f"{name}.parquet")
        pq.write_table(
            pa.Table.from_pylist(typed, schema=TRANSACTIONS.schema), files[name], row_group_size=1000
        )
    none = {table.name: LatestFiles([], [], []) for table in TABLES}
    latest = LatestFiles([files["snapshot"]], [files["since"]], list(files.values()))
    publish(data, {**none, "transactions": latest})
    return data


def test_the_newer_of_snapshot_and_since_is_the_latest_once(tmp_path: Path) -> None:
    snapshot = [transaction(1, 10, 5), transaction(2, 20, 5), transaction(3, 30, 5), transaction(4, 40, 5)]
    since = [
        *(transaction(1, 11, 6), transaction(1, 12, 7)),  # newer, twice
        transaction(2, 21, 4),  # late: older than the snapshot's
        transaction(3, 30, 5),  # the same version, in both
        transaction(5, 50, 1),  # new
    ]
    with connect(lake(tmp_path / "data", snapshot, since)) as views:
        found = views.execute("SELECT transaction_id, amount FROM transactions ORDER BY ALL").fetchall()
    assert found == [("fctxn_1", 12), ("fctxn_2", 20), ("fctxn_3", 30), ("fctxn_4", 40), ("fctxn_5", 50)]


def test_an_answer_about_one_account_touches_few_rows_of_others(tmp_path: Path) -> None:
    snapshot = [transaction(n, n, 5) for n in range(20_000)]
    since = [transaction(n, 1, 6) for n in range(0, 20_000, 100)]
    with connect(lake(tmp_path / "data", snapshot, since)) as views:
        asked = "EXPLAIN ANALYZE FROM cash_flow_daily WHERE account_id = 'fca_0007'"
        plan = views.execute(asked).fetchall()[0][1]
    touched = max(int(rows.replace(",", "")) for rows in re.findall(r"([\d,]+) rows?\b", plan))
    assert touched <= len(since) + len(snapshot) // ACCOUNTS
