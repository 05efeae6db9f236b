"""Extract with a task run for each Stripe account, so that Prefect's UI shows which of them failed, and why."""

from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from fincon.pipeline.context import Advance, SyncContext
from fincon.pipeline.extract_step import (
    ExtractResult,
    RunJob,
    extract_here,
    extract_in_rounds,
    fetch_together,
)
from fincon.pipeline.plan import ExtractJob

MOST_TASKS = 50
"""With more Stripe accounts than this they are one task run together: each costs the server some 40 ms."""


def extract_as_tasks(ctx: SyncContext, jobs: Sequence[ExtractJob]) -> list[ExtractResult]:
    """Do jobs in this process as `extract_here` does; of several, up to `MOST_TASKS`, each is a task run within the step."""
    if len(jobs) == 1 or len(jobs) > MOST_TASKS:
        return extract_here(ctx, jobs)

    def fetch_round(left: Sequence[ExtractJob], advance: Advance) -> list[ExtractResult]:
        return fetch_together(ctx, left, advance, _task_runner())

    return extract_in_rounds(ctx, jobs, fetch_round)


def _task_runner() -> RunJob:
    """Return what makes task runs of the task run that this is called in: Prefect knows it by context, which threads have not."""
    within = copy_context()

    def run_job(job: ExtractJob, fetch: Callable[[], ExtractResult]) -> ExtractResult:
        return within.copy().run(_as_task, job, fetch)

    return run_job


def _as_task(job: ExtractJob, fetch: Callable[[], ExtractResult]) -> ExtractResult:
    """Fetch in a task run that fails where the job did. The step that it is of tries again, and not the task run."""
    done: list[ExtractResult] = []

    def run() -> State[Any] | None:
        done.append(fetch())
        # A state, for an exception's traceback would tell nobody more.
        return Failed(message=str(done[0].failure)) if done[0].failure else None

    name = f"fetch {job.run.stripe_account}"
    as_run = task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(run)
    state: State[Any] = as_run(return_state=True)
    if not done:  # it raised what is no Stripe account's failure
        state.result()
    return done[0]
