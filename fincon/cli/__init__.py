"""The command line. It parses, calls, and shows; what takes long to import is imported by the command that uses it."""

import atexit
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from fincon.cli import demo, maintain, query, sync  # noqa: F401 - to import them adds their commands
from fincon.cli.options import CHOICES, cli
from fincon.errors import FinconError

INTERRUPTED = 130


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Errors in two lines and the exit code of the contract; a traceback only with ``--verbose``."""
    try:
        yield
    except click.exceptions.Exit as end:
        _leave(end.exit_code)
    except click.Abort:
        _interrupted()
    except KeyboardInterrupt:
        _interrupted()
    except click.ClickException as error:
        error.show()
        _leave(error.exit_code)
    except FinconError as error:
        if CHOICES.verbose:
            traceback.print_exc()
        click.echo(f"fincon: {error}" + (f"\n        {error.hint}" if error.hint else ""), err=True)
        _leave(error.exit_code)
    except SystemExit:
        _leave(0)  # click's answer to a closed pipe: whoever read had enough
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(0)
    except Exception as error:  # noqa: BLE001 - the last resort: a person sees two lines, not a traceback
        if _is_of_an_interrupt(error):
            _interrupted()
        if CHOICES.verbose:
            traceback.print_exc()
        click.echo(
            f"fincon: {type(error).__name__}: {error}\n        This is a bug or a machine in trouble; --verbose shows where.",
            err=True,
        )
        _leave(1)


def _is_of_an_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C led to it: within a wait for a lock Python may raise another error in its place."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _interrupted() -> None:
    click.echo(
        "fincon: interrupted. What was fetched is kept: run the same command again to go on.", err=True
    )
    _leave(INTERRUPTED)


def _leave(code: int) -> None:
    """End now: a thread that still waits for Stripe must not hold the terminal, and nothing is left half written."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    if code == 0 and "prefect" in sys.modules:
        # Prefect sends what is left of its logs at exit, and its threads then keep DuckDB's module alive,
        # which complains of leaks on standard error: let it send, and end without the complaint.
        atexit._run_exitfuncs()
    os._exit(code)


def main() -> None:
    """``fincon``."""
    with _plain_errors():
        cli.main(standalone_mode=False)
        _leave(0)
