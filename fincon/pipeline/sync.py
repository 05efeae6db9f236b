"""A sync as plain functions, and the one composition of them. Prefect's flow and the command line both run it."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
from deltalake.exceptions import DeltaError

from fincon import privacy
from fincon.errors import AccountsFailed, BudgetExhausted, FinconError, RunFailed, UsageError, reason_of
from fincon.extract.client import RequestBudget, StripeClient
from fincon.extract.connected_accounts import connected_accounts
from fincon.lake.incremental import last_pii
from fincon.lake.snapshots import latest_files_by_table, renew_snapshots
from fincon.lake.staging import stage, staged_files
from fincon.lake.tables import QUERY_THREADS, SPILL, Lake
from fincon.lake.version_sql import read_parquet_sql, reconcile_sql, sql_literal
from fincon.landing.page_store import PageStore
from fincon.landing.run_folder import add_costs, begin, clean, pages_folder, prepare, writer_lock
from fincon.pipeline.extract_step import Fetch, fetch_here, plan_jobs
from fincon.pipeline.load_step import (
    already_satisfied,
    finish_interrupted,
    load,
    note_settled,
    staged_differences,
)
from fincon.pipeline.recovery import settle
from fincon.pipeline.request import NoProgress, call_directly
from fincon.pipeline.request import Progress as Progress
from fincon.pipeline.request import StepRunner as StepRunner
from fincon.pipeline.request import SyncRequest as SyncRequest
from fincon.pipeline.request import SyncResult as SyncResult
from fincon.settings import Settings, query_memory
from fincon.storage.data_folder import DataFolder
from fincon.storage.s3 import DataPath
from fincon.transforms.page import Origin
from fincon.transforms.reconcile import sums_of_pages
from fincon.transforms.schemas import BALANCES
from fincon.warehouse import checks, connection, views

FAILURES_SHOWN = 10
"""How many Stripe accounts that failed are told one by one."""


def run_sync(
    settings: Settings,
    request: SyncRequest,
    step: StepRunner = call_directly,
    progress: Progress | None = None,
    fetch_jobs: Fetch | None = None,
) -> SyncResult:
    """One run for each Stripe account: fetch what is missing on disk, load what changed; then publish and check once.

    Raises:
        StripeError, RunFailed: no Stripe account is in; what is on disk stays, and the next run goes on from there.
    """
    progress = progress or NoProgress()
    with machine_errors(settings.data):
        prepare(settings.data)
        with writer_lock(settings.data), Lake(DataFolder(settings.data).lake) as lake:
            clean(settings.data)
            settle(settings.data, lake)
            budget = RequestBudget(request.max_requests)
            with lake.staging() as folder:
                finished = finish_interrupted(settings, lake, step, progress, folder)
                requests, costs = resolve_stripe_accounts(settings, request, budget)
                pii = privacy.choose(request.pii, last_pii(lake), settings.pii_key, owners=request.owners)
                answers = already_satisfied(settings, lake, requests, pii, finished)
                jobs = plan_jobs(settings, lake, requests, pii, folder, answers)
                if jobs and costs:
                    begin(settings.data, jobs[0].run)
                    add_costs(settings.data, jobs[0].run, costs)
                results = (fetch_jobs or fetch_here)(settings, lake, jobs, budget, step, progress)
                rows, failures = load(settings, lake, results, step, progress, folder)
            failures |= {result.run.stripe_account: result.failure for result in results if result.failure}
            rows = [*answers.values(), *rows]
            if not rows:
                raise next(iter(failures.values())) if len(requests) == 1 else failed_accounts(failures)
            note_settled(settings, lake, [*(run for run, _ in finished), *(result.run for result in results)])
            told = progress.stage("views and checks", 2)
            step("publish", publish, settings.data, lake)
            lake.release_memory()
            told(1)
            failed = step("check", failed_checks, settings)
            told(1)
            page_stores = [PageStore(pages_folder(settings.data, row["run_id"])) for row in rows]
            unknown = tuple(
                session_id for page_store in page_stores for session_id in page_store.missing_sessions()
            )
            resumed = sum(result.resumed_pages for result in results) + sum(
                row["pages"] for row in answers.values()
            )
            return SyncResult(tuple(rows), unknown, failed, resumed, failures)


def resolve_stripe_accounts(
    settings: Settings, request: SyncRequest, budget: RequestBudget
) -> tuple[dict[str, SyncRequest], Counter[str]]:
    """Stripe account → what is asked of it; and what it cost to ask for the connected accounts.

    Raises:
        UsageError: there are none, or it is not clear to whom a session belongs.
    """
    if not request.connected:
        return request.for_each(settings.stripe_account), Counter()
    request.for_each(settings.stripe_account)  # raises before anything is sent
    stripe = StripeClient(replace(settings, stripe_account=""), budget)
    try:
        found = connected_accounts(stripe)
    finally:
        stripe.close()
    requests = request.for_each(settings.stripe_account, found)
    if not requests:
        raise UsageError("Stripe lists no connected account.", "Check that the key is of a Connect platform.")
    return requests, stripe.counts


def failed_accounts(failures: Mapping[str, FinconError]) -> FinconError:
    """What to tell of those of several Stripe accounts that are not in: each by its id, or that no request was left."""
    real = {account: e for account, e in failures.items() if not isinstance(e, BudgetExhausted)}
    if not real:
        return next(iter(failures.values()))
    lines = [
        f"{account or 'the own account of the key'}: {error}\n        {error.hint}"
        for account, error in list(real.items())[:FAILURES_SHOWN]
    ]
    more = len(real) - len(lines)
    return AccountsFailed(
        f"{_counted(len(real))} could not be fetched; what was fetched of them is kept.",
        "\n        ".join([*lines, *([f"… and {more:,} more."] if more else [])]),
    )


def _counted(count: int) -> str:
    return "1 Stripe account" if count == 1 else f"{count:,} Stripe accounts"


@contextmanager
def machine_errors(data: DataPath) -> Iterator[None]:
    """What the machine refuses (a full disk, a folder that cannot be written) as a `RunFailed` in two lines."""
    try:
        yield
    except (OSError, duckdb.Error, DeltaError) as error:
        reason = reason_of(error)
        mend = "Give it more with FINCON_MEMORY (megabytes)" if "Out of Memory" in reason else "Mend it"
        raise RunFailed(
            f"The run could not go on in {data}: {reason}",
            f"What was fetched is kept and the views still answer. {mend}, then run the same command again.",
        ) from error


PAGES_AGREE = (
    "Balances in the views add up to those on the raw pages of the last run, per currency and to the unit."
)
"""What `pages_disagree` checks, as the checks in ``sql/checks`` say theirs."""


def pages_disagree(data: DataPath) -> list[tuple[Any, ...]] | None:
    """Where the views differ from the raw pages of the last run, in sums per currency, to the unit.

    None where the pages are pruned, or on another machine. An account of which a later run knows something newer is left out.
    """
    with (
        connection.connect(data) as warehouse,
        Lake(DataFolder(data).lake) as lake,
        tempfile.TemporaryDirectory(prefix="fincon-") as scratch,
    ):
        folder = Path(scratch)
        last = warehouse.execute(
            "SELECT run_id, stripe_account FROM runs ORDER BY finished_at DESC"
        ).fetchone()
        if last is None or not pages_folder(data, last[0]).exists():
            return None
        page_store = PageStore(pages_folder(data, last[0]))
        origin = Origin(*last)
        stage(page_store.read(), origin, folder)
        parts = staged_files(folder, BALANCES, [origin])
        held = (
            warehouse.execute(reconcile_sql(read_parquet_sql(parts), "FROM balances")).fetchall()
            if parts
            else []
        )
        return [*staged_differences(lake, sums_of_pages(page_store.read_accounts()), folder, origin), *held]


def publish(data: DataPath, lake: Lake) -> None:
    """The views over the lake as it is now."""
    renew_snapshots(lake)
    views.publish(data, latest_files_by_table(lake))


def failed_checks(settings: Settings) -> dict[str, int]:
    """Check → how many rows it found wrong, for those that found any."""
    spill = sql_literal(str(DataFolder(settings.data).work / f"{SPILL}checks"))
    bounds = (
        f"SET threads = {QUERY_THREADS}; SET memory_limit = '{query_memory()}'; SET temp_directory = {spill}"
    )
    return {name: rows for name, _, rows in checks.run_checks(settings.data, bounds) if rows}


def raise_if_wrong(outcome: SyncResult, *, strict: bool) -> None:
    """Fail the run whose numbers cannot be trusted.

    Raises:
        RunFailed: a check failed, a Stripe account is not in; or, with ``strict``, an object was rejected.
        BudgetExhausted: a Stripe account is not in, for there was no request left.
    """
    if outcome.failed_checks:
        names = ", ".join(f"{name} ({rows} rows)" for name, rows in outcome.failed_checks.items())
        raise RunFailed(
            f"Run {outcome.run['run_id']}: checks failed: {names}.", "`fincon check` shows the rows."
        )
    if outcome.failures:
        raise failed_accounts(outcome.failures)
    if strict and outcome.run["rejected"]:
        raise RunFailed(
            f"Run {outcome.run['run_id']}: {outcome.run['rejected']} objects were rejected (--strict).",
            '`fincon sql "FROM rejects"` says which and why.',
        )
