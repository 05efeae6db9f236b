"""How a lake is kept: ``fincon erase`` and ``compact``; and kept up to date: ``serve`` and ``automations``."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fincon.cli.options import CHOICES, command, counted, say, wait_option
from fincon.errors import UsageError
from fincon.settings import data_folder, load_settings

if TYPE_CHECKING:
    from fincon.storage.s3 import DataPath


@command()
@click.option("--account", metavar="ID", help="An account, fca_…")
@click.option("--customer", metavar="ID", help="A customer, cus_…, with their accounts and sessions.")
@click.option("--session", metavar="ID", help="A session, fcsess_…")
@click.option("--allow", is_flag=True, help="Let a later sync bring it back; nothing is removed.")
def erase(account: str | None, customer: str | None, session: str | None, *, allow: bool) -> None:
    """Remove every trace of one account, customer or session, and say what was removed."""
    from fincon.pipeline import erase as maintenance
    from fincon.pipeline.sync import machine_errors

    given = [(k, v) for k, v in (("account", account), ("customer", customer), ("session", session)) if v]
    if len(given) != 1:
        raise UsageError("Name one account, customer or session.", "fincon erase --account fca_…")
    kind, identity = given[0]
    data = _existing(CHOICES.data)
    with machine_errors(data):
        if allow:
            maintenance.allow(data, kind, identity)
            say("A later sync may bring it back.")
            return
        removed = maintenance.erase(data, kind, identity)
    for name, count in removed.items():
        click.echo(f"{name}: {counted(count, 'file' if name == 'pages' else 'row')} removed")
    say(
        "No file under the data folder names it any more. A sync leaves it out from now on, until the same command with --allow."
    )


@command()
@click.option(
    "--retention-days", default=7, show_default=True, help="How long old files stay for older views."
)
@click.option(
    "--pages-days", type=click.IntRange(min=0), default=7, show_default=True, help="How long raw pages stay."
)
@wait_option
def compact(retention_days: int, pages_days: int, wait_seconds: float) -> None:
    """Merge small files, and remove old ones and old pages."""
    from fincon.landing.run_folder import retry_while_locked
    from fincon.pipeline import erase as maintenance
    from fincon.pipeline.sync import machine_errors

    data = _existing(CHOICES.data)
    with machine_errors(data):
        done = retry_while_locked(lambda: maintenance.compact(data, retention_days, pages_days), wait_seconds)
    for name, (before, after) in done["files"].items():
        click.echo(f"{name}: {before:,} files, now {after:,}")
    click.echo(f"pages of {done['runs_pruned']:,} runs removed")


@command()
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
    from fincon.flows import scheduler as plan

    deployments = plan.read(schedules)
    load_settings(data=CHOICES.data)  # a missing key is told now, not at three in the morning
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # as Ctrl-C: a run that is stopped goes on later
    for deployment in deployments:
        say(f"{deployment.name}: {plan.when(deployment)}")
    plan.run_when_due(deployments, ["--data", str(CHOICES.data)] if CHOICES.data else [], say)


@command()
def automations() -> None:
    """Have the Prefect server mark runs whose process died as crashed. Again changes nothing."""
    from fincon.flows.automations import NAME, set_up

    say(f"{NAME}: {'created' if set_up() else 'it was there, and is up to date'}.")


def _existing(given: str | None) -> "DataPath":
    from fincon.storage.data_folder import DataFolder

    data = data_folder(given)
    names = DataFolder(data)
    there = names.lake.is_dir() if isinstance(names.lake, Path) else names.views.exists()
    if not there:
        raise UsageError(f"There is no lake in {data}.", "Name the folder with --data.")
    return data
