"""A real Prefect server for tests: started, asked through its API, and searched for secrets."""

import fcntl
import os
import re
import shutil
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PREFECT = str(Path(sys.executable).with_name("prefect"))

T = TypeVar("T")


@contextmanager
def served(home: Path, pids: list[int] | None = None) -> Iterator[dict[str, str]]:
    """A server of its own in ``home``; the environment with which to reach it. Its process is added to ``pids``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {"PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", **QUIET}
    give_database(home)
    command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", port]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log)
        if pids is not None:
            pids.append(process.pid)
        try:
            until(lambda: answers(f"{env['PREFECT_API_URL']}/health") or process.poll() is not None)
            assert process.poll() is None, "the Prefect server did not start"
            yield env
        finally:
            process.terminate()
            process.wait(30)


def give_database(home: Path) -> None:
    """Give a server a new database, made once for all tests of a session: that takes longer than to start a server."""
    session = next((folder for folder in home.parents if re.fullmatch(r"pytest-\d+", folder.name)), None)
    if session is None:
        return  # a benchmark: the server makes its own
    made, part = session / "prefect-database", session / "prefect-database.part"
    with (session / "prefect-database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes of one session may want it at the same time
        if not made.exists():
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            upgrade = [PREFECT, "server", "database", "upgrade", "--yes"]
            env = {**os.environ, "PREFECT_HOME": str(part), **QUIET}
            subprocess.run(upgrade, env=env, check=True, capture_output=True)
            part.rename(made)
    for file in made.glob("prefect.db*"):
        shutil.copy(file, home)


@contextmanager
def busy(server: dict[str, str], path: str, times: int) -> Iterator[dict[str, str]]:
    """The same server behind a door that answers 503 to the first requests of a path, as SQLite's server does when it is busy."""
    behind = int(server["PREFECT_API_URL"].rpartition(":")[2].partition("/")[0])
    left = [times]

    class Door(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b"".join(iter(self.rfile.readline, b"\r\n"))
            if left[0] and path.encode() in head.partition(b"\r\n")[0]:
                left[0] -= 1
                self.wfile.write(
                    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            if b"pgrade: websocket" not in head:  # one request a connection, so that each is looked at
                head = re.sub(rb"(?i)connection: .*\r\n", b"", head) + b"Connection: close\r\n"
            with socket.create_connection(("127.0.0.1", behind)) as inside:
                inside.sendall(head + b"\r\n")
                back = threading.Thread(target=self.pass_on, args=(inside.recv, self.connection.sendall))
                back.start()
                self.pass_on(self.rfile.read1, inside.sendall)  # type: ignore[attr-defined] # it is buffered
                with suppress(OSError):
                    inside.shutdown(socket.SHUT_WR)
                back.join()

        @staticmethod
        def pass_on(read: Callable[[int], bytes], write: Callable[[bytes], None]) -> None:
            with suppress(OSError):
                while part := read(65_536):
                    write(part)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Door) as door:
        door.daemon_threads = True
        threading.Thread(target=door.serve_forever, daemon=True).start()
        try:
            yield {**server, "PREFECT_API_URL": f"http://127.0.0.1:{door.server_address[1]}/api"}
        finally:
            door.shutdown()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - loopback
            return True
    except OSError:
        return False


def until(found: Callable[[], T], seconds: float = 300) -> T:
    """What ``found`` returns once that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.2)
    raise AssertionError(f"waited for {seconds} s in vain")


def eventually(read: Callable[[], T], is_so: Callable[[T], bool], seconds: float = 60) -> T:
    """What ``read`` returns once it is so: the server hears of logs and task runs after a run's process is done with them."""
    deadline = time.monotonic() + seconds
    while not is_so(found := read()):
        assert time.monotonic() < deadline, f"after {seconds} s still: {found}"
        time.sleep(0.2)
    return found


def ask(server: dict[str, str], what: str, **body: Any) -> list[dict[str, Any]]:
    """Everything of a kind that the server has, or what the filters in ``body`` leave of it."""
    found: list[dict[str, Any]] = post(server, f"{what}/filter", body)
    return found


def post(server: dict[str, str], path: str, body: dict[str, Any]) -> Any:
    """The server's answer; asked again while it is busy, as Prefect's own client does."""
    again = Retry(total=8, backoff_factor=0.5, status_forcelist=[503], allowed_methods=None)
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=again))
        answer = session.post(f"{server['PREFECT_API_URL']}/{path}", json=body, timeout=30)
    answer.raise_for_status()
    return answer.json()


def of_run(server: dict[str, str], what: str, run: dict[str, Any]) -> list[dict[str, Any]]:
    """The logs, task runs or artifacts of a flow run."""
    field = "flow_runs" if what == "task_runs" else what
    key = "id" if what == "task_runs" else "flow_run_id"
    return ask(server, what, **{field: {key: {"any_": [run["id"]]}}})


def messages(server: dict[str, str], run: dict[str, Any], *wanted: str) -> str:
    """The log of a flow run, once it says all that is wanted."""
    return eventually(
        lambda: "\n".join(log["message"] for log in of_run(server, "logs", run)),
        lambda told: all(words in told for words in wanted),
    )


def tasks(server: dict[str, str], run: dict[str, Any], *wanted: str) -> dict[str, int]:
    """How often each task of a flow run was tried, once all that are wanted have ended."""
    found = eventually(
        lambda: of_run(server, "task_runs", run),
        lambda found: (
            {task["name"] for task in found} >= set(wanted)
            and all(task["state_type"] in ENDED for task in found)
        ),
    )
    return {task["name"]: task["run_count"] for task in found}


def holds_no_secret(home: Path, *keys: str) -> None:
    """No file of the server, and no row of any table of its database, has one of the keys."""
    for path in home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(key.encode() in content for key in keys), path
    with sqlite3.connect(home / "prefect.db") as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert len(tables) > 20
        for (table,) in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                assert not any(key in str(row) for key in keys), table
    database.close()
