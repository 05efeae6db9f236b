"""The group of commands, and what becomes of their errors: two lines and an exit code."""

import atexit
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

import click

from fincon.cli import interrupt
from fincon.cli.options import GlobalOptions, global_options
from fincon.cli.terminal import encode_all, visible
from fincon.errors import FinconError

COMMANDS = {
    "demo": ("demo", "Sync a sandbox twice, and show what can be asked."),
    "sync": ("sync", "Fetch sessions and accounts; publish the views."),
    "events": ("sync", "Fetch what changed since the last run."),
    "transactions": ("sync", "The same, and new transactions."),
    "owners": ("sync", "The same, and new owners."),
    "status": ("query", "Show the last runs and how fresh each table is."),
    "sql": ("query", "Ask the views; read-only."),
    "schema": ("schema", "Show what views, columns and macros mean."),
    "report": ("query", "Write key tables and plots as one HTML page."),
    "check": ("maintain", "Run every check on the data."),
    "erase": ("maintain", "Remove every trace of an account or a person."),
    "compact": ("maintain", "Merge small files, and remove old ones."),
    "serve": ("schedule", "Run what prefect.yaml schedules."),
    "automations": ("automations", "Have a Prefect server notice runs that died."),
    "sandbox": ("demo", "Serve Stripe's API on this machine."),
}
"""Command → its module in `fincon.cli`, and its line in the list of commands; in the order of use."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for, not when the commands are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None where there is no such."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            importlib.import_module(f"fincon.cli.{COMMANDS[cmd_name][0]}"), cmd_name
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, which imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="fincon")
@global_options
def cli() -> None:
    """Stripe Financial Connections in Parquet and DuckDB.

    \b
    Begin with:  fincon demo      everything, on a sandbox: no key, no network
    Then:        export STRIPE_API_KEY=rk_…
                 fincon sync      every account
                 fincon sql "FROM balance_totals"
    """  # noqa: D301 - click takes the backspace for "leave these lines as they are"


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default that of the process's arguments, and return its exit code.

    What went wrong is told in two lines on standard error; with ``--verbose`` after a traceback.
    """
    options = GlobalOptions()
    encode_all()
    try:
        return int(cli.main(arguments, "fincon", standalone_mode=False, obj=options) or 0)
    except interrupt.Interrupted:
        raise
    except BaseException as error:
        if interrupt.received():
            raise interrupt.Interrupted from error  # whatever library it was heard in
        return _told(error, options)


def _told(error: BaseException, options: GlobalOptions) -> int:
    """Say what went wrong, and return the exit code."""
    if isinstance(error, click.Abort):  # of a question that was not answered
        _tell("nothing was done.", "", options)
        return 1
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, FinconError):
        _tell(str(error), error.hint, options)
        return error.exit_code
    if isinstance(error, SystemExit):
        return 0  # click's answer to a closed pipe: whoever read had enough
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    hint = "This is a bug or a machine in trouble; --verbose shows where."
    _tell(f"{type(error).__name__}: {error}", hint, options)
    return 1


def _tell(message: str, hint: str, options: GlobalOptions) -> None:
    if options.verbose:
        traceback.print_exc()
    told = f"fincon: {message}" + (f"\n        {hint}" if hint else "")
    click.echo(visible(told, keep="\n"), err=True)


def end(code: int) -> None:
    """End the process now: a thread that still waits for Stripe must not hold the terminal."""
    if interrupt.received():
        interrupt.leave()  # a library swallowed it
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    if code == 0 and "prefect" in sys.modules:
        # Prefect sends what is left of its logs at exit, and its threads then keep DuckDB's module alive,
        # which complains of leaks on standard error: let it send, and end without the complaint.
        atexit._run_exitfuncs()
    os._exit(code)
