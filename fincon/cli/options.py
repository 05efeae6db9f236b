"""What every command shares: the group, the global options, and lines for the person who typed it."""

from collections.abc import Callable
from typing import Any

import click


class Choices:
    """The global options, as every command reads them."""

    def __init__(self) -> None:
        self.data: str | None = None
        self.quiet = False
        self.verbose = False


CHOICES = Choices()


def _global(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            setattr(CHOICES, name, value)

    return keep


def global_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--data``, ``--quiet`` and ``--verbose``, before or after the command's name."""
    for option in (
        click.option(
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=_global("verbose"),
            help="Show tracebacks.",
        ),
        click.option(
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_global("quiet"),
            help="Show results and errors alone.",
        ),
        click.option(
            "--data",
            type=click.Path(file_okay=False),
            expose_value=False,
            callback=_global("data"),
            help="The data folder, or s3://bucket/folder [FINCON_DATA, else ./data].",
        ),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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


def command(**settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of `cli` that also takes the global options behind its name."""

    def add(function: Callable[..., Any]) -> click.Command:
        made: click.Command = cli.command(**settings)(global_options(function))
        return made

    return add


wait_option = click.option(
    "--wait-seconds",
    type=click.FloatRange(min=0),
    default=0,
    metavar="N",
    help="While another run holds the data folder, wait so long at most.",
)


def say(line: str) -> None:
    """A line for the person, on standard error; none with ``--quiet``."""
    if not CHOICES.quiet:
        click.echo(line, err=True)


def counted(count: int, what: str) -> str:
    """``1 page``, ``1,234 pages``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
