"""``fincon serve``: keep a lake up to date."""

from pathlib import Path

import click

from fincon.cli import interrupt
from fincon.cli.options import command, current_options, echo_status
from fincon.flows.scheduler import read, run_when_due, when
from fincon.settings import load_settings


@command("fincon serve", "fincon serve --schedules nightly.yaml")
@click.option(
    "--schedules",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default="prefect.yaml",
    show_default=True,
    help="The file of deployments.",
)
def serve(schedules: Path) -> None:
    """Run what prefect.yaml schedules, from this process, until it is stopped.

    No server is needed: each run is the command of its name, one after another. With PREFECT_API_URL, a sync is
    seen on that server as any `fincon sync` is.
    """
    data = current_options().data
    deployments = read(schedules)
    load_settings(data=data)  # a missing key is told now, not at three in the morning
    interrupt.expect("A run that was stopped is gone on with by the next.")
    for deployment in deployments:
        echo_status(f"{deployment.name}: {when(deployment)}")
    with interrupt.unwinding():  # a command that runs is ended as well
        run_when_due(deployments, ["--data", str(data)] if data else [], echo_status)
