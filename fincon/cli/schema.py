"""``fincon schema``: apart, for it makes empty tables, and what makes tables takes long to import."""

import click

from fincon.cli.options import command
from fincon.errors import UsageError
from fincon.warehouse import data_dictionary


@command()
@click.argument("table", required=False)
@click.option("--format", "style", type=click.Choice(["text", "markdown"]), default="text", show_default=True)
def schema(table: str | None, style: str) -> None:
    """What each view, column and macro means: all of them, or TABLE column by column. Needs no lake."""
    if table and style == "markdown":
        raise UsageError("Markdown is for the whole dictionary.", "Leave out the table, or --format.")
    with data_dictionary.empty_views() as connection:
        if style == "markdown":
            click.echo(data_dictionary.as_markdown(connection), nl=False)
        else:
            click.echo(data_dictionary.as_text(connection, table))
