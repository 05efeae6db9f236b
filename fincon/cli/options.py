"""What every command shares: the global options, and lines for the person who typed it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class GlobalOptions:
    """The options of every command, whether they stand before or after its name."""

    data: str | None = None
    quiet: bool = False
    verbose: bool = False


def current_options() -> GlobalOptions:
    """Return the global options of the command that runs."""
    return click.get_current_context().ensure_object(GlobalOptions)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
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


global_options = add_options(
    click.option(
        "--data",
        type=click.Path(file_okay=False),
        expose_value=False,
        callback=_keep,
        help="The data folder, or s3://bucket/folder [FINCON_DATA, else ./data].",
    ),
    click.option(
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_keep,
        help="Show results and errors alone.",
    ),
    click.option(
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_keep,
        help="Show tracebacks.",
    ),
)

wait_option = click.option(
    "--wait-seconds",
    type=click.FloatRange(min=0),
    default=0,
    metavar="N",
    help="While another run holds the data folder, wait so long at most.",
)


def command(**settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command that takes the global options behind its name as well."""

    def make(function: Callable[..., Any]) -> click.Command:
        # Global options are applied first, so that a command's own options stand before them in its help.
        own = list(getattr(function, "__click_params__", ()))
        made: click.Command = click.command(**settings)(global_options(function))
        made.params.sort(key=lambda parameter: parameter not in own)
        return made

    return make


def echo_status(line: str) -> None:
    """Write a line for the person to standard error; none with ``--quiet``."""
    if not current_options().quiet:
        click.echo(line, err=True)


def pluralize(count: int, what: str) -> str:
    """Return ``1 page``, ``1,234 pages``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
