"""Neither the key nor a client_secret is in anything that a run leaves behind or says, however it ended."""

import dataclasses
import stat
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fincon.errors import StripeError
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import KEY, START, environ, fincon, rows, settings_for
from tests.pipeline.test_resume import kill, started, wait_for

WORLD = World(seed=4, clock=START, accounts=150, sessions=20)
LIVE_KEY = "rk_live_" + "n0tForAnyDisk" * 3
SESSION = "/v1/financial_connections/sessions/{id}"
ZSTD = b"\x28\xb5\x2f\xfd"


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    with running(WORLD) as it:
        yield it


@pytest.fixture
def sandbox(served: Sandbox) -> Iterator[Sandbox]:
    """One server for the module; each test finds it without faults."""
    served.reset_requests()
    yield served
    served.faults = None
    served.state.keys = None


@pytest.fixture(scope="module")
def secrets(served: Sandbox) -> list[bytes]:
    """What must not be anywhere: the keys, and each session's client_secret, whole and its telling part."""
    world = served.world
    found = [world.session_json(world.session(i))["client_secret"] for i in world.session_ids()]
    assert all(len(secret) > 20 for secret in found)
    assert len(set(found)) == len(found) == world.session_count
    telling = [secret.rsplit("_", 1)[1] for secret in found]
    return [secret.encode() for secret in (KEY, LIVE_KEY, *telling)]


def sync(sandbox: Sandbox, data: Path, *arguments: str, key: str = KEY) -> Any:
    """`fincon sync` of every session and account."""
    (data.parent / "ids.txt").write_text("\n".join(sandbox.world.session_ids()))
    command = ["sync", "--sessions", "ids.txt", *arguments]
    return fincon(*command, cwd=data.parent, env=environ(sandbox.url, STRIPE_API_KEY=key))


def contents(path: Path) -> Iterator[bytes]:
    """A file's name, its bytes, and what its format hides from a plain search."""
    raw = path.read_bytes()
    yield path.name.encode()
    yield raw
    if raw.startswith(ZSTD):
        with pa.input_stream(str(path), compression="zstd") as file:
            yield file.read()
    if path.suffix == ".parquet":
        for column in pq.read_table(path).columns:
            yield "\n".join(map(repr, column.to_pylist())).encode()


def leaks(data: Path, secrets: list[bytes], *said: Any) -> list[str]:
    """Where a secret is: files under the folder, and what commands said."""
    found = [
        str(path)
        for path in sorted(data.rglob("*"))
        if path.is_file() and any(s in content for content in contents(path) for s in secrets)
    ]
    found += [
        text
        for done in said
        for text in (done.stdout, done.stderr)
        if any(s in text.encode() for s in secrets)
    ]
    return found


def not_private(data: Path) -> list[str]:
    """What others than the owner may touch: the folder is 0700, folders in it no wider, files 0600."""
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in [data, *data.rglob("*")]}
    return [f"{mode:o} {path}" for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)]


def test_the_search_finds_what_it_looks_for(data: Path) -> None:
    """A secret in a page, in a Parquet column, in a nested value or in a file's name would be found."""
    data.mkdir()
    hidden = b"s3cret" + b"x" * 20
    (data / "page.json.zst").write_bytes(pa.Codec("zstd").compress(b"...." + hidden, asbytes=True))
    nested = pa.table({"plain": ["no"], "deep": [[{"in": hidden.decode()}]]})
    pq.write_table(nested, data / "nested.parquet", compression="zstd")
    (data / hidden.decode()).touch()
    (data / "innocent").write_bytes(b"nothing")
    assert {Path(path).name for path in leaks(data, [hidden])} == {
        "page.json.zst",
        "nested.parquet",
        hidden.decode(),
    }


def test_a_good_run_keeps_no_secret_and_is_for_its_owner_alone(
    sandbox: Sandbox, data: Path, secrets: list[bytes]
) -> None:
    """After a good run with --verbose, under a live key, no file or line has a secret; modes are 0700 and 0600."""
    data.mkdir(mode=0o755)
    done = sync(sandbox, data, "--verbose", key=LIVE_KEY)
    assert done.returncode == 0, done.stderr
    status = fincon("status", cwd=data.parent)
    assert {"sessions", "accounts"} <= {path.name for path in (data / "lake").iterdir()}
    assert len(list(data.rglob("*.zst"))) > 20
    assert leaks(data, secrets, done, status) == []
    assert not_private(data) == []


def test_an_object_that_cannot_be_read_keeps_no_secret_in_rejects(
    sandbox: Sandbox, data: Path, secrets: list[bytes]
) -> None:
    """What rejects.raw keeps of a session is without its client_secret."""
    sandbox.faults = Faults(script=[Rule(Fault("malformed", defect="wrong_type"), SESSION)])
    done = sync(sandbox, data)
    assert done.returncode == 0, done.stderr
    kept = rows(data, "SELECT raw FROM rejects WHERE object_type = 'session'")
    assert len(kept) == sandbox.world.session_count
    assert all("financial_connections.session" in str(row["raw"]) for row in kept)
    assert leaks(data, secrets, done) == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (None, "401 (Request-Id req_"),
        (Fault("forbidden"), "403 (Request-Id req_"),
        (Fault("server_error", should_retry=False), "500 (Request-Id req_"),
        (Fault("empty_page"), "more follows"),
    ],
    ids=["401", "403", "500", "empty page"],
)
def test_a_run_that_failed_shows_and_keeps_no_secret(
    sandbox: Sandbox, data: Path, secrets: list[bytes], fault: Fault | None, says: str
) -> None:
    """With --verbose there is a traceback, and it shows no secret; nor do the pages that are kept."""
    if fault:
        sandbox.faults = Faults(script=[Rule(fault, query="starting_after")])
    else:
        sandbox.state.keys = frozenset({"sk_test_another"})
    done = sync(sandbox, data, "--verbose")
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stdout == ""
    assert leaks(data, secrets, done) == []
    assert not_private(data) == []
    assert bool(list(data.rglob("*.zst"))) == bool(fault)


@pytest.mark.parametrize(
    "kind", ["server_error", "invalid_json", "cut_short_quietly", "cut_short", "reset", "timeout"]
)
def test_a_run_that_gave_up_shows_and_keeps_no_secret(
    sandbox: Sandbox, data: Path, secrets: list[bytes], kind: str
) -> None:
    """Nor is a secret in what a run says and keeps that gave up on answers which held some."""
    sandbox.faults = Faults(script=[Rule(Fault(kind), SESSION, nth=(2, *range(12, 9999)))])
    settings = dataclasses.replace(settings_for(sandbox.url, data), read_seconds=0.1, backoff_seconds=0.002)
    try:  # answered so, a session is set aside; where nothing answers, the run fails
        said = repr(run_sync(settings, SyncRequest(session_ids=tuple(sandbox.world.session_ids()))))
    except StripeError as error:
        said = "".join(traceback.format_exception(error)) + error.hint + repr(vars(error))
    said += repr(settings)
    assert not any(secret in said.encode() for secret in secrets)
    assert len(list(data.rglob("*.zst"))) >= 5
    assert leaks(data, secrets) == []
    assert not_private(data) == []


def test_a_run_that_was_killed_keeps_no_secret(sandbox: Sandbox, data: Path, secrets: list[bytes]) -> None:
    """Nor does kill -9 at its worst leave a secret in a half-written file."""
    sandbox.faults = Faults(script=[Rule(Fault("timeout", seconds=60), SESSION, nth=range(15, 99))])
    with started(sandbox, data.parent, "--verbose", ids=sandbox.world.session_ids()) as process:
        wait_for(lambda: len(list(data.rglob("*.zst"))) >= 10, process)
        kill(process)
        said = process.stdout.read() + process.stderr.read()
    assert not any(secret in said.encode() for secret in secrets)
    assert leaks(data, secrets) == []
    assert not_private(data) == []
