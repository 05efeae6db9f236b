"""``fincon automations``: apart, for it alone always imports Prefect, which takes seconds."""

from datetime import timedelta

import click

from fincon.cli.options import command, echo_status
from fincon.flows.automations import set_up


@command(
    "PREFECT_API_URL=http://localhost:4200/api fincon automations",
    "fincon automations --notify slack-webhook/ops --within-hours 2",
)
@click.option(
    "--notify",
    metavar="TYPE/NAME",
    default="",
    help="Tell a notification block of runs that fail, crash or are stuck, and when none succeeds.",
)
@click.option(
    "--within-hours",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Within how long a run must succeed.",
)
def automations(notify: str, within_hours: int) -> None:
    """Have the Prefect server mark runs whose process died as crashed, and tell people. Again changes nothing."""
    for name, is_new in set_up(notify, timedelta(hours=within_hours)).items():
        echo_status(f"{name}: {'created' if is_new else 'it was there, and is up to date'}.")
