"""`python -m tests.benchmarks.table`: make the table of docs/performance.md from the figures that were measured here.

Each bar of a row is a line: what was measured, the figure, the bar, and of which commit, day and machine it is.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.benchmarks.__main__ import RESULTS
from tests.benchmarks.processes import ROOT
from tests.benchmarks.suite import BENCHMARKS

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: python -m tests.benchmarks.table -->\n", "<!-- end of figures -->\n"
HEAD = "| what (NAME) | figure | bar | | commit, day |\n|---|---|---|---|---|\n"


def lines(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each figure that has a bar."""
    for name, row in results.items():
        size = ", `--full`" if row["full"] else ""
        for figure, judged in row["bars"].items():
            bar, _, verdict = judged.rpartition(" ")
            what = f"{name}: {figure} (`{row['benchmark']}`{size})"
            cells = (
                what,
                f"{row['figures'][figure]:,}",
                bar,
                verdict.lower(),
                f"{row['commit']}, {row['date']}",
            )
            yield f"| {' | '.join(cells)} |\n"


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table, with the machines that its figures are of."""
    machines = ", ".join(sorted({row["machine"] for row in results.values()}))
    order = [*BENCHMARKS]
    in_order = dict(sorted(results.items(), key=lambda row: order.index(row[1]["benchmark"])))
    return f"Measured on {machines}.\n\n{HEAD}{''.join(lines(in_order))}"


def main() -> None:
    """Put the table in the place of the one before."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + table(json.loads(RESULTS.read_text())) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
