"""The schedules of prefect.yaml, what waits and what is tried again; no server is needed for any of it.

Prefect takes two seconds to import: the tests that need it do, and no process that only collects them.
"""

import io
import logging
import os
import signal
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from fincon import errors
from fincon.cli.app import cli
from fincon.flows.scheduler import Deployment, command_line, read
from fincon.sandbox.server import Sandbox
from fincon.storage.data_folder import prepare
from fincon.storage.lock import retry_while_locked, writer_lock
from tests.conftest import FINCON, KEY, environ, fincon, sync
from tests.prefect_server import until

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = read(ROOT / "prefect.yaml")


def test_the_six_deployments_are_due_when_the_file_says() -> None:
    """In UTC, and the checks after each sync."""
    saturday = datetime(2026, 6, 6, 12, 0, 30, tzinfo=UTC)
    assert {d.name: f"{d.next_after(saturday):%d %H:%M}" if d.crons else d.after for d in DEPLOYMENTS} == {
        "sync": "06 12:07",
        "events": "06 12:05",
        "full-listing": "07 02:23",
        "compact": "07 03:41",
        "check": "sync",
        "alert": "sync",
    }


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d.name)
def test_a_deployment_is_a_command_with_options_that_exist(deployment: Deployment) -> None:
    """What `fincon serve` runs without a server is a command that the command line takes, option by option."""
    name, *arguments = command_line(deployment)
    with click.Context(cli) as context:
        command = cli.get_command(context, name)
        assert command
        parsed = command.make_context(name, arguments, context).params
    asked = {k: v for k, v in deployment.parameters.items() if v is not None}
    assert asked.items() <= parsed.items()


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d.name)
def test_a_deployment_names_a_flow_by_its_module(
    deployment: Deployment, tmp_path: Path, monkeypatch: Any
) -> None:
    """So it deploys from any folder, and whatever stands there."""
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(tmp_path)
    flow: Any = load_flow_from_entrypoint(deployment.entrypoint)
    assert flow.name == deployment.flow
    assert set(deployment.parameters) <= set(flow.parameters.properties)


@pytest.mark.parametrize(
    "entrypoint", ["flows/sync.py:sync", "flows/upkeep.py:check", "flows/upkeep.py:compact"]
)
def test_a_file_of_a_checkout_is_an_entrypoint_too(entrypoint: str, monkeypatch: Any) -> None:
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(ROOT)
    assert load_flow_from_entrypoint(entrypoint).name == Deployment("any", entrypoint).flow


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("deployments: [", "ParserError"),
        ("nothing: []", "deployments"),
        ("deployments: [{name: a, entrypoint: 'f:f'}]", "neither cron nor trigger"),
        ("deployments: [{name: a, entrypoint: 'f:f', schedules: [{cron: '61 * * * *'}]}]", "CronSimError"),
        (
            "deployments: [{name: a, entrypoint: 'f:f', schedules: [{cron: '* * * * *', timezone: Mars}]}]",
            "Mars",
        ),
    ],
)
def test_schedules_that_cannot_be_kept_are_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(text)
    with pytest.raises(errors.UsageError, match="cannot be read") as caught:
        read(path)
    assert says in str(caught.value)


@pytest.mark.slow
def test_serve_runs_what_is_due_and_what_comes_after_it_without_a_server(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Every second a listing, then the checks; SIGTERM ends it, and no Prefect server is left behind."""
    (tmp_path / "prefect.yaml").write_text(
        "deployments:\n"
        "  - {name: often, entrypoint: 'flows/sync.py:sync', schedules: [{cron: '* * * * * *'}]}\n"
        "  - {name: then, entrypoint: 'flows/upkeep.py:check',"
        " triggers: [{match_related: {prefect.resource.name: often}}]}\n"
        "  - {name: tell, entrypoint: 'fincon.flows.alert.alert',"
        " triggers: [{match_related: {prefect.resource.name: often}}]}\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}
    home = {"PREFECT_HOME": str(tmp_path / "home")}
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(
            [str(FINCON), "serve"],
            cwd=tmp_path,
            env={**clean, **environ(sandbox.url), **home},
            stdout=said,
            stderr=said,
        ) as process,
    ):
        try:
            until(lambda: "tell: nobody" in (tmp_path / "said").read_text() or process.poll() is not None)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
    text = (tmp_path / "said").read_text()
    assert "often: * * * * * * (UTC)" in text
    assert "often ended with 0" in text
    assert "then ended with 0" in text
    assert "tell: nobody to tell, for FINCON_ALERT_URLS is not set" in text
    assert "ok    rows_have_runs" in text
    assert not (tmp_path / "home").exists()


def test_serve_tells_a_missing_key_at_once(tmp_path: Path) -> None:
    done = fincon("serve", "--schedules", str(ROOT / "prefect.yaml"), cwd=tmp_path)
    assert (done.returncode, "STRIPE_API_KEY is not set" in done.stderr) == (2, True)


def test_who_waits_for_the_folder_gets_it_when_it_is_free(data: Path) -> None:
    prepare(data)
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with writer_lock(data):
            held.set()
            free.wait(30)

    def take() -> str:
        tries.append(1)
        if len(tries) == 2:
            free.set()
            other.join()
        with writer_lock(data):
            return "mine"

    tries: list[int] = []
    other = threading.Thread(target=hold)
    other.start()
    held.wait(30)
    with pytest.raises(errors.DataFolderLocked, match="in use by process"):
        retry_while_locked(take, 0)
    assert retry_while_locked(take, 30) == "mine"
    assert len(tries) == 2


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (errors.RetriesExhausted("503"), True),
        (errors.StripeError("400"), False),
        (errors.InvalidKey("401"), False),
        (errors.PermissionDenied("403"), False),
        (errors.BudgetExhausted("enough"), False),
        (errors.RunFailed("disk"), False),
        (errors.UsageError("settings"), False),
        (ValueError("a bug"), False),
    ],
)
def test_a_task_is_tried_again_only_where_the_trouble_may_pass(error: Exception, again: bool) -> None:
    from prefect.states import Failed

    from fincon.flows.tasks import may_pass

    assert may_pass(None, None, Failed(data=error)) is again


def test_what_the_artifacts_show_is_counts_and_times_and_nobody(sandbox: Sandbox, data: Path) -> None:
    from fincon.flows import artifacts

    outcome = sync(sandbox.url, data, sandbox.world.session_ids()[:5])
    seconds = {"fetch accounts": 1.26, "publish": 0.5}
    table = {row["figure"]: row["value"] for row in artifacts.figures(outcome, seconds)}
    assert table["rows added"] == outcome.run["rows_added"] > 0
    assert table["requests"] == outcome.run["requests"] > 0
    assert table["seconds: fetch accounts"] == 1.3
    text = artifacts.summary(outcome, seconds)
    assert f"{outcome.run['accounts_seen']:,} accounts" in text
    assert "all passed" in text
    shown: Any = text + str(table)
    assert not [word for word in ("fca_", "fcsess_", "cus_", "acct_", KEY) if word in shown]


def test_what_a_server_is_shown_is_shown_beside_the_run_and_in_order() -> None:
    from fincon.flows.beside import beside, wait_for_rest

    answers, shown = threading.Event(), list[int]()
    beside(answers.wait)
    beside(shown.append, 1)
    beside(shown.append, 2)
    assert shown == []  # the server does not answer, and the run has gone on to here
    answers.set()
    wait_for_rest(60)
    assert shown == [1, 2]


def test_no_id_reaches_the_log_of_a_run() -> None:
    """A request that failed is known by its Request-Id; the account in its cursor is not named on a server."""
    from fincon.flows.tasks import _ToRun

    # With a handler of its own: Prefect, where it is imported only now, takes away those of the root.
    log, shown = logging.Logger("run"), io.StringIO()
    log.addHandler(logging.StreamHandler(shown))
    said = "GET /v1/financial_connections/accounts?starting_after=fca_1Abc&limit=100: 503 (Request-Id req_7)"
    _ToRun(log).emit(logging.makeLogRecord({"msg": said, "levelno": logging.INFO}))
    assert shown.getvalue().splitlines() == [said.replace("fca_1Abc", "fca_…")]
