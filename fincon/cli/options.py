"""What every command shares: the global options, and lines for the person who typed it."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from fincon.cli.terminal import fitted
from fincon.transforms.wording import pluralize as pluralize

F = TypeVar("F", bound=Callable[..., Any])

COMMON = ("--data", "--quiet", "--verbose", "--help")
"""The options of every command."""


@dataclass
class GlobalOptions:
    """The options of every command, whether they stand before or after its name."""

    data: str | None = None
    quiet: bool = False
    verbose: bool = False
    log_format: str | None = None
    no_prefect: bool = False


def current_options() -> GlobalOptions:
    """Return the global options of the command that runs; as they are by default where none does."""
    context = click.get_current_context(silent=True)
    return context.ensure_object(GlobalOptions) if context else GlobalOptions()


def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Note a global option where it was given; its absence behind the command's name changes nothing."""
    if value and parameter.name:
        setattr(context.ensure_object(GlobalOptions), parameter.name, value)


def add_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Make one decorator of several options, which ``--help`` shows in this order."""

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


class NumberRange(click.FloatRange):
    """A range of numbers; `nan`, which no comparison keeps out, is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def seconds_option(name: str, default: float, meaning: str, *, least: float = 0.1) -> Callable[[F], F]:
    """Return an option that says how often something is done, in seconds."""
    return click.option(
        name,
        type=NumberRange(min=least),
        default=default,
        show_default=True,
        metavar="SECONDS",
        help=meaning,
    )


FILE = click.Path(readable=False)
"""The name of a file that is read, or ``-``; a shell completes it. Whether it can be read is told by who reads it."""

global_options = add_options(
    click.option(
        "--data",
        type=click.Path(file_okay=False),
        expose_value=False,
        callback=keep,
        help="The data folder, or s3://bucket/folder [FINCON_DATA, else ./data].",
    ),
    click.option(
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=keep,
        help="Show results and errors alone.",
    ),
    click.option(
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=keep,
        help="Write a log of what happens, and tracebacks.",
    ),
)

wait_option = click.option(
    "--wait-seconds",
    type=NumberRange(min=0),
    default=0,
    metavar="N",
    help="While another run holds the data folder, wait so long at most.",
)


log_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    expose_value=False,
    callback=keep,
    help="Write a log to standard error: lines, or an object a line [FINCON_LOG_FORMAT, FINCON_LOG].",
)


class Command(click.Command):
    """A command whose help shows its own options, then those that all have, then examples."""

    examples: Sequence[str] = ()

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with a log where one is asked for."""
        from fincon.cli.logs import write_log  # after the options are known; help does without

        options = ctx.ensure_object(GlobalOptions)
        write_log(options.log_format, verbose=options.verbose)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two lists."""
        own: list[tuple[str, str]] = []
        common: list[tuple[str, str]] = []
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx)):
                (common if option.opts[-1] in COMMON else own).append(record)
        for title, records in (("Options", own), ("Options of every command", common)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on a line of its own."""
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def command(*examples: str, cls: type[Command] = Command) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command that takes the global options behind its name as well; ``examples`` end its help."""

    def make(function: Callable[..., Any]) -> click.Command:
        made = click.command(cls=cls)(global_options(function))
        made.examples = examples
        return made

    return make


def echo_status(line: str) -> None:
    """Write a line for the person to standard error; none with ``--quiet``."""
    if not current_options().quiet:
        click.echo(fitted(line, sys.stderr), err=True)
