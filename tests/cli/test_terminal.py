"""What changes a lake, typed at a real terminal of 80 and of 120 columns: what it says fits, between words, and is true."""

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.cli.test_inputs import ON_A_LAKE, Case
from tests.conftest import FINCON, START, environ, fincon

BAR = "━"
"""Of progress, which is drawn over itself, and so not left as it was written."""
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def screen_of(shown: bytes) -> list[str]:
    """Return the lines that are left on the screen: of each, what stands there after the last return to its beginning."""
    lines = SEQUENCE.sub("", shown.decode()).replace("\r\n", "\n").split("\n")
    return [line.rsplit("\r", 1)[-1].rstrip() for line in lines]


def typed(
    arguments: list[str], folder: Path, env: dict[str, str], columns: int, answer: bytes = b""
) -> tuple[int, list[str]]:
    """Run a command on a pseudo-terminal, answer what it asks, and return its exit code and the lines it left there."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}
    clean.pop("COLUMNS", None)
    child, screen = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        os.chdir(folder)
        os.execve(FINCON, ["fincon", *arguments], clean | env | {"TERM": "xterm"})  # noqa: S606 - as above
    shown = b""
    try:
        while chunk := os.read(screen, 65536):
            shown += chunk
            if answer and shown.rstrip().endswith(b"[y/N]:"):
                os.write(screen, answer)
                answer = b""
    except OSError:
        pass  # the other end is closed
    os.close(screen)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), screen_of(shown)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Sandbox]]:
    """A folder without a lake, with ids and rates, and a sandbox."""
    folder = tmp_path_factory.mktemp("site")
    with running(World(seed=1, clock=START, accounts=30, sessions=5)) as sandbox:
        (folder / "ids.txt").write_text("\n".join(sandbox.world.session_ids()))
        (folder / "rates.csv").write_text("day,from,to,rate\n2026-06-01,eur,usd,1.0834\n")
        yield folder, sandbox


STEPS = (
    (["sync", "--dry-run"], "", 0, r"At least 1 request: .* Nothing was sent to http"),
    (["sync", "--sessions", "ids.txt", "--owners", "--pii", "keep"], "", 0, r"Run \S+: \d sessions, \d\d accounts"),
    (["events", "--pii", "hash"], "", 0, r"says of people what it said: `fincon privacy --rewrite` makes it .* Run "),
    (["privacy", "--rewrite"], "", 0, r"pages? rewritten, and nothing under the data folder is left in clear\."),
    (["rates", "rates.csv"], "", 0, r'1 rate taken in; 1 in all `fincon sql "FROM holder_totals"` reckons with them'),
    (["erase", "--account", "ACCOUNT"], "n\n", 1, r"accounts: \d rows? would .*\[y/N\]: n fincon: Nothing was removed"),
    (["erase", "--account", "ACCOUNT"], "y\n", 0, r"\[y/N\]: y .*accounts: \d rows? removed .* names it any more\. A"),
    (["erase", "--account", "ACCOUNT"], "", 2, r"fincon: Nothing here names \S+ Check the id and the folder"),
    (["erase", "--account", "ACCOUNT", "--allow"], "", 0, r"A later sync may bring it back\."),
    (["compact", "--retention-days", "0"], "", 0, r"accounts: \d+ files?, now 1 .*pages of \d runs? removed"),
    (["check"], "", 0, r"ok current_is_unique: The current state has one row per key\."),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.first(0, 1)
def test_what_changes_a_lake_says_so_within_the_terminals_width(
    columns: int, site: tuple[Path, Sandbox], tmp_path: Path
) -> None:
    """Each command as a process of its own, on a real pseudo-terminal, one after the other on one lake."""
    folder, sandbox = site
    env = environ(sandbox.url, FINCON_PII_KEY="a-secret-of-a-test", FINCON_DATA=str(tmp_path / "data"))
    account = sandbox.world.account_id(3)
    for arguments, answer, code, says in STEPS:
        words = [account if word == "ACCOUNT" else word for word in arguments]
        got, lines = typed(words, folder, env, columns, answer.encode())
        where = f"{arguments}: {got}\n" + "\n".join(lines)
        assert got == code, where
        assert re.search(says, " ".join(" ".join(lines).split())), where
        wide = [line for line in lines if len(line) > columns and BAR not in line]
        assert not wide, where


AS_PROCESSES = [case for case in ON_A_LAKE if case.typed[0] in ("sql", "report", "schema")][::8]


@pytest.mark.slow
@pytest.mark.parametrize("case", AS_PROCESSES, ids=lambda case: " ".join(case.typed)[:70])
def test_a_row_of_the_table_holds_for_a_process_too(case: Case, synced: Path) -> None:
    """Every eighth of `test_inputs.ON_A_LAKE`: what is tried there within the tests' process is what a person gets."""
    if case.width:
        code, lines = typed(case.typed, synced, {}, case.width)
        shown = "\n".join(lines).rstrip("\n")
    else:
        done = fincon(*case.typed, cwd=synced, stdin=case.stdin, text=False)
        code, shown = done.returncode, (done.stdout + done.stderr).decode()
    assert re.search(case.says, shown, re.DOTALL), shown
    assert code == case.code
