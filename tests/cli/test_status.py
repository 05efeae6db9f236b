"""What ``fincon status`` tells a script: how old the data is, in exit codes and in JSON."""

import fcntl
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call

ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")


def test_data_older_than_max_age_is_told_in_one_line_and_exit_code_3(synced: Path, call: Call) -> None:
    fresh = call("status", "--max-age", "1d12h", cwd=synced)
    assert (fresh.code, len(fresh.out.splitlines()), fresh.err) == (0, 1, "")
    old = call("status", "--max-age", "0s", cwd=synced)
    assert (old.code, old.out, len(old.err.splitlines())) == (3, "", 1)
    assert "--max-age is 0 s" in old.err


def test_a_table_is_as_old_as_the_last_run_that_read_it(synced: Path, call: Call) -> None:
    """The lake's runs asked for sessions and accounts, never for transactions."""
    assert call("status", "--max-age", "1h", "--table", "balances", cwd=synced).code == 0
    both = call("status", "--max-age", "1h", "--table", "balances", "--table", "transactions", cwd=synced)
    assert (both.code, len(both.err.splitlines())) == (3, 1)
    assert "transactions" in both.err
    assert "never synced" in both.err


def test_a_folder_that_was_never_synced_is_not_fresh(tmp_path: Path, call: Call) -> None:
    shown = call("status", "--max-age", "1h", cwd=tmp_path)
    assert (shown.code, len(shown.err.splitlines())) == (3, 1)


def test_after_failed_attempts_alone_each_command_says_what_failed(tmp_path: Path, call: Call) -> None:
    """Nothing is in, and yet there are views: of attempts, with what to do. Fresh it is not, whatever age is allowed."""
    env = {"STRIPE_API_KEY": "sk_test_sandboxkey", "STRIPE_API_BASE": "http://127.0.0.1:9"}
    failed = call("sync", cwd=tmp_path, env=env)
    assert failed.code == 1
    error, hint = (line.strip().removeprefix("fincon: ") for line in failed.err.splitlines())
    shown = call("status", cwd=tmp_path)
    assert shown.code == 0
    assert shown.out.startswith(
        "No run is finished yet.\nDid not succeed in the last 7 days, newest first:\n"
    )
    assert (error in shown.out, hint in shown.out) == (True, True)
    (attempt,) = json.loads(call("status", "--json", cwd=tmp_path).out)["not_succeeded"]
    assert (attempt["status"], attempt["error"], attempt["hint"]) == ("failed", error, hint)
    old = call("status", "--max-age", "1w", cwd=tmp_path)
    assert (old.code, old.out, len(old.err.splitlines())) == (3, "", 1)
    assert "No attempt has succeeded: `fincon status` says why." in old.err
    asked = call("sql", "SELECT error FROM attempts", "--format", "csv", cwd=tmp_path)
    assert (asked.code, error in asked.out.replace('"', "")) == (0, True)


@pytest.mark.parametrize("age", ["2", "h", "2 hours", "-1h", "1y", ""])
def test_an_age_that_is_none_is_wrong_usage(age: str, synced: Path, call: Call) -> None:
    shown = call("status", "--max-age", age, cwd=synced)
    assert shown.code == 2
    assert "90m, 2h or 1d12h" in shown.err


def test_json_has_a_format_iso_times_and_no_json_in_texts(synced: Path, call: Call) -> None:
    shown = call("status", "--json", cwd=synced)
    found = json.loads(shown.out)
    assert found["format"] == 2
    run = found["runs"][0]
    assert min(run["requests_by_endpoint"].values()) > 0
    assert sum(run["requests_by_endpoint"].values()) == run["requests"]
    began = datetime.fromisoformat(run["started_at"])
    assert timedelta() < datetime.now(UTC) - began < timedelta(hours=1)
    texts = list(_texts(found))
    times = [text for name, text in texts if name.endswith(("_at", "newest", "synced", "last_run", "_seen"))]
    assert len(times) > 8
    assert [text for text in times if not ISO.fullmatch(text)] == []
    assert [text for _, text in texts if text.startswith(("{", "["))] == []


def _texts(value: Any, name: str = "") -> Any:
    """Every text in JSON with the name it stands under."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, name)


def test_json_is_whole_where_the_data_is_too_old(synced: Path, call: Call) -> None:
    shown = call("status", "--json", "--max-age", "0s", cwd=synced)
    assert shown.code == 3
    assert json.loads(shown.out)["runs"]


def test_a_folder_in_use_ends_with_a_code_of_its_own(synced: Path, call: Call) -> None:
    with (synced / "data" / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        shown = call("compact", cwd=synced)
    assert shown.code == 4
    assert "in use" in shown.err
