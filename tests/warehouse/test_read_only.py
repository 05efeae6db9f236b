"""Whoever asks the views reads them, and nothing else: no file but the lake's, no environment, and nothing is written."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from fincon import connect
from fincon.errors import UsageError
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.warehouse.connection import ask
from tests.conftest import START, sync
from tests.typed import typed

WRITING = (
    "COPY (SELECT 1) TO '{outside}/x.csv'",
    "COPY accounts TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{outside}/x.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
    "explain\nanalyze COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)",
    "/* EXPLAIN */ EXPLAIN ANALYZE /* SELECT */ COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)",
    "WITH c AS (COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)) SELECT * FROM c",
    "EXPLAIN ANALYZE WITH c AS (COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)) SELECT * FROM c",
    "SELECT * FROM (WITH c AS (COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)) SELECT * FROM c)",
    "SELECT * FROM query('WITH c AS (COPY (SELECT 1) TO ''{file}'' (FORMAT csv, USE_TMP_FILE false)) FROM c')",
    "SET VARIABLE x = (WITH c AS (COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)) FROM c)",
    "PREPARE p AS COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)",
    "EXPORT DATABASE '{outside}/all'",
    "ATTACH '{outside}/x.db'",
    "ATTACH ':memory:' AS other",
    "CREATE TABLE fincon.main.mine AS SELECT 1",
    "CREATE TABLE memory.main.mine AS SELECT 1",
    "CREATE OR REPLACE TEMP VIEW accounts AS SELECT 1",
    "DROP VIEW accounts",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CREATE PERSISTENT SECRET s (TYPE s3)",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET allowed_directories = ['/']",
    "SET log_query_path = '{outside}/log'",
    "SET TimeZone = 'UTC'; COPY (SELECT 1) TO '{outside}/x.csv'",
    "SET profiling_output = '{outside}/profile'",
    "PRAGMA profiling_output = '{outside}/profile'",
    "CALL enable_logging(storage = 'file', storage_path = '{outside}')",
    "SELECT 1; COPY (SELECT 1) TO '{outside}/x.csv'",
)
"""What writes, or may be made to. ``file`` is one of the lake's."""

PEEKING = (
    "FROM read_text('/proc/self/environ')",
    "FROM read_blob('/proc/self/environ')",
    "FROM read_csv('{outside}/ids.csv')",
    "FROM read_json('{outside}/ids.csv')",
    "FROM read_parquet('{outside}/ids.parquet')",
    "FROM '{outside}/ids.csv'",
    "FROM '{outside}/ids.parquet'",
    "FROM sniff_csv('{outside}/ids.csv')",
    "FROM parquet_metadata('{outside}/ids.parquet')",
    "FROM glob('{outside}/*')",
    "FROM glob('{data}/*')",
    "FROM read_text('{data}/erasure.key')",
    "FROM read_text('{data}/lake/../.lock')",
    "FROM read_blob('{data}/pages/*/run.json')",
    "FROM read_text('file://{outside}/ids.csv')",
    "SELECT getenv('HOME')",
    "FROM duckdb_secrets()",
    "SELECT * FROM frame",
    "EXPLAIN ANALYZE FROM read_text('/proc/self/environ')",
    "SELECT (SELECT content FROM read_text('/proc/self/environ'))",
)
"""What reads something else than the lake."""


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small lake, and beside it a folder with files that are nobody's business."""
    data = tmp_path_factory.mktemp("synced") / "data"
    with running(World(seed=1, clock=START, accounts=40, sessions=10)) as sandbox:
        sync(sandbox.url, data)
    outside = data.parent / "outside"
    outside.mkdir()
    (outside / "ids.csv").write_text("session_id\nfcsess_1\n")
    duckdb.sql(f"COPY (SELECT 1 AS one) TO '{outside / 'ids.parquet'}'")
    return data


def filled(query: str, data: Path) -> str:
    """A query with the places that it names."""
    file = next((data / "lake" / "accounts").glob("*.parquet"))
    return (
        query.replace("{outside}", str(data.parent / "outside"))
        .replace("{data}", str(data))
        .replace("{file}", str(file))
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, and what is in it."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("query", [*WRITING, *PEEKING])
def test_connect_takes_what_reads_the_lake_alone(synced: Path, query: str) -> None:
    before = contents(synced.parent)
    frame = pd.DataFrame({"a": [1]})
    asked = filled(query, synced)
    with connect(synced) as views:
        ways: tuple[Any, ...] = (
            views.execute,
            views.sql,
            views.query,
            views.cursor().execute,
            views.cursor().sql,
        )
        for ask in ways:
            with pytest.raises((UsageError, duckdb.Error)):
                ask(asked).fetchall()
        assert views.execute("SELECT count(*) > 0 FROM accounts").fetchall() == [(True,)]
    assert contents(synced.parent) == before
    assert len(frame) == 1


@pytest.mark.slow
def test_fincon_sql_refuses_it_in_two_lines(synced: Path) -> None:
    before = contents(synced.parent)
    copy, explained, in_with = WRITING[0], WRITING[3], WRITING[7]
    for query in (
        copy,
        explained,
        in_with,
        "ATTACH '{outside}/x.db'",
        PEEKING[0],
        PEEKING[2],
        "SELECT getenv('HOME')",
    ):
        done = typed("--data", str(synced), "sql", filled(query, synced), cwd=synced.parent)
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 2, done.err
    assert contents(synced.parent) == before


@pytest.mark.parametrize(
    "query",
    [
        "FROM accounts",
        "SELECT 1; ",
        "-- a comment\nSELECT 1",
        "SHOW TABLES",
        "DESCRIBE accounts",
        "SUMMARIZE balances",
        "VALUES (1), (2)",
        "TABLE accounts",
        "EXPLAIN SELECT * FROM accounts",
        "EXPLAIN ANALYZE SELECT * FROM accounts",
        "EXPLAIN (FORMAT json) SELECT * FROM accounts",
        "-- a comment\nEXPLAIN SELECT 1",
        "WITH a AS (FROM accounts) FROM a UNION ALL FROM a",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) FROM t",
        "WITH a AS MATERIALIZED (FROM accounts) FROM a",
        "FROM (PIVOT accounts ON status IN ('active', 'inactive') USING count(*))",
        "FROM balances_as_of(now())",
        "SELECT count(*) FROM low_balance_risk(500)",
        "SELECT 'COPY_QUERY_NODE' AS type",
        "SELECT * FROM read_parquet(lake.accounts_files())",
    ],
)
def test_what_reads_is_answered(synced: Path, query: str) -> None:
    with connect(synced) as views:
        assert views.execute(query).fetchall()
        assert views.sql(query).fetchall()


def test_a_reader_has_frames_parameters_cursors_and_a_time_zone(synced: Path) -> None:
    with connect(synced) as views:
        count = views.sql("FROM accounts").to_arrow_table().num_rows
        assert len(views.sql("SELECT account_id FROM accounts").df()) == count
        assert (
            len(connect(synced).sql("FROM accounts").fetchall()) == count
        )  # whoever drops the connection at once
        assert views.execute("SELECT ? + 1", [1]).fetchall() == [(2,)]
        assert views.sql("SELECT $n + 1", params={"n": 1}).fetchall() == [(2,)]
        with views.cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM accounts").fetchall()[0][0] > 0
            cached = cursor.execute("SELECT current_setting('parquet_metadata_cache')").fetchall()
            assert cached == [(True,)]  # as of the connection, else each question reads every footer again
        views.register("mine", pd.DataFrame({"account_id": ["fca_1"]}))
        assert views.execute("SELECT count(*) FROM mine").fetchall() == [(1,)]
        views.execute("SET TimeZone = 'Asia/Tokyo'")
        assert views.execute("SELECT current_setting('TimeZone')").fetchall() == [("Asia/Tokyo",)]
        with pytest.raises(AttributeError):
            views.read_csv("/etc/hostname")
        relation = views.sql("SELECT 1 AS one")
        for write in (relation.to_parquet, relation.to_csv):
            with pytest.raises(duckdb.PermissionException):
                write(str(synced.parent / "outside" / "x"))


def test_no_bar_of_progress_is_written_between_the_rows_of_a_script(synced: Path) -> None:
    """DuckDB draws one where a query takes long, on standard output, wherever no file is run: ``python -c``, a worker."""
    script = f"""
import duckdb, fincon
ask = "SELECT current_setting('enable_progress_bar')"
views = fincon.connect({str(synced)!r})
print(*(one.execute(ask).fetchall()[0][0] for one in (duckdb.connect(), views, views.cursor())))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True False False\n"


def test_what_a_question_cannot_hold_goes_to_a_private_folder_until_the_connection_is_closed(
    synced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or, where its process was killed, for a day. Where others could look into that folder nothing is put there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("FINCON_QUERY_MEMORY", "60")
    limit = "SELECT current_setting('memory_limit')"
    with connect(synced) as views:
        query = "SELECT md5(range::VARCHAR) AS text FROM range(1_500_000) ORDER BY text"
        next(under_way := views.sql(query).to_arrow_reader(1000))
        with views.cursor() as beside:
            spilled = beside.execute("SELECT sum(size) > 0 FROM duckdb_temporary_files()").fetchall()
            assert (beside.execute(limit).fetchall(), spilled) == ([("57.2 MiB",)], [(True,)])
        [folder] = tmp_path.iterdir()
        assert (folder.stat().st_mode & 0o777, len([*folder.iterdir()])) == (0o700, 1)
        under_way.close()
        del under_way
    assert [*folder.iterdir()] == []
    for name, days in (("killed", 2), ("at work", 0)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - days * 86_400,) * 2)
    connect(synced).close()
    assert [one.name for one in folder.iterdir()] == ["at work"]
    folder.chmod(0o755)
    with connect(synced) as views:
        assert views.execute(limit).fetchall() != [("57.2 MiB",)]
        assert not views.execute("SELECT current_setting('temp_directory')").fetchall()[0][0].startswith("/")


def test_a_question_that_needs_more_memory_says_how_to_give_it(
    synced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINCON_QUERY_MEMORY", "20")
    with pytest.raises(UsageError) as told, ask("", synced) as views:
        views.execute("SELECT len(list(md5(range::VARCHAR))) FROM range(900_000)").fetchall()
    assert "FINCON_QUERY_MEMORY" in str(told.value.hint)


@pytest.mark.slow
def test_output_goes_on_being_written_wherever_it_is_wanted(
    sandbox: Sandbox, synced: Path, tmp_path: Path
) -> None:
    for ending in ("csv", "json", "jsonl", "parquet", "arrow"):
        output = tmp_path / f"out.{ending}"
        done = typed("--data", str(synced), "sql", "FROM accounts", "--output", str(output), cwd=tmp_path)
        assert (done.code, output.stat().st_size > 0) == (0, True), done.err


def test_a_lake_behind_links_is_read_and_nothing_beside_it(synced: Path, tmp_path: Path) -> None:
    """``lake/`` may stand on another disk."""
    with running(World(seed=1, clock=START, accounts=10, sessions=0)) as sandbox:
        data = tmp_path / "data"
        (tmp_path / "disk").mkdir()
        data.mkdir()
        (data / "lake").symlink_to(tmp_path / "disk")
        sync(sandbox.url, data)
        accounts = sandbox.world.account_count
    (data / "snapshots" / "x.parquet").symlink_to("/etc/hostname")
    with connect(data) as views:
        assert views.execute("SELECT count(*) FROM accounts").fetchall() == [(accounts,)]
        with pytest.raises(duckdb.Error):
            views.execute(f"FROM read_text('{data}/snapshots/x.parquet')")
