"""``fincon changes``: every version that came, as JSON lines, for other systems."""

import json
import time
from datetime import datetime
from typing import Any

import click

from fincon.cli.options import command, current_options, seconds_option
from fincon.warehouse.changes import changes as changes_since
from fincon.warehouse.connection import connect


@command(
    "fincon changes",
    "fincon changes --since 2026-11-01T12:00:00Z",
    'fincon changes --since "$(cat cursor)" --follow',
)
@click.option(
    "--since",
    metavar="RUN|TIME|CURSOR",
    default="",
    help="Tell what came after this: the cursor of a line, a run, or a time (UTC).",
)
@click.option("--follow", is_flag=True, help="Go on with what later runs bring, until interrupted.")
@seconds_option("--every", 5, "With --follow: how often to look.")
def changes(since: str, every: float, *, follow: bool) -> None:
    """Write every version that came, in the order of runs: one JSON object a line, with a cursor to go on from.

    Who keeps the cursor of the last line that was dealt with gets each version once. What was erased never comes.
    """
    while True:
        with connect(current_options().data) as connection:
            for change in changes_since(connection, since):
                line = {"cursor": change.cursor, "table": change.table, "row": change.row}
                click.echo(json.dumps(line, default=_plain))
                since = change.cursor
        if not follow:
            return
        time.sleep(every)


def _plain(value: Any) -> str:
    """Return what JSON has no word for: times in ISO 8601, UTC."""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
