"""Errands on a Dask cluster, mapped by Prefect's own task runner.

Workers write pages and staged parts into the shared data folder; the tables are loaded by the flow's process, which
holds the lock. A Stripe account is fetched by one worker, where its limiter lives, so each keeps to Stripe's limits.
"""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from fincon.errors import RunFailed
from fincon.extract.client import RequestBudget
from fincon.lake.tables import Lake
from fincon.landing.run_folder import prepare, would_ask_as
from fincon.pipeline.extract_step import ExtractJob, ExtractResult, fetch_here
from fincon.pipeline.request import NoProgress, Progress, StepRunner, call_directly
from fincon.settings import Settings, load_settings
from fincon.storage.data_folder import DataFolder

LOTS = 12
"""Task runs at most: each has many Stripe accounts, for a task run costs the server more than a small account does."""


def fetch_on_workers(
    settings: Settings,
    lake: Lake,
    jobs: Sequence[ExtractJob],
    budget: RequestBudget,
    step: StepRunner,
    progress: Progress,
) -> list[ExtractResult]:
    """Every errand, dealt out in lots of many; within a flow run whose task runner is Dask's.

    Raises:
        Exception: what a worker failed with, once all of them have ended: they write under this process's lock.
    """
    told = progress.stage("Stripe accounts", len(jobs))
    lots = [list(jobs[first::LOTS]) for first in range(min(LOTS, len(jobs)))]
    fetch = task(name="fetch", cache_policy=NO_CACHE, persist_result=False)(fetch_lot)
    share = budget.share(len(lots))
    futures = [fetch.submit(lot, str(settings.data), share, return_state=False) for lot in lots]
    for future in futures:
        future.wait()
    results = []
    for lot, future in zip(lots, futures, strict=True):
        results += future.result()
        told(len(lot))
    return results


def fetch_lot(jobs: list[ExtractJob], data: str, max_requests: int | None) -> list[ExtractResult]:
    """Errands on a worker, with the key from its own environment. It ends when the sync that sent them has.

    Raises:
        UsageError, RunFailed: the worker's environment is not that of the sync.
    """
    settings = load_settings(data=data)
    prepare(settings.data)
    if not jobs[0].folder.exists():
        raise RunFailed(
            f"A worker does not see {jobs[0].folder}.",
            "The data folder must be the same one, under the same path, on all workers.",
        )
    if not would_ask_as(jobs[0].run, settings):
        raise RunFailed(
            "A worker would not ask Stripe as the sync does.",
            "Set STRIPE_API_KEY, STRIPE_API_BASE and STRIPE_VERSION alike on all workers.",
        )
    budget = RequestBudget(max_requests, jobs[0].folder.exists)
    with Lake(DataFolder(settings.data).lake) as lake:
        return fetch_here(settings, lake, jobs, budget, call_directly, NoProgress())
