"""A lake in a bucket: all that a folder promises, and one writer among many machines. The S3 server is moto."""

import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from deltalake.exceptions import DeltaError

from fincon.errors import RunFailed, UsageError
from fincon.lake.append import record_runs
from fincon.lake.snapshots import renew_snapshots
from fincon.lake.tables import Lake
from fincon.pipeline.check import failed_checks
from fincon.pipeline.compact import compact
from fincon.pipeline.erase import erase, traces
from fincon.pipeline.id_files import read_session_ids
from fincon.pipeline.recovery import recover, recovered_lake
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.rewrite_privacy import rewrite
from fincon.pipeline.sync import run_sync
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.settings import Secret, data_folder
from fincon.storage.data_folder import prepare
from fincon.storage.duckdb_s3 import OpenObject
from fincon.storage.lease import LeaseRecord
from fincon.storage.lock import writer_lock
from fincon.storage.s3 import S3Path
from fincon.transforms.redaction import Choice
from fincon.transforms.schemas import ACCOUNTS, LOGS, OBJECT_TABLES, RUNS
from fincon.warehouse.connection import connect
from tests.at_rest import files_holding
from tests.conftest import (
    FINCON,
    OBJECTS,
    START,
    Child,
    environ,
    fincon,
    known_after,
    rows,
    settings_for,
    state,
    sync,
    truth,
)
from tests.pipeline.test_alert import webhook

SECRET = "a-secret-that-must-stay-in-the-environment"  # noqa: S105 - of the local server, which takes any
LATER = timedelta(days=2)


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """An S3 server with the bucket ``lakes``; what the environment says of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    with server, pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        wait_for(lambda: answers(f"{url}/lakes", "PUT"))
        yield found
        server.kill()


def answers(url: str, method: str) -> bool:
    with suppress(OSError):
        return requests.request(method, url, timeout=5).ok
    return False


def wait_for(what: Any, seconds: float = 60.0) -> None:
    """Poll until it is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running(World(seed=2, clock=START, accounts=230, sessions=12)) as served:
        yield served


@pytest.fixture(autouse=True)
def at_start(sandbox: Sandbox) -> None:
    sandbox.set_clock(START)
    sandbox.reset_requests()


@pytest.fixture
def machines(s3: dict[str, str], tmp_path: Path) -> tuple[S3Path, S3Path]:
    """One lake, as two machines with a work folder each see it; its keys look like a partition's, and are none."""
    address = f"s3://lakes/env=prod/stripe_account=acct_1/{tmp_path.name}"
    one, other = (data_folder(address, {"FINCON_WORK": str(tmp_path / name)}) for name in ("one", "other"))
    assert isinstance(one, S3Path)
    assert isinstance(other, S3Path)
    for machine in (one, other):
        prepare(machine)
    return one, other


def hours_later(lake: S3Path) -> None:
    """The lease as it is when time has passed and nobody has renewed it."""
    content = msgspec.json.decode((lake / ".lock").read_bytes(), type=LeaseRecord)
    (lake / ".lock").put(msgspec.json.encode(msgspec.structs.replace(content, until=1.0)))


def on_the_way(lake: S3Path) -> dict[str, str]:
    """The environment of a command on a machine."""
    return {"FINCON_DATA": str(lake), "FINCON_WORK": str(lake.bucket.work.parent)}


# -- the same as a folder


def test_a_lake_in_a_bucket_is_the_truth_for_every_command(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path], tmp_path: Path
) -> None:
    """Two syncs, one on each machine; the commands answer on both; and no byte of it holds the credentials."""
    one, other = machines
    first = truth(sandbox.world)
    sync(sandbox.url, one, sandbox.world.session_ids())
    assert state(other) == first
    sandbox.advance(LATER)
    outcome = sync(sandbox.url, other, sandbox.world.session_ids())
    assert state(one) == known_after(first, truth(sandbox.world))
    assert outcome.failed_checks == {}

    env = environ(sandbox.url) | on_the_way(one)
    for command in (["events"], ["status"], ["check"]):
        done = fincon(*command, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
    asked = fincon(
        "sql", "SELECT count(*) AS n FROM history.accounts", "--format", "csv", cwd=tmp_path, env=env
    )
    assert asked.stdout.split() == ["n", str(rows(one, "SELECT count(*) AS n FROM history.accounts")[0]["n"])]
    named = rows(one, "SELECT lake.accounts_files() AS files")
    assert named[0]["files"][0].startswith(f"{one}/lake/accounts/part-")

    here = [path for machine in machines for path in machine.bucket.work.rglob("*") if path.is_file()]
    tables = [path for path in here if path.suffix in (".parquet", ".duckdb")]
    assert {path.parent for path in tables} <= {one.bucket.work / "copies" / table.name for table in LOGS}, (
        "the lake is in the bucket, and here are no more than copies of what was run"
    )
    kept = [path.read_bytes() for path in [*here, *one.rglob("*")]]
    assert len(kept) > 40
    assert not [content for content in kept if SECRET.encode() in content]


def test_commands_that_write_beside_the_lake_work_for_one_in_a_bucket(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path], tmp_path: Path
) -> None:
    """Rates, an export, news, metrics: none of it needs a folder of this machine for the lake, nor its lease for long."""
    one, _ = machines
    sync(sandbox.url, one, sandbox.world.session_ids())
    (tmp_path / "rates.csv").write_text("day,from,to,rate\n2026-06-01,eur,usd,1.0832\n")
    account = rows(one, "SELECT account_id FROM accounts ORDER BY ALL LIMIT 1")[0]["account_id"]
    metrics = {"FINCON_METRICS": str(tmp_path / "metrics.prom")}
    with webhook() as (host, told):
        env = environ(sandbox.url) | on_the_way(one) | metrics | {"FINCON_ALERT_URLS": f"json://{host}/"}
        for command in (
            ["rates", "rates.csv"],
            ["status", "--max-age", "1d"],
            ["explain", account],
            ["export", "plain"],
            ["export", "plain.duckdb", "--history"],
            ["report", "--output", "report.html"],
            ["alert"],
            ["alert"],
            ["events"],
        ):
            done = fincon(*command, cwd=tmp_path, env=env)
            assert done.returncode == 0, (command, done.stderr)
        assert len(told) == 1, "what was told is known the next time"
        lines = fincon("changes", cwd=tmp_path, env=env).stdout.splitlines()
    assert len(lines) == sum(rows(one, f"SELECT count(*) AS n FROM lake.{name}")[0]["n"] for name in OBJECTS)
    assert rows(one, "SELECT to_currency(100, 'eur', 'usd', DATE '2026-06-02') AS n") == [{"n": 108}]
    assert "fincon_last_run_success 1" in (tmp_path / "metrics.prom").read_text()


@pytest.mark.minutes
def test_a_local_lake_and_one_in_a_bucket_have_the_same_history(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path], data: Path
) -> None:
    for _ in range(2):
        for where in (data, machines[0]):
            sync(sandbox.url, where, sandbox.world.session_ids())
        sandbox.advance(LATER)

    def history(table: str) -> str:
        return f"lake.{table}"

    assert state(machines[0], history) == state(data, history)


def test_what_a_machine_noted_of_the_logs_counts_until_another_writes(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path]
) -> None:
    """What it then reads, and publishes, is what is there: as if it had noted nothing."""
    one, other = machines
    tables = (*OBJECT_TABLES, RUNS)

    def known(machine: S3Path) -> tuple[bool, dict[str, set[str]]]:
        with recovered_lake(machine) as lake:
            return lake.is_recalled, {table.name: set(lake.files(table)) for table in tables}

    assert not known(one)[0]
    run_sync(settings_for(sandbox.url, one), SyncRequest())
    is_recalled, files = known(one)
    assert is_recalled
    with Lake(one / "lake") as lake:  # which asks the logs
        assert files == {table.name: set(lake.files(table)) for table in tables}
    sandbox.advance(LATER)
    run_sync(settings_for(sandbox.url, other), SyncRequest())
    is_recalled, newer = known(one)
    assert not is_recalled
    assert newer != files
    assert known(one) == (True, newer)
    run_sync(settings_for(sandbox.url, one), SyncRequest())  # and so it goes on from what it noted
    assert failed_checks(one) == {}
    with Lake(one / "lake") as lake:
        assert set(rows(other, "SELECT lake.runs_files() AS files")[0]["files"]) == set(lake.files(RUNS))
    with pytest.raises(UsageError), recovered_lake(one):
        raise UsageError("Something went wrong.", "It was written half.")
    assert not known(one)[0]


def run_row(run_id: str = "") -> dict[str, Any]:
    """A run that saw nothing, as its row."""
    now = datetime.now(UTC)
    about = {"run_id": run_id or f"{now:%H%M%S.%f}", "mode": "events", "status": "succeeded"}
    return {**about, "started_at": now, "finished_at": now}


def sync_and_append(sandbox: Sandbox, machine: S3Path, count: int) -> None:
    """Sync once, then as `append_to_runs`: from here on the machine has copies of the logs."""
    run_sync(settings_for(sandbox.url, machine), SyncRequest())
    append_to_runs(machine, count)


def append_to_runs(machine: S3Path, count: int) -> None:
    """Write to the log of runs as so many runs would, and merge its files where they would."""
    with recovered_lake(machine) as lake:
        for _ in range(count):
            record_runs(lake, [run_row()])
            renew_snapshots(lake)


def test_what_is_written_by_a_copy_of_a_log_is_what_delta_itself_reads_in_the_bucket(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path]
) -> None:
    """Through two checkpoints and a merge of files; and a second machine goes on from there."""
    one, other = machines
    sync_and_append(sandbox, one, 24)
    with recovered_lake(one) as lake:
        assert lake.is_recalled
        by_copy = sorted(lake.run_ids()), lake.file_stats(RUNS)
    with Lake(one / "lake") as lake:  # which knows of no copy
        assert (sorted(lake.run_ids()), lake.file_stats(RUNS)) == by_copy
        assert len(lake.run_ids()) == 25
        assert len(lake.files(RUNS)) < 20
        assert all(lake.table(RUNS).transaction_version(run_id) == 1 for run_id in lake.run_ids())
    assert len((one / "lake" / "runs" / "_delta_log").glob("*.checkpoint.parquet")) == 2
    append_to_runs(other, 1)
    assert len(rows(one, "SELECT 1 FROM read_parquet(lake.runs_files())")) == 1, "published before"
    append_to_runs(one, 1)
    with Lake(other / "lake") as lake:
        assert len(lake.run_ids()) == 27


@pytest.mark.parametrize("put_back", ["the commit before", "another commit"])
@pytest.mark.parametrize("table", ["runs", "attempts"])
@pytest.mark.first(0, 2)
def test_a_log_that_was_put_back_is_read_anew(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path], table: str, put_back: str
) -> None:
    """Its newest commit is gone, or is another under the same number: what is here of it counts no more."""
    one, _ = machines
    for _ in range(2):
        run_sync(settings_for(sandbox.url, one), SyncRequest())
    log = one / "lake" / table / "_delta_log"
    newest = log.glob("*.json")[-1]
    if put_back == "the commit before":
        newest.unlink()
    else:
        newest.put(newest.read_bytes() + b"\n")
    with recovered_lake(one) as lake:
        assert not lake.is_recalled


def test_a_commit_that_another_writer_made_meanwhile_keeps_its_place(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path]
) -> None:
    """Whoever stood still and goes on is told; its row is in no table, and the next run goes on from what is there."""
    one, other = machines
    sync_and_append(sandbox, one, 1)

    def too_late() -> None:
        with recovered_lake(one) as lake:
            assert lake.is_recalled
            Lake(other / "lake").fence_previous_writer()
            record_runs(lake, [run_row("late")])

    with pytest.raises(RunFailed, match="was written by another process while this run held the lake"):
        too_late()
    append_to_runs(one, 1)
    with Lake(other / "lake") as lake:
        assert "late" not in lake.run_ids()
        assert len(lake.run_ids()) == 3


def test_compacting_and_erasing_in_a_bucket(sandbox: Sandbox, machines: tuple[S3Path, S3Path]) -> None:
    """No answer changes, who reads on is told to ask the newest views, no object names who was erased, no sync brings it back."""
    lake, other = machines
    ids = sandbox.world.session_ids()
    for _ in range(2):
        sync(sandbox.url, lake, ids)
        sandbox.advance(LATER)
    before = state(lake), state(lake, lambda table: f"history.{table}")
    account = rows(
        lake, "SELECT account_id FROM session_accounts JOIN balances USING (account_id) ORDER BY ALL"
    )[0]
    identity = account["account_id"]
    count = "SELECT count(*), count(*) FILTER (account_id = ?) FROM history.accounts"
    with connect(lake) as reader:
        [(versions, _)] = reader.execute(count, [identity]).fetchall()
        compact(lake, retention_days=7, pages_days=7)
        assert (state(lake), state(lake, lambda table: f"history.{table}")) == before
        assert reader.execute(count, [identity]).fetchall()[0][0] == versions
        with pytest.raises(duckdb.PermissionException):
            reader.execute(f"FROM read_blob('{lake}/.lock')")
        erase(lake, "account", identity)
        with pytest.raises(duckdb.Error, match="is not there any more: ask again, of the newest views"):
            reader.execute(f"FROM ({count})", [identity])
    with connect(lake) as reader:
        [(left, named)] = reader.execute(count, [identity]).fetchall()
        assert 0 < left < versions
        assert named == 0
    done = compact(other, retention_days=0, pages_days=0)
    assert {done["files"][table][1] for table in OBJECTS} == {1}
    sync(sandbox.url, other, ids)
    assert traces(lake, [identity]) == traces(other, [identity]) == []
    assert failed_checks(lake) == {}


def in_clear(lake: S3Path, names: set[str]) -> set[str]:
    """Which of the names any object or file of the lake holds, unpacked."""
    found = {name for _, name in files_holding(lake.bucket.work, names)}
    for path in lake.rglob("*"):
        content = path.read_bytes()
        is_table = path.suffix == ".parquet"
        text = (
            str(pq.read_table(pa.BufferReader(content)).to_pylist())
            if is_table
            else content.decode(errors="replace")
        )
        found |= {name for name in names if name in text}
    return found


@pytest.mark.minutes
def test_a_rewrite_in_a_bucket_that_is_killed_is_finished_by_the_next(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path], tmp_path: Path
) -> None:
    """Once the first table is rewritten it is killed; in the end no object and no page says in clear who anybody is."""
    lake, key = machines[0], "0123456789abcdef0123"
    choices: tuple[Choice, ...] = ("keep", "hash")
    for choice in choices:
        run_sync(settings_for(sandbox.url, lake, FINCON_PII_KEY=key), SyncRequest(owners=True, pii=choice))
        sandbox.advance(LATER)
    names = {row["display_name"] for row in truth(sandbox.world.at(START))["accounts"] if row["display_name"]}
    names |= {row["email"] for row in sandbox.world.at(START).owners_truth() if row["email"]}
    assert len(in_clear(lake, names)) == len(names)
    env = {**os.environ, **on_the_way(lake), "FINCON_PII_KEY": key}
    rewritten = lake / "lake" / "accounts" / "_delta_log" / "_last_checkpoint"
    with Child([str(FINCON), "privacy", "--rewrite"], cwd=tmp_path, env=env) as process:
        wait_for(rewritten.exists)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert in_clear(lake, names)
    assert failed_checks(lake) == {}
    rewrite(lake, Secret(key))
    assert in_clear(lake, names) == set()
    assert failed_checks(lake) == {}


# -- one writer


def test_a_second_machine_is_told_who_writes_and_how_long_a_dead_one_would_count(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path]
) -> None:
    one, other = machines
    with writer_lock(one), pytest.raises(RunFailed, match=rf"in use by process {os.getpid()} on ") as caught:
        sync(sandbox.url, other)
    assert "runs out in" in caught.value.hint
    assert sandbox.requests == []
    sync(sandbox.url, other)  # free as soon as its holder is done


def test_of_many_who_want_the_lease_one_gets_it(s3: dict[str, str], tmp_path: Path) -> None:
    """What the server's own conditional put decides; here eight at once, of whom the others are turned away."""
    address = f"s3://lakes/{tmp_path.name}"
    got, over = [], threading.Event()

    def want(number: int) -> None:
        lake = data_folder(address, {"FINCON_WORK": str(tmp_path / str(number))})
        prepare(lake)
        with suppress(RunFailed), writer_lock(lake):
            got.append(number)
            over.wait(30)

    with ThreadPoolExecutor(8) as pool:
        wanting = [pool.submit(want, number) for number in range(8)]
        wait_for(lambda: sum(future.done() for future in wanting) >= 7)
        over.set()
    assert len(got) == 1


def test_a_lease_is_renewed_by_its_thread(
    machines: tuple[S3Path, S3Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes nothing for minutes, for it fetches, is still known to be alive."""
    monkeypatch.setattr("fincon.storage.lease.RENEW_SECONDS", 0.02)
    lake, _ = machines

    def until() -> float:
        return msgspec.json.decode((lake / ".lock").read_bytes(), type=LeaseRecord).until

    with writer_lock(lake):
        first = until()
        wait_for(lambda: until() > first)


def test_a_lease_that_ran_out_is_taken_over_and_its_holder_cannot_commit_any_more(
    machines: tuple[S3Path, S3Path],
) -> None:
    """It is told so before its next commit; and should it stand still just after it asked, the log refuses it."""
    one, other = machines
    row = pa.Table.from_pylist(
        [{"account_id": "fca_1", "stripe_account": "", "run_id": "run-1"}], schema=ACCOUNTS.schema
    )
    with Lake(one / "lake") as slow, Lake(other / "lake") as quick, writer_lock(one):
        slow.append(ACCOUNTS, row, ["run-1"])
        hours_later(one)
        with writer_lock(other):
            recover(other, quick)
            with pytest.raises(RunFailed, match=r"taken over by process \d+ on .* stood still"):
                slow.append(ACCOUNTS, row, ["run-2"])
            one.bucket.lease = None  # as if it had asked a moment before the other came
            with pytest.raises(DeltaError):
                slow.append(ACCOUNTS, row, ["run-2"])
            quick.append(ACCOUNTS, row, ["run-3"])
    with Lake(other / "lake") as lake:
        assert [lake.contains_run(ACCOUNTS, f"run-{n}") for n in (1, 2, 3)] == [True, False, True]


# -- killed in the middle


def killed_half_loaded(sandbox: Sandbox, lake: S3Path, tmp_path: Path) -> str:
    """A sync as a process, killed with SIGKILL once the first table is committed; its run."""
    (tmp_path / "ids.txt").write_text("\n".join(sandbox.world.session_ids()))
    env = {**os.environ, **environ(sandbox.url), **on_the_way(lake)}
    first = lake / "lake" / "sessions" / "_delta_log" / f"{1:020}.json"
    with Child([str(FINCON), "sync", "--sessions", "ids.txt"], cwd=tmp_path, env=env) as process:
        wait_for(first.exists)
        process.send_signal(signal.SIGKILL)
    with Lake(lake / "lake") as half:
        assert half.run_ids() == set(), "it was killed before its run was whole"
        [run_id] = [path.name for path in (lake.bucket.work / "pages").iterdir()]
        assert half.contains_run(OBJECT_TABLES[0], run_id)
    return run_id


@pytest.mark.minutes
def test_a_run_killed_half_loaded_is_finished_at_once_on_the_same_machine(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path], tmp_path: Path
) -> None:
    """Its pages are here, and so the machine knows that the holder of the lease is dead: nothing is waited for."""
    run_id = killed_half_loaded(sandbox, machines[0], tmp_path)
    outcome = sync(sandbox.url, machines[0], sandbox.world.session_ids())
    assert run_id in {row["run_id"] for row in rows(machines[0], "FROM runs")}
    assert outcome.failed_checks == {}
    assert state(machines[0]) == truth(sandbox.world)


def test_a_run_killed_half_loaded_is_taken_out_again_by_another_machine(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path], tmp_path: Path
) -> None:
    """The pages of the half that is missing are lost with the machine; should it come back, its run adds what it saw."""
    one, other = machines
    lost = killed_half_loaded(sandbox, one, tmp_path)
    with pytest.raises(RunFailed, match=r"in use by process \d+ on"):
        sync(sandbox.url, other)
    hours_later(other)
    outcome = sync(sandbox.url, other, sandbox.world.session_ids())
    assert outcome.failed_checks == {}
    assert state(other) == truth(sandbox.world)
    for table in OBJECTS:
        assert rows(other, f"SELECT DISTINCT run_id FROM lake.{table} WHERE run_id = '{lost}'") == []

    back = sync(sandbox.url, one, sandbox.world.session_ids())
    assert back.failed_checks == {}
    assert state(one) == truth(sandbox.world)
    assert {row["run_id"] for row in rows(one, "FROM runs")} >= {lost, outcome.run["run_id"]}


@pytest.mark.minutes
def test_pages_that_were_fetched_before_an_erasure_elsewhere_are_not_loaded_after_it(
    sandbox: Sandbox, machines: tuple[S3Path, S3Path], tmp_path: Path
) -> None:
    """A machine that comes back with pages in no table yet does not bring back who was erased meanwhile."""
    one, other = machines
    lost = killed_half_loaded(sandbox, one, tmp_path)
    hours_later(other)
    sync(sandbox.url, other, sandbox.world.session_ids())
    identity = rows(other, "SELECT account_id FROM session_accounts ORDER BY ALL")[0]["account_id"]
    erase(other, "account", identity)
    assert traces(one, [identity]), "on the pages of the first machine"
    sync(sandbox.url, one, sandbox.world.session_ids())
    assert traces(one, [identity]) == []
    assert rows(one, f"FROM runs WHERE run_id = '{lost}'") == []


# -- reading


def test_threads_that_share_an_open_object_each_read_at_their_own_place(
    machines: tuple[S3Path, S3Path],
) -> None:
    content = os.urandom(100_000)
    (machines[0] / "object").put(content)
    file = OpenObject(machines[0] / "object")
    file.seek(10)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(file.seek, 60_000).result()
        assert pool.submit(file.read, 50).result() == content[60_000:60_050]
    assert file.read(50) == content[10:60]
    file.seek(99_990)
    assert file.read(50) == content[99_990:]


def test_an_object_that_is_written_anew_while_it_is_read_is_not_mixed_with_the_old(
    machines: tuple[S3Path, S3Path],
) -> None:
    place = machines[0] / "object"
    place.put(b"a" * 100_000)
    file = OpenObject(place)
    place.put(b"b" * 100_000)
    with pytest.raises(OSError, match="written anew while it was read"):
        file.read(10)


# -- what can be wrong


@pytest.mark.parametrize(
    ("address", "env", "code", "said"),
    [
        ("s3://no-such-bucket/lake", {}, 2, "There is no bucket no-such-bucket."),
        (
            "s3://lakes/down",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            1,
            "S3 does not answer for s3://lakes/down",
        ),
        ("s3://lakes/plain", {"AWS_ALLOW_HTTP": "false"}, 1, "S3 does not answer for s3://lakes/plain"),
        ("s3://lakes/a b", {}, 2, "The data folder 's3://lakes/a b' cannot be used."),
        ("s3://", {}, 2, "The data folder 's3://' cannot be used."),
        ("s3://lakes/empty", {}, 0, ""),
    ],
)
def test_what_is_wrong_with_a_bucket_is_said_in_two_lines(
    s3: dict[str, str],
    sandbox: Sandbox,
    tmp_path: Path,
    address: str,
    env: dict[str, str],
    code: int,
    said: str,
) -> None:
    done = fincon("sync", "--data", address, cwd=tmp_path, env=environ(sandbox.url) | env)
    assert done.returncode == code, done.stderr
    if code:
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 2
        assert SECRET not in done.stderr
        assert sandbox.requests == []


def test_credentials_that_are_not_accepted_are_told(
    s3: dict[str, str], machines: tuple[S3Path, S3Path]
) -> None:
    allowed = f"{s3['AWS_ENDPOINT_URL']}/moto-api/reset-auth"

    def unasked(count: int) -> None:
        """How many requests more need no valid credentials."""
        assert requests.post(allowed, data=str(count).encode(), timeout=5).ok

    unasked(0)
    try:
        with pytest.raises(UsageError, match=r"S3 refuses s3://lakes/.*: 403 Forbidden\.") as caught:
            connect(machines[0])
    finally:
        unasked(10**9)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def test_a_bucket_with_nothing_in_it_yet_is_told(machines: tuple[S3Path, S3Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no s3://lakes/.*/fincon\.duckdb"):
        connect(machines[0])
    assert fincon("compact", cwd=tmp_path, env=on_the_way(machines[0])).returncode == 2


@pytest.mark.usefixtures("s3")
def test_session_ids_are_read_from_an_object(sandbox: Sandbox, tmp_path: Path) -> None:
    """As from a file: of any form, packed or not; one that is not there is told before anything is sent."""
    ids = sandbox.world.session_ids()[:3]
    packed = gzip.compress(b"session_id,stripe_account\n" + "".join(f"{i},acct_1\n" for i in ids).encode())
    for name, content in (("plain.txt", "\n".join(ids).encode()), ("packed.csv.gz", packed)):
        data_folder(f"s3://lakes/ids/{name}").put(content)  # type: ignore[union-attr]
    assert read_session_ids("s3://lakes/ids/plain.txt").plain == tuple(ids)
    assert read_session_ids("s3://lakes/ids/packed.csv.gz").of == {"acct_1": tuple(ids)}
    env = environ(sandbox.url)
    arguments = ("sync", "--no-accounts", "--sessions")
    done = fincon(*arguments, "s3://lakes/ids/plain.txt", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM sessions") == [{"n": 3}]
    sandbox.reset_requests()
    missing = fincon(*arguments, "s3://lakes/ids/nothing.txt", cwd=tmp_path, env=env)
    assert missing.returncode == 2
    assert "The session ids in s3://lakes/ids/nothing.txt cannot be read" in missing.stderr
    assert sandbox.requests == []
