"""Under Prefect: the same steps, the same lake, and nothing secret in its database."""

import os
import socket
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import FINCON, KEY, environ, fincon, rows, state

from sandbox.server import Sandbox

QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect server of its own; the environment with which to reach it."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", **QUIET}
    log = (home / "server.log").open("w")
    command = [
        str(FINCON.with_name("prefect")),
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log)
    try:
        _wait_for(f"{env['PREFECT_API_URL']}/health", process)
        yield env
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - loopback
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the Prefect server did not start")


def ask(server: dict[str, str], what: str) -> list[dict[str, Any]]:
    answer = requests.post(f"{server['PREFECT_API_URL']}/{what}/filter", json={}, timeout=10)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found


def test_a_sync_makes_the_same_lake_in_process_and_as_a_flow_run(
    server: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "ids.txt").write_text("\n".join([*sandbox.world.session_ids(), "fcsess_gone"]))
    arguments = ("sync", "--sessions", "ids.txt")
    alone = fincon("--data", "alone", *arguments, cwd=tmp_path, env=environ(sandbox.url))
    flow = fincon("--data", "flow", *arguments, cwd=tmp_path, env=environ(sandbox.url) | server)
    assert (alone.returncode, flow.returncode) == (0, 0), flow.stderr
    assert state(tmp_path / "flow") == state(tmp_path / "alone")
    counted = "SELECT mode, requests, pages, sessions_seen, accounts_seen, rows_added, rejected FROM runs"
    assert rows(tmp_path / "flow", counted) == rows(tmp_path / "alone", counted)

    run = ask(server, "flow_runs")[0]
    assert (run["state_type"], run["parameters"]) == (
        "COMPLETED",
        {"mode": "sessions+accounts", "session_count": len(sandbox.world.session_ids()) + 1},
    )
    tasks = ask(server, "task_runs")
    assert {task["name"].rsplit("-", 1)[0] for task in tasks} == {
        "fetch sessions",
        "fetch accounts",
        "transform and load",
        "publish",
        "check",
    }
    assert any("rows added" in log["message"] for log in ask(server, "logs"))
    assert len(flow.stderr.splitlines()) == len(alone.stderr.splitlines()), "Prefect's chatter stays out"

    holds_no_secret(Path(server["PREFECT_HOME"]))


def test_the_flow_itself_runs_and_fails_as_the_command_does(
    server: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    code = f"from flows.sync import sync; print(sync(data={str(tmp_path / 'data')!r})['accounts_seen'])"
    python = str(FINCON.with_name("python"))
    env = {**os.environ, **environ(sandbox.url), **server}
    done = subprocess.run(
        [python, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == str(sandbox.world.account_count), done.stderr
    refused = fincon(
        "sync", cwd=tmp_path, env={**environ(sandbox.url), **server, "STRIPE_API_BASE": "http://127.0.0.1:9"}
    )
    assert refused.returncode == 1
    assert "the connection failed" in refused.stderr
    holds_no_secret(Path(server["PREFECT_HOME"]))


def holds_no_secret(home: Path) -> None:
    needle = KEY.encode()
    assert not [path for path in home.rglob("*") if path.is_file() and needle in path.read_bytes()]
    with sqlite3.connect(home / "prefect.db") as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                assert KEY not in str(row), table
    database.close()
