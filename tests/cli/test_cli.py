"""The command line: what a person types, reads, and gets back as exit code."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import duckdb
import pyarrow.parquet as pq
import pytest

from fincon.cli.app import COMMANDS, cli
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.cli.conftest import Call
from tests.conftest import FINCON, KEY, environ, fincon


def last_lines(text: str) -> list[str]:
    return text.strip().splitlines()[-2:]


def test_help_names_every_command_and_each_has_its_own(call: Call, tmp_path: Path) -> None:
    shown = call("--help").out
    for command in ("demo", "sync", "status", "sql", "check", "sandbox"):
        assert re.search(rf"^  {command} ", shown, re.MULTILINE)
        assert "--data" in call(command, "--help").out
    assert re.match(r"fincon, version \d+\.\d+", call("--version").out)


@pytest.mark.slow
def test_demo_is_repeatable_and_ends_with_answers_and_what_to_type_next(tmp_path: Path) -> None:
    for _ in range(2):
        done = fincon("demo", "--accounts", "100", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        for shown in ("usd", "refresh_health", "fincon --data data/demo status", "export STRIPE_API_KEY"):
            assert shown in done.stdout
        assert done.stderr.count("added, ") == 2
    assert fincon("--data", "data/demo", "check", cwd=tmp_path).returncode == 0


def run_in_a_process_of_its_own(code: str, folder: Path, url: str) -> None:
    """Run Python code there that asks a sandbox."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **environ(url)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


SYNC = """
import sys
from fincon.cli.sync import run_once
from fincon.settings import load_settings
from fincon.pipeline.request import SyncRequest
run_once(load_settings(), SyncRequest({asked}))
"""


def test_a_sync_never_imports_pandas_and_whoever_wants_it_has_it(tmp_path: Path) -> None:
    code = SYNC.format(asked="transactions=True") + (
        "assert 'pandas' not in sys.modules, 'pandas was imported'\n"
        "import pyarrow as pa, pandas as pd\n"
        "assert pa.table({'a': [1]}).to_pandas().equals(pd.DataFrame({'a': [1]}))\n"
    )
    with running(World(accounts=20)) as sandbox:
        run_in_a_process_of_its_own(code, tmp_path, sandbox.url)


def test_a_run_that_finds_nothing_new_imports_nothing_that_takes_as_long_as_all_it_asks(
    tmp_path: Path,
) -> None:
    """To import pyarrow's compute module, or what draws bars of progress, takes as long as to write the run down."""
    code = SYNC.format(asked="events=True") + "assert not {'pyarrow.compute', 'rich'} & sys.modules.keys()\n"
    with running(World(accounts=20)) as sandbox:
        run_in_a_process_of_its_own(SYNC.format(asked=""), tmp_path, sandbox.url)
        run_in_a_process_of_its_own(code, tmp_path, sandbox.url)


def test_a_command_runs_with_the_collector_that_its_imports_do_without(tmp_path: Path) -> None:
    """Else what a long run drops in circles would stay until it ends. What was imported stays, and is not looked through."""
    code = (
        "import gc, os, sys\n"
        "from fincon.cli import main\n"
        "os._exit = lambda code: sys.exit(0 if gc.isenabled() and gc.get_freeze_count() and code == 0 else 1)\n"
        "sys.argv = ['fincon', 'schema']\n"
        "main()\n"
    )
    run_in_a_process_of_its_own(code, tmp_path, "")


def test_sync_then_status_sql_and_check(sandbox: Sandbox, call: Call, tmp_path: Path) -> None:
    ids = sandbox.world.session_ids()[:7]
    (tmp_path / "ids.txt").write_text("\n".join([*ids, "fcsess_gone"]))
    env = environ(sandbox.url)
    done = call("sync", "--sessions", "ids.txt", env=env)
    assert done.code == 0, done.err
    assert done.out == ""
    assert "does not know the session fcsess_gone" in done.err
    assert f"7 sessions, {sandbox.world.account_count} accounts" in done.err

    found = json.loads(call("status", "--json").out)
    assert found["runs"][0]["rejected"] == 1
    assert found["tables"]["accounts"]["rows"] == sandbox.world.account_count
    assert "fcsess_gone" in call("status").out

    counted = call("sql", "SELECT count(*) AS n FROM accounts", "--format", "csv")
    assert counted.out == f"n\n{sandbox.world.account_count}\n"
    assert call("check").code == 0

    strict = call("sync", "--strict", "--sessions", "ids.txt", env=env)
    assert strict.code == 1
    assert "1 object was rejected (--strict)" in strict.err


def test_sql_writes_every_format_exactly(sandbox: Sandbox, call: Call, tmp_path: Path) -> None:
    call("sync", env=environ(sandbox.url))
    query = "SELECT account_id, currency, current, current_amount, as_of FROM balances ORDER BY ALL"
    expected = {(r["account_id"], r["currency"], r["current"]) for r in sandbox.world.truth()["balances"]}

    as_csv = list(csv.DictReader(io.StringIO(call("sql", query, "--format", "csv").out)))
    as_json = [json.loads(line) for line in call("sql", query, "--format", "json").out.splitlines()]
    call("sql", query, "--format", "parquet", "--output", "b.parquet")
    as_parquet = pq.read_table(tmp_path / "b.parquet").to_pylist()
    assert {
        (r["account_id"], r["currency"], int(r["current"]) if r["current"] else None) for r in as_csv
    } == expected
    assert {(r["account_id"], r["currency"], r["current"]) for r in as_json} == expected
    assert {(r["account_id"], r["currency"], r["current"]) for r in as_parquet} == expected
    assert [r["current_amount"] for r in as_csv] == [r["current_amount"] or "" for r in as_json]


@pytest.mark.parametrize(
    ("arguments", "env", "code", "says"),
    [
        (["sync"], {}, 2, "STRIPE_API_KEY is not set"),
        (["sync"], {"STRIPE_API_KEY": "hunter2"}, 2, "does not look like a Stripe key"),
        (["sync"], {"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": "ftp://x"}, 2, "STRIPE_API_BASE"),
        (["sync"], {"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": "http://example.com"}, 2, "in clear"),
        (["sync"], {"STRIPE_API_KEY": KEY, "FINCON_CONCURRENCY": "many"}, 2, "FINCON_CONCURRENCY"),
        (["sync"], {"STRIPE_API_KEY": KEY, "FINCON_MEMORY": "little"}, 2, "FINCON_MEMORY"),
        (
            ["sync"],
            {"STRIPE_API_KEY": KEY, "FINCON_REQUESTS_PER_SECOND": "-1"},
            2,
            "FINCON_REQUESTS_PER_SECOND",
        ),
        (["sync", "--no-accounts"], {"STRIPE_API_KEY": KEY}, 2, "nothing to fetch"),
        (["sync", "--sessions", "no.txt"], {"STRIPE_API_KEY": KEY}, 2, "no.txt cannot be read"),
        (
            ["sync", "--sessions", "bad.txt"],
            {"STRIPE_API_KEY": KEY},
            2,
            "line 2: 'acct_1' is not a session id",
        ),
        (["sync", "--sessions", "empty.txt"], {"STRIPE_API_KEY": KEY}, 2, "holds no session id"),
        (["sync", "--sessions", "other.csv"], {"STRIPE_API_KEY": KEY}, 2, "is not a session id"),
        (["status"], {}, 2, "There is no"),
        (["sql", "SELECT 1"], {}, 2, "There is no"),
        (["sandbox", "--clock", "noon"], {}, 2, "is not a time"),
        (["--data", "bad.txt", "status"], {}, 2, "bad.txt"),
        (["--data", "50%20", "status"], {}, 2, "has a % in its path"),
        (["synchronise"], {}, 2, "No such command"),
        (["sync", "--nope"], {}, 2, "No such option"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_in_two_lines(
    call: Call, tmp_path: Path, arguments: list[str], env: dict[str, str], code: int, says: str
) -> None:
    (tmp_path / "bad.txt").write_text("fcsess_1\nacct_1\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "other.csv").write_text("name,other\nx,y\n")
    done = call(*arguments, env=env)
    assert done.code == code
    assert says in done.err
    assert "Traceback" not in done.err
    assert "hunter2" not in done.err
    assert done.out == ""


def test_a_wrong_query_gets_duckdbs_own_words_and_writing_is_refused(
    sandbox: Sandbox, call: Call, tmp_path: Path
) -> None:
    call("sync", env=environ(sandbox.url))
    wrong = call("sql", "SELECT nothing FROM accounts")
    assert (wrong.code, "nothing" in wrong.err) == (2, True)
    for query in ("DROP VIEW accounts", "COPY accounts TO 'x.csv'", "SELECT 1; SELECT 2"):
        refused = call("sql", query)
        assert (refused.code, "reads" in refused.err) == (2, True)
    assert not (tmp_path / "x.csv").exists()
    piped = fincon("sql", "SELECT 1 AS one", "--format", "parquet", cwd=tmp_path, text=False)
    assert piped.stdout.startswith(b"PAR1")
    assert call("sql", "FROM accounts", "--output", "no/such/dir.txt").code == 2


def test_a_server_that_is_not_there_is_told_within_seconds(call: Call, tmp_path: Path) -> None:
    done = call("sync", env=environ("http://127.0.0.1:9"))
    assert done.code == 1
    assert "the connection failed" in done.err
    assert len(done.err.strip().splitlines()) == 2


def test_a_refused_key_names_the_key_and_not_its_value(call: Call, tmp_path: Path) -> None:
    with running(World(accounts=3), keys={"sk_test_other"}) as sandbox:
        done = call("sync", env=environ(sandbox.url))
    assert done.code == 1
    assert "401" in done.err
    assert "STRIPE_API_KEY" in done.err
    assert KEY not in done.err


def test_dry_run_sends_nothing_and_says_what_it_would(sandbox: Sandbox, call: Call, tmp_path: Path) -> None:
    done = call(
        "sync",
        "--sessions",
        "-",
        "--dry-run",
        cwd=tmp_path,
        env=environ(sandbox.url),
        stdin=b"fcsess_a\nfcsess_b\n",
    )
    assert done.code == 0
    assert "GET /v1/financial_connections/sessions/fcsess_a\n" in done.out
    assert "GET /v1/financial_connections/accounts?limit=100" in done.out
    assert sandbox.requests == []
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", ["txt", "csv", "headless.csv", "json", "jsonl", "parquet"])
def test_session_ids_are_read_from_what_people_have(
    sandbox: Sandbox, call: Call, tmp_path: Path, kind: str
) -> None:
    ids = sandbox.world.session_ids()[:3]
    path = tmp_path / f"ids.{kind}"
    if kind in ("txt", "headless.csv"):
        path.write_text("\r\n".join(ids))
    elif kind == "csv":
        path.write_text("user,session_id\n" + "".join(f"u,{i}\n" for i in ids))
    elif kind == "json":
        path.write_text(json.dumps([{"id": i} for i in ids]))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"id": i}) + "\n" for i in ids))
    else:
        duckdb.sql(f"COPY (SELECT unnest({ids!r}) AS session_id) TO '{path}'")
    done = call("sync", "--sessions", str(path), "--no-accounts", "--dry-run", env=environ(sandbox.url))
    assert [line for line in done.out.splitlines() if "/sessions/" in line] == [
        f"GET /v1/financial_connections/sessions/{i}" for i in ids
    ]


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        "caf\u00e9",
        "link",
        "up/../here",
        "env=prod/year=2026/stripe_account=acct_1/currency=usd",
    ],
)
@pytest.mark.first(0, 1)
def test_any_folder_will_do(sandbox: Sandbox, call: Call, tmp_path: Path, name: str) -> None:
    """Spaces, accents, links, dots and ``key=value`` in the path, which are no column: sync, erase and check work."""
    (tmp_path / "up").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    where = ("--data", f"{tmp_path}/{name}")
    env = environ(sandbox.url)
    for _ in range(2):
        assert call(*where, "sync", env=env).code == 0
    account = sandbox.world.account_id(3)
    erased = call(*where, "erase", "--yes", "--account", account)
    assert erased.code == 0, erased.err
    assert call(*where, "check").code == 0
    again = call(*where, "erase", "--yes", "--account", account)
    assert (again.code, "Nothing here names" in again.err) == (2, True)


@pytest.mark.slow
def test_a_folder_that_was_moved_is_read_as_it_is(sandbox: Sandbox, call: Call, tmp_path: Path) -> None:
    call("--data", "one", "sync", env=environ(sandbox.url))
    (tmp_path / "one").rename(tmp_path / "two")
    moved = call("--data", "two", "sql", "SELECT count(*) AS n FROM accounts", "--format", "csv")
    assert (moved.code, moved.out.split()[1]) == (0, f"{sandbox.world.account_count}")
    assert call("--data", "two", "compact").code == 0
    assert call("--data", "two", "check").code == 0


@pytest.mark.slow
def test_a_reader_that_had_enough_is_no_failure(sandbox: Sandbox, tmp_path: Path) -> None:
    fincon("sync", cwd=tmp_path, env=environ(sandbox.url))
    for style in ("csv", "json", "table"):
        script = f"set -o pipefail; {FINCON} sql 'FROM history.refreshes' --format {style} | head -1"
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_each_commands_module_and_line_of_help_stand_in_the_table() -> None:
    """The list of commands imports none of them, so nothing else would notice a name that leads nowhere."""
    for name, (_, line) in COMMANDS.items():
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.name == name
        assert len(f"  {'transactions'}  {line}") <= 80


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_import_no_command_and_no_engine(argument: str, tmp_path: Path) -> None:
    """They answer within a tenth of a second: what takes long is imported by the command that needs it."""
    code = f"import sys; from fincon.cli import app; app.run([{argument!r}]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "duckdb",
        "pyarrow",
        "requests",
        "rich",
        "prefect",
        "fincon.cli.sync",
        "fincon.cli.query",
    }


def test_a_query_imports_neither_delta_nor_http(tmp_path: Path) -> None:
    """Reading takes DuckDB alone, so that `sql` and `status` answer at once."""
    code = "import sys, fincon.cli.query; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"deltalake", "requests", "prefect", "uvicorn"}
