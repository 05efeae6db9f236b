"""On a real Prefect server with a real worker: deployed, run, seen in its API, told when it breaks."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fincon.extract.responses import FIRST_ATTEMPTS
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.storage.lock import writer_lock
from tests.conftest import FINCON, KEY, START, Child, environ, fincon, rows
from tests.prefect_server import (
    ENDED,
    PREFECT,
    ask,
    holds_no_secret,
    messages,
    of_run,
    post,
    served,
    tasks,
    until,
)
from tests.scripted_stripe import Answer, ScriptedStripe, account, serving
from tests.storage.test_s3 import s3  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
WORLD = World(seed=3, clock=START, accounts=300, sessions=5)
ACCOUNTS = "/v1/financial_connections/accounts"
BLOCK_KEY = "rk_test_keptInABlockAlone"


@pytest.fixture(scope="module")
def world() -> Iterator[Sandbox]:
    """Stripe's API as the worker sees it. Runs beside the worker's have one of their own, the fixture ``sandbox``."""
    with running(WORLD) as it:
        yield it


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with served(tmp_path_factory.mktemp("prefect")) as env:
        yield env


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the worker."""
    return tmp_path_factory.mktemp("lake") / "data"


@pytest.fixture(scope="module")
def worker(server: dict[str, str], world: Sandbox, lake: Path) -> Iterator[int]:
    """Everything of prefect.yaml deployed, from another folder than its own, and a worker that runs it; its process."""
    env = clean() | server | environ(world.url, FINCON_DATA=str(lake))
    prefect = {"cwd": lake.parent, "env": env | {"PREFECT_WORKER_QUERY_SECONDS": "1"}}
    deploy = f"--no-prompt deploy --all --prefect-file {ROOT / 'prefect.yaml'}"
    for arguments in ("work-pool create local --type process", deploy):
        done = subprocess.run(
            [PREFECT, *arguments.split()], **prefect, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout
    with (lake.parent / "worker.log").open("w") as log:
        command = [PREFECT, "worker", "start", "--pool", "local"]
        process = subprocess.Popen(command, **prefect, stdout=log, stderr=log)
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()  # Prefect's own now and then waits for a run that was killed
                process.wait()


def clean() -> dict[str, str]:
    """The environment without what would speak to Stripe, fincon or Prefect."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}


def trigger(server: dict[str, str], deployment: str, **env: str) -> str:
    """Start a run of a deployment now, which others may be doing too, with more in its environment; its id."""
    more = ["--job-variable", f"env={json.dumps(env)}"] if env else []
    command = [PREFECT, "deployment", "run", deployment, *more]
    done = subprocess.run(command, env=clean() | server, check=True, capture_output=True, text=True)
    (new,) = re.findall(r"UUID: ([0-9a-f-]{36})", done.stdout)
    return str(new)


def run_of(server: dict[str, str], run_id: str) -> dict[str, Any]:
    (found,) = ask(server, "flow_runs", flow_runs={"id": {"any_": [run_id]}})
    return found


def ended(server: dict[str, str], run_id: str, seconds: float = 300) -> dict[str, Any]:
    """The run, once it has ended."""
    until(lambda: run_of(server, run_id)["state_type"] in ENDED, seconds)
    return run_of(server, run_id)


def in_python(server: dict[str, str], code: str, env: dict[str, str]) -> dict[str, Any]:
    """The flow run that ``code`` makes in a process of its own."""
    before = {run["id"] for run in ask(server, "flow_runs")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean() | server | env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    made = [
        run for run in ask(server, "flow_runs") if run["id"] not in before and run["deployment_id"] is None
    ]
    assert len(made) == 1, done.stderr
    return made[0]


def sync_code(data: Path, **parameters: Any) -> str:
    return f"from fincon.flows.sync import sync; sync(data={str(data)!r}, **{parameters!r})"


@pytest.mark.usefixtures("worker")
def test_a_run_from_the_ui_is_seen_there_whole_and_the_checks_follow_it(
    server: dict[str, str], lake: Path
) -> None:
    """States, names, tasks, logs and artifacts of a triggered run, read through the API; then the run of the checks."""

    def triggered() -> dict[str, Any] | None:
        """The run, unless it met the hour's own and was not begun."""
        found = ended(server, trigger(server, "sync/sync"))
        return None if found["state_type"] == "CANCELLED" else found

    run = until(triggered)
    assert run["state_type"] == "COMPLETED", run["state"]
    assert run["name"].startswith("sync 20")
    tasks(server, run, "fetch accounts", "transform and load", "publish", "check")
    assert len(of_run(server, "task_runs", run)) <= 20
    told = messages(server, run, "Request-Id req_", "rows added")
    kept = next(one for one in rows(lake, "SELECT run_id, rows_added FROM runs") if one["run_id"] in told)
    shown = {artifact["key"]: artifact for artifact in of_run(server, "artifacts", run)}
    assert set(shown) - {"fincon-progress"} == {"fincon-figures", "fincon-summary"}
    assert f'"value": {kept["rows_added"]}' in shown["fincon-figures"]["data"]
    assert kept["run_id"] in shown["fincon-summary"]["data"]

    def checked() -> list[dict[str, Any]]:
        return [
            r for r in ask(server, "flow_runs") if r["name"].startswith("check ") and r["state_type"] in ENDED
        ]

    check = until(checked)[0]  # a scheduled sync may have been there as well, and then its check
    assert check["state_type"] == "COMPLETED"
    assert {artifact["key"] for artifact in of_run(server, "artifacts", check)} == {"fincon-checks"}
    holds_no_secret(Path(server["PREFECT_HOME"]), KEY)


@pytest.mark.usefixtures("worker")
def test_each_cron_deployment_has_its_scheduled_runs_and_one_is_seen_to_run(server: dict[str, str]) -> None:
    """With releases of fastapi or SQLAlchemy that Prefect does not bear, nothing is ever scheduled."""
    names = {found["id"]: found["name"] for found in ask(server, "deployments")}
    wanted = {"sync", "events", "full-listing", "compact"}

    def scheduled() -> bool:
        return wanted <= {names[r["deployment_id"]] for r in ask(server, "flow_runs") if r["auto_scheduled"]}

    until(scheduled)
    often = ["deployment", "schedule", "create", "sync/events", "--interval", "20"]
    subprocess.run([PREFECT, *often], env=clean() | server, check=True, capture_output=True)

    def ran() -> list[str]:
        """Those that came through; one that met another was not begun."""
        runs = ask(server, "flow_runs", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}})
        return [run["name"] for run in runs if run["auto_scheduled"] and run["name"].startswith("events 20")]

    try:
        assert until(ran)
    finally:
        no_more_schedules(server, wanted)


def no_more_schedules(server: dict[str, str], deployments: set[str]) -> None:
    """From here on only what a test triggers runs, so that no fault meets another run, and none holds the folder."""
    clear = [PREFECT, "deployment", "schedule", "clear", "--accept-yes"]
    for name in deployments:
        flow = "compact" if name == "compact" else "sync"
        subprocess.run([*clear, f"{flow}/{name}"], env=clean() | server, check=True, capture_output=True)
    busy = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
    until(lambda: not ask(server, "flow_runs", flow_runs=busy))


def test_a_run_whose_process_is_killed_is_crashed(
    server: dict[str, str], world: Sandbox, worker: int
) -> None:
    world.faults = Faults(script=[Rule(Fault("timeout", seconds=60), nth=range(1, 99))])
    run_id = trigger(server, "sync/full-listing")
    messages(server, {"id": run_id}, "pages are on disk already")
    os.kill(child_of(worker, run_id), signal.SIGKILL)
    assert ended(server, run_id)["state_type"] == "CRASHED"
    world.faults = None


@pytest.mark.usefixtures("worker")
def test_a_run_of_a_worker_that_is_cancelled_stops_and_the_next_goes_on(
    server: dict[str, str], tmp_path: Path
) -> None:
    """Though Stripe does not answer. Of 57 pages it asks for no more, the folder is free, and what is there is kept."""
    released, reached = threading.Event(), threading.Event()

    def intercept(path: str, query: object) -> Answer | None:
        if len(stripe.requests) >= 5 and not released.is_set():
            reached.set()
            released.wait(120)
        return None

    accounts = [account(f"fca_{n:04d}", created=1_795_000_000 - n) for n in range(570)]
    with serving(ScriptedStripe(accounts, page_size=10, intercept=intercept)) as stripe:
        env = environ(stripe.url, FINCON_DATA=str(tmp_path / "data"))
        run_id = trigger(server, "sync/full-listing", **env)
        assert reached.wait(120)
        post(server, f"flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
        assert ended(server, run_id, 100)["state_type"] == "CANCELLED"
        with writer_lock(tmp_path / "data"):
            assert len(stripe.requests) <= 6
        assert not released.is_set()
        released.set()
        again = trigger(server, "sync/full-listing", **env)
        assert ended(server, again)["state_type"] == "COMPLETED"
        assert "4 pages are on disk already" in messages(server, {"id": again}, "rows added")
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM accounts") == [{"n": 570}]


def child_of(worker: int, run_id: str) -> int:
    """The process in which the worker runs a flow run."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"PREFECT__FLOW_RUN_ID={run_id}".encode() in path.read_bytes().split(b"\0"):
                return int(path.parent.name)
        except OSError:
            continue  # another's, or gone
    raise AssertionError(f"worker {worker} runs no process of {run_id}")


def test_trouble_that_passes_is_tried_again_and_a_refused_key_is_not(
    server: dict[str, str], sandbox: Sandbox, data: Path
) -> None:
    env = environ(sandbox.url)
    data.mkdir()
    (data / "fincon.duckdb").write_bytes(b"damaged views, which a run makes anew")
    sandbox.faults = Faults(script=[Rule(Fault("reset"), nth=range(1, 4))])
    run = in_python(server, sync_code(data, retries=1, retry_seconds=0.1), env)
    assert run["state_type"] == "COMPLETED", run["state"]
    tries = tasks(server, run, "fetch accounts", "publish")
    assert (tries["fetch accounts"], tries["publish"]) == (2, 1)
    told = messages(server, run, "tried again in")
    assert "fca_" not in told.replace("fca_…", "")

    sandbox.faults = None
    sandbox.state.keys = frozenset({"sk_test_another"})
    run = in_python(server, sync_code(data, retries=3, retry_seconds=0.1), env)
    assert run["state_type"] == "FAILED"
    assert tasks(server, run, "fetch accounts") == {"fetch accounts": 1}
    messages(server, run, "401 (Request-Id req_", "Check STRIPE_API_KEY")


def test_retries_apply_to_several_stripe_accounts_as_to_one(server: dict[str, str], data: Path) -> None:
    """Every attempt of the first try breaks, of both accounts; the second try brings both in."""
    with running(World(seed=4, clock=START, accounts=60, connected=2)) as platform:
        broken = range(1, 1 + 2 * FIRST_ATTEMPTS)
        platform.faults = Faults(script=[Rule(Fault("reset"), ACCOUNTS, nth=broken)])
        code = sync_code(data, connected=True, retries=1, retry_seconds=0.1)
        run = in_python(server, code, environ(platform.url))
        assert run["state_type"] == "COMPLETED", run["state"]
        tried = tasks(server, run, "fetch", "publish")
        assert (tried["fetch"], tried["publish"]) == (2, 1)
        held = rows(data, "SELECT stripe_account, count(*) AS n FROM accounts GROUP BY ALL")
        true = {account: platform.world_of(account).account_count for account in platform.connected}
        assert {row["stripe_account"]: row["n"] for row in held} == true


def test_each_stripe_account_is_a_task_run_red_where_it_was_refused_and_many_are_one(
    server: dict[str, str], data: Path
) -> None:
    with running(World(seed=4, clock=START, accounts=30, connected=3)) as platform:
        refused, *others = platform.connected
        platform.revoke(refused)
        env = environ(platform.url)
        run = in_python(server, sync_code(data, connected=True), env)
        each = [f"fetch {account}" for account in platform.connected]
        tasks(server, run, "fetch", "publish", *each)
        states = {task["name"]: task["state"] for task in of_run(server, "task_runs", run)}
        assert {states[f"fetch {account}"]["type"] for account in others} == {"COMPLETED"}
        assert states[f"fetch {refused}"]["type"] == "FAILED"
        assert "403 (Request-Id req_" in states[f"fetch {refused}"]["message"]

        bound = "from fincon.flows import account_tasks; account_tasks.MOST_TASKS = 2; "
        run = in_python(server, bound + sync_code(data, connected=True), env)
        assert set(tasks(server, run, "check")) == {
            "fetch",
            "transform and load",
            "publish",
            "check",
        }


def test_a_run_that_finds_the_folder_in_use_waits_and_is_then_skipped(
    server: dict[str, str], sandbox: Sandbox, data: Path
) -> None:
    data.mkdir()
    with writer_lock(data):
        run = in_python(server, sync_code(data, wait_seconds=1), environ(sandbox.url))
    assert (run["state_name"], run["state_type"]) == ("Skipped", "COMPLETED")
    assert "in use by process" in run["state"]["message"]
    assert of_run(server, "task_runs", run) == []
    assert sandbox.requests == [] or not (data / "lake").exists()


def test_a_check_that_finds_something_fails_its_run(
    server: dict[str, str], sandbox: Sandbox, data: Path
) -> None:
    in_python(server, sync_code(data), environ(sandbox.url))
    spoil = f"""
from pathlib import Path
from fincon.lake.tables import Lake
from fincon.pipeline.sync import publish
from fincon.transforms.schemas import SESSIONS
data = Path({str(data)!r})
with Lake(data / "lake") as lake:
    row = {{name: None for name in SESSIONS.schema.names}}
    lake.add_records(SESSIONS, [row | {{"run_id": "nobodys"}}])
    publish(data, lake)
from fincon.flows.check import check
check(data={str(data)!r})
"""
    run = in_python(server, spoil, environ(sandbox.url))
    assert run["state_type"] == "FAILED"
    assert "rows_have_runs (1 row)" in run["state"]["message"]
    assert "fincon-checks" in {artifact["key"] for artifact in of_run(server, "artifacts", run)}
    states = {task["name"]: task["state"] for task in of_run(server, "task_runs", run)}
    red = {name: state["message"] for name, state in states.items() if state["type"] == "FAILED"}
    assert red.keys() >= {"rows_have_runs"}
    assert "1 row found" in red["rows_have_runs"]
    assert states["pages_agree"]["type"] == "COMPLETED"


def blocks(server: dict[str, str], **values: Any) -> None:
    """Put Secret blocks onto the server: name, with ``_`` for ``-``, and what it holds."""
    code = "import sys, json; from prefect.blocks.system import Secret\n" + (
        "for name, value in json.load(sys.stdin).items(): Secret(value=value).save(name.replace('_', '-'))"
    )
    given = json.dumps(values)
    subprocess.run([sys.executable, "-c", code], env=clean() | server, input=given, text=True, check=True)


def test_a_key_from_a_secret_block_is_used_and_is_nowhere_in_clear(
    server: dict[str, str], sandbox: Sandbox, data: Path
) -> None:
    """Where the environment holds no key: by a flow, and by the command line. The server keeps the block encrypted."""
    sandbox.state.keys = frozenset({BLOCK_KEY})
    env = {k: v for k, v in environ(sandbox.url).items() if k != "STRIPE_API_KEY"}
    missing = fincon("sync", cwd=data.parent, env=env | server)
    assert (missing.returncode, "STRIPE_API_KEY is not set" in missing.stderr) == (2, True)
    blocks(server, stripe_api_key=BLOCK_KEY)
    run = in_python(server, sync_code(data), env)
    assert run["state_type"] == "COMPLETED", run["state"]
    for arguments in (("sync", "--dry-run"), ("sync",)):
        done = fincon(*arguments, cwd=data.parent, env=env | server)
        assert done.returncode == 0, done.stderr
    holds_no_secret(Path(server["PREFECT_HOME"]), BLOCK_KEY)


@pytest.mark.minutes
def test_blocks_that_parameters_name_serve_one_lake_each_and_come_before_the_environment(
    server: dict[str, str],
    sandbox: Sandbox,
    data: Path,
    s3: dict[str, str],
) -> None:
    """Stripe's key, the key of hashes and a bucket's credentials, by a flow run and by `fincon serve`."""
    key, pii = "sk_test_ofTheOtherLake", "123456789012345678"  # a number too, which is text all the same
    sandbox.state.keys = frozenset({key})
    blocks(server, other_key=key, other_pii=pii, other_s3=s3)
    env, bucket = environ(sandbox.url), "s3://lakes/by-block"
    alone = "import os; [os.environ.pop(name) for name in list(os.environ) if name.startswith('AWS_')]; "
    named = {"key_block": "other-key", "pii_key_block": "other-pii", "s3_block": "other-s3"}
    code = f"{alone}from fincon.flows.sync import sync; sync(data={bucket!r}, owners=True, **{named!r})"
    run = in_python(server, code, env | {"FINCON_WORK": str(data)})
    assert run["state_type"] == "COMPLETED", run["state"]
    assert {name: run["parameters"][name] for name in named} == named
    assert rows(bucket, "SELECT count(*) AS n FROM accounts")[0]["n"] == sandbox.world.account_count

    wrong = in_python(server, sync_code(data, key_block="nobodys"), env)
    assert wrong["state_type"] == "FAILED"
    assert "no Secret block 'nobodys'" in wrong["state"]["message"]

    (data.parent / "prefect.yaml").write_text(
        "deployments: [{name: often, entrypoint: fincon.flows.sync.sync, parameters: {key_block: other-key},"
        " schedules: [{cron: '* * * * * *'}]}]"
    )
    said = data.parent / "said"
    with (
        said.open("w") as log,
        Child(
            [FINCON, "serve"], cwd=data.parent, env=clean() | env | server, stdout=log, stderr=log
        ) as process,
    ):
        until(lambda: "often ended with" in said.read_text() or process.poll() is not None)
        process.terminate()
    assert "often ended with 0" in said.read_text()
    assert key not in said.read_text()
    holds_no_secret(Path(server["PREFECT_HOME"]), key, pii, s3["AWS_SECRET_ACCESS_KEY"])


def test_the_automation_for_dead_runs_is_one_however_often_it_is_set_up(
    server: dict[str, str], tmp_path: Path
) -> None:
    for _ in range(2):
        done = fincon("automations", cwd=tmp_path, env=server)
        assert done.returncode == 0, done.stderr
    (found,) = [a for a in ask(server, "automations") if a["name"].startswith("fincon: mark")]
    assert found["enabled"]
    assert found["actions"][0]["state"] == "CRASHED"
    assert "prefect.flow-run.heartbeat" in found["trigger"]["expect"]


def test_people_are_told_by_one_automation_each_however_often_it_is_set_up(
    server: dict[str, str], tmp_path: Path
) -> None:
    code = "from prefect.blocks.notifications import SlackWebhook; SlackWebhook(url='http://127.0.0.1:1/hook').save('ops')"
    subprocess.run([sys.executable, "-c", code], env=clean() | server, check=True)
    for _ in range(2):
        done = fincon(
            "automations", "--notify", "slack-webhook/ops", "--within-hours", "2", cwd=tmp_path, env=server
        )
        assert done.returncode == 0, done.stderr
    told = [a for a in ask(server, "automations") if a["name"].startswith("fincon: tell")]
    assert len(told) == 3
    assert {a["actions"][0]["type"] for a in told} == {"send-notification"}
    assert 7200 in {a["trigger"]["within"] for a in told}
    wrong = fincon("automations", "--notify", "slack-webhook/nobody", cwd=tmp_path, env=server)
    assert (wrong.returncode, "no block" in wrong.stderr) == (2, True)


def test_a_spent_budget_is_completed_by_that_name(
    server: dict[str, str], sandbox: Sandbox, data: Path
) -> None:
    run = in_python(server, sync_code(data).replace("sync(", "sync(max_requests=1, "), environ(sandbox.url))
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Budget spent")


def test_a_server_that_is_down_is_told_at_once_and_a_sync_goes_without(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    env = environ(sandbox.url, PREFECT_API_URL="http://127.0.0.1:1/api", PREFECT_HOME=str(tmp_path / "home"))
    told = fincon("sync", cwd=tmp_path, env=env)
    assert told.returncode == 1
    assert len(told.stderr.splitlines()) == 2
    assert "No Prefect server answers at http://127.0.0.1:1/api" in told.stderr
    assert "--no-prefect" in told.stderr
    assert fincon("sync", "--no-prefect", cwd=tmp_path, env=env).returncode == 0


def test_every_parameter_of_a_flow_is_explained_and_bounded_in_the_form() -> None:
    from prefect.utilities.callables import parameter_schema

    from fincon.flows import alert, check, compact, sync

    for flow in (sync.sync, check.check, compact.compact, alert.alert):
        form = parameter_schema(flow.fn).model_dump()["properties"]
        assert [name for name, of in form.items() if not of.get("description")] == []
    form = parameter_schema(sync.sync.fn).model_dump()["properties"]
    assert {"keep", "hash", "drop"} <= set(str(form["pii"]).replace("'", " ").split())
    assert form["max_requests"]["anyOf"][0]["minimum"] == 1
