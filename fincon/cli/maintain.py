"""How a lake is kept: ``fincon check``, ``erase`` and ``compact``."""

import sys
from pathlib import Path

import click

from fincon.cli import interrupt
from fincon.cli.options import command, current_options, echo_status, pluralize, wait_option
from fincon.cli.output import render_result
from fincon.cli.status import render_unknown
from fincon.cli.terminal import fitted
from fincon.errors import RunFailed, UsageError
from fincon.pipeline import compact as compacting
from fincon.pipeline import erase as erasing
from fincon.pipeline import rewrite_privacy as rewriting
from fincon.pipeline.check import PAGES_AGREE, pages_disagree
from fincon.pipeline.failures import machine_errors
from fincon.pipeline.recovery import finish_what_was_begun
from fincon.settings import ID_EXAMPLES, data_folder, pii_key
from fincon.storage.data_folder import DataFolder
from fincon.storage.lock import retry_while_locked
from fincon.storage.s3 import DataPath, S3Path
from fincon.warehouse.checks import checks, rows_at_fault
from fincon.warehouse.connection import connect
from fincon.warehouse.status import unknown_attributes

MOST_DAYS = 36_500
"""A century: longer than a date can be subtracted from is no age."""

ROWS_SHOWN = 10
"""Of the rows that a check finds."""


@command("fincon check")
def check() -> None:
    """Run every check; a row that a check finds is a failure."""
    data = data_folder(current_options().data)
    with machine_errors(data):
        finish_what_was_begun(data)
    failed = 0
    with connect(data) as connection:
        for name, promise, query in checks():
            found = len(rows_at_fault(connection, name, query))
            _echo_check(f"{'FAIL' if found else 'ok':4}  {name}: {promise}")
            if found:
                failed += 1
                click.echo(render_result(connection.execute(query), limit=ROWS_SHOWN))
    wrong = pages_disagree(data)
    if wrong is None:
        _echo_check(
            "--    pages_agree: The raw pages of the last run are pruned, or on another machine: there is nothing to compare."
        )
    else:
        _echo_check(f"{'FAIL' if wrong else 'ok':4}  pages_agree: {PAGES_AGREE}")
        failed += bool(wrong)
        for row in wrong[:ROWS_SHOWN]:
            click.echo("  " + "  ".join(map(str, row)))
    with connect(data) as connection:
        for line in render_unknown(unknown_attributes(connection), None):
            _echo_check(f"--    {line.strip()}")
    if failed:
        raise RunFailed(
            f"{pluralize(failed, 'check')} failed.",
            "The rows above say where; no number that rests on them can be trusted.",
        )


def _echo_check(line: str) -> None:
    """Write what a check says, under its name where a terminal is too narrow for it."""
    click.echo(fitted(line, sys.stdout, " " * 6))


@command(
    "fincon erase --account fca_1Nq… --dry-run",
    "fincon erase --customer cus_9s6…",
    "fincon erase --account fca_1Nq… --yes",
)
@click.option("--account", metavar="ID", help="An account, fca_…")
@click.option("--customer", metavar="ID", help="A customer, cus_…, with their accounts and sessions.")
@click.option("--session", metavar="ID", help="A session, fcsess_…")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; without a terminal nothing is removed otherwise.")
@click.option("--allow", is_flag=True, help="Let a later sync bring it back; nothing is removed.")
def erase(  # its parameters are the options of the command
    account: str | None,
    customer: str | None,
    session: str | None,
    *,
    dry_run: bool,
    yes: bool,
    allow: bool,
) -> None:
    """Remove every trace of one account, customer or session, and say what was removed.

    It shows first what it would remove, and asks.
    """
    given = [(k, v) for k, v in (("account", account), ("customer", customer), ("session", session)) if v]
    if len(given) != 1:
        raise UsageError(
            "Name one account, customer or session.", f"fincon erase --account {ID_EXAMPLES['account']}"
        )
    kind, identity = given[0]
    data = existing_lake()
    with interrupt.unwinding(when=isinstance(data, S3Path)), machine_errors(data):
        if allow:
            erasing.allow(data, kind, identity)
            echo_status("A later sync may bring it back.")
            return
        if dry_run or not yes:
            _show_what_goes(data, kind, identity, dry_run=dry_run)
        if dry_run:
            return
        removed = erasing.erase(data, kind, identity, echo_status)
    for name, count in removed.items():
        click.echo(f"{name}: {pluralize(count, 'file' if name == 'pages' else 'row')} removed")
    echo_status(
        "No file under the data folder names it any more. A sync leaves it out from now on, until the same command with --allow."
    )


def _show_what_goes(data: DataPath, kind: str, identity: str, *, dry_run: bool) -> None:
    """Show what an erasure would remove, and ask whether it shall, unless that is all.

    Raises:
        UsageError: nobody is there to answer.
    """
    if not dry_run and not sys.stdin.isatty():
        raise UsageError(
            "An erasure asks before it removes, and standard input is no terminal.",
            "Add --yes to remove without asking; --dry-run shows what would go.",
        )
    for name, count in erasing.foretell(data, kind, identity).items():
        would = f"{name}: {pluralize(count, 'file' if name == 'pages' else 'row')} would be removed"
        click.echo(would, err=not dry_run)
    if dry_run:
        echo_status("Nothing was removed.")
    elif not click.confirm(f"Remove every trace of {identity} for good?", err=True):
        raise click.Abort


@command("fincon compact", "fincon compact --retention-days 0 --pages-days 30")
@click.option(
    "--retention-days",
    type=click.IntRange(0, MOST_DAYS),
    default=7,
    show_default=True,
    help="How long old files stay for older views.",
)
@click.option(
    "--pages-days",
    type=click.IntRange(0, MOST_DAYS),
    default=7,
    show_default=True,
    help="How long raw pages stay.",
)
@wait_option
def compact(retention_days: int, pages_days: int, wait_seconds: float) -> None:
    """Merge small files, and remove old ones and old pages."""
    data = existing_lake()
    with interrupt.unwinding(when=isinstance(data, S3Path)), machine_errors(data):
        done = retry_while_locked(lambda: compacting.compact(data, retention_days, pages_days), wait_seconds)
    for name, (before, after) in done["files"].items():
        click.echo(f"{name}: {pluralize(before, 'file')}, now {after:,}")
    click.echo(f"pages of {pluralize(done['runs_pruned'], 'run')} removed")


@command("fincon privacy --rewrite")
@click.option("--rewrite", is_flag=True, required=True, help="Rewrite history, rejects and raw pages.")
@wait_option
def privacy(wait_seconds: float, *, rewrite: bool) -> None:
    """Hash or drop what earlier runs kept of people, as the last run's --pii says."""
    data = existing_lake()
    with interrupt.unwinding(when=isinstance(data, S3Path)), machine_errors(data):
        pages = retry_while_locked(lambda: rewriting.rewrite(data, pii_key()), wait_seconds)
    echo_status(f"{pluralize(pages, 'page')} rewritten, and nothing under the data folder is left in clear.")


def existing_lake() -> DataPath:
    """Return the data folder.

    Raises:
        UsageError: there is no lake in it.
    """
    data = data_folder(current_options().data)
    names = DataFolder(data)
    there = names.lake.is_dir() if isinstance(names.lake, Path) else names.views.exists()
    if not there:
        raise UsageError(f"There is no lake in {data}.", "Name the folder with --data.")
    return data
