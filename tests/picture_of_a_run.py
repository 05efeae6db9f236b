"""`python tests/picture_of_a_run.py FLOW_RUN_ID FILE`: a flow run's page in Prefect's UI, as a PNG (docs/scheduling.md).

Needs Chromium on the path and ``PREFECT_API_URL``. The tab of artifacts is shown.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SIZE = "1280,990"
PATIENCE = 25_000
"""Milliseconds of the page's own time in which its figures must have come."""


def take(run_id: str, path: Path) -> None:
    """Show the run's page to Chromium, and keep what it shows."""
    ui = os.environ["PREFECT_API_URL"].removesuffix("/api")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                "chromium",
                *QUIET,
                f"--user-data-dir={profile}",
                f"--window-size={SIZE}",
                f"--virtual-time-budget={PATIENCE}",
                f"--screenshot={path.absolute()}",
                f"{ui}/v2/runs/flow-run/{run_id}?tab=Artifacts",
            ],
            check=True,
            timeout=180,
        )


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]))
