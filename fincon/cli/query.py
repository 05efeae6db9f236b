"""What is asked of a lake: ``fincon sql`` and ``report``."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import click

from fincon.cli.export import BINARY, ENDINGS, FORMATS, aside, choose_format, write_result
from fincon.cli.options import Command, command, current_options, echo_status, pluralize
from fincon.errors import UsageError
from fincon.pipeline.id_files import decode_text
from fincon.settings import data_folder
from fincon.storage.data_folder import refuse_own
from fincon.warehouse.connection import ask, connect

MOST_ROWS = 10**15
"""More than any table has, and few enough for DuckDB to count."""

COMMENT = re.compile(r"--(\s|[^=]*\n)")
"""How a query begins that begins with a comment; an option has no line break before its value."""


class QueryCommand(Command):
    """A command whose query may begin with a comment, which click would take for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put a line break before a query that begins with ``--``."""
        return super().parse_args(ctx, [f"\n{arg}" if COMMENT.match(arg) else arg for arg in args])


@command(
    'fincon sql "FROM balance_totals"',
    'fincon sql "FROM balances_as_of(now() - INTERVAL 1 DAY)" --limit 20',
    'fincon sql "FROM transactions" --output transactions.parquet',
    "fincon sql -f question.sql --format vertical",
    cls=QueryCommand,
)
@click.argument("query", required=False)
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    help="Read the query from this file; - = standard input.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(FORMATS),
    help="[as --output says by its name, else table]; json and jsonl are one object a line.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help=f"Write all rows to this file, as its name says: {' '.join(ENDINGS)} (.json is one array); - = standard output.",
)
@click.option("--limit", type=click.IntRange(1, MOST_ROWS), metavar="N", help="So many rows at most.")
def sql(
    query: str | None, file: Path | None, style: str | None, output: Path | None, limit: int | None
) -> None:
    """Ask the views, read-only: QUERY is SQL as DuckDB speaks it, or - for standard input.

    `fincon schema` shows what can be asked.
    """
    text = _read_query(query, file)
    output = None if output == Path("-") else output
    if output:
        refuse_own(output, data_folder(current_options().data))
    chosen = choose_format(style, output)
    if chosen in BINARY and output is None and sys.stdout.isatty():
        raise UsageError(f"{chosen.title()} is not for a terminal.", "Name a file with --output.")
    with ask(text, current_options().data) as connection:
        written = write_result(connection, text, chosen, output, limit)
    if output:
        left = " (--limit; there are more)" if written.more else ""
        echo_status(f"{pluralize(written.rows, 'row')} → {output}{left}")
    if written.not_numbers:
        echo_status(
            f"{pluralize(written.not_numbers, 'value')} for which JSON has no word (Infinity, NaN): null."
        )


def _read_query(query: str | None, file: Path | None) -> str:
    """Return the query that was typed, or stands in a file or on standard input."""
    if (query is None) == (file is None):
        raise UsageError(
            "Give one query.", 'fincon sql "FROM balance_totals"; or -f FILE, or - for standard input.'
        )
    if query is not None and query != "-":
        return query
    name = "Standard input" if file is None or file == Path("-") else str(file)
    try:
        content = sys.stdin.buffer.read() if name == "Standard input" else Path(name).read_bytes()
        return decode_text(content)
    except OSError as error:
        raise UsageError(
            f"{name} cannot be read: {error.strerror}.", "Name a file that holds a query."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is no text in {error.encoding.upper()}: {error.reason} at byte {error.start}.",
            "Save it as UTF-8.",
        ) from error


@command("fincon report", "fincon report --output monday.html")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    default=Path("report.html"),
    show_default=True,
    help="Where to write it; - = standard output.",
)
def report(output: Path) -> None:
    """Write key tables and plots as one HTML page, to be opened in any browser."""
    to_stdout = output == Path("-")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("A page of HTML is not for a terminal.", "Name a file with --output.")
    refuse_own(output, data_folder(current_options().data))
    try:
        from fincon.warehouse.report import page  # needs an extra, which the other commands do without
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The report's plots need the package {error.name}.", "pip install 'fincon[notebooks]'"
        ) from error
    with connect(current_options().data) as connection:
        if to_stdout:
            click.echo(page(connection).encode())
            return
        _write_page(output, lambda: page(connection))
    click.echo(output)


def _write_page(output: Path, draw: Callable[[], str]) -> None:
    """Write what is drawn to a file, which is opened first: to draw takes seconds, and what was there stays if it fails.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        with aside(output) as part, part.open("w", encoding="utf-8") as file:
            file.write(draw())
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written: {error.strerror}.", "Name another file with --output."
        ) from error
