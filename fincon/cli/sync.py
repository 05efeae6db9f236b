"""``fincon sync``, and its short forms ``events``, ``transactions`` and ``owners``."""

import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from fincon.cli import interrupt
from fincon.cli.blocks import use_blocks
from fincon.cli.options import (
    FILE,
    add_options,
    command,
    current_options,
    echo_status,
    keep,
    log_option,
    pluralize,
    wait_option,
)
from fincon.cli.progress import show_progress
from fincon.cli.terminal import fitted
from fincon.errors import UsageError
from fincon.lake.incremental import Refetch
from fincon.landing.spool import Spool
from fincon.pipeline.attempts import recorded_if_refused
from fincon.pipeline.context import Progress
from fincon.pipeline.dry_run import dry_run
from fincon.pipeline.id_files import SessionIds, ask_session_ids, read_session_ids, read_stripe_accounts
from fincon.pipeline.request import SyncRequest, SyncResult, name_set_aside
from fincon.pipeline.sync import run_sync
from fincon.settings import (
    STRIPE_ACCOUNT_ID,
    Settings,
    dask_scheduler,
    data_folder,
    is_set,
    load_settings,
    prefect_api_url,
    quiet_prefect,
)
from fincon.storage.s3 import S3Path
from fincon.transforms.redaction import Choice

details_options = add_options(
    click.option(
        "--transactions",
        is_flag=True,
        help="Read the transactions of accounts whose transactions were refreshed as well.",
    ),
    click.option(
        "--owners",
        is_flag=True,
        help="Read the owners of accounts whose ownership was refreshed as well.",
    ),
)
"""What else accounts tell."""

run_options = add_options(
    wait_option,
    log_option,
    click.option(
        "--no-prefect",
        is_flag=True,
        expose_value=False,
        callback=keep,
        help="Run in this process, though PREFECT_API_URL names a server.",
    ),
    click.option("--strict", is_flag=True, help="Fail if an object was rejected."),
    click.option(
        "--max-requests",
        type=click.IntRange(min=1),
        help="Stop after this many requests; the next run goes on.",
    ),
    click.option(
        "--pii",
        type=click.Choice(["keep", "hash", "drop"]),
        help="Names, email and postal addresses, phone numbers, last digits [as before; hash with owners; else keep].",
    ),
)
"""What every command that fetches takes."""


OTHER_MODE = " mode"
"""In Stripe's words on an object that is not there, where there is one in the other mode (test, live)."""


@command(
    "fincon sync",
    "fincon sync --sessions sessions.csv --dry-run",
    "fincon sync --transactions --max-requests 5000",
    "fincon sync --connected",
)
@click.option(
    "--sessions",
    type=FILE,
    metavar="FILE",
    help="Session ids: one a line, or CSV, Parquet or JSON with a column session_id or id; - = standard input; or s3://bucket/key.",
)
@click.option(
    "--sessions-sql",
    "sessions_query",
    metavar="QUERY",
    help="Session ids from your own database: what a query answers, with a column session_id or id.",
)
@click.option(
    "--from",
    "database",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The DuckDB file that --sessions-sql asks; it is only read.",
)
@click.option(
    "--stripe-account",
    "stripe_account",
    metavar="ID",
    multiple=True,
    help="A connected account, acct_…, to act for [STRIPE_ACCOUNT]; may be repeated.",
)
@click.option(
    "--stripe-accounts",
    "accounts_file",
    type=FILE,
    metavar="FILE",
    help="Connected accounts from a file, like --sessions, with a column stripe_account or id.",
)
@click.option("--connected", is_flag=True, help="Every connected account of the platform.")
@click.option("--accounts/--no-accounts", default=True, show_default=True, help="List every account as well.")
@click.option("--dry-run", is_flag=True, help="Say which requests would be made, and make none.")
@click.option("--restart", is_flag=True, help="Do not go on with a run that was interrupted.")
@click.option(
    "--events", is_flag=True, help="Read what changed since the last run instead of listing every account."
)
@click.option(
    "--sessions-refetch",
    "refetch",
    type=click.Choice(["never", "open", "all"]),
    default="open",
    show_default=True,
    help="Of sessions known already, fetch again: none, those first seen less than a day before their last fetch, or all.",
)
@details_options
@run_options
def sync(  # its parameters are the options of the command
    sessions: str | None,
    sessions_query: str | None,
    database: Path | None,
    stripe_account: tuple[str, ...],
    accounts_file: str | None,
    *,
    connected: bool,
    accounts: bool,
    dry_run: bool,
    strict: bool,
    restart: bool,
    events: bool,
    refetch: Refetch,
    max_requests: int | None,
    wait_seconds: float,
    transactions: bool,
    owners: bool,
    pii: Choice | None,
) -> None:
    """Fetch sessions and accounts, add what changed to the lake, publish the views."""
    if sessions and sessions_query:
        raise UsageError(
            "Session ids come from a file or from a query.", "Leave out --sessions or --sessions-sql."
        )
    if database and not sessions_query:
        raise UsageError("--from names a file, but there is no query.", "Add --sessions-sql.")
    if not any((sessions, sessions_query, accounts, events, transactions, owners)):
        raise UsageError(
            "There is nothing to fetch.",
            "Name a file of session ids with --sessions, or leave out --no-accounts.",
        )
    if sessions == accounts_file == "-":
        raise UsageError("Standard input can be read but once.", "Name a file for one of them.")
    for one in stripe_account:
        if not STRIPE_ACCOUNT_ID.fullmatch(one):
            raise UsageError(f"{one!r} is not a Stripe account.", "It looks like acct_….")
    ids = _session_ids(sessions, sessions_query, database)
    named = (*stripe_account, *(read_stripe_accounts(accounts_file) if accounts_file else ()))
    request = SyncRequest(
        session_ids=ids.plain,
        sessions_of=ids.of,
        accounts=accounts,
        events=events,
        refetch=refetch,
        restart=restart,
        max_requests=max_requests,
        stripe_accounts=named,
        connected=connected,
        transactions=transactions,
        owners=owners,
        strict=strict,
        wait_seconds=wait_seconds,
        pii=pii,
    )
    if dry_run:
        if not is_set("STRIPE_API_KEY"):  # with a key it needs no server
            use_blocks(data_folder(current_options().data))
        _dry_run(load_settings(data=current_options().data), request)
        return
    _sync(_settings(request.mode), request)


def _session_ids(file: str | None, query: str | None, database: Path | None) -> SessionIds:
    """Return the ids of the sessions that are named, wherever they are."""
    if query:
        return ask_session_ids(query, database)
    return read_session_ids(file) if file else SessionIds()


@command("fincon events", "fincon events --transactions --owners --pii hash", "fincon events --received")
@click.option(
    "--received",
    is_flag=True,
    help="Load what `fincon listen` took, and ask Stripe for nothing that it shows.",
)
@details_options
@run_options
def events(*, received: bool, **asked: Any) -> None:
    """Read what changed since the last run: one request in a quiet minute. The same as sync --events."""
    if not received:
        _run_events(**asked)
        return
    request = SyncRequest(received=True, accounts=False, **asked)
    settings = _settings(request.mode)
    if Spool(settings.data).count():
        _sync(settings, request)
    else:
        echo_status("No event waits to be loaded.")


@command("fincon transactions", "fincon transactions --max-requests 1000")
@run_options
def transactions(**asked: Any) -> None:
    """Read what changed, and new transactions. The same as sync --events --transactions."""
    _run_events(transactions=True, **asked)


@command("fincon owners --pii hash", "fincon owners --pii drop")
@run_options
def owners(**asked: Any) -> None:
    """Read what changed, and new owners. The same as sync --events --owners."""
    _run_events(owners=True, **asked)


def _run_events(**asked: Any) -> None:
    request = SyncRequest(events=True, **asked)
    _sync(_settings(request.mode), request)


def _settings(mode: str) -> Settings:
    """Read the settings; what is wrong with them is put on record as well."""
    data = data_folder(current_options().data)
    use_blocks(data)
    with recorded_if_refused(data, mode):
        return load_settings(data=data)


def _sync(settings: Settings, request: SyncRequest) -> None:
    result = run_once(settings, request, quiet=current_options().quiet)
    print_summary(result)
    result.raise_for_failures(strict=request.strict)


class _NoPandas(MetaPathFinder):
    """Finds every module but pandas. None in `sys.modules`, Python's own mark, is not understood by pyarrow."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def without_pandas() -> None:
    """Have pyarrow take it that there is no pandas: of this process alone, which has no use for it.

    pyarrow imports pandas before it makes its first array, to know a Series when it is given one. That takes 46 MB
    and as long as a tenth of a small sync.
    """
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, finder := _NoPandas())
        pa.array([])
        sys.meta_path.remove(finder)


def run_once(settings: Settings, request: SyncRequest, *, quiet: bool = False) -> SyncResult:
    """Do one run and show its progress; as a flow run where there is a Prefect server."""
    without_pandas()
    interrupt.expect("What was fetched is kept: run the same command again to go on.")
    server = "" if current_options().no_prefect else prefect_api_url()
    if dask_scheduler() and not server:
        raise UsageError(
            "FINCON_DASK is set, but PREFECT_API_URL is not: it is a flow run that maps its tasks over Dask.",
            "Set PREFECT_API_URL, or unset FINCON_DASK.",
        )
    # A Prefect server, or who else waits for the bucket's lease, is told.
    told = bool(server) or isinstance(settings.data, S3Path)
    with interrupt.unwinding(when=told), show_progress(quiet=quiet) as progress:
        if not server:
            return run_sync(settings, request, progress=progress)
        return _run_as_flow(settings, request, progress)


def _run_as_flow(settings: Settings, request: SyncRequest, progress: Progress) -> SyncResult:
    quiet_prefect(for_a_person=True)
    # Prefect takes seconds to import, and most runs do without.
    from fincon.flows.server import refuse_without_server
    from fincon.flows.sync import sync_as_flow

    refuse_without_server("Start it, or run in this process: --no-prefect.")
    return sync_as_flow(request, settings.data, progress)


def print_summary(result: SyncResult) -> None:
    """Say on standard error what a run did, and which sessions Stripe does not know."""
    run = result.run
    for before in result.loaded_first:
        added = pluralize(before["rows_added"], "row")
        echo_status(
            f"Run {before['run_id']}, which an earlier sync had fetched, was loaded first: {added} added."
        )
    for session_id, words in [*result.unknown_sessions.items()][:10]:
        said = f" It says: {words}" if OTHER_MODE in words else ""
        echo_status(f"Stripe does not know the session {session_id}.{said}")
    if len(result.unknown_sessions) > 10:
        others = pluralize(len(result.unknown_sessions) - 10, "other")
        echo_status(f'… nor {others}: see `fincon sql "FROM rejects"`.')
    parts = [
        f"{pluralize(run['sessions_seen'], 'session')}, {pluralize(run['accounts_seen'], 'account')}",
        f"{pluralize(run['rows_added'], 'row')} added",
        pluralize(run["requests"], "request") + _trouble(run),
    ]
    if result.resumed_pages:
        parts.append(f"{pluralize(result.resumed_pages, 'page')} kept from the interrupted run")
    for stream, refusal, count in result.set_aside:
        until = "till the next sync" if stream == "sessions" else "for a day or until they are refreshed"
        said = f"Stripe refused {name_set_aside(stream, count)} ({refusal}), set aside {until}"
        echo_status(f'{said}: see `fincon sql "FROM rejects"`.')
    if run["rejected"]:
        parts.append(f"{run['rejected']:,} rejected")
    if result.left_in_clear:
        echo_status(
            "What earlier runs brought says of people what it said: `fincon privacy --rewrite` makes it say what is chosen now."
        )
    many = len(result.runs)
    what = f"Run {run['run_id']}" if many == 1 else f"{many:,} Stripe accounts"
    echo_status(f"{what}: {', '.join(parts)}.")


def _trouble(run: dict[str, Any]) -> str:
    """Say how many of the requests met trouble; nothing where none did."""
    met = [
        f"{run[name]:,} {said}"
        for name, said in (("retries", "tried again"), ("throttled", "throttled"))
        if run[name]
    ]
    return f" ({', '.join(met)})" if met else ""


def _dry_run(settings: Settings, request: SyncRequest) -> None:
    foretold = dry_run(settings, request)
    for line in foretold.lines:
        click.echo(fitted(line, sys.stdout))
    if foretold.known_sessions:
        known = f"{pluralize(foretold.known_sessions, 'session')} known already"
        echo_status(f"{known} and need not be fetched again (--sessions-refetch {request.refetch}).")
    echo_status(f"Nothing was sent to {settings.api_base}.")
