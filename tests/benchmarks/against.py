"""`python -m tests.benchmarks.against CHECKOUT`: this tree beside another one of this project, in turn, as ratios.

CHECKOUT has an environment of its own in `.venv` (`make install` there). One server is asked by both. A ratio is this
tree's figure over the other's, pair by pair, at the median: under 1 is less time, CPU or memory.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.processes import ROOT, Figures, environment, served

COMPARED = ("CPU s", "wall s", "peak MB", "x orjson", "count s", "balance_totals s", "rows")


def measured(tree: Path, task: str, *arguments: str, **env: str) -> Figures:
    """What a task measures in a checkout, by that checkout's code and environment."""
    command = [str(tree / ".venv/bin/python"), "-m", "tests.benchmarks.tasks", task, *arguments]
    done = subprocess.run(
        command, env=environment(tree, **env), cwd=tree, check=True, stdout=subprocess.PIPE, text=True
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def rounds(tree: Path, accounts: str, reached: dict[str, str]) -> Iterator[tuple[str, Figures]]:
    """Yield what each task measures in a checkout, once."""
    with tempfile.TemporaryDirectory() as synced, tempfile.TemporaryDirectory() as loaded:
        yield "transform", measured(tree, "transform", "5000", "known")
        yield "memory", measured(tree, "memory", accounts)
        yield "first sync", measured(tree, "sync", synced, **reached)
        yield "unchanged", measured(tree, "sync", synced, **reached)
        yield "load without HTTP", measured(tree, "lake", loaded, accounts, "3")
        yield "questions", measured(tree, "ask", loaded)


def main() -> None:
    """Measure both trees in turn, and print a line for each figure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.against", description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accounts", default="20000")
    given = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with served("replay", "--accounts", given.accounts) as server:
        for _ in range(given.rounds):
            trees = (
                rounds(tree, given.accounts, server.reached()) for tree in (ROOT, given.checkout.resolve())
            )
            for (task, ours), (_, theirs) in zip(*trees, strict=True):
                for name in COMPARED:
                    if ours.get(name) and theirs.get(name):
                        found.setdefault((task, name), []).append((ours[name], theirs[name]))
    for (task, name), pairs in found.items():
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{task:<20}{name:<18}{ours:>10,.2f}{theirs:>10,.2f}   {ratio:.2f} x")  # noqa: T201


if __name__ == "__main__":
    main()
