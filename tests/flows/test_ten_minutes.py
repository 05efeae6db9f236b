"""The newcomer's ten minutes, as docs/ten-minutes.sh has them, on a real server with a real worker."""

import json
import os
import subprocess
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.conftest import FINCON, environ
from tests.prefect_server import ask, served, until
from tests.scripted_stripe import ScriptedStripe, account, serving

SCRIPT = Path(__file__).parents[2] / "docs" / "ten-minutes.sh"


def still_in(folder: Path) -> list[Path]:
    """The processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(process)
    return found


@pytest.mark.slow
def test_from_an_empty_folder_to_a_run_in_the_ui_and_an_alert(tmp_path: Path) -> None:
    got: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    hook = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=hook.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    home, folder = tmp_path / "home", tmp_path / "empty"
    home.mkdir()
    folder.mkdir()
    stripe = ScriptedStripe(accounts=[account("fca_1", mood="sunny")])
    with served(home) as server, serving(stripe):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}
        env = (
            clean
            | server
            | environ(stripe.url, FINCON_ALERT_URLS=f"json://127.0.0.1:{hook.server_address[1]}")
        )
        began = time.monotonic()
        done = subprocess.run(
            ["bash", str(SCRIPT)],
            cwd=folder,
            env=env | {"PATH": f"{FINCON.parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: not still_in(folder))
        assert time.monotonic() - began < 600
        runs = ask(server, "flow_runs")
    hook.shutdown()
    hook.server_close()
    assert "COMPLETED" in {run["state_type"] for run in runs if run["name"].startswith("sync ")}
    assert len([run for run in runs if run["state_type"] == "SCHEDULED"]) > 3
    assert len(got) == 1
    assert "unknown_attributes" in got[0]["title"]
