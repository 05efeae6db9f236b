"""The README is true: its commands run, its commands and options are all there are, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fincon.cli.app import COMMANDS, cli
from fincon.sandbox.server import Sandbox
from tests.conftest import FINCON, environ

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_shell_line_and_the_python_lines_run(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "sessions.csv").write_text("session_id\n" + "\n".join(sandbox.world.session_ids()[:5]))
    lines = [line for block in blocks("sh") for line in block.splitlines() if not line.startswith("make ")]
    env = environ(sandbox.url) | {"PATH": f"{FINCON.parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    script = "set -e\n" + "\n".join(lines)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "changes.parquet").exists()
    for block in blocks("python"):
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=env, check=True, timeout=60)


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE))
def test_every_make_target_is_in_the_makefile(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_command_and_option_stands_in_the_readme_and_no_other() -> None:
    table = README.split("## Commands", 1)[1].split("## How", 1)[0]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command
        row = next(line for line in table.splitlines() if line.startswith(f"| `fincon {name}"))
        own = {o for p in command.params if isinstance(p, click.Option) for o in [*p.opts, *p.secondary_opts]}
        own -= {"-f", "--data", "--quiet", "--verbose"}
        assert set(re.findall(r"--[a-z-]+", row)) == own, name
    shown = set(re.findall(r"^\| `fincon (\w+)", table, re.MULTILINE))
    assert shown == set(COMMANDS)


def test_every_link_leads_to_a_file() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_every_setting_is_in_the_readme() -> None:
    source = (ROOT / "fincon" / "settings.py").read_text()
    for name in set(re.findall(r'"((?:STRIPE|FINCON)_[A-Z_]+)"', source)):
        assert f"`{name}`" in README


def test_every_question_is_in_the_readme_and_no_other() -> None:
    table = README.split("| question | one row per |", 1)[1].split("\n\n", 1)[0]
    questions = {path.stem for path in (ROOT / "sql" / "questions").glob("*.sql")}
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == questions
