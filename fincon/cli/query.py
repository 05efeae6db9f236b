"""What is asked of a lake: ``fincon status``, ``sql`` and ``report``."""

import json
import sys
from pathlib import Path

import click

from fincon.cli.options import command, current_options
from fincon.cli.output import render_status, write_result
from fincon.errors import UsageError
from fincon.warehouse.connection import ask, connect
from fincon.warehouse.status import summary


@command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option(
    "--runs", type=click.IntRange(min=1), default=5, show_default=True, help="How many of the last runs."
)
def status(*, as_json: bool, runs: int) -> None:
    """Last runs, how fresh each table is, what was rejected."""
    with connect(current_options().data) as connection:
        found = summary(connection, runs)
    click.echo(json.dumps(found, indent=2, default=str) if as_json else render_status(found))


@command()
@click.argument("query")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of standard output.",
)
def sql(query: str, style: str, output: Path | None) -> None:
    """Ask the views: fincon sql "SELECT * FROM balance_totals". Read-only."""
    if style == "parquet" and output is None and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal.", "Name a file with --output.")
    with ask(query, current_options().data) as connection:
        write_result(connection, query, style, output)


@command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="Where to write it.",
)
def report(output: Path) -> None:
    """Write key tables and plots as one HTML page, to be opened in any browser."""
    try:
        from fincon.warehouse.report import page  # needs an extra, which the other commands do without
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The report's plots need the package {error.name}.", "pip install 'fincon[notebooks]'"
        ) from error
    with connect(current_options().data) as connection:
        written = page(connection)
    try:
        output.write_text(written, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written: {error.strerror}.", "Name another file with --output."
        ) from error
    click.echo(output)
