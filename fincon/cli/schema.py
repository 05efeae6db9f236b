"""``fincon schema``: apart, for it makes empty tables, and what makes tables takes long to import."""

import click

from fincon.cli.options import command
from fincon.cli.terminal import terminal_width
from fincon.cli.text import align, wrap
from fincon.errors import UsageError
from fincon.warehouse import data_dictionary


@command("fincon schema", "fincon schema balance_daily", "fincon schema history.accounts")
@click.argument("table", required=False)
@click.option("--format", "style", type=click.Choice(["text", "markdown"]), default="text", show_default=True)
def schema(table: str | None, style: str) -> None:
    """Show what views, columns and macros mean: all of them, or TABLE column by column. Needs no lake."""
    if table and style == "markdown":
        raise UsageError("Markdown is for the whole dictionary.", "Leave out the table, or --format.")
    width = terminal_width()
    with data_dictionary.empty_views() as connection:
        if style == "markdown":
            click.echo(data_dictionary.as_markdown(connection), nl=False)
        elif table:
            entry = data_dictionary.find(connection, table)
            columns = [(column.name, _short(column.type), column.meaning) for column in entry.columns]
            click.echo("\n".join(wrap(f"{entry.name}: {entry.meaning}", width)))
            click.echo(align(columns, width), nl=bool(columns))
        else:
            rows = [(entry.name, entry.meaning) for entry in data_dictionary.entries(connection)]
            click.echo(align(rows, width))


def _short(kind: str) -> str:
    """Return a type without the fields of its STRUCT, and a time by its short name."""
    kind = kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
    return kind if "STRUCT" not in kind else "STRUCT(…)" + ("[]" if kind.endswith("[]") else "")
