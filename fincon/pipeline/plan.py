"""Plan a sync: which Stripe accounts are asked for what, and which runs do it."""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from fincon import privacy
from fincon.errors import UsageError
from fincon.extract import pagination
from fincon.extract.accounts import spread
from fincon.extract.client import StripeClient
from fincon.extract.connected_accounts import connected_accounts
from fincon.lake import incremental
from fincon.lake.incremental import Session, sessions_to_skip
from fincon.lake.page_times import newest_page_times
from fincon.lake.tables import Lake
from fincon.landing.page_store import PageStore
from fincon.landing.run_folder import Run, RunFolder, RunSpec, resume_or_create_run, unfinished_runs
from fincon.pipeline.context import SyncContext
from fincon.pipeline.request import SyncRequest
from fincon.settings import Settings
from fincon.transforms.list_page import created_accounts
from fincon.transforms.schemas import ERASURES


@dataclass(frozen=True, kw_only=True)
class ExtractJob:
    """Say what is to be fetched of one Stripe account. It holds no key, so it may go to another machine."""

    run: Run
    request: SyncRequest
    """With the ids of those sessions alone that are to be fetched."""
    since: int | None
    """Up to when (microseconds) all that happened to its accounts is known, if all are."""
    newest: int
    """The time of the newest page of this Stripe account that anything is known from (microseconds)."""


def plan_sync(ctx: SyncContext, request: SyncRequest) -> list[ExtractJob]:
    """Plan the jobs of a request.

    Raises:
        UsageError: no Stripe account is there to ask, or it is not clear to whom a session belongs.
    """
    requests, costs = resolve_stripe_accounts(ctx, request)
    pii = privacy.choose_policy(
        request.pii, incremental.last_pii(ctx.lake), ctx.settings.pii_key, owners=request.owners
    )
    jobs = plan_jobs(ctx, requests, pii)
    if costs:  # the list of connected accounts is told as a cost of the first run
        RunFolder.create(ctx.data, jobs[0].run).add_costs(costs)
    return jobs


def resolve_stripe_accounts(
    ctx: SyncContext, request: SyncRequest
) -> tuple[dict[str, SyncRequest], Counter[str]]:
    """Return Stripe account → what is asked of it; and what it cost to list the connected accounts.

    Raises:
        UsageError: there are none, nothing is asked of them, or it is not clear to whom a session belongs.
    """
    if not request.mode and not request.sessions_of:
        raise UsageError("There is nothing to fetch.", "Name sessions, or have the accounts listed.")
    own = ctx.settings.stripe_account
    requests = request.for_each(own)  # raises before anything is sent
    if not request.connected:
        return requests, Counter()
    stripe = StripeClient(replace(ctx.settings, stripe_account=""), ctx.budget, ctx.stop)
    try:
        requests = request.for_each(own, connected_accounts(stripe))
    finally:
        stripe.close()
    if not requests:
        raise UsageError("Stripe lists no connected account.", "Check that the key is of a Connect platform.")
    return requests, stripe.counts


def plan_jobs(ctx: SyncContext, requests: Mapping[str, SyncRequest], pii: str) -> list[ExtractJob]:
    """Choose the run of each Stripe account: one that was interrupted, or a new one.

    Whoever's last run is the longest ago comes first, so that with ``max_requests`` each gets its turn.
    """
    interrupted: dict[str, list[Run]] = {}
    for run in unfinished_runs(ctx.data, ctx.lake.run_ids()):
        interrupted.setdefault(run.stripe_account, []).append(run)
    last, until = incremental.last_runs(ctx.lake), incremental.complete_until(ctx.lake)
    newest, finished = newest_page_times(ctx.lake), incremental.finished_runs(ctx.lake)
    known = known_sessions(ctx.lake, requests)
    erased = ctx.lake.last_sequence(ERASURES)
    jobs = []
    for account, request in requests.items():
        waiting = [] if request.restart else interrupted.get(account, [])
        spec = run_spec(ctx.settings, account, request.mode, pii)
        run = resume_or_create_run(spec, waiting, finished.get(account, []), erased)
        ids = tuple(i for i in request.session_ids if (account, i) not in known)
        asked = replace(request, session_ids=ids)
        jobs.append(
            ExtractJob(run=run, request=asked, since=until.get(account), newest=newest.get(account, 0))
        )
    return sorted(jobs, key=lambda job: last.get((job.run.stripe_account, job.run.mode), ""))


def run_spec(settings: Settings, stripe_account: str, mode: str, pii: str) -> RunSpec:
    """Say what a run of a Stripe account is asked for, as it is noted beside its pages."""
    return RunSpec(
        mode=mode,
        api_base=settings.api_base,
        livemode=settings.livemode,
        stripe_account=stripe_account,
        stripe_version=settings.stripe_version,
        pii=pii,
    )


def known_sessions(lake: Lake, requests: Mapping[str, SyncRequest]) -> Set[Session]:
    """Return the sessions, of whichever Stripe account, that the requests need not fetch again."""
    asking = next((request for request in requests.values() if request.session_ids), None)
    return sessions_to_skip(lake, asking.refetch) if asking else set()


def known_accounts(lake: Lake, page_store: PageStore, stripe_account: str) -> list[str]:
    """Return ids of accounts a page apart, newest first, as Stripe lists them: the lake's, or those sessions gave."""
    known = incremental.accounts_a_page_apart(lake, stripe_account, pagination.PAGE_SIZE)
    if known:
        return known
    found = {pair for page in page_store.read_sessions() for pair in created_accounts(page.body)}
    return spread([account_id for _, account_id in sorted(found, reverse=True)])
