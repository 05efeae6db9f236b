"""What shows how far a run is: bars on a terminal, plain lines elsewhere, nothing with ``--quiet``."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from fincon.pipeline.context import NoProgress, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LOG_EVERY_SECONDS = 5.0


class Bars:
    """Progress as bars on a terminal."""

    def __init__(self, bars: "RichProgress") -> None:
        self._bars = bars

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """Add a bar for the stage; without a total it counts."""
        task = self._bars.add_task(name, total=total, of=f" of {total:,}" if total else "")
        return lambda count: self._bars.update(task, advance=count)


class Lines:
    """Progress as plain lines, one every few seconds."""

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """Return what counts on, and now and then writes how far it is."""
        done, next_at = 0, time.monotonic() + LOG_EVERY_SECONDS

        def advance(count: int) -> None:
            nonlocal done, next_at
            done += count
            if time.monotonic() >= next_at:
                next_at = time.monotonic() + LOG_EVERY_SECONDS
                click.echo(f"{name}: {done:,}" + (f" of {total:,}" if total else ""), err=True)

        return advance


@contextmanager
def show_progress(*, quiet: bool) -> Iterator[Progress]:
    """Yield what shows progress here."""
    if quiet:
        yield NoProgress()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        from rich.console import Console  # a run that nobody watches does without
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}{task.fields[of]}"),
            TextColumn("{task.elapsed:.0f} s"),
        )
        with RichProgress(*columns, console=Console(stderr=True)) as bars:
            yield Bars(bars)
