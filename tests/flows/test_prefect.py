"""Under Prefect: the same steps, the same lake, and nothing secret in its database."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fincon.sandbox.server import Sandbox
from fincon.transforms.schemas import OBJECT_TABLES
from tests.conftest import FINCON, KEY, Child, environ, fincon, rows, state
from tests.extract.test_refused import refreshed, refusal
from tests.prefect_server import ask, busy, eventually, holds_no_secret, messages, of_run, post, served, tasks
from tests.scripted_stripe import Answer, Query, ScriptedStripe, account, serving, session
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

    made = eventually(
        lambda: assets(server, tmp_path / "flow"), lambda found: len(found) == len(OBJECT_TABLES)
    )
    held = rows(tmp_path / "flow", "SELECT count(*) AS n, max(observed_at) AS newest FROM accounts")[0]
    assert made["accounts"]["rows"] == held["n"]
    assert made["accounts"]["newest"] == held["newest"].isoformat()
    assert made["transactions"]["rows"] == 0
    place = str(tmp_path / "flow")
    (published,) = eventually(
        lambda: [
            one
            for one in events(server, "fincon.lake.published")
            if one["resource"]["prefect.resource.name"] == place
        ],
        lambda found: len(found) == 1,
    )
    assert published["payload"]["rows_added"] == rows(tmp_path / "flow", "FROM runs")[0]["rows_added"]

    holds_no_secret(Path(server["PREFECT_HOME"]), KEY)


def events(server: dict[str, str], name: str) -> list[dict[str, Any]]:
    """The events of a name that the server has."""
    asked = {"filter": {"event": {"name": [name]}}, "limit": 50}
    found: list[dict[str, Any]] = post(server, "events/filter", asked)["events"]
    return found


def assets(server: dict[str, str], data: Path) -> dict[str, dict[str, Any]]:
    """Table of the lake → what the server was told of it as an asset that is made from Stripe."""
    made = events(server, "prefect.asset.materialization.succeeded")
    ours = [one for one in made if one["resource"]["prefect.resource.id"].startswith(data.as_uri())]
    for one in ours:
        upstream = [
            of["prefect.resource.id"] for of in one["related"] if of["prefect.resource.role"] == "asset"
        ]
        assert [key.rpartition("/")[2] for key in upstream] == ["financial_connections"]
    return {one["resource"]["prefect.resource.name"]: one["payload"] for one in ours}


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
    failing = env | {"STRIPE_API_BASE": "http://127.0.0.1:9"}
    code = code.replace("sync(data", "sync(retries=0, data")
    failed = subprocess.run(
        [python, "-c", code],
        env=failing,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "the connection failed" in failed.stderr
    assert "leaked" not in failed.stderr, "nor where it failed, though Prefect keeps errors to the end"
    refused = fincon(
        "sync", cwd=tmp_path, env={**environ(sandbox.url), **server, "STRIPE_API_BASE": "http://127.0.0.1:9"}
    )
    assert refused.returncode == 1
    assert "the connection failed" in refused.stderr
    assert len(refused.stderr.splitlines()) == 2, "no traceback of a task"
    holds_no_secret(Path(server["PREFECT_HOME"]), KEY)


@pytest.mark.minutes
def test_a_server_that_goes_away_costs_seconds_and_the_sync_is_done(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    pids: list[int] = []

    def intercept(path: str, query: object) -> None:
        while pids:
            os.kill(pids.pop(), signal.SIGKILL)

    with (
        served(home, pids) as server,
        serving(ScriptedStripe([account("fca_1")], intercept=intercept)) as stripe,
    ):
        done = fincon("sync", cwd=tmp_path, env=environ(stripe.url, FINCON_LOG="warning") | server)
    assert done.returncode == 0, done.stderr
    assert "went away" in done.stderr
    assert "Run 20" in done.stderr
    assert "Traceback" not in done.stderr
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM accounts") == [{"n": 1}]


def test_a_busy_server_is_asked_again_and_one_that_stays_so_is_told_in_two_lines(
    server: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    """A server on SQLite answers 503 while another writes; a task asks it for a slot before it begins."""
    with busy(server, "/increment", times=2) as door:
        done = fincon("--quiet", "sync", cwd=tmp_path, env=environ(sandbox.url) | door)
    assert (done.returncode, done.stderr) == (0, "")
    with busy(server, "/increment", times=100) as door:
        env = environ(sandbox.url, PREFECT_CLIENT_MAX_RETRIES="0") | door
        failed = fincon("sync", cwd=tmp_path, env=env)
    assert failed.returncode == 1
    assert "503" in failed.stderr
    assert "--no-prefect" in failed.stderr
    assert len(failed.stderr.splitlines()) == 2
    assert fincon("check", cwd=tmp_path).returncode == 0


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


def test_a_flow_run_with_a_refused_account_completes_and_its_log_and_artifact_tell_it(
    server: dict[str, str], tmp_path: Path
) -> None:
    """And a session; what is told names nobody, in Stripe's words neither."""
    sessions = {one: session(one) for one in ("fcsess_A", "fcsess_B")}
    words = "No: jane@example.com, rk_test_51secret"

    def intercept(path: str, query: Query) -> Answer | None:
        if path.endswith("/sessions/fcsess_A") or query.get("account") == ["fca_A"]:
            return refusal(403, "account_closed", words)
        return None

    accounts = [refreshed("fca_A"), refreshed("fca_B")]
    (tmp_path / "ids.txt").write_text("\n".join(sessions))
    with serving(ScriptedStripe(accounts, sessions=sessions, intercept=intercept)) as stripe:
        env = environ(stripe.url) | server
        done = fincon("sync", "--transactions", "--sessions", "ids.txt", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    run = max(ask(server, "flow_runs"), key=lambda one: str(one["created"]))
    assert run["state_type"] == "COMPLETED"
    told = ("1 session (403 account_closed)", "the transactions of 1 account (403 account_closed)")
    messages(server, run, *(f"Stripe refused {one}" for one in told))
    shown = eventually(
        lambda: "\n".join(str(one["data"]) for one in of_run(server, "artifacts", run)),
        lambda shown: "Set aside" in shown,
    )
    assert "1 session, which Stripe refused (403 account_closed)" in shown
    assert "the transactions of 1 account, which Stripe refused (403 account_closed)" in shown
    holds_no_secret(Path(server["PREFECT_HOME"]), KEY, "jane@example.com", "rk_test_51secret")


def test_a_run_of_the_command_line_that_is_cancelled_in_prefect_stops_and_goes_on_later(
    server: dict[str, str], tmp_path: Path
) -> None:
    """No worker ends its process: it sees for itself, though Stripe does not answer; of 57 pages it asks for no more."""
    released, reached = threading.Event(), threading.Event()

    def intercept(path: str, query: object) -> Answer | None:
        if len(stripe.requests) >= 5:
            reached.set()
            released.wait(60)
        return None

    accounts = [account(f"fca_{n:04d}", created=1_795_000_000 - n) for n in range(570)]
    with serving(ScriptedStripe(accounts, page_size=10, intercept=intercept)) as stripe:
        env = {**os.environ, **environ(stripe.url), **server}
        with Child([FINCON, "sync"], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as run:
            try:
                assert reached.wait(60)
                (started,) = ask(server, "flow_runs", flow_runs={"state": {"type": {"any_": ["RUNNING"]}}})
                post(server, f"flow_runs/{started['id']}/set_state", {"state": {"type": "CANCELLING"}})
                _, told = run.communicate(timeout=50)
            finally:
                released.set()
                run.kill()
        assert run.returncode == 143
        assert told.splitlines()[-1:] == [
            "fincon: cancelled. What was fetched is kept: run the same command again to go on."
        ]
        assert len(stripe.requests) <= 6
        eventually(
            lambda: [one["state_type"] for one in ask(server, "flow_runs") if one["id"] == started["id"]],
            lambda found: found == ["CANCELLED"],
        )
        assert fincon("sync", cwd=tmp_path, env=environ(stripe.url)).returncode == 0
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM accounts") == [{"n": 570}]
