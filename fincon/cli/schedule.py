"""``fincon serve``: keep a lake up to date."""

from collections.abc import Sequence
from pathlib import Path

import click

from fincon.cli import interrupt
from fincon.cli.options import GlobalOptions, command, current_options, echo_status
from fincon.errors import UsageError
from fincon.flows.scheduler import STOP_SECONDS, Deployment, Served, command_line, read, run_when_due, when
from fincon.settings import data_folder, load_settings
from fincon.storage.data_folder import DataFolder, prepare

OURS = Path(__file__).parent / "templates" / "prefect.yaml"
"""The schedules that come with fincon, for a folder that has none."""


@command("fincon serve", "fincon serve --schedules nightly.yaml")
@click.option(
    "--schedules",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file of deployments [prefect.yaml, or else the one that comes with fincon].",
)
def serve(schedules: Path | None) -> None:
    """Run what prefect.yaml schedules, from this process, until it is stopped.

    No server is needed: each run is the command of its name, one after another. With PREFECT_API_URL, a sync is
    seen on that server as any `fincon sync` is.
    """
    data = current_options().data
    file = schedules or (Path("prefect.yaml") if Path("prefect.yaml").exists() else OURS)
    deployments = read(file)
    refuse_wrong(deployments)
    settings = load_settings(data=data)  # a missing key is told now, not at three in the morning
    prepare(settings.data)
    interrupt.expect("A run that was stopped is gone on with by the next.")
    interrupt.end_well(STOP_SECONDS)
    echo_status(f"The schedules of {file}:")
    for deployment in deployments:
        echo_status(f"{deployment.name}: {when(deployment)}")
    served = Served(
        more=["--data", str(data)] if data else [],
        say=echo_status,
        begun=DataFolder(data_folder(data)).served,
    )
    echo_status("Each run begins when it is due. Ctrl-C ends it.")
    with interrupt.unwinding():  # a command that runs is ended as well
        run_when_due(deployments, served)
    raise UsageError(f"Nothing in {file} is due at any time.", "Give a deployment a cron schedule.")


def refuse_wrong(deployments: Sequence[Deployment]) -> None:
    """Refuse a deployment whose flow or parameters no command knows, before the first one runs.

    Raises:
        UsageError: one is.
    """
    group = click.get_current_context().find_root().command
    for deployment in deployments:
        name, *arguments = command_line(deployment)
        found = (
            group.get_command(click.get_current_context(), name) if isinstance(group, click.Group) else None
        )
        if not found:
            raise UsageError(
                f"There is no command {name!r}, which the deployment {deployment.name} is to run.",
                "See `fincon --help`.",
            )
        try:
            found.make_context(name, arguments, click.get_current_context(), obj=GlobalOptions())
        except click.ClickException as error:
            raise UsageError(
                f"The deployment {deployment.name} cannot be run: {error.format_message()}",
                f"Its parameters are options of `fincon {name}`.",
            ) from error
