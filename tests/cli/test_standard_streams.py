"""Where results go: any encoding, a full device, a closed pipe, a terminal; and who answers a question."""

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.conftest import FINCON, KEY

TEXT = "SELECT 'Crédit … 日本 → ·' AS t, NULL AS e"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
@pytest.mark.parametrize("style", ["table", "vertical", "markdown", "csv", "json"])
@pytest.mark.first(3, 3)
def test_any_encoding_will_do(encoding: str, style: str, call: Call, synced: Path) -> None:
    """What it lacks is written out, or by a sign as wide; JSON reads back the same."""
    shown = call("sql", TEXT, "--format", style, cwd=synced, width=80, encoding=encoding)
    assert shown.code == 0, shown.err
    assert re.search(r"Cr(é|\\xe9|\\u00e9)dit", shown.out)
    for command in (["status"], ["schema"], ["--help"], ["sql", "FROM nothing"]):
        assert call(*command, cwd=synced, encoding=encoding).code in (0, 2)


def shell(script: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": f"{FINCON.parent}:/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "command", ["status", "schema", "sql 'FROM accounts'", "sql 'FROM accounts' --format csv", "--help"]
)
@pytest.mark.first(1)
def test_a_full_device_is_told_in_words(command: str, synced: Path) -> None:
    done = shell(f"fincon {command} > /dev/full", synced)
    assert done.returncode in (1, 2)
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize("command", ["status", "sql 'SELECT 1'", "--version"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.first(2)
def test_a_stream_that_is_closed_hurts_nobody(command: str, closed: str, synced: Path) -> None:
    done = shell(f"fincon {command} {closed}", synced)
    assert (done.returncode, done.stderr) == (0, "")


def terminal(arguments: list[str], cwd: Path, typed: bytes = b"", columns: int = 80) -> tuple[int, str]:
    """Run a command on a pseudo-terminal of its own, type, and return its exit code and all that it showed."""
    child, screen = pty.fork()
    if child == 0:
        os.chdir(cwd)
        os.environ.update(COLUMNS=str(columns))
        os.execv(FINCON, ["fincon", *arguments])  # noqa: S606 - a pseudo-terminal of its own
    shown = b""
    try:
        while chunk := os.read(screen, 65536):
            shown += chunk
            if typed and shown.rstrip().endswith(b"[y/N]:"):
                os.write(screen, typed)
                typed = b""
    except OSError:
        pass  # the other end is closed
    os.close(screen)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode().replace("\r\n", "\n")


def test_a_terminal_is_shown_what_fits_and_nothing_that_steers_it(synced: Path) -> None:
    """On a real pseudo-terminal."""
    code, shown = terminal(["sql", "SELECT chr(27) || '[2J' AS a, repeat('x', 200) AS b"], synced)
    assert code == 0
    assert "\x1b" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "…" in shown


@pytest.mark.parametrize(
    ("typed", "code", "says"), [(b"n\n", 1, "Nothing was removed"), (b"\x03", 130, "interrupted")]
)
def test_an_erasure_shows_what_goes_and_asks(
    typed: bytes, code: int, says: str, call: Call, synced: Path
) -> None:
    account = call(
        "sql", "SELECT account_id FROM balances LIMIT 1", "--format", "csv", cwd=synced
    ).out.split()[1]
    got, shown = terminal(["erase", "--account", account], synced, typed)
    assert re.search(r"accounts: 1 row would be removed", shown)
    assert says in shown
    assert got == code
    assert (
        call("sql", f"SELECT count(*) FROM accounts WHERE account_id = '{account}'", cwd=synced).out.split()[
            1
        ]
        == "1"
    )


def test_an_erasure_can_be_rehearsed(call: Call, synced: Path) -> None:
    account = call(
        "sql", "SELECT account_id FROM balances LIMIT 1", "--format", "csv", cwd=synced
    ).out.split()[1]
    shown = call("erase", "--account", account, "--dry-run", cwd=synced)
    assert shown.code == 0
    assert re.search(r"^accounts: 1 row would be removed$", shown.out, re.MULTILINE)
    assert re.search(r"^pages: \d+ files? would be removed$", shown.out, re.MULTILINE)
    assert shown.err == "Nothing was removed.\n"


def test_status_after_an_interrupted_first_run_tells_what_waits(call: Call, tmp_path: Path) -> None:
    """A run stopped by --max-requests has pages on disk and no views yet."""
    from fincon.sandbox.server import running
    from fincon.sandbox.world import World

    with running(World(accounts=400, sessions=20)) as sandbox:
        env = {"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": sandbox.url}
        assert call("sync", "--max-requests", "2", cwd=tmp_path, env=env).code == 0
        shown = call("status", cwd=tmp_path)
        assert shown.code == 0
        assert shown.out.startswith(
            "No run is finished yet.\nDid not succeed in the last 7 days, newest first:\n"
        )
        assert "\nWaiting: run 20" in shown.out
        assert "2 pages so far. The same command goes on with it" in shown.out
        assert '"goes_on": true' in call("status", "--json", cwd=tmp_path).out
        assert call("sync", cwd=tmp_path, env=env).code == 0
        assert "\nRuns, newest first:\n" in call("status", cwd=tmp_path).out
