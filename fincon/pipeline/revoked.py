"""Take note of Stripe accounts that revoked the platform's access: what is known of them is not listed any more.

Their refusal is an observation as the end of a listing is one. So it becomes a run of its own, whose one page is the refusal in
the place of the list; no other page of an interrupted run counts for it. Once it is known, it is noted no more.
"""

from collections.abc import Sequence

from fincon.errors import AccountDisconnected, Refusal
from fincon.extract.pagination import no_page, store_refusal
from fincon.lake import incremental
from fincon.lake.absence import knows_listed
from fincon.lake.page_times import newest_page_times
from fincon.landing.page_store import PageStore
from fincon.landing.run_folder import Run, RunFolder, resume_or_create_run
from fincon.pipeline.context import SyncContext
from fincon.pipeline.extract_step import ExtractResult
from fincon.pipeline.plan import run_spec
from fincon.transforms.schemas import ERASURES


def note_revoked(ctx: SyncContext, results: Sequence[ExtractResult]) -> list[ExtractResult]:
    """Return a run, ready to be loaded, for each Stripe account that now refuses access and has accounts known as listed."""
    revoked = [
        (result.run, result.failure.refusal)
        for result in results
        if isinstance(result.failure, AccountDisconnected) and result.failure.refusal
    ]
    return [
        ExtractResult(run=_noted(ctx, run, refusal))
        for run, refusal in revoked
        if knows_listed(ctx.lake, run.stripe_account)
    ]


def _noted(ctx: SyncContext, refused: Run, refusal: Refusal) -> Run:
    """Make the run that says so."""
    whose = refused.stripe_account
    finished = incremental.finished_runs(ctx.lake).get(whose, [])
    spec = run_spec(ctx.settings, whose, "accounts", refused.pii)
    run = resume_or_create_run(spec, [], finished, ctx.lake.last_sequence(ERASURES))
    folder = RunFolder.create(ctx.data, run)
    newest = newest_page_times(ctx.lake).get(whose, 0)
    store_refusal(PageStore(folder.path, newest=newest), refusal, no_page("accounts"))
    folder.mark_fetched({"requests": 1})
    return run
