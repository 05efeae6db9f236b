"""What may reach a terminal, or whatever else standard output is: no control characters, and nothing it cannot encode."""

import codecs
import io
import shutil
import sys
import unicodedata
from typing import TextIO

from fincon.cli.text import width_of, wrap

STEERING = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Categories of characters that steer a terminal or turn the direction of what follows: ESC, CSI, U+202E, …"""

HARMLESS = frozenset("\u00ad\u200c\u200d")
"""Of these, what mere letters and emoji need: soft hyphen, non-joiner, joiner."""

PLAINER = {"…": "~", "·": "-", "→": ">", "─": "-"}
"""Signs of our own → what stands for them, as wide, where an encoding lacks them."""


def visible(text: str, keep: str = "") -> str:
    r"""Return ``text`` with each character that would steer a terminal written out, as ``\x1b``; but those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in STEERING and character not in HARMLESS and character not in keep
        else character
        for character in text
    )


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return how many columns the terminal has; None where the stream, by default standard output, is none."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def fitted(text: str, stream: TextIO, indent: str = "") -> str:
    """Return text with each line that is wider than the stream's terminal broken between words."""
    width = terminal_width(stream)
    lines = text.split("\n")
    if width:
        lines = [
            part
            for line in lines
            for part in (wrap(line, width, indent) if width_of(line) > width else [line])
        ]
    return "\n".join(lines)


def encode_all() -> None:
    """Have standard output and error write a stand-in for what their encoding lacks, and never fail at it."""
    codecs.register_error("fincon", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="fincon")


def _stand_in(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeEncodeError) and (plain := PLAINER.get(error.object[error.start])):
        return plain, error.start + 1
    return codecs.backslashreplace_errors(error)
