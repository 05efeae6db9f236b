"""DuckDBs that are started before they are asked for."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from fincon.sandbox.server import Sandbox
from fincon.storage.data_folder import open_duckdb
from fincon.storage.duckdbs_ahead import duckdbs_ahead, start_duckdb
from tests.conftest import sync
from tests.typed import typed


def is_open(connection: duckdb.DuckDBPyConnection) -> bool:
    try:
        connection.execute("SELECT 1")
    except duckdb.ConnectionException:
        return False
    return True


def counted(monkeypatch: pytest.MonkeyPatch) -> list[duckdb.DuckDBPyConnection]:
    """Every DuckDB that is started from now on."""
    connect, made = duckdb.connect, []

    def noted() -> duckdb.DuckDBPyConnection:
        made.append(connect())
        return made[-1]

    monkeypatch.setattr(duckdb, "connect", noted)
    return made


def test_each_is_taken_once_and_the_next_is_started_then(monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    with duckdbs_ahead(2):
        taken = [start_duckdb() for _ in range(3)]
    assert {id(one) for one in taken} == {id(one) for one in made}
    assert len(made) == 3
    assert all(map(is_open, taken))


def test_threads_that_ask_at_once_never_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    with duckdbs_ahead(4), ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: start_duckdb(), range(8)))
    assert len({id(one) for one in taken}) == len(made) == 8


def test_what_nobody_took_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    with duckdbs_ahead(2):
        taken = start_duckdb()
    with pytest.raises(KeyError), duckdbs_ahead(1):
        {}.pop("what fails")
    assert [is_open(one) for one in made] == [one is taken for one in made]
    assert is_open(start_duckdb())
    assert len(made) == 4


def test_it_is_set_as_one_that_is_started_so(tmp_path: Path) -> None:
    config = {
        "threads": 1,
        "memory_limit": "100MB",
        "temp_directory": f"{tmp_path}/it's",
        "preserve_insertion_order": False,
    }
    names = ", ".join(f"current_setting('{name}')" for name in config)
    with (
        duckdbs_ahead(1),
        open_duckdb(tmp_path, **config) as ahead,
        open_duckdb(tmp_path, **config) as other,
        duckdb.connect(config=config) as plain,  # type: ignore[arg-type] # it takes any
    ):
        asked = [one.execute(f"SELECT {names}").fetchall() for one in (plain, ahead, other)]
        assert asked == [asked[0]] * 3
        assert asked[0][0][0] == 1


def test_what_commands_and_runs_open_is_started_on_another_thread(
    sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a question opens, and what publishes and checks; the lake's own, where no command has begun, is started then."""
    sync(sandbox.url, data, accounts=False, session_ids=sandbox.world.session_ids()[:2])
    connect, threads = duckdb.connect, list[str]()

    def noted() -> duckdb.DuckDBPyConnection:
        threads.append(threading.current_thread().name.partition("_")[0])
        return connect()

    monkeypatch.setattr(duckdb, "connect", noted)
    assert typed("sql", "FROM runs", "--data", str(data), cwd=data.parent).code == 0
    assert threads == ["duckdb"]
    threads.clear()
    sync(sandbox.url, data, accounts=False, session_ids=sandbox.world.session_ids()[:2])
    assert sorted(threads) == ["MainThread", "duckdb", "duckdb"]
    assert (
        gc.get_freeze_count() == 0
    )  # a command that somebody calls in a process of theirs leaves their collector alone


def test_whoever_asks_for_it_hears_why_it_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> duckdb.DuckDBPyConnection:
        raise duckdb.OutOfMemoryException("no memory")

    monkeypatch.setattr(duckdb, "connect", refused)
    with duckdbs_ahead(2), pytest.raises(duckdb.OutOfMemoryException):
        start_duckdb()
