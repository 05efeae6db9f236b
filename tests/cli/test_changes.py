"""``fincon changes`` tells every version that came once, in order, wherever its reader stopped."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FINCON, Child, environ
from tests.typed import typed
from tests.warehouse.test_views import publish_rows

Rows = dict[str, list[dict[str, Any]]]


def of_run(number: int, *amounts: int) -> Rows:
    """What a run brings: an account, and a version of its balance for each amount."""
    run = {"run_id": f"run_{number}", "observed_at": f"2026-11-0{number}T12:00:00Z"}
    return {
        "accounts": [{**run, "account_id": f"fca_{number}", "status": "active", "extra": '{"a": 1.10}'}],
        "balances": [
            {**run, "account_id": f"fca_{number}", "currency": f"c{amount}", "current": 2**62 + amount}
            for amount in amounts
        ],
        "runs": [{**run, "sequence": number, "finished_at": f"2026-11-0{number}T13:00:00Z"}],
    }


def publish(data: Path, *runs: Rows) -> None:
    joined: Rows = {}
    for run in runs:
        for table, rows in run.items():
            joined.setdefault(table, []).extend(rows)
    publish_rows(data, joined, datetime.now(UTC))


def told(folder: Path, *options: str) -> list[dict[str, Any]]:
    done = typed("changes", *options, cwd=folder)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_every_version_comes_in_order_and_from_any_line_on_just_the_rest(tmp_path: Path) -> None:
    # The second run came first into the file: the order is that of the runs.
    publish(tmp_path / "data", of_run(2, 1, 2, 3), of_run(1, 1, 2))
    every = told(tmp_path)
    assert [line["row"]["run_id"] for line in every] == ["run_1"] * 3 + ["run_2"] * 4
    assert [line["table"] for line in every[:2]] == ["accounts", "balances"]
    assert {line["row"]["current"] for line in every[1:3]} == {2**62 + 1, 2**62 + 2}
    assert every[0]["row"]["observed_at"] == "2026-11-01T12:00:00Z"
    for place, line in enumerate(every, 1):
        assert told(tmp_path, "--since", line["cursor"]) == every[place:]
    assert told(tmp_path, "--since", "run_1") == every[3:]
    assert told(tmp_path, "--since", "2026-11-01T13:00:00") == every[3:]
    assert told(tmp_path, "--since", "2026-11-02T13:00:00Z") == []


@pytest.mark.slow
def test_what_was_erased_never_comes_and_moves_no_cursor(tmp_path: Path) -> None:
    publish(tmp_path / "data", of_run(1, 1, 2, 3, 4), of_run(2, 1))
    every = told(tmp_path)
    for gone in range(1, 5):
        kept = [line["row"]["currency"] for place, line in enumerate(every[1:5], 1) if place != gone]
        (erased := tmp_path / f"without_{gone}").mkdir()
        publish(erased / "data", of_run(1, *(int(name[1:]) for name in kept)), of_run(2, 1))
        for place, line in enumerate(every, 1):
            rest = [one for one in every[place:] if one != every[gone]]
            assert told(erased, "--since", line["cursor"]) == rest


def test_whoever_follows_gets_what_a_later_run_brings(tmp_path: Path) -> None:
    publish(tmp_path / "data", of_run(1, 1))
    command = [FINCON, "changes", "--follow", "--every", "0.1"]
    with Child(
        command, cwd=tmp_path, env=environ("http://127.0.0.1:1"), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        first = [json.loads(process.stdout.readline()) for _ in range(2)]
        publish(tmp_path / "data", of_run(2, 7))
        later = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.terminate()
    assert [line["row"]["run_id"] for line in first + later] == ["run_1", "run_1", "run_2", "run_2"]
    assert process.returncode == 143


@pytest.mark.parametrize("since", ["yesterday", "run_9", f"run_9/accounts/1/{'0' * 64}"])
def test_a_place_that_there_is_not_is_wrong_usage(since: str, tmp_path: Path) -> None:
    publish(tmp_path / "data", of_run(1, 1))
    done = typed("changes", "--since", since, cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert since in done.err
