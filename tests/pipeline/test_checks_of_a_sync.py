"""A sync checks what it touched, in time that grows with that; all, where that might not be enough."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fincon.lake.incremental import DueQuery, due_accounts
from fincon.lake.snapshots import Snapshot, renew_snapshots, write_snapshots
from fincon.lake.tables import QUERY_THREADS, Lake
from fincon.pipeline.check import WHOLE_EACH_SECONDS, Checked, failed_checks
from fincon.pipeline.recovery import recovered_lake
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.settings import MEMORY_MB, part_of_run_memory
from fincon.storage.data_folder import DataFolder, make_folder
from fincon.transforms.schemas import (
    ACCOUNTS,
    AUTHORIZATIONS,
    BALANCES,
    OBJECT_TABLES,
    REFRESHES,
    REJECTS,
    TABLES,
)
from fincon.warehouse.checks import APART, checks, run_checks
from sandbox.server import running
from sandbox.world import World
from tests.conftest import START, settings_for
from tests.scripted_stripe import ScriptedStripe, account, event, serving

TWICE = {"current_is_unique": 1, "runs_have_their_rows": 1, "versions_do_not_overlap": 1}


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    with serving(ScriptedStripe([account("fca_1", 100), account("fca_2", 200)])) as served:
        yield served


def sync(stripe: ScriptedStripe, data: Path, current: int) -> SyncResult:
    """Read an event of the second account, which has another balance by now."""
    stripe.clock += 10
    stripe.events = [event(f"evt_{current}", account("fca_2", current), stripe.clock - 1)]
    return run_sync(settings_for(stripe.url, data), SyncRequest(events=True))


def double_a_balance(data: Path) -> None:
    """Put the first account's balance twice into the file where it stands once, under its name."""
    with Lake(DataFolder(data).lake) as lake:
        for path in lake.files(BALANCES):
            rows = pq.ParquetFile(path).read()
            if "fca_1" in rows["account_id"].to_pylist():
                pq.write_table(pa.concat_tables([rows, rows.filter(pa.array(_first(rows)))]), path)


def _first(rows: pa.Table) -> list[bool]:
    return [one == "fca_1" for one in rows["account_id"].to_pylist()]


def checked_a_day_ago(data: Path) -> None:
    path = DataFolder(data).checked
    said = msgspec.json.decode(path.read_bytes(), type=Checked)
    long_ago = msgspec.structs.replace(said, whole_at=said.whole_at - WHOLE_EACH_SECONDS)
    path.write_bytes(msgspec.json.encode(long_ago))


@pytest.mark.quick
def test_what_a_sync_did_not_touch_is_checked_by_who_checks_all_and_once_a_day(
    stripe: ScriptedStripe, data: Path
) -> None:
    """Until it is mended then, every sync says so: one that found nothing in what it touched takes nothing back."""
    for current in (201, 202):
        assert sync(stripe, data, current).failed_checks == {}
    double_a_balance(data)
    assert sync(stripe, data, 203).failed_checks == {}
    assert failed_checks(data) == TWICE
    checked_a_day_ago(data)
    assert sync(stripe, data, 204).failed_checks == TWICE
    assert sync(stripe, data, 205).failed_checks == TWICE


def test_what_came_into_a_table_since_is_found_by_the_next_sync(stripe: ScriptedStripe, data: Path) -> None:
    """Of whatever account, and whoever wrote it."""
    sync(stripe, data, 201)
    with Lake(DataFolder(data).lake) as lake:
        row = next(one for path in lake.files(BALANCES) for one in pq.ParquetFile(path).read().to_pylist())
        lake.append(
            BALANCES, pa.Table.from_pylist([row], schema=BALANCES.schema.remove_metadata()), ["run-x"]
        )
    assert {"current_is_unique", "versions_do_not_overlap"} <= sync(stripe, data, 202).failed_checks.keys()


@pytest.mark.slow
def test_where_a_file_is_gone_all_is_checked(stripe: ScriptedStripe, data: Path) -> None:
    """What it held may be missed by rows that no sync touches any more."""
    for current in (201, 202):
        sync(stripe, data, current)
    with Lake(DataFolder(data).lake) as lake:
        lake.table(BALANCES).delete("account_id = 'fca_1'")
    assert sync(stripe, data, 203).failed_checks == {"runs_have_their_rows": 1}


@pytest.mark.slow
def test_where_a_snapshot_is_another_all_is_checked(stripe: ScriptedStripe, data: Path) -> None:
    """The views of the latest state read all of it, of accounts too that no sync touches."""
    for current in (201, 202):
        sync(stripe, data, current)
    with Lake(DataFolder(data).lake) as lake:
        files = lake.files(BALANCES)
        found = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
        one = found.filter(pa.array(_first(found)))
        make_folder(lake.snapshots)
        pq.write_table(pa.concat_tables([one, one]), lake.snapshots / "balances-0.parquet")
        covers = [file.removeprefix(f"{data}/") for file in files]
        write_snapshots(lake, {"balances": Snapshot(covers, ["snapshots/balances-0.parquet"])})
    assert "current_is_unique" in sync(stripe, data, 203).failed_checks


@pytest.mark.slow
def test_a_sync_that_touched_every_table_is_checked_in_the_memory_that_a_run_has(tmp_path: Path) -> None:
    """Half of it will do, however many tables a check says something of: it is asked of one after another."""
    data = tmp_path / "data"
    with running(World(seed=2, clock=START, accounts=40, sessions=10)) as sandbox:
        for _ in range(2):
            asked = SyncRequest(
                session_ids=tuple(sandbox.world.session_ids()), transactions=True, owners=True, pii="keep"
            )
            run_sync(settings_for(sandbox.url, data), asked)
            sandbox.advance(timedelta(days=2))
            with recovered_lake(data) as lake:
                renew_snapshots(lake, always=True)
        run_sync(settings_for(sandbox.url, data), asked)
    with Lake(data / "lake") as lake:
        touched = {table.name: lake.files(table) for table in TABLES}
    assert all(touched[table.name] for table in OBJECT_TABLES if table not in (AUTHORIZATIONS, REJECTS))
    spill = str(tmp_path / "spill")
    for some in (touched, None):
        found = run_checks(
            data, some, threads=QUERY_THREADS, memory_limit=f"{MEMORY_MB // 2}MB", temp_directory=spill
        )
        assert [name for name, _, rows in found if rows] == []


@pytest.mark.slow
def test_a_check_that_needs_more_memory_than_is_tried_first_gets_what_a_run_has(
    stripe: ScriptedStripe, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(stripe, data, 201)
    monkeypatch.setenv("FINCON_MEMORY", "6")
    with pytest.raises(duckdb.OutOfMemoryException):
        run_checks(data, threads=QUERY_THREADS, memory_limit=part_of_run_memory())
    assert failed_checks(data) == {}


def test_a_check_of_every_table_is_asked_of_each_apart(data: Path) -> None:
    """Of what was touched, and of all: where nothing follows what is said of each table."""
    touched = {table.name: ["a.parquet"] for table in TABLES}
    for some in (touched, None):
        parts = {name: query.count(APART) + 1 for name, _, query in checks(some)}
        assert parts["current_is_unique"] == len(OBJECT_TABLES) - 1
        assert parts["versions_do_not_overlap"] > 1
        assert parts["runs_have_their_rows"] == 1


def test_tables_without_rows_are_asked_of_nothing() -> None:
    """Each check is a query whatever is filled, and says of a table that is what it says of it where all are."""
    every = {name: query.split(APART) for name, _, query in checks()}
    for filled in ((), ("owners",), ("balances", "sessions")):
        found = {name: query.split(APART) for name, _, query in checks(filled=filled)}
        assert found.keys() == every.keys()
        assert all(duckdb.extract_statements(part) for parts in found.values() for part in parts)
        asked = "".join(found["rows_have_runs"])
        names = {table.name for table in OBJECT_TABLES if f"lake.{table.name}\n" in asked}
        assert names == ({*filled} or {OBJECT_TABLES[0].name})


@pytest.mark.slow
def test_many_stripe_accounts_ask_what_is_due_in_the_memory_that_a_run_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it will do, however many threads ask at a time."""
    data = tmp_path / "data"
    with running(World(seed=2, clock=START, accounts=40, sessions=10)) as sandbox:
        asked = SyncRequest(owners=True, pii="keep")
        run_sync(settings_for(sandbox.url, data), asked)
        sandbox.advance(timedelta(days=2))
        with recovered_lake(data) as lake:
            renew_snapshots(lake, always=True)
        run_sync(settings_for(sandbox.url, data), asked)
    monkeypatch.setenv("FINCON_MEMORY", str(MEMORY_MB // 2))
    nothing = {table: table.schema.empty_table() for table in (REFRESHES, ACCOUNTS)}
    due = DueQuery(stripe_account="", feature="ownership", pii="keep", now=0)
    with Lake(data / "lake") as lake, ThreadPoolExecutor(16) as pool:
        found = [pool.submit(due_accounts, lake, due, nothing) for _ in range(48)]
        assert {len(one.result()) for one in found} == {0}
