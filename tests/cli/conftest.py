"""What the tests of the command line share: a lake that was synced once, and a run of a command within this process."""

import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fincon.cli import app
from fincon.sandbox.server import running
from fincon.sandbox.world import World
from tests.conftest import START, sync


@pytest.fixture(scope="session")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``data`` is a small lake. Only read it."""
    folder = tmp_path_factory.mktemp("synced")
    world = World(seed=1, clock=START, accounts=40, sessions=12)
    with running(world) as sandbox:
        sync(sandbox.url, folder / "data", world.session_ids())
    return folder


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


Call = Callable[..., Shown]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run a command in this process as if typed in ``cwd``; ``width`` makes its output a terminal that wide."""

    def run(
        *arguments: str,
        cwd: Path = tmp_path,
        width: int | None = None,
        env: dict[str, str] | None = None,
        stdin: bytes = b"",
        encoding: str = "utf-8",
    ) -> Shown:
        with monkeypatch.context() as patch:
            for name in [n for n in os.environ if n.startswith(("STRIPE_", "FINCON_", "PREFECT_API"))]:
                patch.delenv(name)
            for name, value in {"COLUMNS": str(width or 80), **(env or {})}.items():
                patch.setenv(name, value)
            patch.chdir(cwd)
            out, err = (Stream(terminal=bool(width), encoding=encoding) for _ in "oe")
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(sys, "stdin", Stream(stdin))
            code = app.run(arguments)
            return Shown(code, out.text(), err.text())

    return run
