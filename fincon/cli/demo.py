"""``fincon demo``: everything without a key, on a Stripe of this machine."""

import shlex
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from fincon.cli.options import command, current_options, echo_status, pluralize
from fincon.cli.output import render_result
from fincon.cli.sync import print_summary, run_once
from fincon.cli.terminal import fitted
from fincon.errors import UsageError
from fincon.pipeline.request import SyncRequest
from fincon.sandbox.server import running
from fincon.sandbox.world import World
from fincon.settings import data_folder, load_settings
from fincon.storage.data_folder import DataFolder
from fincon.warehouse.connection import connect
from fincon.warehouse.read_only import ReadOnlyConnection

QUESTIONS = (
    (
        "What is held and owed, by the most frequent currencies, in major units; negative is owed (balance_totals):",
        "SELECT category, currency, sum(accounts)::BIGINT AS accounts, sum(current_amount)::DECIMAL(38, 3) AS current, "
        "sum(available_amount)::DECIMAL(38, 3) AS available, sum(used_amount)::DECIMAL(38, 3) AS used "
        "FROM balance_totals WHERE category IN ('cash', 'credit') GROUP BY ALL ORDER BY accounts DESC, currency LIMIT 6",
    ),
    (
        "Do refreshes work (refresh_health):",
        "SELECT feature, sum(accounts) FILTER (status = 'succeeded')::BIGINT AS succeeded, "
        "sum(accounts) FILTER (status = 'failed')::BIGINT AS failed, "
        "sum(accounts) FILTER (status = 'pending')::BIGINT AS pending, min(oldest_attempt) AS oldest_attempt "
        "FROM refresh_health GROUP BY ALL ORDER BY feature",
    ),
    (
        "Which balances fell the most since yesterday (balances, balances_as_of):",
        "SELECT institution_name AS institution, display_name AS account, currency, "
        "before.current_amount::DECIMAL(38, 3) AS was, today.current_amount::DECIMAL(38, 3) AS now, "
        "(now - was)::DECIMAL(38, 3) AS change FROM balances AS today "
        "JOIN balances_as_of(now() - INTERVAL 1 DAY) AS before USING (stripe_account, account_id, currency) "
        "JOIN accounts USING (stripe_account, account_id) WHERE currency = 'usd' AND now < was ORDER BY change LIMIT 5",
    ),
)
"""The demo's questions: a title, and the query behind it."""


@command("fincon demo", "fincon demo --accounts 50 --data /tmp/demo")
@click.option(
    "--accounts",
    type=click.IntRange(10, 1_000_000),
    default=750,
    show_default=True,
    help="Accounts that the sandbox had a week ago; it grows.",
)
def demo(accounts: int) -> None:
    """Sync a sandbox twice, a week apart, and show what can be asked."""
    data = data_folder(current_options().data, default="data/demo")
    if not isinstance(data, Path):
        raise UsageError(f"The demo is not for {data}.", "Name a folder of this machine with --data.")
    _start_afresh(data)
    now = datetime.now(UTC).replace(microsecond=0)
    world = World.beginning(now - timedelta(days=7), accounts=accounts, sessions=accounts * 3 // 10)
    with running(world) as sandbox:
        environ = {
            "STRIPE_API_KEY": "sk_test_sandbox",
            "STRIPE_API_BASE": sandbox.url,
            "FINCON_REQUESTS_PER_SECOND": "1000",
        }
        settings = load_settings(environ, data)
        for day in ("a week ago", "today"):
            later = day == "today"
            if later:
                sandbox.set_clock(now)
            ids = tuple(sandbox.world.session_ids())
            echo_status(
                f"Syncing {pluralize(len(ids), 'session')} and {'what happened since' if later else 'every account'}"
                f" from {sandbox.url}, as they {'are' if later else 'were'} {day}."
            )
            # Nobody is real: their names may be kept.
            request = SyncRequest(session_ids=ids, events=later, transactions=True, owners=True, pii="keep")
            result = run_once(settings, request, quiet=current_options().quiet)
            print_summary(result)
            result.raise_for_failures(strict=False)
    (data / ".demo").touch()
    with connect(data) as connection:
        _show_demo(connection, data)


def _start_afresh(data: Path) -> None:
    """Remove the lake of an earlier demo; never anything else."""
    if (data / ".demo").exists() or data == Path("data/demo").absolute():
        shutil.rmtree(data, ignore_errors=True)
    elif DataFolder(data).lake.exists():
        raise UsageError(
            f"{data} holds a lake that is not the demo's.", "Name another folder for the demo with --data."
        )


def _show_demo(connection: ReadOnlyConnection, data: Path) -> None:
    where = ("" if shutil.which("fincon") else _short(Path(sys.executable).parent) + "/") + "fincon"
    where += "" if data == data_folder() else f" --data {shlex.quote(_short(data))}"
    click.echo()
    for title, query in QUESTIONS:
        click.echo(fitted(title, sys.stdout))
        click.echo(render_result(connection.execute(query)))
        click.echo()
    click.echo("Ask more:")
    for line in (
        f'{where} sql "FROM refreshable_now LIMIT 5"',
        f'{where} sql "FROM account_changes LIMIT 5"',
        f"{where} schema",
        f"{where} report",
        f"{where} status",
    ):
        click.echo(f"  {line}")
    click.echo("With your own key:  export STRIPE_API_KEY=rk_…  and  fincon sync")


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
