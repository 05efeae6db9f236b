"""Extract: fetch what was planned of each Stripe account onto disk; here, or on other machines with the same disk."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fincon import privacy
from fincon.errors import BudgetExhausted, FinconError, RetriesExhausted, RunFailed, StripeError
from fincon.extract import accounts as listing
from fincon.extract import events, features, inline_owners, sessions, webhooks
from fincon.extract.client import LOG, RequestBudget, StripeClient
from fincon.extract.concurrency import MAX_CONSECUTIVE_FAILURES, run_all
from fincon.lake import digests, incremental, sightings
from fincon.lake.append import is_unknown
from fincon.lake.staging import Stager
from fincon.lake.tables import Lake
from fincon.landing.page_store import PageStore
from fincon.landing.run_folder import REFUSED, Run, RunFolder
from fincon.pipeline.context import Advance, NoProgress, SyncContext, call_directly
from fincon.pipeline.plan import ExtractJob, known_accounts, run_spec
from fincon.settings import load_settings
from fincon.storage.data_folder import DataFolder, prepare
from fincon.transforms.reconcile import Sums
from fincon.transforms.schemas import ERASURES
from fincon.transforms.streams import stream_of
from fincon.transforms.webhooks import sort_webhooks
from fincon.transforms.wording import pluralize

MANY_SESSIONS = 250
"""While more sessions than this are fetched, ten seconds' worth, the listing of accounts begins beside them."""


@dataclass(frozen=True, kw_only=True)
class ExtractResult:
    """Say how a job went."""

    run: Run
    staged: frozenset[tuple[int, int]] = frozenset()
    """The pages of the listing, as (part, number), that are staged already."""
    sums: Sums = field(default_factory=Counter)
    """What is on the staged pages."""
    resumed_pages: int = 0
    """Pages that an earlier attempt had left on disk."""
    failure: FinconError | None = None
    """Why not all is fetched."""
    received: Mapping[Path, set[str]] = field(default_factory=dict)
    """File of the spool → the events in it that are loaded with the run, or known already."""
    refused: tuple[StripeError, ...] = ()
    """Why sessions, or the transactions or owners of accounts, are left out of what is; each stage apart."""
    asked: bool = True
    """Whether the job began at all."""
    counts: Counter[str] = field(default_factory=Counter)
    """What was asked of Stripe: as `StripeClient.counts`."""

    @property
    def may_pass(self) -> bool:
        """Tell whether another try may help: Stripe or the network were in trouble, and nothing else was wrong."""
        return isinstance(self.failure, RetriesExhausted) or not self.asked


Extract = Callable[[SyncContext, Sequence[ExtractJob]], list[ExtractResult]]
"""Do jobs: `extract_here`, or on other machines."""


def extract_here(ctx: SyncContext, jobs: Sequence[ExtractJob]) -> list[ExtractResult]:
    """Do jobs in this process, several at a time."""
    if len(jobs) == 1:  # on this thread, each of its stages a step of its own
        return [fetch_job(ctx, jobs[0], known_erased(ctx))]
    return extract_in_rounds(ctx, jobs, partial(fetch_together, ctx))


def extract_in_rounds(
    ctx: SyncContext,
    jobs: Sequence[ExtractJob],
    fetch_round: Callable[[Sequence[ExtractJob], Advance], list[ExtractResult]],
) -> list[ExtractResult]:
    """Do several jobs as one step that fails while Stripe left one unanswered, so that whoever runs it may try again.

    Another try does what is left alone. What still fails after the last one stands in the results.
    """
    results: dict[str, ExtractResult] = {}

    def fetch_what_is_left() -> None:
        left = [job for job in jobs if job.run.run_id not in results or results[job.run.run_id].may_pass]
        for result in fetch_round(left, ctx.progress.stage("Stripe accounts", len(left))):
            before = results.get(result.run.run_id)
            # what another try of this sync left on disk is no earlier run's
            kept = before.resumed_pages if before and before.asked else result.resumed_pages
            results[result.run.run_id] = replace(result, resumed_pages=kept)
        unanswered = sum(isinstance(result.failure, RetriesExhausted) for result in results.values())
        if unanswered:
            raise RetriesExhausted(
                f"Of {pluralize(len(jobs), 'Stripe account')} {unanswered:,} had no good answer."
            )

    with suppress(RetriesExhausted):  # each result says it of its own Stripe account
        ctx.run_step("fetch", fetch_what_is_left)
    return [results[job.run.run_id] for job in jobs]


RunJob = Callable[[ExtractJob, Callable[[], ExtractResult]], ExtractResult]
"""Call what fetches a job, on any thread: as it is, or as a task of its own."""


def fetch_together(
    ctx: SyncContext,
    jobs: Sequence[ExtractJob],
    advance: Advance,
    run_job: RunJob = lambda job, fetch: fetch(),
) -> list[ExtractResult]:
    """Do jobs on threads of this process, their failures apart."""
    erased = known_erased(ctx)
    quiet = replace(ctx, run_step=call_directly, progress=NoProgress())

    def fetch_one(job: ExtractJob) -> ExtractResult:
        result = run_job(job, lambda: fetch_job(quiet, job, erased))
        advance(1)
        return result

    return run_all(jobs, fetch_one, lambda result: result.failure, not_asked, ctx.stop.stop)


def fetch_lot(
    jobs: Sequence[ExtractJob], data: str, staging: Path, max_requests: int | None
) -> list[ExtractResult]:
    """Do jobs on another machine, with the key from its own environment. It ends when the sync that sent them has.

    Raises:
        UsageError, RunFailed: the environment here is not that of the sync.
    """
    settings = load_settings(data=data)
    prepare(settings.data)
    if not staging.exists():
        raise RunFailed(
            f"A worker does not see {staging}.",
            "The data folder must be the same one, under the same path, on all workers.",
        )
    if not jobs[0].run.asks_like(run_spec(settings, "", "", "")):
        raise RunFailed(
            "A worker would not ask Stripe as the sync does.",
            "Set STRIPE_API_KEY, STRIPE_API_BASE and STRIPE_VERSION alike on all workers.",
        )
    budget = RequestBudget(max_requests, staging.exists)
    with Lake(DataFolder(settings.data).lake) as lake:
        ctx = SyncContext(settings=settings, lake=lake, staging=staging, budget=budget)
        return fetch_together(ctx, jobs, lambda count: None)


def not_asked(job: ExtractJob) -> ExtractResult:
    """Return the result of a job that was given up before it began."""
    reason = f"It was not asked: {MAX_CONSECUTIVE_FAILURES} Stripe accounts had failed one after another."
    failure = RunFailed(reason, "Run the same command again to go on.")
    return ExtractResult(run=job.run, failure=failure, asked=False)


def known_erased(ctx: SyncContext) -> privacy.Erased:
    """Return who was erased, and must not be written again."""
    return privacy.known_erasures(ctx.data, ctx.lake.records(ERASURES, "action", "identity_hash"))


def fetch_job(ctx: SyncContext, job: ExtractJob, erased: privacy.Erased) -> ExtractResult:
    """Fetch one Stripe account's pages onto disk, and stage those of the listing as they come."""
    run = job.run
    folder = RunFolder.create(ctx.data, run)
    shutil.rmtree(ctx.staging / run.run_id, ignore_errors=True)  # an attempt that failed may have left parts
    policy = privacy.resolve_policy(run.pii, ctx.settings.pii_key)
    own = replace(ctx.settings, stripe_account=run.stripe_account)
    stripe = StripeClient(own, ctx.budget, ctx.stop)
    stripe.run_id = run.run_id
    resumed = 0

    def is_first() -> bool:
        # Asked by the stager, once it has a whole part: pages that are resumed are counted before it is given any.
        return not resumed and is_unknown(ctx.lake, run.origin)

    # In a bucket a load writes what it adds itself.
    is_local = isinstance(ctx.data, Path)
    may_be_first = is_local and job.request.is_listing_alone and job.since is None and not job.newest
    stager = Stager(run.origin, ctx.staging, is_first if may_be_first else None)
    page_store = PageStore(
        folder.path, erased=erased, privacy=policy, newest=job.newest, on_page_written=stager.take
    )
    failure: FinconError | None = None
    refused: dict[str, StripeError] = {}
    received: dict[Path, set[str]] = {}
    try:
        with folder.keep_costs() as stripe.on_count:
            resumed = page_store.catch_up()
            LOG.info(
                "run %s (%s): %s on disk already",
                *(run.run_id, run.mode, pluralize(resumed, "page is", "pages are")),
                extra={"run_id": run.run_id},
            )
            if page_store.keeps_all and not resumed and job.request.is_listing_alone:
                # What else shows accounts may show them as they were before, or after.
                page_store.find_unchanged = digests.find_unchanged(ctx.lake, run.origin)
            refused = fetch_all(ctx, job, stripe, page_store, received)
    except (StripeError, BudgetExhausted) as error:
        failure = error
    finally:
        if not stager.close():  # the load reads all pages anew, and says what is wrong with them
            LOG.info("run %s: its pages are staged once more", run.run_id, extra={"run_id": run.run_id})
            shutil.rmtree(ctx.staging / run.run_id, ignore_errors=True)
    return ExtractResult(
        run=run,
        staged=frozenset(stager.staged),
        sums=stager.sums,
        resumed_pages=resumed,
        failure=failure,
        counts=stripe.counts,
        received=received,
        refused=tuple(refused.values()),
    )


def fetch_all(
    ctx: SyncContext,
    job: ExtractJob,
    stripe: StripeClient,
    page_store: PageStore,
    received: dict[Path, set[str]],
) -> dict[str, StripeError]:
    """Fetch every page that the job asks for and that is not on disk yet; then mark that all are there.

    Returns stream → why what is left of it was not asked for: Stripe refused one session, or account, after another alike.
    ``received`` gets what `ExtractResult.received` says.
    """
    request = job.request
    refused: dict[str, StripeError] = {}
    try:
        # An earlier attempt may have asked for more: what it began is finished, for a half would pass for all.
        if session_ids := list(dict.fromkeys([*request.session_ids, *page_store.started_parents()])):
            with ending_alone("sessions", refused):
                fetch_sessions(ctx, job, stripe, page_store, session_ids)
        if request.received:
            received |= take_received(ctx, job, stripe, page_store)
        elif request.accounts or request.events:
            fetch_accounts_or_events(ctx, job, stripe, page_store)
        if request.features:
            fetch_features(ctx, job, stripe, page_store, refused)
    finally:
        stripe.stop()
        stripe.close()
        LOG.info(
            "run %s: %s, %d of them tried again, the last with Request-Id %s",
            *(
                job.run.run_id,
                pluralize(stripe.counts["requests"], "request"),
                stripe.counts["retries"],
                stripe.last_request_id,
            ),
            extra={"run_id": job.run.run_id},
        )
    folder = RunFolder(ctx.data, job.run.run_id)
    costs = folder.costs()
    counts = {**costs, "requests": max(costs["requests"], page_store.count_requests())}
    folder.mark_fetched(counts | {f"{REFUSED}{name}": 1 for name in refused})
    return refused


@contextmanager
def ending_alone(name: str, refused: dict[str, StripeError]) -> Iterator[None]:
    """Add the error of the stage ``name`` to those ``refused`` where it ends that stage and no other."""
    try:
        yield
    except StripeError as error:
        if not error.ends_stage_alone:
            raise
        LOG.info("%s %s", error, error.hint)
        refused[name] = error


def fetch_sessions(
    ctx: SyncContext, job: ExtractJob, stripe: StripeClient, page_store: PageStore, session_ids: list[str]
) -> None:
    """Fetch sessions; where they are many, the listing of accounts begins beside them."""
    beside = None
    if job.request.accounts and not job.request.events and len(session_ids) > MANY_SESSIONS:
        known = known_accounts(ctx.lake, page_store, job.run.stripe_account)
        beside = partial(listing.begin_accounts, stripe, page_store, known)
    advance = ctx.progress.stage("sessions", len(session_ids))
    ctx.run_step("fetch sessions", sessions.fetch_sessions, stripe, page_store, session_ids, advance, beside)


def fetch_accounts_or_events(
    ctx: SyncContext, job: ExtractJob, stripe: StripeClient, page_store: PageStore
) -> None:
    """Fetch the events since the last run that knew of every account, where they reach so far; else the listing."""
    if job.request.events and not page_store.parts():
        advance = ctx.progress.stage("events", None)
        times = sightings.event_times(ctx.lake, job.run.stripe_account)
        if ctx.run_step("fetch events", events.fetch_events, stripe, page_store, job.since, times, advance):
            ctx.run_step("fetch accounts", events.fetch_unreadable_accounts, stripe, page_store)
            return
        ctx.progress.stage("events do not go on from what is known: listing every account", None)
    known = known_accounts(ctx.lake, page_store, job.run.stripe_account)
    if job.since is None and len(known) < listing.FEW_KNOWN:
        known = []  # what sessions showed so far says little of the list
    advance = ctx.progress.stage("accounts", None)
    ctx.run_step("fetch accounts", listing.fetch_accounts, stripe, page_store, known, advance)


def take_received(
    ctx: SyncContext, job: ExtractJob, stripe: StripeClient, page_store: PageStore
) -> dict[Path, set[str]]:
    """Make pages of the events that Stripe sent, and fetch what they do not show; return file → events that are done.

    Where they do not tell in which order they were, or nothing is known yet that they could be placed in, the events since
    the last run are read as well, or the listing. What even those leave open waits for the next turn.
    """
    whose = job.run.stripe_account
    files = ctx.waiting.get(whose, {})
    events_sent = [one for of_file in files.values() for one in of_file]
    times: Mapping[int, Mapping[str, int]] = sightings.event_times(ctx.lake, whose)
    now = time.time_ns() // 1_000
    found = sort_webhooks(events_sent, times, job.since, now)
    # An earlier attempt may have begun with the list: what it began is finished.
    if found.undecided or page_store.parts() or page_store.parts("events"):
        fetch_accounts_or_events(
            ctx, replace(job, request=replace(job.request, events=True)), stripe, page_store
        )
        since = None if page_store.parts() else job.since
        found = sort_webhooks(events_sent, webhooks.with_listed(page_store, times), since, now)
        found.undecided.difference_update(webhooks.listed(page_store))
    ctx.run_step("take in webhooks", webhooks.store_webhooks, page_store, found.fresh, job.newest)
    ctx.run_step("fetch accounts", events.fetch_unreadable_accounts, stripe, page_store, found.accounts)
    return {path: {one for one, _ in of_file} - found.undecided for path, of_file in files.items()}


def fetch_features(
    ctx: SyncContext,
    job: ExtractJob,
    stripe: StripeClient,
    page_store: PageStore,
    refused: dict[str, StripeError],
) -> None:
    """Fetch the transactions and the owners, as far as they are asked for, of the accounts that were refreshed since.

    Why Stripe refused those of one account after another is added to ``refused``: all else is whole.
    """
    refreshes = incremental.read_refreshes(page_store.read_accounts(), job.run.origin)
    now = page_store.latest or time.time_ns() // 1_000
    for feature in job.request.features:
        asked = incremental.DueQuery(
            stripe_account=job.run.stripe_account,
            feature=feature,
            pii=page_store.privacy.policy_id,
            now=now,
        )
        due = incremental.due_accounts(ctx.lake, asked, refreshes)
        if page_store.erased.hashes:
            due = due.without(page_store.erased.is_erased)
        lists = features.FeatureJob(
            feature=feature, due=due, readable=incremental.readable_account(ctx.lake, asked, due)
        )
        name = stream_of(feature).name
        advance = ctx.progress.stage(f"{name} of accounts", len(due))
        fetch = inline_owners.fetch_owners if feature == "ownership" else features.fetch_features
        with ending_alone(name, refused):
            ctx.run_step(f"fetch {name}", fetch, stripe, page_store, lists, advance)
