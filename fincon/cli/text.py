"""Text in columns: how wide it is on a terminal, cut, filled up and wrapped."""

import re
from collections.abc import Iterable

WORDS = re.compile(r"(\s*)([^\s`]*`[^`\n]*`[^\s`]*|\S+)")
"""What a line is not broken within: words, and commands in backticks, which are to be copied; each with what is before it."""


def width_of(text: str) -> int:
    """Return how many columns of a terminal the text takes: a Chinese letter takes two, a combining accent none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # help and version do without

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """Return the text if it fits into ``width`` columns, else its beginning and ``…``."""
    if width_of(text) <= width:
        return text
    from rich.cells import set_cell_size  # as above

    return set_cell_size(text, width - 1).rstrip() + "…"


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return the text filled up to ``width`` columns; with ``right``, from the left."""
    blanks = " " * (width - width_of(text))
    return blanks + text if right else text + blanks


def wrap(text: str, width: int | None, indent: str = "") -> list[str]:
    """Break a text between words into lines of ``width`` columns; ``indent`` begins all but the first."""
    lines = [""]
    for blanks, word in WORDS.findall(text):
        if lines[-1].strip() and width and width_of(lines[-1] + blanks + word) > width:
            lines.append(indent + word)
        else:
            lines[-1] += blanks + word
    return lines


def align(rows: Iterable[tuple[str, ...]], width: int | None) -> str:
    """Lay out rows in columns; the last one is broken between words where it would pass ``width``."""
    rows = list(rows)
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)][:-1]
    lines: list[str] = []
    for row in rows:
        start = "".join(pad(cell, size) + "  " for cell, size in zip(row, widths, strict=False))
        room = width and max(20, width - width_of(start))
        first, *others = wrap(row[-1], room)
        lines += [(start + first).rstrip(), *(" " * width_of(start) + line for line in others)]
    return "\n".join(lines)
