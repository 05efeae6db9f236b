"""Erasing a person, and keeping the lake small."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, Transaction

from fincon.errors import UsageError
from fincon.lake.append import record_runs
from fincon.lake.tables import Lake
from fincon.landing.run_folder import RESUMED_WITHIN, RunFolder, resume_or_create_run
from fincon.pipeline.check import failed_checks
from fincon.pipeline.compact import compact
from fincon.pipeline.erase import allow, erase, foretell, traces
from fincon.pipeline.plan import run_spec
from fincon.pipeline.sync import publish
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.transforms.schemas import ACCOUNTS, BALANCES, REFRESHES, RUNS, TABLES
from fincon.warehouse.checks import run_checks
from fincon.warehouse.connection import connect
from tests.benchmarks.pages import listing, load_pages
from tests.conftest import (
    OBJECTS,
    START,
    environ,
    known_after,
    rows,
    settings_for,
    state,
    sync,
    truth,
)
from tests.typed import typed


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Two pages of accounts, and some sessions."""
    with running(World(seed=1, clock=START, accounts=120, sessions=10)) as served:
        yield served


@pytest.fixture
def synced(sandbox: Sandbox, data: Path) -> Path:
    """A lake with two syncs, a day apart, and its raw pages."""
    for _ in range(2):
        sync(sandbox.url, data, sandbox.world.session_ids())
        sandbox.advance(timedelta(days=1))
    return data


def collected(data: Path) -> tuple[str, str, str]:
    """An account that a session collected and that has a customer and a balance; with its session and customer."""
    found = rows(
        data,
        "SELECT account_id, session_id, a.account_holder_customer_id AS customer FROM accounts a JOIN session_accounts USING"
        " (account_id) WHERE a.account_holder_customer_id IS NOT NULL AND balance_as_of IS NOT NULL ORDER BY ALL LIMIT 1",
    )[0]
    return found["account_id"], found["session_id"], found["customer"]


@pytest.mark.parametrize("kind", ["account", "session", "customer"])
@pytest.mark.first(0, 3)
def test_an_erased_identity_is_in_no_file_and_no_sync_brings_it_back(
    sandbox: Sandbox, synced: Path, kind: str
) -> None:
    identity = dict(zip(("account", "session", "customer"), collected(synced), strict=True))[kind]
    assert traces(synced, [identity])
    removed = erase(synced, kind, identity)
    assert removed["pages"] > 0
    assert sum(removed.values()) > removed["pages"]
    assert traces(synced, [identity]) == []
    assert failed_checks(synced) == {}

    sync(sandbox.url, synced, sandbox.world.session_ids())
    assert traces(synced, [identity]) == []
    assert failed_checks(synced) == {}

    allow(synced, kind, identity)
    if kind != "customer":  # a customer's accounts and sessions are each allowed by their own ids
        sync(sandbox.url, synced, sandbox.world.session_ids())
        assert traces(synced, [identity])


def test_what_a_killed_run_left_half_written_is_gone_after_an_erasure(synced: Path) -> None:
    """A page, a column of a rewritten table and a snapshot that kill -9 cut off hold personal data too."""
    account = collected(synced)[0]
    folder = next((synced / "pages").iterdir())
    halves = [folder / "a-0-000001.json.zst.part", synced / "lake" / "accounts" / "x.part"]
    halves += [synced / ".staging-killed" / "accounts-a000001.parquet"]
    for half in halves:
        half.parent.mkdir(exist_ok=True)
        half.write_text(account)
    erase(synced, "account", account)
    assert not [half for half in halves if half.exists()]


def test_erasing_takes_only_what_it_should(sandbox: Sandbox, synced: Path) -> None:
    account = collected(synced)[0]
    kept = {
        table: [r for r in found if r.get("account_id") != account] for table, found in state(synced).items()
    }
    removed = erase(synced, "account", account)
    assert state(synced) == kept
    record = rows(
        synced,
        "SELECT table_name, sum(rows_erased)::BIGINT AS n FROM erasures WHERE table_name IS NOT NULL GROUP BY ALL",
    )
    assert {r["table_name"]: r["n"] for r in record} == {k: v for k, v in removed.items() if k != "pages"}
    assert account not in str(rows(synced, "FROM erasures"))


def test_a_reader_from_before_reads_on_after_a_compaction_and_is_told_after_an_erasure(synced: Path) -> None:
    """Its views name files that hold who was erased: they are gone, and no other takes their place under its eyes."""
    with connect(synced) as reader:
        versions = reader.execute("SELECT count(*) FROM history.accounts").fetchall()[0][0]
        account = collected(synced)[0]
        compact(synced, retention_days=7, pages_days=7)
        assert reader.execute("SELECT count(*) FROM history.accounts").fetchall() == [(versions,)]
        erase(synced, "account", account)
        assert traces(synced, [account]) == []
        with pytest.raises(duckdb.Error, match="parquet"):
            reader.execute("SELECT count(*) FROM history.accounts").fetchall()
    with connect(synced) as reader:
        left = reader.execute(
            "SELECT count(*), count(*) FILTER (account_id = ?) FROM history.accounts", [account]
        ).fetchall()
        assert 0 < left[0][0] < versions
        assert left[0][1] == 0


def test_compacting_changes_no_answer_and_leaves_one_file_a_table(sandbox: Sandbox, synced: Path) -> None:
    before = state(synced), state(synced, lambda table: f"history.{table}")
    done = compact(synced, retention_days=0, pages_days=7)
    assert (state(synced), state(synced, lambda table: f"history.{table}")) == before
    for table in OBJECTS:
        assert done["files"][table][1] == 1
        assert len(list((synced / "lake" / table).glob("*.parquet"))) == 1
    assert failed_checks(synced) == {}
    sync(sandbox.url, synced, sandbox.world.session_ids())
    assert failed_checks(synced) == {}


def test_many_small_runs_leave_few_files_and_answers_as_they_were(data: Path) -> None:
    """Of 26 hourly runs, without `compact`; and who opened the views before files were merged reads on."""
    data.mkdir()
    worlds = [World(accounts=400, sessions=0).at(START + timedelta(hours=hour)) for hour in range(26)]
    added = 0
    with Lake(data / "lake") as lake, ExitStack() as readers:
        for number, world in enumerate(worlds):
            run_id = f"run-{number:03}"
            load_pages(lake, listing(world), run_id)
            row = {"run_id": run_id, "stripe_account": "", "mode": "accounts", "status": "succeeded"}
            added += record_runs(lake, [row | {"started_at": START, "finished_at": START}])[0]["rows_added"]
            publish(data, lake)
            if number == 10:
                early = readers.enter_context(connect(data))
                before = early.execute("FROM history.balances ORDER BY ALL").fetchall()
                merged = {file for table in TABLES for file in lake.files(table)}
        assert before
        assert early.execute("FROM history.balances ORDER BY ALL").fetchall() == before
        for table in (ACCOUNTS, BALANCES, REFRESHES, RUNS):
            assert len(lake.files(table)) <= 21
            assert not merged & set(lake.files(table))
    no_session = {"sessions": [], "session_accounts": []}
    assert state(data) == known_after(*map(truth, worlds)) | no_session
    kept = sum(rows(data, f"SELECT count(*) AS n FROM history.{table}")[0]["n"] for table in OBJECTS)
    assert kept == added
    assert [found for found in run_checks(data) if found[2]] == []


def test_compacting_drops_the_marks_of_runs_of_long_ago_and_keeps_those_of_late(synced: Path) -> None:
    """Without that a log grows by one with every run, for ever."""
    long_ago = int((datetime.now(UTC) - timedelta(days=91)).timestamp() * 1000)
    with Lake(synced / "lake") as lake:
        recent = lake.run_ids()
        delta = lake.table(BALANCES)
        old = CommitProperties(app_transactions=[Transaction("of-long-ago", 1, long_ago)])
        delta.create_write_transaction([], "append", delta.schema(), commit_properties=old)
    compact(synced, retention_days=7, pages_days=7)
    checkpoints = (synced / "lake" / "balances" / "_delta_log").glob("*.checkpoint.parquet")
    marks = pq.read_table(max(checkpoints), columns=["txn"])["txn"].to_pylist()
    assert {mark["appId"] for mark in marks if mark} == recent


def test_old_pages_are_pruned_and_new_ones_stay(synced: Path) -> None:
    first, second = sorted((synced / "pages").iterdir())
    os.utime(first, (0, 0))
    assert compact(synced, retention_days=7, pages_days=7)["runs_pruned"] == 1
    assert not first.exists()
    assert second.exists()


def test_pages_of_a_run_that_was_given_up_are_pruned_and_those_of_one_to_go_on_with_stay(
    sandbox: Sandbox, synced: Path
) -> None:
    settings = settings_for(sandbox.url, synced)
    run = resume_or_create_run(run_spec(settings, "", "accounts", ""), [], "")
    given_up = msgspec.structs.replace(run, run_id="given-up", started_at=run.started_at - 2 * RESUMED_WITHIN)
    for one in (run, given_up):
        RunFolder.create(synced, one)
        os.utime(synced / "pages" / one.run_id, (0, 0))
    assert compact(synced, retention_days=7, pages_days=7)["runs_pruned"] == 1
    assert (synced / "pages" / run.run_id).exists()
    assert not (synced / "pages" / "given-up").exists()


def test_erase_and_compact_at_the_command_line(sandbox: Sandbox, synced: Path) -> None:
    account = collected(synced)[0]
    where = ("--data", str(synced))
    done = typed(*where, "erase", "--yes", "--account", account, cwd=synced.parent)
    assert done.code == 0, done.err
    assert "accounts: " in done.out
    assert typed(*where, "erase", "--account", account, "--allow", cwd=synced.parent).code == 0
    assert typed(*where, "compact", cwd=synced.parent).code == 0
    for wrong in (["--account", "cus_1"], [], ["--account", account, "--session", "fcsess_1"]):
        assert typed(*where, "erase", "--yes", *wrong, cwd=synced.parent).code == 2
    assert typed("--data", "nowhere", "compact", cwd=synced.parent).code == 2
    assert typed(*where, "check", cwd=synced.parent, env=environ(sandbox.url)).code == 0


@pytest.mark.quick
def test_a_wrong_id_is_refused_before_anything_is_touched(synced: Path) -> None:
    with pytest.raises(UsageError, match="not the id of an account"):
        erase(synced, "account", "1' OR '1'='1")
    with pytest.raises(UsageError, match="Nothing here names"):
        erase(synced, "account", "fca_1' OR '1'='1")


def test_an_id_that_begins_another_takes_nothing_of_it_along(synced: Path) -> None:
    """`fca_1` is no trace of `fca_1Nq…`: neither its pages nor its rows go."""
    (account,) = rows(synced, "SELECT account_id FROM accounts LIMIT 1")[0].values()
    with pytest.raises(UsageError, match="Nothing here names"):
        erase(synced, "account", account[:-1])
    with pytest.raises(UsageError, match="Nothing here names"):
        foretell(synced, "account", account[:-1])
    assert foretell(synced, "account", account)["accounts"] >= 1
