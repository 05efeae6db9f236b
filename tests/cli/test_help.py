"""What help says, and what a shell completes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fincon.cli.app import COMMANDS, SECTIONS
from tests.cli.conftest import Call
from tests.conftest import FINCON


def test_commands_stand_in_the_order_of_use_by_groups_each_on_one_line_of_80_columns(call: Call) -> None:
    lines = call("--help", width=80).out.splitlines()
    assert [line for line in lines if line in {f"{title}:" for title in SECTIONS}] == [
        f"{t}:" for t in SECTIONS
    ]
    places = [next(i for i, line in enumerate(lines) if line.startswith(f"  {name} ")) for name in COMMANDS]
    assert places == sorted(places)
    for place, (_, text) in zip(places, COMMANDS.values(), strict=True):
        assert lines[place].endswith(text)
        assert len(lines[place]) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_its_own_options_first_then_those_of_all_then_examples(
    name: str, call: Call
) -> None:
    shown = call(name, "--help", width=80)
    assert shown.code == 0
    heads = [line for line in shown.out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads[-2:] == ["Options of every command:", "Examples:"]
    common = shown.out.partition("Options of every command:")[2].partition("Examples:")[0]
    assert [line.split()[0] for line in common.splitlines() if line.startswith("  -")] == [
        *("--data", "--quiet", "--verbose", "-h,"),
    ]
    assert f"fincon {name}" in shown.out.partition("Examples:")[2]
    assert all(len(line) <= 80 for line in shown.out.splitlines())


def test_every_example_of_the_help_is_taken(call: Call) -> None:
    """Each is a command with options that there are."""
    for name in COMMANDS:
        shown = call(name, "--help").out.partition("Examples:")[2]
        for line in shown.splitlines():
            for word in line.replace('"', " ").split():
                if word.startswith("--"):
                    assert word in call(name, "--help").out.partition("Examples:")[0], line


@pytest.mark.parametrize("shell", ["zsh", "fish"])
@pytest.mark.first(0, 2)
def test_a_shell_completes_commands_options_and_choices(shell: str, tmp_path: Path) -> None:
    """Asked as the script asks that the shell sources."""

    def completed(line: str, word: int) -> str:
        env = {
            "_FINCON_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(word) if shell == "zsh" else line.rpartition(" ")[2],
            "PATH": os.environ["PATH"],
        }
        return subprocess.run([str(FINCON)], env=env, capture_output=True, text=True, check=True).stdout

    assert "sync" in completed("fincon s", 1)
    assert "--dry-run" in completed("fincon sync --d", 2)
    assert "vertical" in completed("fincon sql --format v", 3)
    for named in ("sync --sessions ids", "sync --stripe-accounts ids", "rates ids", "sql --output ids"):
        assert completed(f"fincon {named}", named.count(" ") + 1).startswith("file")
    source = subprocess.run(
        [str(FINCON)],
        env={"_FINCON_COMPLETE": f"{shell}_source", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "fincon" in source.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=source.stdout, text=True, check=True)


def test_bash_completes_commands_options_and_choices(tmp_path: Path) -> None:
    """In a real bash, as the README says to set it up."""
    script = """
        eval "$(_FINCON_COMPLETE=bash_source fincon)"
        for line in "fincon s" "fincon sync --dr" "fincon sql --format ma"; do
            COMPREPLY=(); COMP_WORDS=($line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _fincon_completion fincon
            echo "${COMPREPLY[@]}"
        done"""
    env = {"PATH": f"{FINCON.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["sync status sql schema serve sandbox", "--dry-run", "markdown"]


def test_numpy_starts_no_threads_in_a_command() -> None:
    """It is told so before it is imported, and what somebody chose stays."""
    code = (
        "import os, sys; from fincon import cli; from fincon.cli import app; app.end = lambda code: None;"
        "app.run = lambda: print(os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in sys.modules); cli.main()"
    )
    for chosen, expected in (({}, "1 False\n"), ({"OPENBLAS_NUM_THREADS": "2"}, "2 False\n")):
        env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"} | chosen
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout == expected
