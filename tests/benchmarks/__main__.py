"""`python -m tests.benchmarks [NAME…] [--full]`: what docs/performance.md claims, measured in this tree.

Prints one table and writes `.benchmarks/results.json`; `python -m tests.benchmarks.table` makes that of the page of it. Each
figure comes from a process of its own, and the servers that are asked run in others. Ratios compare what ran interleaved, at
the median.
"""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from operator import ge, le, lt

from tests.benchmarks.processes import ROOT, Figures
from tests.benchmarks.suite import BENCHMARKS, QUICK, Row

RESULTS = ROOT / ".benchmarks" / "results.json"
COMPARE = {"<=": le, "<": lt, ">=": ge}


def judged(row: Row) -> dict[str, str]:
    """Each bar of a row: what it asks, and whether it is met."""
    return {
        name: f"{sign} {bar:g} {'met' if COMPARE[sign](row.figures[name], bar) else 'MISSED'}"
        for name, (sign, bar) in row.bars.items()
    }


def measured_on() -> dict[str, str]:
    """Of what tree, when and on what kind of machine figures are."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {"commit": commit.stdout.strip(), "date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine}


def shown(row: Row) -> str:
    """A row of the table."""
    judgements = judged(row)
    cells = [
        f"{name} {value:,}" + (f" ({judgements[name]})" if name in judgements else "")
        if isinstance(value, int | float)
        else f"{name} {value}"
        for name, value in row.figures.items()
        if not isinstance(value, dict)
    ]
    return f"{row.name:<44} " + "   ".join(cells)


def collect(names: Iterable[str], *, full: bool) -> dict[str, Figures]:
    """Run benchmarks, and show each row as it comes."""
    results: dict[str, Figures] = {}
    for name in names:
        for row in BENCHMARKS[name](full=full):
            print(shown(row), flush=True)  # noqa: T201
            said = {"benchmark": name, "full": full, **measured_on()}
            results[row.name] = {**said, "figures": row.figures, "bars": judged(row)}
    return results


def main() -> None:
    """Run the benchmarks that are named, or the quick ones."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; [{' '.join(QUICK)}]"
    )
    parser.add_argument("--full", action="store_true", help="the sizes of the goals: hours, not minutes")
    given = parser.parse_args()
    unknown = sorted({*given.names} - {*BENCHMARKS})
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}: choose of {', '.join(BENCHMARKS)}")
    results = collect(given.names or QUICK, full=given.full)
    RESULTS.parent.mkdir(exist_ok=True)
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**before, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
