"""``fincon serve``: keep a lake up to date."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from fincon.cli import interrupt
from fincon.cli.blocks import read_blocks
from fincon.cli.options import GlobalOptions, command, current_options, echo_status
from fincon.errors import RunFailed, UsageError
from fincon.flows.scheduler import (
    BLOCKS,
    STOP_SECONDS,
    Deployment,
    Served,
    command_line,
    read,
    run_when_due,
    when,
)
from fincon.settings import data_folder, environment, load_settings, prefect_api_url
from fincon.storage.data_folder import DataFolder, prepare
from fincon.storage.s3 import DataPath

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
    folder = data_folder(data)

    def secrets(deployment: Deployment) -> Mapping[str, str]:
        return secrets_of(deployment, data_folder(data or deployment.parameters.get("data")))

    for deployment in deployments:  # what is missing is told now, not at three in the morning
        if deployment.flow == "sync":
            try:
                load_settings(environment(secrets(deployment)), folder)
            except RunFailed as error:  # the server does not answer yet
                echo_status(f"{deployment.name}: {error} {error.hint}")
    prepare(folder)
    interrupt.expect("A run that was stopped is gone on with by the next.")
    interrupt.end_well(STOP_SECONDS)
    echo_status(f"The schedules of {file}:")
    for deployment in deployments:
        echo_status(f"{deployment.name}: {when(deployment)}")
    served = Served(
        more=["--data", str(data)] if data else [],
        say=echo_status,
        begun=DataFolder(folder).served,
        secrets=secrets,
    )
    echo_status("Each run begins when it is due. Ctrl-C ends it.")
    with interrupt.unwinding():  # a command that runs is ended as well
        run_when_due(deployments, served)
    raise UsageError(f"Nothing in {file} is due at any time.", "Give a deployment a cron schedule.")


def secrets_of(deployment: Deployment, data: DataPath) -> Mapping[str, str]:
    """Return what the Secret blocks hold that a deployment names, or that stand for what the environment lacks.

    Raises:
        UsageError: it names one, and there is no server or no such block. RunFailed: the server does not answer.
    """
    named = {name.removesuffix("_block"): deployment.parameters.get(name) for name in BLOCKS}
    if not prefect_api_url():
        if any(named.values()):
            raise UsageError(
                f"The deployment {deployment.name} names Secret blocks, but PREFECT_API_URL is not set.",
                "Set it to the Prefect server that has them, or put what they hold into the environment.",
            )
        return {}
    return read_blocks(data, **named)


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
