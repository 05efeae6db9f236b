"""Extract on a Dask cluster: jobs dealt out to workers by Prefect's own task runner.

Workers write pages and staged parts into the shared data folder; the tables are loaded by the flow's process, which
holds the lock. A Stripe account is fetched by one worker, where its limiter lives, so each keeps to Stripe's limits.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from fincon.errors import RunFailed
from fincon.flows.flow_options import InThisProcess
from fincon.pipeline.context import Advance, SyncContext
from fincon.pipeline.extract_step import ExtractResult, extract_in_rounds, fetch_lot
from fincon.pipeline.plan import ExtractJob
from fincon.settings import dask_scheduler

WORKER_SECONDS = 30.0
"""How long a worker is waited for."""

P = ParamSpec("P")
R = TypeVar("R")

LOTS = 12
"""Task runs at most: each has many Stripe accounts, for a task run costs the server more than a small account does."""


def extract_on_workers(ctx: SyncContext, jobs: Sequence[ExtractJob]) -> list[ExtractResult]:
    """Do jobs on the workers of the flow run that this is called in, whose task runner is Dask's.

    Raises:
        Exception: what a worker failed with. Stopped: the sync was. RunFailed: there is no worker.
    """
    refuse_without_workers(dask_scheduler())

    def run_step(name: str, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = ctx.run_step(name, InThisProcess(do), *args, **kwargs)
        return result

    return extract_in_rounds(replace(ctx, run_step=run_step), jobs, partial(_fetch_lots, ctx))


def refuse_without_workers(address: str, seconds: float = WORKER_SECONDS) -> None:
    """Make sure that a scheduler has a worker, for whom it would else wait for ever.

    Raises:
        RunFailed: it has none after so many seconds, or does not answer.
    """
    from distributed import Client  # it comes with fincon[dask] alone

    try:
        client = Client(address, timeout=seconds)  # type: ignore[no-untyped-call]  # it ships no types
    except OSError as error:
        raise RunFailed(
            f"No Dask scheduler answers at {address} within {seconds:.0f} s.",
            "Start it (dask scheduler), mend FINCON_DASK, or unset it to fetch in this process.",
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=seconds)
        except TimeoutError as error:
            raise RunFailed(
                f"The Dask scheduler {address} has no worker after {seconds:.0f} s.",
                f"Start one (dask worker {address}), or unset FINCON_DASK to fetch in this process.",
            ) from error


def _fetch_lots(ctx: SyncContext, jobs: Sequence[ExtractJob], advance: Advance) -> list[ExtractResult]:
    lots = [list(jobs[first::LOTS]) for first in range(min(LOTS, len(jobs)))]
    fetch = task(name="fetch lot", cache_policy=NO_CACHE, persist_result=False)(fetch_lot)
    share = ctx.budget.share(len(lots))
    ctx.stop.tell(partial(shutil.rmtree, ctx.staging, ignore_errors=True))  # what workers go by
    futures = [fetch.submit(lot, str(ctx.data), ctx.staging, share, return_state=False) for lot in lots]
    for future in futures:  # even where one has failed: workers write under this process's lock
        future.wait()
    ctx.stop.check()
    results = []
    for lot, future in zip(lots, futures, strict=True):
        found = future.result()
        ctx.budget.spent_elsewhere(sum(result.counts["requests"] for result in found))
        advance(len(lot))
        results += found
    return results
