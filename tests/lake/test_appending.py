"""Rows that are appended to a table: any reader of Delta finds them, and the log says what it needs to say of their file."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from fincon.lake.tables import ROWS_A_BATCH, Lake, plain_schema
from fincon.transforms.schemas import BALANCES, RUNS

AT = datetime(2026, 6, 1, tzinfo=UTC)


def balances(run_id: str, count: int) -> pa.Table:
    rows = [
        {
            "stripe_account": "",
            "account_id": f"fca_{n:05}",
            "currency": "usd",
            "current": n,
            "observed_at": AT,
            "run_id": run_id,
        }
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=plain_schema(BALANCES))


@pytest.mark.quick
def test_what_is_appended_is_there_for_every_reader_and_told_in_the_log(tmp_path: Path) -> None:
    """However many row groups the file has; the log names its rows and its run, and the run is marked as loaded."""
    count = 2 * ROWS_A_BATCH + 1
    folder = tmp_path / "data" / "lake"
    with Lake(folder) as lake:
        rows = balances("run_1", count)
        lake.append(BALANCES, rows.to_reader(ROWS_A_BATCH), ["run_1"])
        lake.append(BALANCES, balances("run_2", 3), ["run_2", "run_3"])
        said = sorted(lake.file_stats(BALANCES).values())
        assert said == [(3, "run_2", "run_2"), (count, "run_1", "run_1")]
        assert all(lake.contains_run(BALANCES, f"run_{n}") for n in (1, 2, 3))
        assert not lake.contains_run(BALANCES, "run_4")
    found = DeltaTable(str(folder / "balances")).to_pyarrow_table()
    assert found.num_rows == count + 3
    assert sorted(found["account_id"].to_pylist()) == sorted(
        [*rows["account_id"].to_pylist(), *(f"fca_{n:05}" for n in range(3))]
    )
    assert {(path.stat().st_mode & 0o777) for path in (folder / "balances").glob("*.parquet")} == {0o600}


def test_rows_of_other_columns_than_the_tables_are_not_added(tmp_path: Path) -> None:
    """Neither without one of them, nor with one of another type; and no half of a file stays."""
    with Lake(tmp_path / "data" / "lake") as lake:
        right = balances("run_1", 2)
        named = right.schema.get_field_index("current")
        worded = right.set_column(named, "current", pa.array(["12.5", "many"]))
        for wrong in (right.drop_columns("currency"), worded):
            with pytest.raises((KeyError, pa.ArrowInvalid)):
                lake.append(BALANCES, wrong, ["run_1"])
        assert lake.files(BALANCES) == []
        assert not lake.contains_run(BALANCES, "run_1")
        assert lake.files(RUNS) == []
    assert [path.name for path in (tmp_path / "data" / "lake" / "balances").iterdir()] == ["_delta_log"]
