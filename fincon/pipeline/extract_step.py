"""What is fetched of each Stripe account: planned under the lock, done here or on other machines, onto the same disk."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fincon import privacy
from fincon.erasures import Erased, known_erasures
from fincon.errors import FinconError, RequestsSpent, RunFailed, StripeError
from fincon.extract import accounts as listing
from fincon.extract import events
from fincon.extract import features as details
from fincon.extract import pagination as fetch
from fincon.extract.client import LOG, Allowance, Stripe
from fincon.extract.concurrency import GIVE_UP_AFTER, together
from fincon.lake import closed_sessions as sightings
from fincon.lake import incremental as past_runs
from fincon.lake.closed_sessions import Session
from fincon.lake.staging import Stager
from fincon.lake.tables import Lake
from fincon.landing.page_store import Spool
from fincon.landing.run_folder import (
    Run,
    add_costs,
    begin,
    mark_fetched,
    pages_folder,
    resumed_or_new,
    unfinished,
)
from fincon.pipeline.request import Order, Progress, Silent, Step, plainly
from fincon.settings import Settings
from fincon.transforms.page import Origin
from fincon.transforms.reconcile import Sums
from fincon.transforms.schemas import ERASURES
from fincon.transforms.stripe_objects import created_accounts

MANY_SESSIONS = 250
"""While more sessions than this are fetched, ten seconds' worth, the listing of accounts begins beside them."""


@dataclass(frozen=True)
class Errand:
    """What is to be fetched of one Stripe account. It holds no key, so it may go to another machine."""

    run: Run
    order: Order
    """With the ids of those sessions alone that are to be fetched."""
    since: int | None
    """Up to when (microseconds) all that happened to its accounts is known, if all are."""
    newest: int
    """The newest ``observed_at`` of any version (microseconds)."""
    folder: Path
    """Where its pages are staged."""


@dataclass(frozen=True)
class Report:
    """How an errand went: the pages staged already, those that an earlier attempt left, and why it is not whole."""

    run: Run
    staged: frozenset[tuple[int, int]] = frozenset()
    sums: Sums = field(default_factory=Counter)
    """What is on the staged pages."""
    resumed_pages: int = 0
    failure: FinconError | None = None


Fetch = Callable[[Settings, Lake, Sequence[Errand], Allowance, Step, Progress], list[Report]]
"""Where errands are done: `fetch_here`, or on other machines."""


def errands_for(
    settings: Settings,
    lake: Lake,
    orders: Mapping[str, Order],
    pii: str,
    folder: Path,
    answers: Collection[str],
) -> list[Errand]:
    """The run of each Stripe account that has no answer yet: one that was interrupted, or a new one.

    Whoever's last run is the longest ago comes first, so that with ``max_requests`` each gets its turn.
    """
    interrupted: dict[str, list[Run]] = {}
    for run in unfinished(settings.data, lake.run_ids()):
        interrupted.setdefault(run.stripe_account, []).append(run)
    last, until, newest = past_runs.last_runs(lake), past_runs.complete_until(lake), past_runs.newest(lake)
    known = known_sessions(lake, orders)
    errands = []
    for account, order in orders.items():
        if account not in answers:
            own = replace(settings, stripe_account=account)
            waiting = [] if order.restart else interrupted.get(account, [])
            run = resumed_or_new(own, order.mode, pii, waiting, last.get((account, order.mode), ""))
            ids = tuple(i for i in order.session_ids if (account, i) not in known)
            asked = replace(order, session_ids=ids)
            errands.append(Errand(run, asked, until.get(account), newest, folder))
    return sorted(errands, key=lambda errand: last.get((errand.run.stripe_account, errand.run.mode), ""))


def known_sessions(lake: Lake, orders: Mapping[str, Order]) -> Set[Session]:
    """The sessions, of whichever Stripe account, that the orders need not fetch again."""
    asking = next((order for order in orders.values() if order.session_ids), None)
    return sightings.not_to_fetch(lake, asking.refetch) if asking else set()


def fetch_here(
    settings: Settings,
    lake: Lake,
    errands: Sequence[Errand],
    allowance: Allowance,
    step: Step,
    progress: Progress,
) -> list[Report]:
    """Every errand, several at a time; in this process."""
    erased = known_erasures(settings.data, lake.records(ERASURES, "action", "identity_hash"))
    if len(errands) == 1:  # on this thread, with its stages seen: as steps, as progress, by Ctrl-C
        return [fetch_errand(settings, errands[0], lake, erased, allowance, step, progress)]
    if not errands:
        return []
    told = progress.stage("Stripe accounts", len(errands))

    def one(errand: Errand) -> Report:
        report = fetch_errand(settings, errand, lake, erased, allowance, plainly, Silent())
        told(1)
        return report

    return step("fetch", together, errands, one, lambda report: report.failure, not_asked, allowance.stop)


def not_asked(errand: Errand) -> Report:
    """Of an errand that was given up before it began."""
    reason = f"It was not asked: {GIVE_UP_AFTER} Stripe accounts had failed one after another."
    return Report(errand.run, failure=RunFailed(reason, "Run the same command again to go on."))


def fetch_errand(
    settings: Settings,
    errand: Errand,
    lake: Lake,
    erased: Erased,
    allowance: Allowance,
    step: Step,
    progress: Progress,
) -> Report:
    """One Stripe account's pages onto disk, and from there into staged parts."""
    run = errand.run
    begin(settings.data, run)
    chosen = privacy.of(run.pii, settings.pii_key)
    spool = Spool(pages_folder(settings.data, run.run_id), erased, errand.newest, chosen)
    resumed = spool.catch_up()
    LOG.info("run %s (%s): %d pages are on disk already", run.run_id, run.mode, resumed)
    stripe = Stripe(replace(settings, stripe_account=run.stripe_account), allowance)
    stager = Stager(Origin(run.run_id, run.stripe_account), errand.folder)
    spool.kept = stager.take
    try:
        fetch_all(settings, errand, lake, stripe, spool, step, progress)
    except (StripeError, RequestsSpent) as error:
        return Report(run, resumed_pages=resumed, failure=error)
    finally:
        stager.close()
    return Report(run, frozenset(stager.staged), stager.sums, resumed)


def fetch_all(
    settings: Settings,
    errand: Errand,
    lake: Lake,
    stripe: Stripe,
    spool: Spool,
    step: Step,
    progress: Progress,
) -> None:
    """Every page that the errand asks for and that is not on disk yet; then the mark that all are there."""
    order = errand.order
    try:
        # An earlier attempt may have asked for more: what it began is finished, for a half would pass for all.
        if session_ids := list(dict.fromkeys([*order.session_ids, *spool.parents()])):
            told = progress.stage("sessions", len(session_ids))
            beside = None
            if order.accounts and not order.events and len(session_ids) > MANY_SESSIONS:
                known = known_accounts(lake, spool, errand.run.stripe_account)
                beside = partial(listing.begin_accounts, stripe, spool, known)
            step("fetch sessions", fetch.fetch_sessions, stripe, spool, session_ids, told, beside)
        if order.accounts or order.events:
            fetch_accounts_or_events(errand, lake, stripe, spool, step, progress)
        if order.transactions or order.owners:
            fetch_details(errand, lake, stripe, spool, step, progress)
    finally:
        stripe.stop()
        stripe.close()
        costs = add_costs(settings.data, errand.run, stripe.counts)
        LOG.info(
            "run %s: %d requests, %d of them retries, the last with Request-Id %s",
            *(errand.run.run_id, stripe.counts["requests"], stripe.counts["retries"], stripe.last_request_id),
        )
    mark_fetched(settings.data, errand.run, {**costs, "requests": max(costs["requests"], spool.count())})


def fetch_accounts_or_events(
    errand: Errand, lake: Lake, stripe: Stripe, spool: Spool, step: Step, progress: Progress
) -> None:
    """The events since the last run that knew of every account, where they reach so far; else the listing."""
    if errand.order.events and not spool.parts():
        told = progress.stage("events", None)
        if step("fetch events", events.fetch_events, stripe, spool, errand.since, told):
            return
        progress.stage("no run within 29 days to go on from: listing every account", None)
    known = known_accounts(lake, spool, errand.run.stripe_account)
    told = progress.stage("accounts", None)
    step("fetch accounts", listing.fetch_accounts, stripe, spool, known, told)


def fetch_details(
    errand: Errand, lake: Lake, stripe: Stripe, spool: Spool, step: Step, progress: Progress
) -> None:
    """The transactions and the owners, as far as they are asked for, of the accounts that moved on."""
    order, origin = errand.order, Origin(errand.run.run_id, errand.run.stripe_account)
    seen = details.seen(spool, origin)
    asked: dict[details.Feature, bool] = {"transaction": order.transactions, "ownership": order.owners}
    for feature in (name for name, wanted in asked.items() if wanted):
        moved = details.due(lake, spool, origin, feature, seen)
        name = details.STREAMS[feature]
        told = progress.stage(f"{name} of accounts", len(moved))
        details.finish_begun(stripe, spool, name, {one.account_id for one in moved})
        step(f"fetch {name}", details.fetch_details, stripe, spool, moved, told)


def known_accounts(lake: Lake, spool: Spool, stripe_account: str) -> list[str]:
    """Ids of accounts a page apart in the listing's order, newest first: the lake's, or those the sessions gave."""
    known = past_runs.accounts_a_page_apart(lake, stripe_account, fetch.PAGE_SIZE)
    if known:
        return known
    found = {pair for page in spool.read_sessions() for pair in created_accounts(page.body)}
    return listing.spread([account_id for _, account_id in sorted(found, reverse=True)])
