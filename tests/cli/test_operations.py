"""What docs/operations.md tells to type works, in its order; and what `fincon init` writes can be used as it is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fincon.flows.scheduler import read
from fincon.sandbox.server import Sandbox
from tests.cli.conftest import Call
from tests.conftest import FINCON, Child, environ, fincon

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_command_of_the_page_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    env = environ(sandbox.url) | {"PATH": f"{FINCON.parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    script = f"set -e\nfincon sync\n{lines}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "parquet" / "accounts.parquet").exists()
    assert "fincon_last_run_success 1" in (tmp_path / "fincon.prom").read_text()


def test_init_writes_what_is_missing_and_overwrites_nothing(call: Call, tmp_path: Path) -> None:
    first = call("init", "lake1", "--systemd", "--docker", cwd=tmp_path)
    assert first.code == 0, first.err
    names = {path.name for path in (tmp_path / "lake1").iterdir()}
    assert names == {"prefect.yaml", ".env.example", "fincon.service", "Dockerfile"}
    assert [d.name for d in read(tmp_path / "lake1" / "prefect.yaml")] == [
        d.name for d in read(ROOT / "prefect.yaml")
    ]
    text = (tmp_path / "lake1" / "prefect.yaml").read_text()
    assert "lake:lake1" in text
    assert "flows/" not in text
    unit = (tmp_path / "lake1" / "fincon.service").read_text()
    assert f"WorkingDirectory={tmp_path / 'lake1'}" in unit
    (tmp_path / "lake1" / "prefect.yaml").write_text("mine")
    again = call("init", "lake1", cwd=tmp_path)
    assert (again.code, again.out) == (0, "")
    assert "prefect.yaml is there already" in again.err
    assert (tmp_path / "lake1" / "prefect.yaml").read_text() == "mine"


def test_the_environment_that_init_writes_is_one_that_a_shell_reads(call: Call, tmp_path: Path) -> None:
    call("init", cwd=tmp_path)
    settings = (ROOT / "fincon" / "settings.py").read_text()
    text = (tmp_path / ".env.example").read_text()
    for name in re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE):
        assert f'"{name}"' in settings
    shown = subprocess.run(
        ["bash", "-c", "set -a; . ./.env.example; echo $FINCON_DATA"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == str(tmp_path / "data")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{name: a, entrypoint: fincon.flows.sync.sink, schedules: [{cron: '* * * * *'}]}", "'sink'"),
        (
            "{name: a, entrypoint: fincon.flows.sync.sync, schedules: [{cron: '* * * * *'}], parameters: {evnts: true}}",
            "--evnts",
        ),
        (
            "{name: a, entrypoint: fincon.flows.sync.sync, schedules: [{cron: '* * * * *'}], parameters: {pii: all}}",
            "'all'",
        ),
        ("{name: a, entrypoint: fincon.flows.sync.sync, schedules: [{interval: 60}]}", "interval"),
        (
            "{name: a, entrypoint: fincon.flows.sync.sync, triggers: [{match_related: {prefect.resource.name: b}}]}",
            "no deployment here",
        ),
        (
            "{name: a, entrypoint: fincon.flows.sync.sync, schedules: [{cron: '* * * * *', active: false}]}",
            "Nothing in",
        ),
    ],
)
def test_serve_tells_a_bad_entry_before_the_first_run(
    text: str, says: str, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "prefect.yaml").write_text(f"deployments: [{text}]")
    env = {"STRIPE_API_KEY": "sk_test_x"}
    shown = call("serve", cwd=tmp_path, env=env)
    assert (shown.code, says in shown.err) == (2, True), shown.err


def test_serve_in_an_empty_folder_takes_the_schedules_that_come_with_fincon(tmp_path: Path) -> None:
    env = {**environ("http://127.0.0.1:1"), "PATH": "/usr/bin:/bin"}
    with Child([str(FINCON), "serve"], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = [process.stderr.readline() for _ in range(7)]
        process.terminate()
        assert process.wait(30) == 0
    assert "sync: 7 * * * * (UTC)\n" in said
    assert "alert: after sync, failed or not\n" in said


@pytest.mark.slow
def test_what_was_missed_while_nobody_served_runs_once(sandbox: Sandbox, tmp_path: Path) -> None:
    """The last run of a monthly schedule is long ago; one that was never begun has missed nothing."""
    (tmp_path / "prefect.yaml").write_text(
        "deployments:\n"
        "  - {name: old, entrypoint: fincon.flows.sync.sync, schedules: [{cron: '0 0 1 1 *'}, {cron: '0 0 1 7 *'}]}\n"
        "  - {name: new, entrypoint: fincon.flows.check.check, schedules: [{cron: '0 0 1 1 *'}]}\n"
        "  - {name: then, entrypoint: fincon.flows.check.check, parameters: {data: null},"
        " triggers: [{match_related: [{prefect.resource.role: deployment, prefect.resource.name: old}]}]}\n"
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "serve.json").write_text('{"old": "2020-01-01T00:00:00Z"}')
    with Child(
        [str(FINCON), "serve"],
        cwd=tmp_path,
        env={**environ(sandbox.url), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        said = []
        while not said or "then ended with 0" not in said[-1]:
            said.append(process.stderr.readline())
            assert said[-1], said
        process.terminate()
        assert process.wait(30) == 0
    assert "old: a run was missed; it is made up for now\n" in said
    assert not any(line.startswith("new: a run was missed") for line in said)
    assert sum("old: fincon sync" in line for line in said) == 1


def test_a_docker_file_names_what_a_clean_environment_has() -> None:
    """What cannot be built here is read: no root, no shell for what is run, a health check by status."""
    for path in (ROOT / "Dockerfile", ROOT / "fincon" / "cli" / "templates" / "Dockerfile"):
        text = path.read_text()
        assert "USER fincon" in text
        assert text.index("USER fincon") > text.rindex("RUN ")
        assert 'CMD ["fincon", "status", "--max-age", "2h"]' in text
        assert 'ENTRYPOINT ["fincon"]\nCMD ["serve"]' in text
    assert fincon("--version", cwd=Path(sys.prefix)).returncode == 0
