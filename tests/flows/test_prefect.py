"""Under Prefect: the same steps, the same lake, and nothing secret in its database."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fincon.sandbox.server import Sandbox
from tests.conftest import FINCON, KEY, environ, fincon, rows, state
from tests.prefect_server import ask, holds_no_secret, messages, served, tasks
from tests.transforms.test_personal import personal_data, where


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with served(tmp_path_factory.mktemp("prefect")) as env:
        yield env


def test_a_sync_makes_the_same_lake_in_process_and_as_a_flow_run(
    server: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "ids.txt").write_text("\n".join([*sandbox.world.session_ids(), "fcsess_gone"]))
    arguments = ("--quiet", "sync", "--sessions", "ids.txt")
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
    assert run["tags"] == ["fincon"]
    assert re.fullmatch(r"sync \d{4}-\d\d-\d\d \d\d:\d\d", run["name"])
    steps = {"fetch sessions", "fetch accounts", "transform and load", "publish", "check"}
    assert set(tasks(server, run, *steps)) == steps
    messages(server, run, "rows added", rows(tmp_path / "flow", "FROM runs")[0]["run_id"], "Request-Id req_")
    assert (alone.stderr, flow.stderr) == ("", ""), "Prefect's chatter stays out"

    holds_no_secret(Path(server["PREFECT_HOME"]), KEY)


def test_the_flow_itself_runs_and_fails_as_the_command_does(
    server: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    code = (
        f"from fincon.flows.sync import sync; print(sync(data={str(tmp_path / 'data')!r})['accounts_seen'])"
    )
    python = str(FINCON.with_name("python"))
    env = {**os.environ, **environ(sandbox.url), **server}
    done = subprocess.run(
        [python, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == str(sandbox.world.account_count), done.stderr
    assert done.stderr == "", "DuckDB has nothing to complain of either"
    refused = fincon(
        "sync", cwd=tmp_path, env={**environ(sandbox.url), **server, "STRIPE_API_BASE": "http://127.0.0.1:9"}
    )
    assert refused.returncode == 1
    assert "the connection failed" in refused.stderr
    holds_no_secret(Path(server["PREFECT_HOME"]), KEY)


def test_prefect_is_told_no_personal_data_and_not_the_key_of_its_hashes(
    server: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    key = "a-key-that-stays-out-of-prefect"
    env = environ(sandbox.url, FINCON_PII_KEY=key) | server
    done = fincon("sync", "--owners", "--verbose", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "data", "SELECT count(*) > 50 AS many FROM owners") == [{"many": True}]
    needles = personal_data(sandbox.world) | {key.encode()}
    assert where(tmp_path / "data", needles) == []
    home = Path(server["PREFECT_HOME"])
    stored = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert [needle for needle in needles if len(needle) > 8 and needle in stored] == []
