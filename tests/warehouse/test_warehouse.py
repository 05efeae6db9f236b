"""``fincon.duckdb``: what readers may rest on."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from fincon.errors import RunFailed, UsageError
from fincon.lake.snapshots import LatestFiles
from fincon.lake.version_sql import SQL
from fincon.pipeline.check import failed_checks
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.transforms.money import THREE_DECIMAL, ZERO_DECIMAL, major
from fincon.transforms.schemas import OBJECT_TABLES, TABLES, Column, Table
from fincon.warehouse.checks import checks, written_out
from fincon.warehouse.connection import connect
from fincon.warehouse.read_only import ReadOnlyConnection
from fincon.warehouse.views import publish
from tests.conftest import OBJECTS, START, rows, settings_for, sync

OLDEST = Path(sys.prefix) / "duckdb-1.2"
QUESTIONS = {path.stem: path for path in sorted((SQL / "questions").glob("*.sql"))}
ASKED = [name if name != "debit_risk" else "debit_risk(12500, 'usd')" for name in QUESTIONS]
"""Each as it is asked: one has no answer without an amount."""


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with two syncs, two days apart, for tests that leave it as they find it."""
    data = tmp_path_factory.mktemp("synced") / "data"
    with running(World(seed=1, clock=START, accounts=120, sessions=30)) as sandbox:
        settings = settings_for(sandbox.url, data)
        for _ in range(2):
            ids = tuple(sandbox.world.session_ids())
            run_sync(settings, SyncRequest(session_ids=ids, transactions=True, owners=True, pii="keep"))
            sandbox.advance(timedelta(days=2))
    return data


@pytest.fixture(scope="module")
def views(synced: Path) -> Iterator[ReadOnlyConnection]:
    """The views of that lake, opened once."""
    with connect(synced) as connection:
        yield connection


@pytest.mark.slow
def test_the_oldest_duckdb_promised_reads_every_view(synced: Path) -> None:
    views = [f"{schema}.{t.name}" for schema in ("main", "history") for t in TABLES] + ASKED
    asked = [f"SELECT count(*) FROM {view}" for view in views]
    asked += [f"SELECT count(*) FROM {t}_as_of('2026-06-04')" for t in OBJECTS]
    code = (
        "import duckdb, json, sys\n"
        "assert duckdb.__version__.startswith('1.2.'), duckdb.__version__\n"
        "c = duckdb.connect(sys.argv[1], read_only=True)\n"
        "print(json.dumps([c.execute(q).fetchone()[0] for q in json.load(sys.stdin)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(synced / "fincon.duckdb")],
        env={"PYTHONPATH": str(OLDEST)},
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        rows(synced, query.replace("count(*)", "count(*) AS n"))[0]["n"] for query in asked
    ]


def test_every_view_macro_and_column_has_a_comment(synced: Path) -> None:
    assert rows(synced, "SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL") == []
    bare = "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
    assert rows(synced, bare) == []
    macros = "SELECT function_name AS name, comment FROM duckdb_functions() WHERE NOT internal AND schema_name = 'main'"
    comments = {row["name"]: row["comment"] for row in rows(synced, macros)}
    assert {name for name, comment in comments.items() if not comment} == set()
    assert comments.keys() >= {f"{table.name}_as_of" for table in TABLES if table.key}


NOT_HERE = {
    "institution_incidents": "nothing is unusual in the sandbox's world",
    "duplicate_accounts": "the sandbox links no bank account twice",
    "links_ending": "events alone show authorizations, and this lake is listed",
}
"""Questions that this lake has no answer to, each with the reason: their rows are in ``views/``."""


@pytest.mark.parametrize("question", ASKED)
def test_every_question_has_an_answer_and_no_float_for_money(
    views: ReadOnlyConnection, question: str
) -> None:
    cursor = views.execute(f"FROM {question}")
    kinds = {name: str(kind) for name, kind, *_ in cursor.description or ()}
    assert cursor.fetchall() or question in NOT_HERE
    assert not {name for name, kind in kinds.items() if kind in ("DOUBLE", "FLOAT")}


def test_no_view_holds_a_float_and_every_amount_is_a_decimal(synced: Path) -> None:
    kinds = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"
    columns = rows(synced, kinds)
    assert [row for row in columns if re.search("DOUBLE|FLOAT|REAL", row["data_type"])] == []
    amounts = [row["data_type"] for row in columns if row["column_name"].endswith("_amount")]
    assert set(amounts) == {"DECIMAL(38,4)"}


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_says_what_it_answers_its_grain_its_units_and_an_example_that_runs(
    views: ReadOnlyConnection, question: str
) -> None:
    header = QUESTIONS[question].read_text(encoding="utf-8").split("CREATE", 1)[0]
    for part in ("-- Grain: one row per ", "-- Units: ", "-- Example: "):
        assert f"\n{part}" in header
    example = header.split("-- Example: ")[1].strip()
    assert question in example
    views.execute(example).fetchall()


def test_every_check_finds_nothing_wrong_and_finds_what_is_wrong(synced: Path) -> None:
    settings = settings_for("http://127.0.0.1:1", synced)
    assert failed_checks(settings.data) == {}
    lake = {t.name: rows_files(synced, t.name) for t in TABLES}

    def publish_as(**files: list[str]) -> None:
        publish(synced, {name: LatestFiles([], paths, paths) for name, paths in {**lake, **files}.items()})

    publish_as(accounts=lake["accounts"][1:], runs=lake["runs"][:1])  # files are gone
    assert {"rows_have_runs", "runs_have_their_rows"} <= failed_checks(settings.data).keys()
    publish_as(balances=lake["balances"] * 2)  # a file stands twice
    assert {"current_is_unique", "versions_do_not_overlap"} <= failed_checks(settings.data).keys()
    publish_as()
    assert failed_checks(settings.data) == {}
    assert len(list(checks())) == len(list((Path(__file__).parents[2] / "sql" / "checks").glob("*.sql")))


def rows_files(data: Path, table: str) -> list[str]:
    paths = sorted((data / "lake" / table).glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    return [str(path) for path in paths]


@pytest.mark.slow
def test_views_over_other_files_are_made_on_a_copy_of_the_last_and_are_those_made_anew(
    synced: Path, tmp_path: Path
) -> None:
    files = {t.name: rows_files(synced, t.name) for t in TABLES}
    earlier = {name: LatestFiles([], paths[:1], paths[:1]) for name, paths in files.items()}
    now = {name: LatestFiles([], paths, paths) for name, paths in files.items()}
    planted = "SELECT count(*) FROM duckdb_views() WHERE view_name = 'planted'"

    publish(tmp_path, earlier)
    before = found_in(tmp_path)
    with duckdb.connect(tmp_path / "fincon.duckdb") as last:
        last.execute("CREATE VIEW planted AS SELECT 1")
    publish(tmp_path, now)
    with connect(tmp_path) as reader:
        assert reader.execute(planted).fetchall() == [(1,)]
    with duckdb.connect(tmp_path / "fincon.duckdb") as last:
        last.execute("DROP VIEW planted")
    on_a_copy = found_in(tmp_path)
    assert on_a_copy != before

    publish(tmp_path, {name: LatestFiles([], [], []) for name in files})
    publish(tmp_path, now)
    assert found_in(tmp_path) == on_a_copy
    (tmp_path / "fincon.duckdb").unlink()
    publish(tmp_path, now)
    assert found_in(tmp_path) == on_a_copy


def test_of_views_over_files_of_another_kind_only_those_are_made_that_are_others(
    synced: Path, tmp_path: Path
) -> None:
    """A first snapshot, a table's first rows, none any more, patterns and rates that come and go: as if all were made anew."""
    files = {t.name: rows_files(synced, t.name) for t in TABLES}
    none, some = (
        LatestFiles([], [], []),
        {name: LatestFiles([], found, found) for name, found in files.items()},
    )
    accounts = files["accounts"]
    rates = "SELECT DATE '2026-01-01' AS day, 'usd' AS from_currency, 'jpy' AS to_currency, 150 AS rate"
    for changed in (
        {},
        {"owners": none, "accounts": LatestFiles(accounts, [], accounts)},
        {"owners": none, "accounts": LatestFiles(accounts[:1], accounts[1:], accounts)},
        {},
    ):
        if changed:
            (tmp_path / "patterns.csv").write_text("kind,language,pattern\nloan_payment,en,kredito\n")
            duckdb.sql(rates).write_parquet(str(tmp_path / "rates.parquet"))
        else:
            (tmp_path / "patterns.csv").unlink(missing_ok=True)
            (tmp_path / "rates.parquet").unlink(missing_ok=True)
        publish(tmp_path, some | changed)
        on_the_last = found_in(tmp_path, is_counted=False), given_in(tmp_path)
        kept = (tmp_path / "fincon.duckdb").rename(tmp_path / "kept")
        publish(tmp_path, some | changed)
        assert on_the_last == (found_in(tmp_path, is_counted=False), given_in(tmp_path))
        kept.rename(tmp_path / "fincon.duckdb")


def given_in(data: Path) -> tuple[object, object]:
    """The rates, and the patterns that are not fincon's own."""
    with connect(data) as connection:
        rates = connection.execute("FROM rates").fetchall()
        return rates, connection.execute("FROM payment_patterns WHERE pattern = 'kredito'").fetchall()


def found_in(data: Path, *, is_counted: bool = True) -> list[object]:
    """Views, columns and macros with their comments; and, if they are counted, how many rows each table and question has."""
    with connect(data) as connection:
        described = [
            f"SELECT {columns} FROM duckdb_{what}() WHERE database_name = 'fincon' ORDER BY ALL"
            for what, columns in (
                ("views", "schema_name, view_name, comment"),
                ("columns", "schema_name, table_name, column_name, data_type, comment"),
                ("functions", "schema_name, function_name, parameters, macro_definition, comment"),
            )
        ]
        views = [f"{schema}.{table.name}" for schema in ("main", "history") for table in TABLES] + list(ASKED)
        counts = [f"SELECT count(*) FROM {view}" for view in views if is_counted]
        found = [connection.execute(query).fetchall() for query in described + counts]
    macros = [tuple(_in_order(text) for text in macro) for macro in found[2]]
    return [*found[:2], macros, *found[3:]]


def _in_order(text: object) -> object:
    """A definition as it is, but for the order of what a star leaves out, which DuckDB writes as it likes."""
    if not isinstance(text, str):
        return text
    return re.sub(r"EXCLUDE \(([^)]*)\)", lambda found: ", ".join(sorted(found[1].split(", "))), text)


def test_a_reader_that_was_there_before_sees_what_it_saw_and_a_new_one_sees_the_new(
    sandbox: Sandbox, data: Path
) -> None:
    sync(sandbox.url, data)
    reader = connect(data)
    before = reader.execute("SELECT count(*) FROM history.balances").fetchall()
    sandbox.advance(timedelta(days=3))
    sync(sandbox.url, data)
    assert reader.execute("SELECT count(*) FROM history.balances").fetchall() == before
    with connect(data) as newer:
        assert newer.execute("SELECT count(*) FROM history.balances").fetchall() > before
    reader.close()


def test_readers_cannot_write(synced: Path) -> None:
    with connect(synced) as connection, pytest.raises(UsageError, match="read-only"):
        connection.execute("CREATE TABLE fincon.main.mine AS SELECT 1")


def test_history_is_one_unbroken_line_per_object_and_its_end_is_the_latest(synced: Path) -> None:
    gaps = """
        SELECT account_id FROM (
            SELECT *, lead(valid_from) OVER (PARTITION BY account_id ORDER BY valid_from) AS next FROM history.accounts
        ) WHERE next IS DISTINCT FROM valid_to"""
    assert rows(synced, gaps) == []
    for table in OBJECTS:
        latest = f"SELECT * EXCLUDE (valid_from, valid_to) FROM history.{table} WHERE valid_to IS NULL"
        assert rows(synced, f"({latest}) EXCEPT ALL FROM {table}") == []
        assert rows(synced, f"FROM {table} EXCEPT ALL ({latest})") == []


def test_the_views_and_python_agree_on_every_currency(synced: Path) -> None:
    currencies = sorted({*ZERO_DECIMAL, *THREE_DECIMAL, "usd", "isk", "ugx", "undefined", "u1d", ""})
    found = rows(synced, f"SELECT c, minor_unit_digits(c) AS digits FROM (SELECT unnest({currencies}) AS c)")
    for row in found:
        one = major(1, row["c"])
        assert row["digits"] == (None if one is None else -one.as_tuple().exponent)
    for row in rows(
        synced, "SELECT current, currency, current_amount FROM balances WHERE current IS NOT NULL"
    ):
        assert row["current_amount"] == major(row["current"], row["currency"])
        assert isinstance(row["current_amount"], Decimal)


def test_nothing_synced_is_told_and_a_folder_that_cannot_be_written_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no"):
        connect(tmp_path)
    with pytest.raises(RunFailed, match="could not be published"):
        publish(tmp_path / "nowhere", {table.name: LatestFiles([], [], []) for table in TABLES})


def test_a_check_that_is_of_every_table_is_of_one_that_is_added_too() -> None:
    """Nothing but its schema says that a table is there; the checks that once had a list of them have none."""
    columns = (Column("thing_id", pa.string(), "It."), Column("account_id", pa.string(), "Whose."))
    added = Table("things", "One row per thing.", ("account_id",), ("thing_id",), columns)
    written = {
        path.stem: written_out(path.read_text(encoding="utf-8"), [*OBJECT_TABLES, added])
        for path in (SQL / "checks").glob("*.sql")
    }
    naming = {name for name, query in written.items() if re.search(r"(lake|main|history)\.things\b", query)}
    assert naming == {
        *("current_is_unique", "versions_do_not_overlap", "rows_have_runs", "runs_have_their_rows"),
        "details_have_accounts",
    }
    assert "GROUP BY stripe_account, account_id, thing_id\n" in written["current_is_unique"]
    assert not [name for name, query in written.items() if "$" in query or "For each" in query]


@pytest.mark.parametrize("is_touched", [False, True])
@pytest.mark.first(1)
def test_what_is_wrong_is_found_in_every_table(synced: Path, is_touched: bool) -> None:
    """Each row twice and of no run; then, the accounts and the watermarks gone. So in what a sync touched, here all of it."""
    lake = {t.name: rows_files(synced, t.name) for t in TABLES}

    def tables_found(files: dict[str, list[str]]) -> dict[str, set[str]]:
        publish(synced, {name: LatestFiles([], paths, paths) for name, paths in files.items()})
        found: dict[str, set[str]] = {}
        with connect(synced) as connection:
            for name, _, query in checks(files if is_touched else None):
                result = connection.execute(query)
                if (result.description or [("",)])[0][0] == "in_table":
                    found[name] = {row[0] for row in result.fetchall()}
        return found

    versioned = {table.name for table in OBJECT_TABLES} - {
        "rejects",
        "authorizations",
    }  # there is none of these here
    twice = tables_found({**{name: paths * 2 for name, paths in lake.items()}, "runs": []})
    assert twice["current_is_unique"] == twice["versions_do_not_overlap"] == versioned
    assert twice["rows_have_runs"] == versioned  # nothing was rejected here
    gone = tables_found({**lake, "accounts": [], "watermarks": lake["watermarks"][:1]})
    assert gone["details_have_accounts"] == {"transactions", "owners", "watermarks"}
    gone = tables_found({**lake, "watermarks": []})
    assert gone["details_have_watermarks"] == {"transactions", "owners"}
    assert not any(tables_found(lake).values())


@pytest.mark.parametrize("left", ["fincon.duckdb", ".fincon.duckdb.part"])
@pytest.mark.first(1)
def test_what_a_killed_writer_left_beside_the_views_is_never_replayed_over_new_ones(
    synced: Path, tmp_path: Path, left: str
) -> None:
    """DuckDB replays a ``.wal`` over whatever file stands beside it."""
    paths = {t.name: rows_files(synced, t.name) for t in TABLES}
    files = {name: LatestFiles([], found, found) for name, found in paths.items()}
    publish(tmp_path, files)
    as_published = found_in(tmp_path, is_counted=False)
    if left != "fincon.duckdb":
        shutil.copy(tmp_path / "fincon.duckdb", tmp_path / left)
    killed = (
        "import duckdb, os, sys\n"
        "c = duckdb.connect(sys.argv[1])\n"
        "c.execute('CREATE OR REPLACE VIEW accounts AS SELECT 1 AS planted; CREATE VIEW planted AS SELECT 1')\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / left)], check=False)
    assert (tmp_path / f"{left}.wal").stat().st_size > 0
    for _ in range(2):  # made on a copy of the last, and then once more
        publish(tmp_path, files)
        assert found_in(tmp_path, is_counted=False) == as_published
    assert list(tmp_path.glob("*.wal")) == list(tmp_path.glob(".*.wal")) == []
