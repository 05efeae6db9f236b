"""Rows as a person reads them: a table that fits the terminal, one column a line, or Markdown."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fincon.cli.terminal import terminal_width, visible
from fincon.cli.text import cut, pad, width_of, wrap
from fincon.transforms.wording import format_value, pluralize
from fincon.warehouse.read_only import ReadOnlyConnection

ROWS_SHOWN = 1000
"""How many rows a person is shown who says nothing of a limit."""

NARROW = 16
"""How far a column of text is cut before another column is left out."""

NUMBER = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL\(.*\)|DOUBLE|FLOAT)")


@dataclass(frozen=True)
class Column:
    """A column of a result: its name, and its cells as text."""

    name: str
    cells: list[str]
    number: bool
    """Numbers stand to the right and are never cut: a part of one would pass for another."""
    empty: bool
    """It says nothing in any row."""

    @property
    def width(self) -> int:
        """How wide it is if nothing is cut."""
        return max(map(width_of, [self.name, *self.cells]))

    @property
    def least(self) -> int:
        """How narrow it may become."""
        cells = max(map(width_of, self.cells), default=0)
        return min(self.width, max(cells, NARROW) if self.number else NARROW)


@dataclass(frozen=True)
class Rows:
    """The first rows of a result."""

    columns: list[Column]
    count: int
    more: bool
    """There are others."""


def read_rows(result: ReadOnlyConnection, limit: int | None) -> Rows:
    """Read the first rows of an executed query as text, all of them without a limit; amounts before minor units."""
    rows = result.fetchall() if limit is None else result.fetchmany(limit + 1)
    shown = rows[:limit]
    described = [(visible(str(name)), str(kind)) for name, kind, *_ in result.description or ()]
    currencies = _currencies([name for name, _ in described], shown)
    columns = []
    for place, (name, kind) in enumerate(described):
        values = [row[place] for row in shown]
        columns.append(
            Column(
                name,
                [_cell(value, currency) for value, currency in zip(values, currencies, strict=True)],
                bool(NUMBER.fullmatch(kind)),
                bool(shown) and all(value is None or value == "" for value in values),
            )
        )
    return Rows(_amounts_first(columns), len(shown), len(rows) > len(shown))


def _currencies(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the currency of each row; None where no column says it."""
    place = next((i for i, name in enumerate(names) if name.lower() == "currency"), None)
    return [None if place is None else row[place] for row in rows]


def _amounts_first(columns: list[Column]) -> list[Column]:
    """Put amounts before the minor units that they are made of, so that nobody reads those a hundred times too big."""
    minor = _minor_units(columns)
    if not minor:
        return columns
    amounts = [column for column in columns if column.name.endswith("_amount")]
    start = min(columns.index(column) for column in [*minor, *amounts])
    others = [column for column in columns if column not in amounts]
    return [*others[:start], *amounts, *others[start:]]


def _minor_units(columns: Sequence[Column]) -> list[Column]:
    """Return the columns of which another gives the amount in major units."""
    names = {column.name for column in columns}
    major = {"amount": "major_amount"}
    return [c for c in columns if c.number and {f"{c.name}_amount", major.get(c.name, "")} & names]


def _cell(value: Any, currency: object = None) -> str:
    """Return a value as a person reads it on a terminal; ``·`` for none."""
    return "·" if value is None else visible(format_value(value, currency))


def render_table(rows: Rows, width: int | None = None) -> str:
    """Lay out rows as aligned columns, within ``width`` if it is given: what is cut or left out is said below."""
    notes = []
    columns = rows.columns
    if not rows.count:
        notes.append("(no rows)")
    sizes = [column.width for column in columns]
    if width:
        filled = [column for column in columns if not column.empty] or columns[:1]
        columns = _with_room(filled, width)
        sizes = _sizes(columns, width)
        if empty := [column.name for column in rows.columns if column not in filled]:
            notes.append(f"… empty: {', '.join(empty)}")
        if hidden := [column.name for column in filled if column not in columns]:
            notes.append(f"… no room for {', '.join(hidden)} (--format vertical shows all)")
    lines = [
        "  ".join(
            pad(cut(cell, size), size, right=column.number)
            for column, cell, size in zip(columns, cells, sizes, strict=True)
        ).rstrip()
        for cells in zip(*([column.name, *column.cells] for column in columns), strict=True)
    ]
    if rows.more:
        notes.append(
            f"… more than {pluralize(rows.count, 'row')}: --limit N shows N, --output FILE.csv writes all."
        )
    return "\n".join([*lines, *(line for note in notes for line in wrap(note, width, "  "))])


def _with_room(columns: list[Column], width: int) -> list[Column]:
    """Return the columns to show, at least one; minor units are left out first, then the last ones."""
    if _total(column.least for column in columns) <= width:
        return columns
    minor = _minor_units(columns)
    expendable = [*(column for column in columns if column not in minor), *minor]
    shown = list(columns)
    fair = width // 4  # so wide a column of text may be before another is left out for it
    while len(shown) > 1 and _total(min(c.width, max(c.least, fair)) for c in shown) > width:
        shown.remove(expendable.pop())
    return shown


def _sizes(columns: list[Column], width: int) -> list[int]:
    """Return how wide each column is shown: what room is left goes to the narrowest that is cut."""
    sizes = [min(column.least, width) if not column.number else column.least for column in columns]
    for _ in range(width - _total(sizes)):
        cut_ones = [i for i, column in enumerate(columns) if sizes[i] < column.width]
        if cut_ones:
            sizes[min(cut_ones, key=lambda i: sizes[i])] += 1
    return sizes


def _total(sizes: Iterable[int]) -> int:
    """Return the width of a line of columns of these sizes, two blanks apart."""
    return sum(size + 2 for size in sizes) - 2


def render_vertical(rows: Rows) -> str:
    """Lay out each row as a block of its own, one column a line, nothing cut."""
    names = max((width_of(column.name) for column in rows.columns), default=0)
    lines: list[str] = []
    for number in range(rows.count):
        lines.append(f"── row {number + 1:,} ──")
        lines += [f"{pad(column.name, names)}  {column.cells[number]}" for column in rows.columns]
    return "\n".join(lines or ["(no rows)"])


def render_markdown(rows: Rows) -> str:
    """Lay out rows as a table of Markdown, nothing cut."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    lines = [
        line([column.name for column in rows.columns]),
        line(["--:" if column.number else "---" for column in rows.columns]),
    ]
    return "\n".join([*lines, *(line([c.cells[n] for c in rows.columns]) for n in range(rows.count))])


def render_result(result: ReadOnlyConnection, limit: int = ROWS_SHOWN) -> str:
    """Lay out the first rows of an executed query as a table that fits the terminal."""
    return render_table(read_rows(result, limit), terminal_width())
