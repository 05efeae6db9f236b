"""How numbers are said."""

import re
from pathlib import Path

import pytest

from fincon.transforms.wording import duration, pluralize

ROOT = Path(__file__).parents[2]
NOUNS = "requests|rows|accounts|sessions|pages|files|objects|runs|checks|lines|others|events|days|minutes"


def test_one_is_no_plural() -> None:
    assert pluralize(1, "request") == "1 request"
    assert pluralize(0, "request") == "0 requests"
    assert pluralize(12_345, "page was", "pages were") == "12,345 pages were"
    assert pluralize(1, "page was", "pages were") == "1 page was"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "1 s"), (40.4, "40 s"), (99.9, "100 s"), (4_000, "67 min"), (12_600, "3.5 h")]
)
def test_a_duration_is_said_in_the_unit_that_fits(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_no_message_says_1_requests() -> None:
    """Counts before a plural are written by `pluralize`, everywhere; numbers that are never one aside."""
    never_one = re.compile(
        r"\{(EXCEL_ROWS|MAX_CONSECUTIVE_FAILURES|kind\.count|READS_A_MONTH|SHOWN_DAYS|many|name)\b"
    )
    counted = re.compile(rf"\{{[^{{}}]*\}}( [A-Za-z]+)? ({NOUNS})\b|%d ({NOUNS})\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("fincon", "flows", "transforms")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if (match := counted.search(line)) and not never_one.match(match[0])
    ]
    assert not found, "\n".join(found)
