"""What can be set of a sandbox while it runs: as its README says, and nothing that makes no sense."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from fincon.sandbox import faults
from fincon.sandbox.controls import RuleWish
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import FINCON, Child, environ
from tests.prefect_server import until
from tests.typed import typed

README = (Path(__file__).parents[2] / "sandbox" / "README.md").read_text(encoding="utf-8")
LINES = re.findall(r"^curl .*", README, re.MULTILINE)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A small world that begins now."""
    with running(World.beginning(datetime.now(UTC), accounts=40, sessions=8)) as served:
        yield served


def curl(line: str, sandbox: Sandbox) -> requests.Response:
    """Do what a line of curl does."""
    words = shlex.split(line, comments=True)[1:]
    options = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
    method = options.get("-X") or ("POST" if "-d" in options else "GET")
    url = words[-1].replace("localhost:8090", sandbox.url)
    return requests.request(method, url, data=options.get("-d"), timeout=10)


@pytest.mark.parametrize("line", LINES)
def test_each_line_of_the_readme_is_taken(line: str, sandbox: Sandbox) -> None:
    answer = curl(line, sandbox)
    assert answer.status_code == 200, answer.text


def test_the_readme_names_each_kind_of_fault_and_no_other() -> None:
    table = README.partition("| kind |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(faults.KINDS)


def test_the_help_shows_lines_that_are_taken(sandbox: Sandbox) -> None:
    lines = re.findall(r"^ *(curl .*)", typed("sandbox", "--help", cwd=Path.cwd()).out, re.MULTILINE)
    assert len(lines) == 4
    assert [curl(line, sandbox).status_code for line in lines] == [200] * 4


@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("faults", '{"rules": [{"kind": "nonsense"}]}'),
        ("faults", '{"rules": [{"kind": "reset", "pth": "/accounts"}]}'),
        ("faults", '{"rules": [{"path": "/accounts"}]}'),
        ("faults", '{"rate": 2}'),
        ("faults", '{"rate": "often"}'),
        ("faults", '{"kinds": ["nonsense"]}'),
        ("faults", "rate=0.2"),
        ("clock", '{"at": "yesterday"}'),
        ("clock", '{"at": "2026-06-01T00:00:00"}'),
        ("clock", '{"at": 5}'),
        ("clock", '{"advance_seconds": 1e30}'),
        ("clock", '{"speed": -1}'),
        ("clock", '{"speed": 86401}'),
        ("clock", '{"sped": 1}'),
        ("keys", '{"known": "sk_test_a"}'),
    ],
)
def test_what_makes_no_sense_is_refused_in_words_and_changes_nothing(
    where: str, body: str, sandbox: Sandbox
) -> None:
    before = sandbox.world.clock
    answer = requests.post(f"{sandbox.url}/_sandbox/{where}", data=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("This cannot be set: ")
    assert (sandbox.world.clock, sandbox.faults) == (before, None)


@pytest.mark.parametrize(
    ("rule", "code", "says"),
    [
        ({"kind": "rate_limit", "nth": [1, 2]}, 0, "40 accounts"),
        ({"kind": "server_error", "nth": [1]}, 0, "40 accounts"),
        ({"kind": "drip", "seconds": 1, "nth": [1]}, 0, "40 accounts"),
        ({"kind": "invalid_key"}, 1, "401"),
        ({"kind": "forbidden"}, 1, "403"),
    ],
)
@pytest.mark.first(0, 2)
def test_a_failure_can_be_rehearsed(
    rule: dict[str, object], code: int, says: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Set over HTTP, it meets the next sync, which gets over it or says what was wrong."""
    set_ = requests.post(f"{sandbox.url}/_sandbox/faults", json={"rules": [rule]}, timeout=10)
    assert set_.json() == {"rules": 1, "rate": 0.0, "injected": {}}
    done = typed("sync", cwd=tmp_path, env=environ(sandbox.url))
    assert done.code == code, done.err
    assert says in done.err
    now = requests.get(f"{sandbox.url}/_sandbox/faults", timeout=10).json()
    assert now["injected"][RuleWish(**rule).kind] >= 1  # type: ignore[arg-type]
    assert requests.delete(f"{sandbox.url}/_sandbox/faults", timeout=10).json()["rules"] == 0
    assert typed("sync", cwd=tmp_path, env=environ(sandbox.url)).code == 0


@pytest.mark.parametrize(("accounts", "sessions"), [(1, 0), (10, 3), (400, 120), (7777, 100)])
@pytest.mark.parametrize(
    "clock", [datetime(2026, 1, 1, tzinfo=UTC), datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)]
)
def test_a_world_has_as_many_accounts_as_were_asked_for(
    clock: datetime, accounts: int, sessions: int
) -> None:
    """At its first moment, whenever that is; then it grows by a two-hundredth a day."""
    world = World.beginning(clock, accounts=accounts, sessions=sessions)
    assert (world.account_count, world.session_count) == (accounts, sessions)
    later = world.at(clock + timedelta(days=10))
    assert later.account_count - accounts in range(max(1, round(accounts * 0.005)) * 10, accounts // 15 + 12)
    assert all(world.account_json(i)["created"] <= clock.timestamp() for i in range(accounts))


@pytest.mark.slow
def test_the_command_makes_what_was_asked_says_so_and_its_clock_runs(tmp_path: Path) -> None:
    """Told when it is ready; with --speed a second sync finds what happened meanwhile."""
    ids = tmp_path / "ids.txt"
    command = ["sandbox", "--port", "0", "--accounts", "40", "--sessions", "8", "--clock", "2026-06-01"]
    with Child(
        [str(FINCON), *command, "--speed", "86400", "--session-ids", str(ids)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert process.stderr
            url = process.stdout.readline().split()[0].removeprefix("STRIPE_API_BASE=")
            said = process.stderr.readline()
            assert said == (
                "40 accounts, 8 sessions at 2026-06-01 00:00 UTC, 86,400 seconds a second. Ctrl-C ends it.\n"
            )
            assert len(ids.read_text().split()) == 8
            began = requests.get(f"{url}/_sandbox/clock", timeout=10).json()
            first = typed("sync", cwd=tmp_path, env=environ(url))
            until(lambda: requests.get(f"{url}/_sandbox/clock", timeout=10).json()["clock"] > began["clock"])
            second = typed("sync", cwd=tmp_path, env=environ(url))
        finally:
            process.terminate()
            process.communicate()
    for done in (first, second):
        assert done.code == 0, done.err
        assert ", 0 rows added" not in done.err
