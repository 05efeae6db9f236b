"""``make bench``: what is claimed in docs/performance.md, measured in this tree.

Each figure comes from a process of its own; the sandbox runs in another. Ratios compare what ran in one process,
interleaved, at the median.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / ".benchmarks" / "results.json"


@contextmanager
def sandbox(accounts: int, folder: Path) -> Iterator[str]:
    """A sandbox of its own process; its URL."""
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "sandbox",
        "--port",
        "0",
        "--accounts",
        str(accounts),
        "--sessions",
        "0",
    ]
    with subprocess.Popen(
        [*command, "--clock", "2026-06-01T12:00"], cwd=folder, env=_env(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[0].partition("=")[2]
        finally:
            process.terminate()


def _env(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def measure(task: str, *arguments: str, **env: str) -> dict[str, Any]:
    """What one task of `tests.benchmarks.tasks` measured, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.tasks", task, *arguments]
    done = subprocess.run(command, env=_env(**env), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{task} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def show(results: dict[str, dict[str, Any]]) -> None:
    """The one table."""
    for name, figures in results.items():
        print(f"{name:<34} " + "   ".join(f"{key} {value:,}" for key, value in figures.items()))  # noqa: T201


def main() -> None:
    """Run every benchmark."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--accounts", type=int, nargs="*", default=[10_000, 100_000])
    sizes = parser.parse_args().accounts
    results: dict[str, dict[str, Any]] = {}
    for size in sizes:
        results[f"transform, {size:,} accounts"] = measure("transform", str(size))
        with tempfile.TemporaryDirectory() as folder, sandbox(size, Path(folder)) as url:
            for name in ("first sync", "sync of no change"):
                results[f"{name}, {size:,} accounts"] = measure(
                    "sync",
                    folder,
                    STRIPE_API_BASE=url,
                    STRIPE_API_KEY="sk_test_bench",
                    FINCON_REQUESTS_PER_SECOND="9000",
                )
    show(results)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
