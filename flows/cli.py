"""The command line. It parses, calls, and shows; what takes long to import is imported by the command that uses it."""

import atexit
import json
import os
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.errors import FinconError, RunFailed, UsageError
from flows.settings import (
    STRIPE_ACCOUNT_ID,
    dask_scheduler,
    data_folder,
    load_settings,
    prefect_api_url,
    quiet_prefect,
)

if TYPE_CHECKING:
    import duckdb

    from flows.bucket import Folder
    from flows.settings import Settings
    from flows.sightings import Refetch
    from flows.steps import Order, Outcome
    from transforms.personal import Choice

INTERRUPTED = 130


class Choices:
    """The global options, as every command reads them."""

    def __init__(self) -> None:
        self.data: str | None = None
        self.quiet = False
        self.verbose = False


CHOICES = Choices()


def _global(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            setattr(CHOICES, name, value)

    return keep


def global_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--data``, ``--quiet`` and ``--verbose``, before or after the command's name."""
    for option in (
        click.option(
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=_global("verbose"),
            help="Show tracebacks.",
        ),
        click.option(
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_global("quiet"),
            help="Show results and errors alone.",
        ),
        click.option(
            "--data",
            type=click.Path(file_okay=False),
            expose_value=False,
            callback=_global("data"),
            help="The data folder, or s3://bucket/folder [FINCON_DATA, else ./data].",
        ),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fincon")
@global_options
def cli() -> None:
    """Stripe Financial Connections in Parquet and DuckDB.

    \b
    Begin with:  fincon demo      everything, on a sandbox: no key, no network
    Then:        export STRIPE_API_KEY=rk_…
                 fincon sync      every account
                 fincon sql "FROM balance_totals"
    """  # noqa: D301 - click takes the backspace for "leave these lines as they are"


def command(**settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of `cli` that also takes the global options behind its name."""

    def add(function: Callable[..., Any]) -> click.Command:
        made: click.Command = cli.command(**settings)(global_options(function))
        return made

    return add


wait_option = click.option(
    "--wait-seconds",
    type=click.FloatRange(min=0),
    default=0,
    metavar="N",
    help="While another run holds the data folder, wait so long at most.",
)


def say(line: str) -> None:
    """A line for the person, on standard error; none with ``--quiet``."""
    if not CHOICES.quiet:
        click.echo(line, err=True)


@command()
@click.option(
    "--accounts",
    type=click.IntRange(min=10),
    default=400,
    show_default=True,
    help="Accounts that the sandbox had in June 2026; it grows.",
)
def demo(accounts: int) -> None:
    """Sync a sandbox twice, a week apart, and show what can be asked."""
    from flows.steps import Order
    from flows.warehouse import connect
    from sandbox.server import running
    from sandbox.world import World

    data = data_folder(CHOICES.data, default="data/demo")
    if not isinstance(data, Path):
        raise UsageError(f"The demo is not for {data}.", "Name a folder of this machine with --data.")
    _start_afresh(data)
    now = datetime.now(UTC).replace(microsecond=0)
    world = World(clock=now - timedelta(days=7), accounts=accounts, sessions=accounts * 3 // 10)
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
            say(
                f"Syncing {len(ids)} sessions and {'what happened since' if later else 'every account'}"
                f" from {sandbox.url}, as they were {day}."
            )
            order = Order(ids, events=later, transactions=True, owners=True, pii="keep")  # nobody is real
            outcome = _run(settings, order)
            _tell(outcome)
            _fail_if_wrong(outcome, strict=False)
    (data / ".demo").touch()
    with connect(data) as connection:
        _show_demo(connection, data)


def _start_afresh(data: Path) -> None:
    """Remove the lake of an earlier demo; never anything else."""
    if (data / ".demo").exists() or data == Path("data/demo").absolute():
        shutil.rmtree(data, ignore_errors=True)
    elif (data / "lake").exists():
        raise UsageError(
            f"{data} holds a lake that is not the demo's.", "Name another folder for the demo with --data."
        )


def _show_demo(connection: "duckdb.DuckDBPyConnection", data: Path) -> None:
    from flows import show

    where = ("" if shutil.which("fincon") else _short(Path(sys.executable).parent) + "/") + "fincon"
    where += "" if data == data_folder() else f" --data {shlex.quote(_short(data))}"
    click.echo()
    for title, query in show.DEMO:
        click.echo(title)
        click.echo(show.table(connection.execute(query)))
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


def details_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--transactions`` and ``--owners``: what else accounts tell."""
    for option in (
        click.option(
            "--owners",
            is_flag=True,
            help="Read the owners of accounts whose ownership was refreshed as well.",
        ),
        click.option(
            "--transactions",
            is_flag=True,
            help="Read the transactions of accounts whose transactions were refreshed as well.",
        ),
    ):
        function = option(function)
    return function


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What every command that fetches takes."""
    for option in (
        click.option(
            "--pii",
            type=click.Choice(["keep", "hash", "drop"]),
            help="Names, email and postal addresses, phone numbers, last digits [as before; hash with owners; else keep].",
        ),
        click.option(
            "--max-requests",
            type=click.IntRange(min=1),
            help="Stop after this many requests; the next run goes on.",
        ),
        click.option("--strict", is_flag=True, help="Fail if an object was rejected."),
        wait_option,
    ):
        function = option(function)
    return function


@command()
@click.option(
    "--sessions",
    metavar="FILE",
    help="Session ids: one a line, or CSV, Parquet or JSON with a column session_id or id; - = standard input.",
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
def sync(
    sessions: str | None,
    stripe_account: tuple[str, ...],
    accounts_file: str | None,
    *,
    connected: bool,
    accounts: bool,
    dry_run: bool,
    strict: bool,
    restart: bool,
    events: bool,
    refetch: "Refetch",
    max_requests: int | None,
    wait_seconds: float,
    transactions: bool,
    owners: bool,
    pii: "Choice | None",
) -> None:
    """Fetch sessions and accounts, add what changed to the lake, publish the views."""
    from flows.id_files import SessionIds, read_session_ids, read_stripe_accounts
    from flows.steps import Order

    if not any((sessions, accounts, events, transactions, owners)):
        raise UsageError(
            "There is nothing to fetch.",
            "Name a file of session ids with --sessions, or leave out --no-accounts.",
        )
    if sessions == accounts_file == "-":
        raise UsageError("Standard input can be read but once.", "Name a file for one of them.")
    for one in stripe_account:
        if not STRIPE_ACCOUNT_ID.fullmatch(one):
            raise UsageError(f"{one!r} is not a Stripe account.", "It looks like acct_….")
    ids = read_session_ids(sessions) if sessions else SessionIds()
    named = (*stripe_account, *(read_stripe_accounts(accounts_file) if accounts_file else ()))
    settings = load_settings(data=CHOICES.data)
    order = Order(
        ids.plain,
        accounts,
        events,
        refetch,
        restart,
        max_requests,
        named,
        connected,
        ids.of,
        transactions,
        owners,
        pii,
    )
    if dry_run:
        _dry_run(settings, order)
        return
    outcome = _run(settings, order, wait_seconds)
    _tell(outcome)
    _fail_if_wrong(outcome, strict=strict)


@command()
@details_options
@run_options
def events(**asked: Any) -> None:
    """Read what changed since the last run: one request in a quiet minute. The same as sync --events."""
    _run_events(**asked)


@command()
@run_options
def transactions(**asked: Any) -> None:
    """Read what changed, and new transactions. The same as sync --events --transactions."""
    _run_events(transactions=True, **asked)


@command()
@run_options
def owners(**asked: Any) -> None:
    """Read what changed, and new owners. The same as sync --events --owners."""
    _run_events(owners=True, **asked)


def _run_events(*, strict: bool, wait_seconds: float, **asked: Any) -> None:
    from flows.steps import Order

    outcome = _run(load_settings(data=CHOICES.data), Order(events=True, **asked), wait_seconds)
    _tell(outcome)
    _fail_if_wrong(outcome, strict=strict)


def _run(settings: "Settings", order: "Order", wait_seconds: float = 0) -> "Outcome":
    """One run, with what shows its progress: a bar on a terminal, log lines elsewhere; seen by Prefect if it is there."""
    from flows import show
    from flows.runs import when_free
    from flows.steps import run_sync

    if dask_scheduler() and not prefect_api_url():
        raise UsageError(
            "FINCON_DASK is set, but PREFECT_API_URL is not: it is a flow run that maps its tasks over Dask.",
            "Set PREFECT_API_URL, or unset FINCON_DASK.",
        )
    with show.progress(quiet=CHOICES.quiet) as progress:
        if not prefect_api_url():
            return when_free(lambda: run_sync(settings, order, progress=progress), wait_seconds)
        return _run_as_flow(settings, order, progress, wait_seconds)


def _run_as_flow(settings: "Settings", order: "Order", progress: Any, wait_seconds: float) -> "Outcome":
    quiet_prefect()
    from flows.sync import sync_as_flow

    return sync_as_flow(order, settings.data, progress, wait_seconds)


def _tell(outcome: "Outcome") -> None:
    """What a run did, on standard error, and sessions that Stripe does not know."""
    run = outcome.run
    for session_id in outcome.unknown_sessions[:10]:
        say(f"Stripe does not know the session {session_id}.")
    if len(outcome.unknown_sessions) > 10:
        say(f'… nor {len(outcome.unknown_sessions) - 10} others: see `fincon sql "FROM rejects"`.')
    parts = [
        f"{_many(run['sessions_seen'], 'session')}, {_many(run['accounts_seen'], 'account')}",
        f"{_many(run['rows_added'], 'row')} added",
        _many(run["requests"], "request"),
    ]
    if outcome.resumed_pages:
        parts.append(f"{_many(outcome.resumed_pages, 'page')} kept from the interrupted run")
    if run["rejected"]:
        parts.append(f"{run['rejected']:,} rejected")
    many = len(outcome.runs)
    what = f"Run {run['run_id']}" if many == 1 else f"{many:,} Stripe accounts"
    say(f"{what}: {', '.join(parts)}.")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _fail_if_wrong(outcome: "Outcome", *, strict: bool) -> None:
    from flows.steps import raise_if_wrong

    raise_if_wrong(outcome, strict=strict)


def _dry_run(settings: "Settings", order: "Order") -> None:
    from flows import fetch, sightings
    from flows.connected import PATH
    from flows.lake import Lake
    from flows.stripe_api import PREFIX
    from flows.warehouse import count_accounts

    known = count_accounts(settings.data)
    with Lake(settings.data / "lake") as lake:
        settled = sightings.not_to_fetch(lake, order.refetch) if known else set()
    if order.connected:
        click.echo(f"GET {PATH}?limit=100, until the last page; then for each connected account what follows")
    asked = order.for_each(settings.stripe_account, sorted(filter(None, known)) if order.connected else ())
    for account, own in asked.items():
        as_whom = f" as {account}" if account else ""
        ids = [session_id for session_id in own.session_ids if (account, session_id) not in settled]
        for session_id in ids:
            click.echo(f"GET {fetch.first_request(session_id)}{as_whom}")
        if ids:
            click.echo(
                f"GET {PREFIX}/accounts?session=…&limit=100{as_whom}, for each session with more accounts than its page holds"
            )
        if own.events:
            click.echo(
                f"GET /v1/events?…&limit=100{as_whom}, until the last page: what changed since the last run"
            )
        elif own.accounts:
            count = known.get(account, 0)
            pages = (
                f"about {-(-count // fetch.PAGE_SIZE):,} times: {count:,} accounts are known"
                if count
                else "until the last page"
            )
            click.echo(f"GET {PREFIX}/accounts?limit=100{as_whom}, {pages}")
        if own.transactions:
            click.echo(
                f"GET {PREFIX}/transactions?account=…{as_whom}, for each account whose transactions were refreshed since"
            )
        if own.owners:
            click.echo(
                f"GET {PREFIX}/accounts/…/owners?ownership=…{as_whom}, for each account whose owners were refreshed since"
            )
        if left := len(own.session_ids) - len(ids):
            say(
                f"{left:,} sessions are known and need not be fetched again (--sessions-refetch {order.refetch})."
            )
    say(f"Nothing was sent to {settings.api_base}.")


@command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option(
    "--runs", type=click.IntRange(min=1), default=5, show_default=True, help="How many of the last runs."
)
def status(*, as_json: bool, runs: int) -> None:
    """Last runs, how fresh each table is, what was rejected."""
    from flows import show
    from flows.warehouse import connect, summary

    with connect(CHOICES.data) as connection:
        found = summary(connection, runs)
        if as_json:
            click.echo(json.dumps(found, indent=2, default=str))
        else:
            click.echo(show.status(found))


@command()
@click.argument("query")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of standard output.",
)
def sql(query: str, style: str, output: Path | None) -> None:
    """Ask the views: fincon sql "SELECT * FROM balance_totals". Read-only."""
    from flows import show
    from flows.warehouse import ask

    if style == "parquet" and output is None and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal.", "Name a file with --output.")
    with ask(query, CHOICES.data) as connection:
        show.write(connection, query, style, output)


@command()
@click.argument("table", required=False)
@click.option("--format", "style", type=click.Choice(["text", "markdown"]), default="text", show_default=True)
def schema(table: str | None, style: str) -> None:
    """What each view, column and macro means: all of them, or TABLE column by column. Needs no lake."""
    from flows import dictionary

    if table and style == "markdown":
        raise UsageError("Markdown is for the whole dictionary.", "Leave out the table, or --format.")
    with dictionary.empty_views() as connection:
        if style == "markdown":
            click.echo(dictionary.as_markdown(connection), nl=False)
        else:
            click.echo(dictionary.as_text(connection, table))


@command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="Where to write it.",
)
def report(output: Path) -> None:
    """Write key tables and plots as one HTML page, to be opened in any browser."""
    from flows.warehouse import connect

    try:
        from flows.report import page
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The report's plots need the package {error.name}.", "pip install 'fincon[notebooks]'"
        ) from error
    with connect(CHOICES.data) as connection:
        written = page(connection)
    try:
        output.write_text(written, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written: {error.strerror}.", "Name another file with --output."
        ) from error
    click.echo(output)


@command()
def check() -> None:
    """Run every check; a row that a check finds is a failure."""
    from flows import show
    from flows.steps import PAGES_AGREE, pages_disagree
    from flows.warehouse import checks, connect

    failed = 0
    with connect(CHOICES.data) as connection:
        for name, promise, query in checks():
            found = len(connection.execute(query).fetchall())
            click.echo(f"{'FAIL' if found else 'ok':4}  {name}: {promise}")
            if found:
                failed += 1
                click.echo(show.table(connection.execute(query), limit=10))
    wrong = pages_disagree(data_folder(CHOICES.data))
    if wrong is None:
        click.echo(
            "--    pages_agree: The raw pages of the last run are pruned, or on another machine: there is nothing to compare."
        )
    else:
        click.echo(f"{'FAIL' if wrong else 'ok':4}  pages_agree: {PAGES_AGREE}")
        failed += bool(wrong)
        for row in wrong[:10]:
            click.echo("  " + "  ".join(map(str, row)))
    if failed:
        raise RunFailed(
            f"{failed} checks failed.",
            "The rows above say where; no number that rests on them can be trusted.",
        )


@command()
@click.option("--account", metavar="ID", help="An account, fca_…")
@click.option("--customer", metavar="ID", help="A customer, cus_…, with their accounts and sessions.")
@click.option("--session", metavar="ID", help="A session, fcsess_…")
@click.option("--allow", is_flag=True, help="Let a later sync bring it back; nothing is removed.")
def erase(account: str | None, customer: str | None, session: str | None, *, allow: bool) -> None:
    """Remove every trace of one account, customer or session, and say what was removed."""
    from flows import maintenance
    from flows.steps import machine_errors

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
        click.echo(f"{name}: {_many(count, 'file' if name == 'pages' else 'row')} removed")
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
    from flows import maintenance
    from flows.runs import when_free
    from flows.steps import machine_errors

    data = _existing(CHOICES.data)
    with machine_errors(data):
        done = when_free(lambda: maintenance.compact(data, retention_days, pages_days), wait_seconds)
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
    from flows import schedules as plan

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
    from flows.automations import NAME, set_up

    say(f"{NAME}: {'created' if set_up() else 'it was there, and is up to date'}.")


def _existing(given: str | None) -> "Folder":
    data = data_folder(given)
    there = (data / "lake").is_dir() if isinstance(data, Path) else (data / "fincon.duckdb").exists()
    if not there:
        raise UsageError(f"There is no lake in {data}.", "Name the folder with --data.")
    return data


@command()
@click.option("--port", default=8090, show_default=True, help="On loopback; 0 = any free one.")
@click.option("--seed", default=1, show_default=True, help="Another seed, another world.")
@click.option(
    "--accounts",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="In June 2026; 0.5 % more a day since.",
)
@click.option("--sessions", type=click.IntRange(min=0), default=300, show_default=True, help="Likewise.")
@click.option(
    "--connected",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Connected accounts, each with a world of its own as large.",
)
@click.option("--clock", metavar="TIME", help="The world's time, ISO 8601 [now].")
@click.option(
    "--session-ids",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the ids of its sessions to this file.",
)
def sandbox(
    port: int,
    seed: int,
    accounts: int,
    sessions: int,
    connected: int,
    clock: str | None,
    session_ids: Path | None,
) -> None:
    """Serve a Stripe Financial Connections API on this machine."""
    from sandbox.server import serve
    from sandbox.world import World

    world = World(seed, _time(clock), accounts, sessions, connected)
    if session_ids:
        session_ids.write_text("\n".join(world.session_ids()) + "\n", encoding="utf-8")

    def ready(url: str) -> None:
        click.echo(f"STRIPE_API_BASE={url} STRIPE_API_KEY=sk_test_sandbox fincon sync")
        say(
            f"{world.account_count:,} accounts, {world.session_count:,} sessions at "
            f"{world.clock:%Y-%m-%d %H:%M} UTC. Ctrl-C ends it."
        )
        sys.stdout.flush()

    try:
        serve(world, port=port, on_ready=ready)
    except OSError as error:
        raise UsageError(
            f"Port {port} cannot be used: {error.strerror}.",
            "Name another with --port; 0 takes any free one.",
        ) from error


def _time(text: str | None) -> datetime:
    try:
        at = datetime.fromisoformat(text) if text else datetime.now(UTC).replace(microsecond=0)
    except ValueError as error:
        raise UsageError(f"--clock {text!r} is not a time.", "Write it like 2026-06-01T12:00.") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Errors in two lines and the exit code of the contract; a traceback only with ``--verbose``."""
    try:
        yield
    except click.exceptions.Exit as end:
        _leave(end.exit_code)
    except click.Abort:
        _interrupted()
    except KeyboardInterrupt:
        _interrupted()
    except click.ClickException as error:
        error.show()
        _leave(error.exit_code)
    except FinconError as error:
        if CHOICES.verbose:
            traceback.print_exc()
        click.echo(f"fincon: {error}" + (f"\n        {error.hint}" if error.hint else ""), err=True)
        _leave(error.exit_code)
    except SystemExit:
        _leave(0)  # click's answer to a closed pipe: whoever read had enough
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(0)
    except Exception as error:  # noqa: BLE001 - the last resort: a person sees two lines, not a traceback
        if _is_of_an_interrupt(error):
            _interrupted()
        if CHOICES.verbose:
            traceback.print_exc()
        click.echo(
            f"fincon: {type(error).__name__}: {error}\n        This is a bug or a machine in trouble; --verbose shows where.",
            err=True,
        )
        _leave(1)


def _is_of_an_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C led to it: within a wait for a lock Python may raise another error in its place."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _interrupted() -> None:
    click.echo(
        "fincon: interrupted. What was fetched is kept: run the same command again to go on.", err=True
    )
    _leave(INTERRUPTED)


def _leave(code: int) -> None:
    """End now: a thread that still waits for Stripe must not hold the terminal, and nothing is left half written."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    if code == 0 and "prefect" in sys.modules:
        # Prefect sends what is left of its logs at exit, and its threads then keep DuckDB's module alive,
        # which complains of leaks on standard error: let it send, and end without the complaint.
        atexit._run_exitfuncs()
    os._exit(code)


def main() -> None:
    """``fincon``."""
    with _plain_errors():
        cli.main(standalone_mode=False)
        _leave(0)


if __name__ == "__main__":
    main()
