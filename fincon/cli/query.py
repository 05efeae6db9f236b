"""What is asked of a lake: ``fincon status``, ``sql``, ``schema``, ``report`` and ``check``."""

import json
import sys
from pathlib import Path

import click

from fincon.cli.options import CHOICES, command
from fincon.errors import RunFailed, UsageError
from fincon.settings import data_folder


@command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option(
    "--runs", type=click.IntRange(min=1), default=5, show_default=True, help="How many of the last runs."
)
def status(*, as_json: bool, runs: int) -> None:
    """Last runs, how fresh each table is, what was rejected."""
    from fincon.cli import output as show
    from fincon.warehouse.views import connect, summary

    with connect(CHOICES.data) as connection:
        found = summary(connection, runs)
        if as_json:
            click.echo(json.dumps(found, indent=2, default=str))
        else:
            click.echo(show.status(found))


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
    from fincon.cli import output as show
    from fincon.warehouse.views import ask

    if style == "parquet" and output is None and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal.", "Name a file with --output.")
    with ask(query, CHOICES.data) as connection:
        show.write(connection, query, style, output)


@command()
@click.argument("table", required=False)
@click.option("--format", "style", type=click.Choice(["text", "markdown"]), default="text", show_default=True)
def schema(table: str | None, style: str) -> None:
    """What each view, column and macro means: all of them, or TABLE column by column. Needs no lake."""
    from fincon.warehouse import data_dictionary as dictionary

    if table and style == "markdown":
        raise UsageError("Markdown is for the whole dictionary.", "Leave out the table, or --format.")
    with dictionary.empty_views() as connection:
        if style == "markdown":
            click.echo(dictionary.as_markdown(connection), nl=False)
        else:
            click.echo(dictionary.as_text(connection, table))


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
    from fincon.warehouse.views import connect

    try:
        from fincon.warehouse.report import page
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The report's plots need the package {error.name}.", "pip install 'fincon[notebooks]'"
        ) from error
    with connect(CHOICES.data) as connection:
        written = page(connection)
    try:
        output.write_text(written, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written: {error.strerror}.", "Name another file with --output."
        ) from error
    click.echo(output)


@command()
def check() -> None:
    """Run every check; a row that a check finds is a failure."""
    from fincon.cli import output as show
    from fincon.pipeline.sync import PAGES_AGREE, pages_disagree
    from fincon.warehouse.views import checks, connect

    failed = 0
    with connect(CHOICES.data) as connection:
        for name, promise, query in checks():
            found = len(connection.execute(query).fetchall())
            click.echo(f"{'FAIL' if found else 'ok':4}  {name}: {promise}")
            if found:
                failed += 1
                click.echo(show.table(connection.execute(query), limit=10))
    wrong = pages_disagree(data_folder(CHOICES.data))
    if wrong is None:
        click.echo(
            "--    pages_agree: The raw pages of the last run are pruned, or on another machine: there is nothing to compare."
        )
    else:
        click.echo(f"{'FAIL' if wrong else 'ok':4}  pages_agree: {PAGES_AGREE}")
        failed += bool(wrong)
        for row in wrong[:10]:
            click.echo("  " + "  ".join(map(str, row)))
    if failed:
        raise RunFailed(
            f"{failed} checks failed.",
            "The rows above say where; no number that rests on them can be trusted.",
        )
