"""Text in columns: how wide it is on a terminal, cut, filled up and wrapped."""

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size


def width_of(text: str) -> int:
    """Return how many columns of a terminal the text takes: a Chinese letter takes two, a combining accent none."""
    return len(text) if text.isascii() else cell_len(text)


def cut(text: str, width: int) -> str:
    """Return the text if it fits into ``width`` columns, else its beginning and ``…``."""
    return text if width_of(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return the text filled up to ``width`` columns; with ``right``, from the left."""
    blanks = " " * (width - width_of(text))
    return blanks + text if right else text + blanks


def wrap(text: str, width: int | None, indent: str = "") -> list[str]:
    """Break a text between words into lines of ``width`` columns; ``indent`` begins all but the first."""
    blanks = text[: len(text) - len(text.lstrip())]
    first, *words = text.split()
    lines = [blanks + first]
    for word in words:
        if width and width_of(lines[-1]) + 1 + width_of(word) > width:
            lines.append(indent + word)
        else:
            lines[-1] += " " + word
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
