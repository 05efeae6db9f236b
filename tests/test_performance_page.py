"""docs/performance.md: its figures are the command's, and no other stands there."""

import re

from tests.benchmarks.suite import BENCHMARKS
from tests.benchmarks.table import BEGIN, END, PAGE, table

TEXT = PAGE.read_text(encoding="utf-8")


def test_no_figure_stands_outside_the_table() -> None:
    before, _, rest = TEXT.partition(BEGIN)
    assert re.findall(r"(?<![A-Za-z])\d[\d.,]*", before + rest.partition(END)[2]) == []


def test_each_figure_says_its_bar_its_benchmark_and_of_what_commit_and_day_it_is() -> None:
    """As the command writes them; what holds a bar that is missed stands below, by the benchmark's name."""
    rows = TEXT.partition(BEGIN)[2].partition(END)[0].splitlines()[4:]
    line = (
        r"\| .+: .+ \(`(\w+)`(?:, `--full`)?\) \| [\d.,]+ \| (?:<=|>=|<) [\d.]+ \| (met|missed) \|"
        r" [0-9a-f]{7,}, \d{4}-\d\d-\d\d \|"
    )
    found = [re.fullmatch(line, row) for row in rows]
    assert all(found), [row for row, match in zip(rows, found, strict=True) if not match]
    for match in filter(None, found):
        assert match[1] in BENCHMARKS
        assert match[2] == "met" or f"`{match[1]}`" in TEXT.partition(END)[2]


def test_the_table_is_made_of_what_was_measured() -> None:
    row = {
        "benchmark": "quiet", "full": True, "commit": "0123abc", "date": "2026-01-31", "machine": "2 cores",
        "figures": {"s": 1234.5, "MB": 7}, "bars": {"s": "<= 0.8 MISSED"},
    }  # fmt: skip
    made = table({"a quiet minute": row})
    assert made.startswith("Measured on 2 cores.\n\n| what (NAME) |")
    assert made.endswith(
        "| a quiet minute: s (`quiet`, `--full`) | 1,234.5 | <= 0.8 | missed | 0123abc, 2026-01-31 |\n"
    )
