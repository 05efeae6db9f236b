"""What a benchmark yields."""

from dataclasses import dataclass, field

from tests.benchmarks.processes import Figures

START = "2026-06-01T12:00+00:00"
"""When the worlds begin."""


@dataclass
class Row:
    """A line of the table. ``bars``: figure → how it is compared, and with what."""

    name: str
    figures: Figures
    bars: dict[str, tuple[str, float]] = field(default_factory=dict)
