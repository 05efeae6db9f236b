"""What is fetched of each Stripe account: planned under the lock, done here or on other machines, onto the same disk."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fincon import privacy
from fincon.erasures import Erased, known_erasures
from fincon.errors import BudgetExhausted, FinconError, RunFailed, StripeError
from fincon.extract import accounts as listing
from fincon.extract import events
from fincon.extract import features as details
from fincon.extract import pagination as fetch
from fincon.extract.client import LOG, RequestBudget, StripeClient
from fincon.extract.concurrency import MAX_CONSECUTIVE_FAILURES, run_all
from fincon.lake import closed_sessions as sightings
from fincon.lake import incremental as past_runs
from fincon.lake.closed_sessions import Session
from fincon.lake.staging import Stager
from fincon.lake.tables import Lake
from fincon.landing.page_store import PageStore
from fincon.landing.run_folder import (
    Run,
    add_costs,
    begin,
    mark_fetched,
    pages_folder,
    resume_or_create_run,
    unfinished,
)
from fincon.pipeline.request import NoProgress, Progress, StepRunner, SyncRequest, call_directly
from fincon.settings import Settings
from fincon.transforms.page import Origin
from fincon.transforms.reconcile import Sums
from fincon.transforms.schemas import ERASURES
from fincon.transforms.streams import Feature, stream_of
from fincon.transforms.stripe_objects import created_accounts

MANY_SESSIONS = 250
"""While more sessions than this are fetched, ten seconds' worth, the listing of accounts begins beside them."""


@dataclass(frozen=True)
class ExtractJob:
    """What is to be fetched of one Stripe account. It holds no key, so it may go to another machine."""

    run: Run
    request: SyncRequest
    """With the ids of those sessions alone that are to be fetched."""
    since: int | None
    """Up to when (microseconds) all that happened to its accounts is known, if all are."""
    newest: int
    """The newest ``observed_at`` of any version (microseconds)."""
    folder: Path
    """Where its pages are staged."""


@dataclass(frozen=True)
class ExtractResult:
    """How an errand went: the pages staged already, those that an earlier attempt left, and why it is not whole."""

    run: Run
    staged: frozenset[tuple[int, int]] = frozenset()
    sums: Sums = field(default_factory=Counter)
    """What is on the staged pages."""
    resumed_pages: int = 0
    failure: FinconError | None = None


Fetch = Callable[
    [Settings, Lake, Sequence[ExtractJob], RequestBudget, StepRunner, Progress], list[ExtractResult]
]
"""Where errands are done: `fetch_here`, or on other machines."""


def plan_jobs(
    settings: Settings,
    lake: Lake,
    requests: Mapping[str, SyncRequest],
    pii: str,
    folder: Path,
    answers: Collection[str],
) -> list[ExtractJob]:
    """The run of each Stripe account that has no answer yet: one that was interrupted, or a new one.

    Whoever's last run is the longest ago comes first, so that with ``max_requests`` each gets its turn.
    """
    interrupted: dict[str, list[Run]] = {}
    for run in unfinished(settings.data, lake.run_ids()):
        interrupted.setdefault(run.stripe_account, []).append(run)
    last, until, newest = past_runs.last_runs(lake), past_runs.complete_until(lake), past_runs.newest(lake)
    known = known_sessions(lake, requests)
    jobs = []
    for account, request in requests.items():
        if account not in answers:
            own = replace(settings, stripe_account=account)
            waiting = [] if request.restart else interrupted.get(account, [])
            run = resume_or_create_run(own, request.mode, pii, waiting, last.get((account, request.mode), ""))
            ids = tuple(i for i in request.session_ids if (account, i) not in known)
            asked = replace(request, session_ids=ids)
            jobs.append(ExtractJob(run, asked, until.get(account), newest, folder))
    return sorted(jobs, key=lambda job: last.get((job.run.stripe_account, job.run.mode), ""))


def known_sessions(lake: Lake, requests: Mapping[str, SyncRequest]) -> Set[Session]:
    """The sessions, of whichever Stripe account, that the orders need not fetch again."""
    asking = next((request for request in requests.values() if request.session_ids), None)
    return sightings.sessions_to_skip(lake, asking.refetch) if asking else set()


def fetch_here(
    settings: Settings,
    lake: Lake,
    jobs: Sequence[ExtractJob],
    budget: RequestBudget,
    step: StepRunner,
    progress: Progress,
) -> list[ExtractResult]:
    """Every errand, several at a time; in this process."""
    erased = known_erasures(settings.data, lake.records(ERASURES, "action", "identity_hash"))
    if len(jobs) == 1:  # on this thread, with its stages seen: as steps, as progress, by Ctrl-C
        return [fetch_job(settings, jobs[0], lake, erased, budget, step, progress)]
    if not jobs:
        return []
    told = progress.stage("Stripe accounts", len(jobs))

    def one(job: ExtractJob) -> ExtractResult:
        result = fetch_job(settings, job, lake, erased, budget, call_directly, NoProgress())
        told(1)
        return result

    return step("fetch", run_all, jobs, one, lambda result: result.failure, not_asked, budget.stop)


def not_asked(job: ExtractJob) -> ExtractResult:
    """Of an errand that was given up before it began."""
    reason = f"It was not asked: {MAX_CONSECUTIVE_FAILURES} Stripe accounts had failed one after another."
    return ExtractResult(job.run, failure=RunFailed(reason, "Run the same command again to go on."))


def fetch_job(
    settings: Settings,
    job: ExtractJob,
    lake: Lake,
    erased: Erased,
    budget: RequestBudget,
    step: StepRunner,
    progress: Progress,
) -> ExtractResult:
    """One Stripe account's pages onto disk, and from there into staged parts."""
    run = job.run
    begin(settings.data, run)
    chosen = privacy.of(run.pii, settings.pii_key)
    page_store = PageStore(pages_folder(settings.data, run.run_id), erased, job.newest, chosen)
    resumed = page_store.catch_up()
    LOG.info("run %s (%s): %d pages are on disk already", run.run_id, run.mode, resumed)
    stripe = StripeClient(replace(settings, stripe_account=run.stripe_account), budget)
    stager = Stager(Origin(run.run_id, run.stripe_account), job.folder)
    page_store.kept = stager.take
    try:
        fetch_all(settings, job, lake, stripe, page_store, step, progress)
    except (StripeError, BudgetExhausted) as error:
        return ExtractResult(run, resumed_pages=resumed, failure=error)
    finally:
        stager.close()
    return ExtractResult(run, frozenset(stager.staged), stager.sums, resumed)


def fetch_all(
    settings: Settings,
    job: ExtractJob,
    lake: Lake,
    stripe: StripeClient,
    page_store: PageStore,
    step: StepRunner,
    progress: Progress,
) -> None:
    """Every page that the errand asks for and that is not on disk yet; then the mark that all are there."""
    request = job.request
    try:
        # An earlier attempt may have asked for more: what it began is finished, for a half would pass for all.
        if session_ids := list(dict.fromkeys([*request.session_ids, *page_store.parents()])):
            told = progress.stage("sessions", len(session_ids))
            beside = None
            if request.accounts and not request.events and len(session_ids) > MANY_SESSIONS:
                known = known_accounts(lake, page_store, job.run.stripe_account)
                beside = partial(listing.begin_accounts, stripe, page_store, known)
            step("fetch sessions", fetch.fetch_sessions, stripe, page_store, session_ids, told, beside)
        if request.accounts or request.events:
            fetch_accounts_or_events(job, lake, stripe, page_store, step, progress)
        if request.transactions or request.owners:
            fetch_details(job, lake, stripe, page_store, step, progress)
    finally:
        stripe.stop()
        stripe.close()
        costs = add_costs(settings.data, job.run, stripe.counts)
        LOG.info(
            "run %s: %d requests, %d of them retries, the last with Request-Id %s",
            *(job.run.run_id, stripe.counts["requests"], stripe.counts["retries"], stripe.last_request_id),
        )
    mark_fetched(settings.data, job.run, {**costs, "requests": max(costs["requests"], page_store.count())})


def fetch_accounts_or_events(
    job: ExtractJob,
    lake: Lake,
    stripe: StripeClient,
    page_store: PageStore,
    step: StepRunner,
    progress: Progress,
) -> None:
    """The events since the last run that knew of every account, where they reach so far; else the listing."""
    if job.request.events and not page_store.parts():
        told = progress.stage("events", None)
        if step("fetch events", events.fetch_events, stripe, page_store, job.since, told):
            return
        progress.stage("no run within 29 days to go on from: listing every account", None)
    known = known_accounts(lake, page_store, job.run.stripe_account)
    told = progress.stage("accounts", None)
    step("fetch accounts", listing.fetch_accounts, stripe, page_store, known, told)


def fetch_details(
    job: ExtractJob,
    lake: Lake,
    stripe: StripeClient,
    page_store: PageStore,
    step: StepRunner,
    progress: Progress,
) -> None:
    """The transactions and the owners, as far as they are asked for, of the accounts that moved on."""
    request, whose = job.request, job.run.stripe_account
    seen = past_runs.read_refreshes(page_store.read_accounts(), Origin(job.run.run_id, whose))
    asked: dict[Feature, bool] = {"transaction": request.transactions, "ownership": request.owners}
    for feature in (name for name, wanted in asked.items() if wanted):
        moved = [
            due
            for due in past_runs.due_accounts(lake, whose, feature, seen, page_store.privacy.mark)
            if not page_store.erased.is_erased(due.account_id)
        ]
        name = stream_of(feature).name
        told = progress.stage(f"{name} of accounts", len(moved))
        details.finish_begun(stripe, page_store, name, {one.account_id for one in moved})
        step(f"fetch {name}", details.fetch_details, stripe, page_store, moved, told)


def known_accounts(lake: Lake, page_store: PageStore, stripe_account: str) -> list[str]:
    """Ids of accounts a page apart in the listing's order, newest first: the lake's, or those the sessions gave."""
    known = past_runs.accounts_a_page_apart(lake, stripe_account, fetch.PAGE_SIZE)
    if known:
        return known
    found = {pair for page in page_store.read_sessions() for pair in created_accounts(page.body)}
    return listing.spread([account_id for _, account_id in sorted(found, reverse=True)])
