"""Rows that are appended to a table: any reader of Delta finds them, and the log says what it needs to say of their file."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

from fincon.lake.tables import ROWS_A_BATCH, Lake, plain_schema
from fincon.transforms.schemas import ACCOUNTS, BALANCES, RUNS, TIMESTAMP

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


@pytest.mark.quick
@pytest.mark.parametrize(
    "word", ["usd", "x" * 5_000, "é" * 3_000, "\U0010ffff" * 2_000, "\U00020000", '"\\\n\0', ""]
)
def test_a_reader_that_passes_over_files_by_what_the_log_says_finds_the_same_rows(
    tmp_path: Path, word: str
) -> None:
    """By any column, one that is null everywhere too, and by columns within columns; before and after a checkpoint."""
    lake_folder = tmp_path / "data" / "lake"
    some = {"stripe_account": "", "observed_at": AT, "run_id": f"run_{word[:9]}"}
    balance = [
        {**some, "account_id": f"fca_{n}", "currency": word if n else "eur", "current": n or None}
        for n in range(3)
    ]
    details = {"active": {"action": "none", "cause": None, "expected_deactivation_date": AT}}
    found = [
        {**some, "account_id": f"fca_{n}", "livemode": bool(n), "status_details": details if n else None}
        for n in range(3)
    ]
    with Lake(lake_folder) as lake:
        for table, rows in ((BALANCES, balance), (ACCOUNTS, found)):
            lake.append(table, pa.Table.from_pylist(rows, schema=plain_schema(table)), [some["run_id"]])
        assert {stats.first_run for stats in lake.file_stats(BALANCES).values()} == {some["run_id"]}
        field = ds.field
        for _ in range(2):
            balances_of = DeltaTable(str(lake_folder / "balances")).to_pyarrow_dataset()
            accounts_of = DeltaTable(str(lake_folder / "accounts")).to_pyarrow_dataset()
            counted = [
                balances_of.count_rows(filter=field("currency") == word),
                balances_of.count_rows(filter=field("current") == 2),
                balances_of.count_rows(filter=field("current").is_null()),
                balances_of.count_rows(filter=field("available").is_null()),
                balances_of.count_rows(filter=field("available").is_valid()),
                balances_of.count_rows(filter=field("observed_at") == pa.scalar(AT, TIMESTAMP)),
                accounts_of.count_rows(filter=field("livemode")),
                accounts_of.count_rows(filter=field("status_details", "active", "action") == "none"),
            ]
            assert counted == [2, 1, 1, 3, 0, 3, 2, 2]
            for table in (BALANCES, ACCOUNTS):
                DeltaTable(str(lake_folder / table.name)).create_checkpoint()


def test_no_rows_are_no_file_and_yet_mark_their_run(tmp_path: Path) -> None:
    with Lake(tmp_path / "data" / "lake") as lake:
        lake.append(BALANCES, balances("run_1", 0).to_reader(), ["run_1"])
        assert (lake.files(BALANCES), lake.contains_run(BALANCES, "run_1")) == ([], True)
        none = balances("run_2", 0).to_batches() or [
            pa.RecordBatch.from_pylist([], schema=plain_schema(BALANCES))
        ]
        some = [*none, *balances("run_2", 2).to_batches(), *none]
        lake.append(BALANCES, pa.RecordBatchReader.from_batches(plain_schema(BALANCES), some), ["run_2"])
        assert [*lake.file_stats(BALANCES).values()] == [(2, "run_2", "run_2")]


def test_rows_of_other_columns_than_the_tables_are_not_added(tmp_path: Path) -> None:
    """Neither without one of them, nor with one more, nor with one of another type; and no half of a file stays."""
    with Lake(tmp_path / "data" / "lake") as lake:
        right = balances("run_1", 2)
        named = right.schema.get_field_index("current")
        worded = right.set_column(named, "current", pa.array(["12.5", "many"]))
        more = right.append_column("more", pa.array([1, 2]))
        for wrong in (right.drop_columns("currency"), more, worded):
            with pytest.raises(pa.ArrowInvalid):
                lake.append(BALANCES, wrong, ["run_1"])
        assert lake.files(BALANCES) == []
        assert not lake.contains_run(BALANCES, "run_1")
        assert lake.files(RUNS) == []
    assert [path.name for path in (tmp_path / "data" / "lake" / "balances").iterdir()] == ["_delta_log"]
