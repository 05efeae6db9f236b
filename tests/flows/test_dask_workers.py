"""Many Stripe accounts when processes die, and on a Dask cluster: the same lake, and nothing fetched twice."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fincon.extract.responses import ATTEMPTS
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import FINCON, KEY, START, environ, fincon, rows, state, truth
from tests.flows.test_prefect import server  # noqa: F401 - a fixture
from tests.pipeline.test_resume import on_disk, requested, started, wait_for
from tests.prefect_server import ask, eventually, holds_no_secret, of_run

WORLD = World(seed=7, clock=START, accounts=230, sessions=20, connected=5)
ACCOUNTS = "/v1/financial_connections/accounts"


@pytest.fixture
def platform() -> Iterator[Sandbox]:
    with running(WORLD) as served:
        yield served


def is_the_truth(platform: Sandbox, data: Path) -> None:
    for account in platform.connected:
        found = state(data, lambda table, own=account: f"{table} WHERE stripe_account = '{own}'")
        true = truth(platform.world_of(account))
        for table in ("accounts", "balances", "refreshes"):
            assert found[table] == true[table], (account, table)


def test_killed_in_the_middle_it_goes_on_where_each_account_was(platform: Sandbox, tmp_path: Path) -> None:
    """Three pages each of five accounts; all hang from the tenth request on, and the process is killed."""
    stall = Rule(Fault("timeout", seconds=60), ACCOUNTS, nth=range(10, 100))
    platform.faults = Faults(script=[stall])
    with started(platform, tmp_path, "--connected") as process:
        wait_for(
            lambda: (tmp_path / "data" / "pages").exists() and len(on_disk(tmp_path / "data")) >= 9, process
        )
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    kept = on_disk(tmp_path / "data")
    assert len(kept) == 9

    platform.faults = None
    platform.reset_requests()
    done = fincon("sync", "--connected", cwd=tmp_path, env=environ(platform.url))
    assert done.returncode == 0, done.stderr
    whole = done.stderr.count("was loaded first")  # accounts of which all was there: they are asked anew
    kept_pages = 9 - 3 * whole
    assert f"{kept_pages} pages kept from the interrupted run" in done.stderr
    assert len([one for one in requested(platform) if one.startswith(ACCOUNTS)]) == 5 * 3 - kept_pages
    is_the_truth(platform, tmp_path / "data")
    assert len(rows(tmp_path / "data", "FROM runs")) == 5 + whole
    assert fincon("check", cwd=tmp_path).returncode == 0


def test_killed_while_it_loads_the_next_sync_loads_all_first_and_once(
    platform: Sandbox, tmp_path: Path
) -> None:
    """All pages are there: they are loaded before what is asked for is asked, and no row is in twice."""
    code = (
        "import os, sys; from fincon import cli; from fincon.pipeline import load_step;"
        "load_step.record_runs = lambda *of: os._exit(9);"  # the power goes just before the rows of runs are written
        "sys.argv = ['fincon', 'sync', '--connected']; cli.main()"
    )
    env = {**os.environ, **environ(platform.url)}
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=False, timeout=60)
    assert killed.returncode == 9
    done = fincon("sync", "--connected", cwd=tmp_path, env=environ(platform.url))
    assert done.returncode == 0, done.stderr
    is_the_truth(platform, tmp_path / "data")
    assert len(rows(tmp_path / "data", "FROM runs")) == 2 * 5
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM lake.accounts") == [
        {"n": sum(platform.world_of(account).account_count for account in platform.connected)}
    ]


@pytest.fixture
def scheduler(platform: Sandbox, server: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """A Dask scheduler and two workers, each a process with the key in its own environment."""
    address, env = tmp_path / "scheduler", {**os.environ, **environ(platform.url), **server}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": (tmp_path / "dask.log").open("w")}
    dask = str(FINCON.with_name("dask"))
    host = ["--host", "127.0.0.1"]
    start = [dask, "scheduler", *host, "--port", "0", "--no-dashboard", "--scheduler-file", str(address)]
    work = [
        dask,
        "worker",
        *host,
        "--no-nanny",
        "--no-dashboard",
        "--nthreads",
        "1",
        "--scheduler-file",
        str(address),
    ]
    processes = [subprocess.Popen(command, env=env, cwd=tmp_path, **quiet) for command in (start, work, work)]  # type: ignore[call-overload]
    try:
        wait_for(lambda: address.exists() and '"address"' in address.read_text(), processes[0])
        yield json.loads(address.read_text())["address"]
    finally:
        for process in reversed(processes):  # workers first: without a scheduler they would look for it
            process.terminate()
            process.wait(30)
        quiet["stderr"].close()  # type: ignore[attr-defined]


def tasks_of_last_run(server: dict[str, str], count: int) -> list[dict[str, Any]]:
    """The task runs of the newest flow run, once there are so many: the server hears of them with delay."""
    run = max(ask(server, "flow_runs"), key=lambda run: run["created"])
    return eventually(lambda: of_run(server, "task_runs", run), lambda found: len(found) == count)


@pytest.mark.minutes
def test_on_two_dask_workers_it_is_the_same_lake_in_few_task_runs(
    platform: Sandbox,
    server: dict[str, str],
    scheduler: str,
    tmp_path: Path,
) -> None:
    """The accounts are dealt out to workers; one that was revoked is still told apart; no secret is on the server."""
    platform.revoke(platform.connected[2])
    arguments = ("--data", str(tmp_path / "data"), "sync", "--connected")
    alone = fincon("sync", "--connected", cwd=tmp_path, env=environ(platform.url, FINCON_DASK=scheduler))
    assert (alone.returncode, "PREFECT_API_URL is not" in alone.stderr) == (2, True)
    env = {**environ(platform.url), **server, "FINCON_DASK": scheduler}
    first = fincon(*arguments, cwd=tmp_path, env=env)
    assert first.returncode == 1, first.stderr
    assert f"{platform.connected[2]}: GET " in first.stderr
    assert "4 Stripe accounts:" in first.stderr

    platform.state.revoked.clear()
    tasks_of_last_run(server, 5 + 4)
    platform.reset_requests()
    second = fincon(*arguments, cwd=tmp_path, env=env)
    assert second.returncode == 0, second.stderr
    is_the_truth(platform, tmp_path / "data")
    assert len(platform.requests) == 1 + 5 * 3
    names = [task["name"].rsplit("-", 1)[0] for task in tasks_of_last_run(server, 5 + 4)]
    assert set(names) == {"fetch", "fetch lot", "transform and load", "publish", "check"}
    assert KEY not in second.stderr
    holds_no_secret(Path(server["PREFECT_HOME"]))


@pytest.mark.minutes
def test_retries_of_a_flow_apply_on_workers_and_ask_those_alone_that_were_left_unanswered(
    platform: Sandbox,
    server: dict[str, str],
    scheduler: str,
    tmp_path: Path,
) -> None:
    """One account's second page is refused at every attempt of the first round, and of the first round alone."""
    world = platform.world_of(platform.connected[1])
    second_page = f"starting_after={world.account_id(world.account_count - 100)}"
    platform.faults = Faults(
        script=[Rule(Fault("rate_limit"), ACCOUNTS, second_page, range(1, 1 + ATTEMPTS))]
    )
    code = (
        "from fincon.flows.sync import sync; "
        f"sync(data={str(tmp_path / 'data')!r}, connected=True, retries=1, retry_seconds=0.1)"
    )
    env = {**os.environ, **environ(platform.url), **server, "FINCON_DASK": scheduler}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=False, timeout=200)
    assert done.returncode == 0
    is_the_truth(platform, tmp_path / "data")
    assert len(platform.requests) == 1 + 5 * 3 + ATTEMPTS
    tried = {
        task["name"].rsplit("-", 1)[0]: task["run_count"] for task in tasks_of_last_run(server, 5 + 1 + 4)
    }
    assert (tried["fetch"], tried["publish"]) == (2, 1)


def test_a_scheduler_without_a_worker_is_told_and_not_waited_for_for_ever() -> None:
    from distributed import LocalCluster

    from fincon.errors import RunFailed
    from fincon.flows.dask_workers import refuse_without_workers

    with (
        LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        pytest.raises(RunFailed, match="has no worker after 1 s"),
    ):
        refuse_without_workers(cluster.scheduler_address, 1)
    with pytest.raises(RunFailed, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1 within 1 s"):
        refuse_without_workers("tcp://127.0.0.1:1", 1)
