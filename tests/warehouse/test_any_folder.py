"""A folder above the data folder may be named like a partition (``env=prod``); it is none, and no column comes of it."""

import re
from pathlib import Path

import duckdb
import pytest

from fincon.pipeline.check import failed_checks
from fincon.pipeline.erase import erase
from fincon.pipeline.id_files import SessionIds, read_session_ids
from fincon.sandbox.server import running
from fincon.sandbox.world import World
from tests.conftest import START, rows, state, sync, truth

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name",
    [
        "env=prod",
        "stripe_account=acct_1",
        "run_id=1/year=2026",
        "currency=usd/observed_at=2020-01-01",
        "account_id=x",
    ],
)
@pytest.mark.first(1, 1)
def test_a_folder_named_like_a_partition_is_no_column(tmp_path: Path, name: str) -> None:
    data = tmp_path / name / "data"
    with running(World(seed=1, clock=START, accounts=40, sessions=12)) as sandbox:
        ids = sandbox.world.session_ids()
        assert sync(sandbox.url, data, ids).failed_checks == {}
        assert sync(sandbox.url, data, ids).run["rows_added"] == 0
        assert state(data) == truth(sandbox.world)
    assert rows(data, "SELECT DISTINCT stripe_account FROM history.balances") == [{"stripe_account": ""}]
    account = rows(data, "SELECT account_id FROM balances LIMIT 1")[0]["account_id"]
    assert erase(data, "account", account)["balances"] > 0
    assert failed_checks(data) == {}


def test_a_file_of_sessions_in_such_a_folder_is_of_no_stripe_account(tmp_path: Path) -> None:
    folder = tmp_path / "stripe_account=acct_1"
    folder.mkdir()
    for ending in ("parquet", "json", "csv"):
        duckdb.sql(f"COPY (SELECT 'fcsess_1' AS session_id) TO '{folder}/ids.{ending}'")
        assert read_session_ids(f"{folder}/ids.{ending}") == SessionIds(("fcsess_1",)), ending


def test_no_reader_of_files_takes_folders_for_columns() -> None:
    """Of whatever is added as well."""
    readers = re.compile(r"(?:read_(?:parquet|csv|json|ndjson)|parquet_scan)\((?!hive)[^\n]*")
    found = {
        f"{path.name}: {call}"
        for folder in ("fincon", "flows", "sql")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".sql")
        for call in readers.findall(path.read_text(encoding="utf-8"))
        if "hive_partitioning = false" not in call and "PARQUET_OPTIONS" not in call
    }
    assert found == set()
