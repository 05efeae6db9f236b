"""``fincon export`` and ``fincon views``: a lake's rows, or its views, for elsewhere."""

from pathlib import Path

import click

from fincon.cli.options import command, current_options, echo_status, pluralize
from fincon.errors import RunFailed, UsageError, reason_of
from fincon.settings import data_folder
from fincon.storage.data_folder import refuse_own
from fincon.warehouse import portable


@command("fincon export copy/", "fincon export lake.duckdb --history")
@click.argument("target", type=click.Path(path_type=Path), metavar="DIR|FILE.duckdb")
@click.option("--history", is_flag=True, help="Every version of each row, not the latest alone.")
def export(target: Path, *, history: bool) -> None:
    """Write all tables as plain Parquet files, or as one DuckDB file, that need neither fincon nor Delta."""
    data = data_folder(current_options().data)
    refuse_own(target, data)
    try:
        counts = portable.export(data, target, history=history)
    except OSError as error:
        raise RunFailed(f"{target} cannot be written: {reason_of(error)}.", "Name another place.") from error
    for name, rows in counts.items():
        click.echo(f"{name}: {pluralize(rows, 'row')}")
    echo_status(f"{pluralize(sum(counts.values()), 'row')} → {target}")


@command("fincon views --for /mnt/lake --output bi.duckdb")
@click.option(
    "--for",
    "root",
    metavar="PATH",
    required=True,
    help="Where the data folder is for who reads it: mounted, or copied.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file of views to write.",
)
def views(root: str, output: Path) -> None:
    """Write the views for a lake that is read elsewhere, so that plain DuckDB and BI tools find its files there."""
    if not root.startswith(("/", "s3://")):
        raise UsageError(f"{root!r} is no whole path.", "Begin with / or s3://.")
    data = data_folder(current_options().data)
    refuse_own(output, data)
    try:
        portable.views_for(data, root.rstrip("/"), output)
    except OSError as error:
        raise RunFailed(f"{output} cannot be written: {reason_of(error)}.", "Name another place.") from error
    echo_status(f"The views for {root} → {output}")
