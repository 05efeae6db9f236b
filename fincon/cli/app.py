"""The group of commands, and what becomes of their errors: two lines and an exit code."""

import atexit
import gc
import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches

import click
from click.shell_completion import CompletionItem

from fincon.cli import interrupt
from fincon.cli.options import GlobalOptions, global_options
from fincon.cli.terminal import encode_all, fitted, visible
from fincon.errors import FinconError, reason_of

LOG = logging.getLogger("fincon")
LOG.addHandler(logging.NullHandler())

ENGINES = ("duckdb", "deltalake", "pyarrow")
"""Whose errors tell of files and of the machine."""

SECTIONS = {
    "Begin": {
        "demo": ("demo", "Sync a sandbox twice, and show what can be asked."),
        "init": ("init", "Write the files of a deployment into a folder."),
    },
    "Fetch": {
        "sync": ("sync", "Fetch sessions and accounts; publish the views."),
        "events": ("sync", "Fetch what changed since the last run."),
        "transactions": ("sync", "Fetch what changed, and new transactions."),
        "owners": ("sync", "Fetch what changed, and new owners."),
        "listen": ("listen", "Take Stripe's webhooks, and load what came."),
    },
    "Ask": {
        "status": ("status", "Show the last runs and how fresh each table is."),
        "sql": ("query", "Ask the views; write CSV, JSON, Parquet, …"),
        "changes": ("changes", "Write every version that came, as JSON lines."),
        "explain": ("explain", "Say what became of an account, and why it has no balance."),
        "schema": ("schema", "Show what views, columns and macros mean."),
        "report": ("query", "Write key tables and plots as one HTML page."),
        "check": ("maintain", "Run every check on the data."),
        "alert": ("alert", "Tell people what is new, each thing once."),
        "export": ("portable", "Write all tables as plain Parquet, or one DuckDB file."),
    },
    "Keep": {
        "compact": ("maintain", "Merge small files, and remove old ones."),
        "rates": ("rates", "Take in exchange rates, for to_currency."),
        "erase": ("maintain", "Remove every trace of an account or a person."),
        "views": ("portable", "Write the views for a lake that is read elsewhere."),
        "privacy": ("maintain", "Rewrite the past as --pii was chosen last."),
        "serve": ("schedule", "Run what prefect.yaml schedules."),
        "automations": ("automations", "Have a Prefect server notice runs that died."),
    },
    "Try": {
        "sandbox": ("sandbox", "Serve Stripe's API on this machine."),
    },
}
"""Commands in the order of use, by groups: each with its module in `fincon.cli`, and its line in the list."""

COMMANDS = {name: of for commands in SECTIONS.values() for name, of in commands.items()}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for, not when the commands are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None where there is no such."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name in SECTIONS["Fetch"] or cmd_name in SECTIONS["Ask"]:
            from fincon.storage.duckdbs_ahead import duckdbs_ahead

            ctx.with_resource(duckdbs_ahead(1))  # while all else is imported
        module = importlib.import_module(f"fincon.cli.{COMMANDS[cmd_name][0]}")
        if not gc.isenabled():  # as where a process is there for one command
            gc.freeze()  # all that was imported, which stays: to look through it once takes 45 ms
            gc.enable()
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for; where there is none, name those that are spelled nearly like it."""
        if args[0] not in COMMANDS and (near := get_close_matches(args[0], COMMANDS)):
            ctx.fail(f"No such command '{args[0]}'. Did you mean {' or '.join(near)}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lists of commands from the table, which imports none of them."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:12}", line) for name, (_, line) in commands.items()])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands before the options."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command, from the table as well."""
        found = [
            CompletionItem(n, help=line) for n, (_, line) in COMMANDS.items() if n.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


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
        code = cli.main(arguments, "fincon", standalone_mode=False, obj=options)
        sys.stdout.flush()  # what cannot be written is an error of this command
    except interrupt.Interrupted:
        raise
    except BaseException as error:
        if interrupt.received():
            raise interrupt.Interrupted from error  # whatever library it was heard in
        return _told(error, options)
    return int(code or 0)


def _told(error: BaseException, options: GlobalOptions) -> int:
    """Say what went wrong, and return the exit code."""
    if isinstance(error, click.Abort):  # of a question that was not answered
        _tell("Nothing was removed.", "", options)
        return 1
    if isinstance(error, click.ClickException):
        said = io.StringIO()
        error.show(said)
        click.echo(fitted(visible(said.getvalue().rstrip(), keep="\n"), sys.stderr), err=True)
        return error.exit_code
    if isinstance(error, FinconError):
        _tell(str(error), error.hint, options)
        return error.exit_code
    if isinstance(error, SystemExit):
        return 0  # click's answer to a closed pipe, whose reader had enough; and when a shell's completion is done
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    message, hint = _of_machine(error)
    _tell(message, hint, options)
    return 1


def _of_machine(error: BaseException) -> tuple[str, str]:
    """Return what happened and what to do, of an error that fincon has no word for."""
    if isinstance(error, OSError):
        what = error.filename or "Standard output or a file"
        return f"{what}: {error.strerror or error}.", "Mend that, then run the same command again."
    if isinstance(error, MemoryError):
        return "This machine has no memory left.", "End other programs, or ask for less at a time."
    library = type(error).__module__.partition(".")[0].lstrip("_")
    if library in ENGINES:
        return (
            f"{library}: {reason_of(error) if isinstance(error, Exception) else error}",
            "A file of the data folder may be damaged or gone, or this machine is in trouble; --verbose shows where.",
        )
    return (
        f"{type(error).__name__}: {error}",
        "fincon has no word for this. --verbose shows where it happened; please report it.",
    )


def _tell(message: str, hint: str, options: GlobalOptions) -> None:
    if any(not isinstance(handler, logging.NullHandler) for handler in LOG.handlers):  # a log is written
        LOG.error("%s", f"{message} {hint}".strip())
    if options.verbose:
        traceback.print_exc()
    told = f"fincon: {message}" + (f"\n        {hint}" if hint else "")
    click.echo(fitted(visible(told, keep="\n"), sys.stderr, " " * 8), err=True)


def end(code: int) -> None:
    """End the process now: a thread that still waits for Stripe must not hold the terminal."""
    if interrupt.received():
        interrupt.leave()  # a library swallowed it
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    if code == 0 and "prefect" in sys.modules:
        # Prefect sends what is left of its logs at exit, and its threads then keep DuckDB's module alive,
        # which complains of leaks on standard error: let it send, and end without the complaint.
        atexit._run_exitfuncs()
    os._exit(code)
