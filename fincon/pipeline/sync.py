"""Run a sync: recover → plan → extract → load → publish → check. Prefect's flow and the command line both run it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from fincon.errors import AccountDisconnected, FinconError
from fincon.extract.client import RequestBudget
from fincon.extract.stopping import StopSignal
from fincon.lake import digests
from fincon.lake.incremental import accounts_set_aside, last_pii
from fincon.lake.snapshots import latest_files_by_table, renew_snapshots
from fincon.lake.tables import QUERY_THREADS, Lake
from fincon.lake.upgrade import refuse_newer
from fincon.landing.attempts import forget
from fincon.landing.run_folder import RunFolder
from fincon.landing.spool import Spool
from fincon.pipeline.announce import announce, timed
from fincon.pipeline.attempts import OpenAttempt, publish_ended, record_ended, recorded
from fincon.pipeline.check import FEW_ROWS, SNAPSHOTS, failed_checks_of_sync
from fincon.pipeline.context import NoProgress, Progress, StepRunner, SyncContext, call_directly
from fincon.pipeline.extract_step import Extract, ExtractResult, extract_here
from fincon.pipeline.failures import failed_accounts, machine_errors
from fincon.pipeline.key_mode import refuse_other_mode
from fincon.pipeline.load_step import Loaded, load, load_interrupted, note_closed_sessions
from fincon.pipeline.plan import ExtractJob, plan_sync
from fincon.pipeline.recovery import recovered_lake
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.revoked import note_revoked
from fincon.pipeline.rewrite_privacy import is_stricter
from fincon.settings import Settings
from fincon.storage.data_folder import prepare
from fincon.storage.duckdbs_ahead import duckdbs_ahead
from fincon.storage.lock import retry_while_locked
from fincon.storage.s3 import DataPath
from fincon.transforms.accounts import FILLED
from fincon.transforms.schemas import ATTEMPTS, RUNS
from fincon.warehouse import views

FEW_PAGES = 100
"""What is on so few takes little memory, and little time: to start DuckDB is a good part of it."""


def run_sync(  # the last four are who runs it: by itself, a flow, many machines, and who may stop it
    settings: Settings,
    request: SyncRequest,
    run_step: StepRunner = call_directly,
    progress: Progress | None = None,
    extract: Extract = extract_here,
    stop: StopSignal | None = None,
) -> SyncResult:
    """Fetch what is missing on disk and load what changed, a run for each Stripe account; then publish and check once.

    Raises:
        UsageError: nothing can be asked so; nothing was sent.
        StripeError, RunFailed: no Stripe account is in; what is on disk stays, and the next run goes on from there.
        Stopped: ``stop`` said so; likewise.
        DataFolderLocked: another run holds the data folder, for longer than ``request`` waits.
    """
    data, stop = settings.data, stop or StopSignal()
    refuse_newer(data)  # of which nothing is touched
    prepare(data)
    seconds: dict[str, float] = {}

    def attempt_it() -> tuple[SyncResult, FinconError | None]:
        with recorded(data, request.mode or "sessions", settings.stripe_account) as attempt:
            result = retry_while_locked(lambda: sync_locked(attempt), request.wait_seconds)
            failure = result.failure(strict=request.strict)
            attempt.end(failure)
        if failure:
            publish_ended(data)
        return replace(result, seconds=seconds), failure

    def sync_locked(attempt: OpenAttempt) -> SyncResult:
        stop.check()
        with machine_errors(data), recovered_lake(data) as lake, lake.staging() as staging:
            ctx = SyncContext(
                settings=settings,
                lake=lake,
                staging=staging,
                budget=RequestBudget(request.max_requests, on_count=attempt.count),
                stop=stop,
                run_step=timed(run_step, seconds),
                progress=progress or NoProgress(),
            )
            # What else is asked for may bring nothing.
            filled = (*FILLED, RUNS, ATTEMPTS) if request.is_listing_alone and not request.features else ()
            with nullcontext() if lake.run_ids() else views.made_meanwhile(filled):
                return extract_and_load(ctx, request, extract, attempt)

    try:
        result, failure = attempt_it()
    except FinconError as error:
        announce(settings, None, error)
        raise
    announce(settings, result, failure)
    return result


def extract_and_load(
    ctx: SyncContext, request: SyncRequest, extract: Extract, attempt: OpenAttempt
) -> SyncResult:
    """Do a sync in a data folder that this process holds."""
    lake = ctx.lake
    refuse_other_mode(ctx.settings, lake)
    interrupted, failures = load_interrupted(ctx)  # they come first: what is fetched now must be newer
    if request.received:
        ctx = replace(ctx, waiting=Spool(ctx.data).by_account())
        request = replace(request, stripe_accounts=tuple(ctx.waiting), accounts=False)
    jobs = plan_sync(ctx, request)
    before, is_first = last_pii(lake), not lake.run_ids()
    results = extract(ctx, jobs)
    revoked = note_revoked(ctx, results)
    pages = sum(result.resumed_pages + result.counts["requests"] for result in results)
    with duckdbs_ahead(2 if pages <= FEW_PAGES else 0):  # one publishes, and one checks
        loaded = load(ctx, [*results, *revoked])

        failures |= {result.run.stripe_account: result.failure for result in results if result.failure}
        failures |= loaded.failures
        attempt.end_runs(results, failures)
        if not loaded.rows and not interrupted:
            raise failure_of(jobs, failures)
        note_closed_sessions(ctx, [*(run for run, _ in interrupted), *(result.run for result in results)])
        recorded_now = record_ended(ctx.data, lake)
        failed = publish_and_check(ctx)
    remove_received(ctx, results, loaded)
    forget(recorded_now)

    rows = [row for row in loaded.rows if row["run_id"] not in {result.run.run_id for result in revoked}]
    if not rows:  # what was fetched before is published all the same
        raise failure_of(jobs, failures)
    page_stores = [RunFolder(ctx.data, row["run_id"]).pages for row in rows]
    refused_sessions = Counter(refusal for store in page_stores for refusal in store.refused_sessions())
    return SyncResult(
        runs=tuple(rows),
        loaded_first=tuple(row for _, row in interrupted),
        unknown_sessions=dict(one for store in page_stores for one in store.missing_sessions()),
        set_aside=[
            *sorted(("sessions", refusal, count) for refusal, count in refused_sessions.items()),
            *accounts_set_aside(lake, [row["run_id"] for row in rows]),
        ],
        failed_checks=failed,
        resumed_pages=sum(result.resumed_pages for result in results),
        failures=failures,
        refused={result.run.stripe_account: result.refused for result in results if result.refused},
        left_in_clear=not is_first and any(row["pii"] and is_stricter(row["pii"], before) for row in rows),
    )


def remove_received(ctx: SyncContext, results: Sequence[ExtractResult], loaded: Loaded) -> None:
    """Remove the events from the spool that are loaded, once the views show them.

    So are those of a Stripe account that the key may not act for any more: should it again, the list has them.
    """
    in_lake = {row["run_id"] for row in loaded.rows}
    done: dict[Path, set[str]] = {}
    for result in results:
        received = result.received if result.run.run_id in in_lake else {}
        if isinstance(result.failure, AccountDisconnected):
            of_account = ctx.waiting.get(result.run.stripe_account, {})
            received = {path: {event_id for event_id, _ in events} for path, events in of_account.items()}
        for path, event_ids in received.items():
            done.setdefault(path, set()).update(event_ids)
    Spool(ctx.data).remove(done)


def failure_of(jobs: Sequence[ExtractJob], failures: Mapping[str, FinconError]) -> FinconError:
    """Return what a sync that brought nothing in ends with: of one Stripe account its own failure."""
    return failed_accounts(failures) if len(jobs) > 1 else list(failures.values())[-1]


def publish_and_check(ctx: SyncContext) -> dict[str, int]:
    """Publish the views over the lake as it is now; return check → how many rows it found wrong."""
    ctx.stop.check()
    advance = ctx.progress.stage("views and checks", 2)
    ctx.run_step("publish", publish, ctx.data, ctx.lake)
    # What is asked of few rows holds little, and to start DuckDB again takes as long as to ask it.
    if ctx.lake.threads() > 1:
        ctx.lake.release_memory()
    advance(1)
    latest = latest_files_by_table(ctx.lake)
    files = {name: of_table.all for name, of_table in latest.items()}
    files[SNAPSHOTS] = [file for of_table in latest.values() for file in of_table.snapshot]
    at_once = QUERY_THREADS if ctx.lake.has_at_most(FEW_ROWS) else 1
    failed = ctx.run_step("check", failed_checks_of_sync, ctx.data, files, at_once)
    advance(1)
    return failed


def publish(data: DataPath, lake: Lake) -> None:
    """Renew the snapshots that have grown old, and publish the views."""
    before = digests.state_of(lake)
    renew_snapshots(lake)
    digests.move(lake, before)
    views.publish(data, latest_files_by_table(lake))
