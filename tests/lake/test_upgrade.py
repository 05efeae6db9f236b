"""A lake that an older fincon wrote goes on at once, and answers as that one did; an older fincon leaves a newer's alone."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from fincon.errors import RunFailed, UsageError
from fincon.lake.tables import Lake
from fincon.lake.upgrade import FORMAT, OURS
from fincon.pipeline import compact as compacting
from fincon.pipeline import erase as erasing
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.evolution import DAHLIA
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.storage.data_folder import DataFolder
from fincon.storage.lock import writer_lock
from fincon.transforms.schemas import LOGS, OBJECT_TABLES, RUNS, TABLES, Table
from fincon.warehouse.checks import run_checks
from fincon.warehouse.connection import connect
from tests.conftest import environ, rows, settings_for
from tests.lakes import COMMITS, PII_KEY, answers, place
from tests.scripted_stripe import ScriptedStripe, account, serving
from tests.typed import typed

FIRST = datetime(2026, 6, 3, 12, tzinfo=UTC)
SECOND = FIRST + timedelta(days=3)
"""When the small lakes were synced, by the sandbox's clock."""

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    with running(World(seed=1, clock=SECOND, accounts=2, sessions=2, connected=1)) as it:
        yield it


@pytest.fixture
def sandbox(served: Sandbox) -> Sandbox:
    """The world of the small lakes, as it was at their last sync."""
    served.set_clock(SECOND)
    served.reset_requests()
    return served


@pytest.fixture(params=COMMITS)
def commit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old(commit: str, data: Path) -> Path:
    """A lake as the commit left it."""
    return place(commit, data)


def sync(sandbox: Sandbox, data: Path, **asked: Any) -> Any:
    """One sync, in the API version of then: another tells other things of the same session."""
    settings = settings_for(sandbox.url, data, FINCON_PII_KEY=PII_KEY, STRIPE_VERSION=DAHLIA)
    return run_sync(settings, SyncRequest(**asked))


def ask(data: Path, relation: str, columns: list[str]) -> list[list[Any]]:
    with connect(data) as views:
        found = views.execute(f"SELECT {', '.join(columns)} FROM {relation} ORDER BY ALL").fetchall()
    return json.loads(json.dumps(found, default=str))  # type: ignore[no-any-return]


def assert_answers_as_then(data: Path, commit: str) -> None:
    """It answers as of its own time what the commit answered, in every column that the commit had."""
    for at, tables in answers(commit)["as_of"].items():
        for table, expected in tables.items():
            assert ask(data, f"{table}_as_of('{at}')", expected["columns"]) == expected["rows"]


def failed_checks(data: Path) -> list[str]:
    return [name for name, _, found in run_checks(data) if found]


@pytest.mark.first(1)
def test_it_is_read_before_any_sync(old: Path, commit: str) -> None:
    """The first query on it answers all that the commit answered: as of then, now, and how many versions there are."""
    expected = answers(commit)
    latest = expected["as_of"][max(expected["as_of"])]
    for table in OBJECT_TABLES:
        known = latest.get(table.name, {"columns": [c.name for c in table.columns], "rows": []})
        assert ask(old, table.name, known["columns"]) == known["rows"]
        assert len(rows(old, f"FROM history.{table.name}")) == expected["versions"].get(table.name, 0)
    for table in LOGS:
        log = expected["logs"].get(table.name, {"columns": ["run_id"], "rows": []})
        whom = log["columns"].index("stripe_account") if "stripe_account" in log["columns"] else None
        # 41fa4b9 had null for the key's own account, which has been "" since.
        expected_rows = [["" if at == whom else v for at, v in enumerate(row)] for row in log["rows"]]
        assert ask(old, table.name, log["columns"]) == expected_rows
    assert_answers_as_then(old, commit)
    assert failed_checks(old) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["status", "check", "report", "compact", "sql FROM%transactions"])
@pytest.mark.parametrize("commit", ["41fa4b9", "46aaf28"])
def test_any_command_may_be_the_first(command: str, old: Path, tmp_path: Path) -> None:
    """Whatever somebody does first with an old lake works, in place and without a sync."""
    arguments = [word.replace("%", " ") for word in command.split()]
    done = typed(*arguments, "--data", str(old), cwd=tmp_path)
    assert done.code == 0, done.err
    assert "bug" not in done.err


@pytest.mark.first(1, 1)
def test_compacted_its_tables_are_set_as_new_ones_and_it_answers_as_before(
    old: Path, commit: str, tmp_path: Path
) -> None:
    """How often a log has a checkpoint is set of a table when it is made: each run opens some, commit by commit."""
    new, own = Lake(tmp_path / "new"), {"delta.checkpointInterval": "50"}
    DeltaTable(str(old / "lake" / "runs")).alter.set_table_properties(own)  # somebody's choice, which stays
    for _ in range(2):
        compacting.compact(old, retention_days=0, pages_days=0)
        for table in TABLES:
            delta, chosen = DeltaTable(str(old / "lake" / table.name)), own if table is RUNS else {}
            assert delta.metadata().configuration == new.table(table).metadata().configuration | chosen
            done = [one["operation"] for one in delta.history()].count("SET TBLPROPERTIES")
            assert done <= 1 + len(chosen)
    assert_answers_as_then(old, commit)


@pytest.mark.first(1)
def test_a_sync_of_what_is_known_adds_no_version(old: Path, commit: str, sandbox: Sandbox) -> None:
    """Nothing has changed since the commit's last sync, so neither do the tables."""
    result = sync(sandbox, old, session_ids=tuple(sandbox.world.session_ids()[:6]), refetch="all")
    known = {row["run_id"] for row in rows(old, "FROM history.accounts")}
    assert result.failed_checks == {}
    assert known.isdisjoint(row["run_id"] for row in result.runs if row["stripe_account"] == "")
    assert_answers_as_then(old, commit)


@pytest.mark.slow
def test_a_sync_goes_on(old: Path, commit: str, sandbox: Sandbox) -> None:
    """A later sync brings in what changed, with transactions and owners, and every check passes."""
    sandbox.advance(timedelta(days=4))
    asked = {"session_ids": tuple(sandbox.world.session_ids()), "transactions": True, "owners": True}
    result = sync(sandbox, old, **asked, pii="hash")
    assert result.failed_checks == {}
    truth = sandbox.world.truth()
    held = rows(old, "FROM accounts WHERE stripe_account = ''")
    assert {row["account_id"] for row in held} >= {row["account_id"] for row in truth["accounts"]}
    balances = {(b["account_id"], b["currency"]): b["current"] for b in truth["balances"]}
    now = rows(old, "FROM balances WHERE stripe_account = ''")
    assert balances.items() <= {(b["account_id"], b["currency"]): b["current"] for b in now}.items()
    assert rows(old, "FROM transactions")
    assert_answers_as_then(old, commit)
    assert sync(sandbox, old, **asked).run["rows_added"] == 0


@pytest.mark.slow
@pytest.mark.first(0, 2)
def test_it_is_compacted(old: Path, commit: str, sandbox: Sandbox) -> None:
    """Merging its files, those of before and of after, changes no answer."""
    if commit == "b98723b":
        sync(sandbox, old)  # which loads the run that was half in: compact waits for it
    compacting.compact(old, retention_days=0, pages_days=0)
    assert_answers_as_then(old, commit)
    sandbox.advance(timedelta(days=4))
    sync(sandbox, old)
    compacting.compact(old, retention_days=0, pages_days=0)
    assert_answers_as_then(old, commit)
    assert failed_checks(old) == []


@pytest.mark.slow
@pytest.mark.first(0, 2)
def test_an_account_is_erased_from_it(old: Path, commit: str, sandbox: Sandbox) -> None:
    """No file of it names the account any more, no sync brings it back, and all else stays."""
    if commit == "b98723b":
        sync(sandbox, old)
    before = rows(old, "FROM history.accounts")
    gone = before[0]["account_id"]
    assert erasing.erase(old, "account", gone)["accounts"] > 0
    assert erasing.traces(old, [gone]) == []
    assert len(rows(old, "FROM history.accounts")) == sum(row["account_id"] != gone for row in before)
    sync(sandbox, old, session_ids=tuple(sandbox.world.session_ids()[:6]), refetch="all")
    assert erasing.traces(old, [gone]) == []
    assert failed_checks(old) == []


def interrupted(data: Path, url: str) -> dict[str, Any]:
    """The run of b98723b that was being fetched: as if it had begun just now, against this sandbox."""
    found = {}
    for path in sorted((data / "pages").glob("*/run.json")):
        run = json.loads(path.read_bytes())
        run |= {"api_base": url, "started_at": datetime.now(UTC).isoformat()}
        path.write_text(json.dumps(run), encoding="utf-8")
        found[path.parent.name] = run
    (last,) = [run for name, run in found.items() if not (data / "pages" / name / "fetched.json").exists()]
    return last


@pytest.mark.parametrize("commit", ["b98723b"])
def test_an_interrupted_run_goes_on(old: Path, sandbox: Sandbox) -> None:
    """Its pages are loaded, and what they hold is not asked for again; a run that was half in the tables is whole."""
    sandbox.advance(timedelta(days=1))
    run = interrupted(old, sandbox.url)
    pages = list((old / "pages" / run["run_id"]).glob("sessions-*"))
    on_disk = {path.name.split("-")[1] for path in pages}
    result = sync(sandbox, old, session_ids=tuple(sandbox.world.session_ids()))
    assert result.run["run_id"] == run["run_id"]
    assert result.resumed_pages == len(pages) == 3
    asked = {path.rpartition("/")[2] for _, path, _ in sandbox.requests}
    assert not on_disk & asked
    assert {row["session_id"] for row in rows(old, "FROM sessions")} >= on_disk
    (other,) = sandbox.connected
    held = rows(old, f"FROM accounts WHERE stripe_account = '{other}'")
    assert len(held) == sandbox.world_of(other).account_count
    assert not list((old / "loading").glob("*"))
    assert result.failed_checks == {}


@pytest.mark.parametrize("commit", ["b98723b"])
def test_a_half_loaded_run_without_pages_is_taken_out(old: Path, sandbox: Sandbox) -> None:
    """Of a run that was half in the tables nothing is left, where its pages are gone."""
    (marker,) = (old / "loading").glob("*")
    shutil.rmtree(old / "pages" / marker.name)
    sync(sandbox, old)
    assert rows(old, "FROM history.accounts WHERE stripe_account <> ''") == []
    assert failed_checks(old) == []


# A newer fincon wrote it


def everything(data: Path) -> dict[str, str]:
    """Each file of the folder with a hash of it."""
    files = [path for path in data.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def ours(data: Path, sandbox: Sandbox) -> Path:
    """A lake of this fincon."""
    sync(sandbox, data)
    return data


NEWER = {
    "a higher format": {"format": FORMAT + 1, "columns": {}},
    "a column that is not known": {"format": FORMAT, "columns": {"accounts": ["account_id", "nickname"]}},
    "a table that is not known": {"format": FORMAT, "columns": {"institutions_seen": ["authorization_id"]}},
    "more fields": {"format": FORMAT, "columns": {"accounts": ["status_details.active.hue"]}, "more": 1},
}


@pytest.mark.parametrize("newer", NEWER)
@pytest.mark.slow
def test_a_lake_of_a_newer_fincon_is_left_alone(newer: str, ours: Path, sandbox: Sandbox) -> None:
    """A sync, a compaction, an erasure and a query say in two lines to upgrade fincon, and touch no file."""
    DataFolder(ours).lake_format.write_text(json.dumps(NEWER[newer]), encoding="utf-8")
    (ours / "fincon.duckdb").unlink()
    shutil.copy(place("46aaf28", ours.parent / "other") / "fincon.duckdb", ours / "fincon.duckdb")
    before = everything(ours)
    account = sandbox.world.account_id(0)
    for attempt in (
        lambda: sync(sandbox, ours),
        lambda: compacting.compact(ours, 0, 0),
        lambda: erasing.erase(ours, "account", account),
        lambda: erasing.allow(ours, "account", account),
    ):
        with pytest.raises(UsageError, match="was written by a newer fincon") as refused:
            attempt()
        assert "pgrade fincon" in refused.value.hint
    assert everything(ours) == before


def test_the_views_of_a_newer_fincon_are_not_read(ours: Path) -> None:
    """Not even a query is answered that might be wrong."""
    made_by_another(ours)
    content = {"format": FORMAT + 1, "columns": {}}
    DataFolder(ours).lake_format.write_text(json.dumps(content), encoding="utf-8")
    before = everything(ours)
    with pytest.raises(UsageError, match="was written by a newer fincon"):
        connect(ours)
    assert everything(ours) == before


def test_a_damaged_format_file_is_named(ours: Path, sandbox: Sandbox) -> None:
    """It is not taken for an old lake's, for it may be a newer one's; without it the lake goes on."""
    path = DataFolder(ours).lake_format
    for content in (b"{", b'{"format": 1, "columns": {"\xff": []}}'):
        path.write_bytes(content)
        with pytest.raises(RunFailed, match=r"format\.json cannot be read"):
            sync(sandbox, ours)
    path.unlink()
    sync(sandbox, ours)
    assert msgspec.json.decode(path.read_bytes(), type=type(OURS)) == OURS


def made_by_another(data: Path) -> None:
    """Make the views say that another fincon made them."""
    with duckdb.connect(str(data / "fincon.duckdb")) as views:
        views.execute("CREATE OR REPLACE MACRO made_by() AS 'another'")


def test_views_of_another_fincon_are_made_anew_once(ours: Path) -> None:
    """Whoever first reads them makes them; who comes after finds them as they must be."""
    made_by_another(ours)
    connect(ours).close()
    made = (ours / "fincon.duckdb").stat().st_mtime_ns
    connect(ours).close()
    assert (ours / "fincon.duckdb").stat().st_mtime_ns == made


def test_views_of_another_fincon_are_read_as_they_are_while_a_run_holds_the_folder(ours: Path) -> None:
    """They have all that this one knows, so nobody has to wait for the run."""
    made_by_another(ours)
    with writer_lock(ours):
        assert rows(ours, "FROM accounts")


def test_a_lake_that_was_moved_is_read_though_its_views_name_files_as_an_older_fincon_did(
    ours: Path,
) -> None:
    """One macro for each view, and none for all: asking for that one fails, which must end nothing."""
    expected = rows(ours, "FROM accounts")
    made_by_another(ours)
    with duckdb.connect(str(ours / "fincon.duckdb")) as views:
        views.execute("DROP MACRO lake.files_by_view")
    assert rows(ours.rename(ours.with_name("moved")), "FROM accounts") == expected


# An attribute more, in two files


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next fincon: this one's files, with an attribute of accounts more in its Struct and in its table."""
    root = tmp_path_factory.mktemp("newer")
    for folder in ("fincon", "transforms", "flows", "sql", "sandbox"):
        shutil.copytree(ROOT / folder, root / folder, symlinks=True)
    for name, before, more in (
        ("stripe_objects.py", "    last4: str | None = None\n", "    nickname: str | None = None\n"),
        ("schemas.py", '        Column("created_at", TIMESTAMP, "When it was linked', None),
    ):
        path = root / "transforms" / name
        text = path.read_text(encoding="utf-8")
        column = (
            '        Column("nickname", pa.string(), "What it is called at home.", "account.nickname"),\n'
        )
        assert text.count(before) == 1
        path.write_text(text.replace(before, before + more if more else column + before), encoding="utf-8")
    return root


def by_the_newer(root: Path, url: str, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the next fincon."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}
    return subprocess.run(
        [sys.executable, "-P", "-m", "fincon.cli", *arguments, "--data", str(data)],
        env={**clean, **environ(url), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_an_attribute_more_needs_two_files_and_breaks_no_lake(newer: Path, data: Path) -> None:
    """The next fincon goes on with this one's lake: old rows have no value, new ones do; this one then leaves it alone."""
    stripe = ScriptedStripe(accounts=[account("fca_1", nickname="Holidays"), account("fca_2")])
    with serving(stripe):
        run_sync(settings_for(stripe.url, data), SyncRequest())
        at = datetime.fromtimestamp(stripe.clock + 60, UTC).isoformat()
        query = "SELECT account_id, nickname, extra->>'nickname' AS said FROM"
        first = by_the_newer(
            newer, stripe.url, data, "sql", f"{query} accounts ORDER BY ALL", "--format", "json"
        )
        assert [json.loads(line) for line in first.stdout.splitlines()] == [
            {"account_id": "fca_1", "nickname": None, "said": "Holidays"},
            {"account_id": "fca_2", "nickname": None, "said": None},
        ], first.stderr
        stripe.clock += 3600
        synced = by_the_newer(newer, stripe.url, data, "sync")
        assert synced.returncode == 0, synced.stderr
        for relation, nickname in (("accounts", "Holidays"), (f"accounts_as_of('{at}')", None)):
            asked = f"{query} {relation} ORDER BY ALL"
            found = by_the_newer(newer, stripe.url, data, "sql", asked, "--format", "json")
            assert json.loads(found.stdout.splitlines()[0])["nickname"] == nickname, found.stderr
        assert by_the_newer(newer, stripe.url, data, "check").returncode == 0
        before = everything(data)
        with pytest.raises(UsageError, match=r"newer fincon: it has accounts\.nickname"):
            run_sync(settings_for(stripe.url, data), SyncRequest())
        with pytest.raises(UsageError, match="newer fincon"):
            connect(data)
        assert everything(data) == before


# Whatever a lake lacks

NEEDED = (
    {
        *((table.name, column) for table in OBJECT_TABLES for column in (*table.key, *table.group_key)),
        *((table.name, column) for table in TABLES for column in ("observed_at", "run_id")),
        *((table.name, "account_id") for table in TABLES if "account_id" in table.schema.names),
        ("erasures", "action"),
        ("erasures", "identity_hash"),
    }
    - {("rejects", column) for column in ("object_id", "parent_id", "path", "raw")}
    - {("erasures", "run_id")}
)
"""(table, column) without which a row does not say of what it is, or when it was seen."""


def without_columns(data: Path, number: int) -> None:
    """Write every table as a fincon would have that did not know one of its columns: another one for each ``number``."""
    for table in TABLES:
        droppable = [c.name for c in table.columns if (table.name, c.name) not in NEEDED]
        without_column(data, table, droppable[number % len(droppable)])


def without_column(data: Path, table: Table, column: str) -> None:
    """Write a table as a fincon would have that did not know the column."""
    path = data / "lake" / table.name
    uris = DeltaTable(str(path)).file_uris()
    files = [pq.read_table(uri.removeprefix("file://")) for uri in uris]
    found = pa.concat_tables(files) if files else table.empty
    shutil.rmtree(path)
    write_deltalake(str(path), found.drop_columns(column))


@pytest.fixture(scope="module")
def full(served: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of this fincon with rows in every table that a sync fills."""
    served.set_clock(SECOND)
    data = tmp_path_factory.mktemp("full") / "data"
    sync(served, data, session_ids=tuple(served.world.session_ids()), transactions=True, owners=True)
    return data


ROUNDS = max(sum((table.name, c.name) not in NEEDED for c in table.columns) for table in TABLES)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.first(1, 7)
def test_a_lake_goes_on_whichever_column_a_table_lacks(
    number: int, full: Path, data: Path, sandbox: Sandbox
) -> None:
    """Each round takes another column out of each table; a sync puts it back, and every check passes."""
    shutil.copytree(full, data)
    without_columns(data, number)
    (data / "fincon.duckdb").unlink()
    sandbox.advance(timedelta(days=4))
    asked = {"session_ids": tuple(sandbox.world.session_ids()), "transactions": True, "owners": True}
    result = sync(sandbox, data, **asked)
    assert result.failed_checks == {}
    for table in TABLES:
        there = {field.name for field in DeltaTable(str(data / "lake" / table.name)).schema().fields}
        assert there == {column.name for column in table.columns}
    balances = {(b["account_id"], b["currency"]): b["current"] for b in sandbox.world.truth()["balances"]}
    now = rows(data, "FROM balances")
    assert balances.items() <= {(b["account_id"], b["currency"]): b["current"] for b in now}.items()
    assert sync(sandbox, data, **asked).run["rows_added"] == 0


def rewrite_accounts(data: Path, column: str, kind: pa.DataType, value: Any) -> None:
    """Write the table of accounts with another type of a column, and the same value in each row."""
    path = data / "lake" / "accounts"
    files = [uri.removeprefix("file://") for uri in DeltaTable(str(path)).file_uris()]
    found = pa.concat_tables([pq.read_table(file) for file in files])
    values = pa.array([value] * found.num_rows, kind)
    shutil.rmtree(path)
    write_deltalake(
        str(path), found.set_column(found.schema.get_field_index(column), pa.field(column, kind), values)
    )


def test_a_field_within_a_column_is_added_too(full: Path, data: Path, sandbox: Sandbox) -> None:
    """Of a column that is a struct, what an older fincon did not know is null in its rows."""
    shutil.copytree(full, data)
    narrow = pa.struct({"active": pa.struct({"cause": pa.string()})})
    rewrite_accounts(data, "status_details", narrow, {"active": {"cause": "then"}})
    sandbox.advance(timedelta(days=4))
    assert sync(sandbox, data).failed_checks == {}
    said = rows(data, "SELECT DISTINCT status_details.active AS active FROM history.accounts")
    assert {"active": {"cause": "then", "action": None, "expected_deactivation_date": None}} in said


def test_a_column_of_another_type_is_refused_in_two_lines(full: Path, data: Path, sandbox: Sandbox) -> None:
    """It is not cast, nor left out: somebody must see to it."""
    shutil.copytree(full, data)
    rewrite_accounts(data, "last4", pa.int64(), 1234)
    with pytest.raises(RunFailed, match="accounts cannot be brought to this fincon's columns"):
        sync(sandbox, data)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.first(2, 2)
def test_a_lake_goes_on_whichever_table_it_lacks(
    table: Table, full: Path, data: Path, sandbox: Sandbox
) -> None:
    """A table that is not there is made, empty; what the others hold is still told."""
    if table.name in ("runs", "accounts"):
        pytest.skip("every other table's rows are of an account and a run: without those nothing can be told")
    shutil.copytree(full, data)
    shutil.rmtree(data / "lake" / table.name)
    compacting.compact(data, 7, 7)
    assert rows(data, f"FROM {table.name}") == []
    assert rows(data, "FROM accounts") == rows(full, "FROM accounts")


@pytest.mark.parametrize(("table", "column"), sorted(NEEDED))
@pytest.mark.first(15, 200)
def test_a_table_is_not_taken_without_what_its_rows_are_of(
    table: str, column: str, full: Path, data: Path, sandbox: Sandbox
) -> None:
    """Its rows could be of anything: two lines say so, and no file is touched."""
    shutil.copytree(full, data)
    known = next(t for t in TABLES if t.name == table)
    if not rows(full, f"FROM history.{table}"):
        pytest.skip(f"{table} is empty here, so there is nothing to lose")
    without_column(data, known, column)
    before = everything(data / "lake")
    with pytest.raises(RunFailed, match=f"has no column {column}"):
        sync(sandbox, data)
    assert everything(data / "lake") == before
