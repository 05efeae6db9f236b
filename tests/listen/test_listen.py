"""`fincon listen` as a process: what it took is never lost, whenever it is killed, and is in the lake once."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from fincon.landing.spool import Spool
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import running
from fincon.sandbox.world import World
from fincon.storage.lock import writer_lock
from tests.conftest import FINCON, START, environ, settings_for
from tests.listen.posting import SECRET
from tests.listen.test_received import history
from tests.typed import typed

TOOK = re.compile(r"fincon: ended by SIGTERM\. (\d+) events? received, .* (\d+) loaded; (\d+) wait")


@contextmanager
def listening(data: Path, url: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command, once it takes events, and where; killed in the end."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}
    with subprocess.Popen(
        [str(FINCON), "listen", "--data", str(data), "--port", "0", "--every", "0.2"],
        env={**clean, **environ(url), "STRIPE_WEBHOOK_SECRET": SECRET},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            yield process, process.stderr.readline().split()[2].rstrip(".")
        finally:
            process.kill()


def until_nothing_waits(data: Path, url: str) -> None:
    deadline = time.monotonic() + 60
    while (
        Spool(data).count()
        or requests.get(url.replace("/stripe/events", "/health"), timeout=20).json()["waiting"]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.minutes)])
def test_killed_at_any_moment_it_loses_nothing_that_it_took(kills: int, tmp_path: Path) -> None:
    """Stripe sends until it is told that an event was taken, and never again; its list of events is refused meanwhile."""
    killed, twin = tmp_path / "killed", tmp_path / "twin"
    with running(World(seed=3, clock=START, accounts=120, sessions=0)) as sandbox:
        for data in (killed, twin):
            run_sync(settings_for(sandbox.url, data), SyncRequest())
        sandbox.faults = Faults(script=[Rule(Fault("forbidden"), "/v1/events", nth=range(1, 10_000))])
        with listening(killed, sandbox.url) as (_, url):
            sender = sandbox.send_webhooks(url, SECRET, twice=0.2)
            sandbox.advance(timedelta(hours=2))
        for number in range(kills):
            sandbox.advance(timedelta(hours=2))
            with listening(killed, sandbox.url) as (_, sender.url):
                time.sleep(0.37 * (number + 1) % 2)  # wherever it is then
        with listening(killed, sandbox.url) as (last, sender.url):
            sender.wait()
            until_nothing_waits(killed, sender.url)
            last.send_signal(signal.SIGTERM)
            said = last.communicate(timeout=60)[1]
        assert last.returncode == 0, said
        assert TOOK.search(said), said
        sandbox.faults = None
        run_sync(settings_for(sandbox.url, twin), SyncRequest(events=True))
        assert history(killed) == history(twin)
        assert typed("check", "--data", str(killed), cwd=tmp_path).code == 0


@pytest.mark.slow
def test_while_another_run_holds_the_folder_events_are_taken_and_wait(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(World(seed=4, clock=START, accounts=50, sessions=0)) as sandbox:
        run_sync(settings_for(sandbox.url, data), SyncRequest())
        with (
            writer_lock(data),
            listening(data, sandbox.url) as (process, url),
        ):
            sender = sandbox.send_webhooks(url, SECRET)
            sandbox.advance(timedelta(hours=12))
            sender.wait()
            taken = Spool(data).count()
            assert taken == sender.sent > 0
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[1]
        assert (process.returncode, said.count("\n")) == (130, 1), said
        assert f"{taken} wait for the next start" in said
        status = typed("status", "--data", str(data), cwd=tmp_path).out
        assert f"Received by `fincon listen` and not loaded yet: {taken} events." in status
        loaded = typed("events", "--received", "--data", str(data), cwd=tmp_path, env=environ(sandbox.url))
        assert (loaded.code, Spool(data).count()) == (0, 0), loaded.err
        again = typed("events", "--received", "--data", str(data), cwd=tmp_path, env=environ(sandbox.url))
        assert (again.code, again.err) == (0, "No event waits to be loaded.\n")


def test_what_is_missing_is_told_before_anything_is_opened(tmp_path: Path) -> None:
    without = typed("listen", cwd=tmp_path, env=environ("http://127.0.0.1:1"))
    assert (without.code, without.err.splitlines()[0]) == (
        2,
        "fincon: STRIPE_WEBHOOK_SECRET is not set.",
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = environ("http://127.0.0.1:1", STRIPE_WEBHOOK_SECRET=SECRET)
        refused = typed("listen", "--port", port, cwd=tmp_path, env=env)
    assert (refused.code, f"port {port}, cannot be used" in refused.err) == (2, True)
