"""What a person types, run within this process: as fast as the command itself, which a process of its own is not."""

import io
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fincon.cli import app
from tests.conftest import PROGRESS


@dataclass
class Shown:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


class Stream(io.TextIOWrapper):
    """A standard stream that is a terminal or is none."""

    def __init__(self, content: bytes = b"", *, terminal: bool = False, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(content), encoding=encoding, newline="")
        self.terminal = terminal

    def isatty(self) -> bool:
        """Say so."""
        return self.terminal

    def text(self) -> str:
        """Return what was written."""
        self.flush()
        content = self.buffer.getvalue()  # type: ignore[attr-defined]
        return str(content.decode(self.encoding, "replace"))  # click writes UTF-8 where ASCII is asked for


def typed(
    *arguments: str,
    cwd: Path,
    width: int | None = None,
    env: dict[str, str] | None = None,
    stdin: bytes = b"",
    encoding: str = "utf-8",
) -> Shown:
    """Run a command as if typed in ``cwd``; ``width`` makes its output a terminal that wide.

    Elsewhere without the lines that tell how far a slow run is: they come by the clock, and no test may depend on it.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("STRIPE_", "FINCON_", "PREFECT_API"))]:
            patch.delenv(name)
        for name, value in {"COLUMNS": str(width or 80), **(env or {})}.items():
            patch.setenv(name, value)
        patch.chdir(cwd)
        out, err = (Stream(terminal=bool(width), encoding=encoding) for _ in "oe")
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "stdin", Stream(stdin))
        log = logging.getLogger("fincon")
        for name in ("handlers", "propagate"):
            patch.setattr(log, name, getattr(log, name))
        level = log.level
        try:
            code = app.run(arguments)
        finally:
            log.setLevel(level)
        return Shown(code, out.text(), err.text() if width else PROGRESS.sub("", err.text()))
