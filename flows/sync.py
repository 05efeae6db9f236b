"""The Prefect flow: `flows.steps.run_sync` with each step a task, and nothing else.

Parameters hold no secret: the key comes from the environment of the process that runs the flow.
"""

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from flows.settings import dask_scheduler, load_settings, quiet_prefect

quiet_prefect()

from prefect import flow, get_run_logger, task  # noqa: E402 - after quiet_prefect, which must come first
from prefect.cache_policies import NO_CACHE  # noqa: E402

from flows.cluster import fetch_on_workers, task_runner  # noqa: E402
from flows.id_files import SessionIds, read_session_ids, read_stripe_accounts  # noqa: E402
from flows.sightings import Refetch  # noqa: E402
from flows.steps import Order, Outcome, Progress, raise_if_wrong, run_sync  # noqa: E402

P = ParamSpec("P")
R = TypeVar("R")


def as_task(name: str, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The step as a task run. It is never cached and its result never stored: the pages are the checkpoint."""
    as_run = task(name=name, cache_policy=NO_CACHE, persist_result=False)
    return as_run(do)(*args, **kwargs)


@flow(name="sync", persist_result=False, validate_parameters=True, task_runner=task_runner())
def sync(
    sessions: str | None = None,
    accounts: bool = True,
    strict: bool = False,
    restart: bool = False,
    events: bool = False,
    sessions_refetch: Refetch = "open",
    max_requests: int | None = None,
    stripe_account: list[str] | None = None,
    stripe_accounts: str | None = None,
    connected: bool = False,
    data: str | None = None,
) -> dict[str, Any]:
    """Stripe Financial Connections → lake → views. Returns the run's row of ``runs``.

    The parameters are the options of ``fincon sync``; ``sessions`` and ``stripe_accounts`` name files, ``data``
    the data folder.
    """
    ids = read_session_ids(sessions) if sessions else SessionIds()
    listed = read_stripe_accounts(stripe_accounts) if stripe_accounts else ()
    order = Order(
        ids.plain,
        accounts,
        events,
        sessions_refetch,
        restart,
        max_requests,
        (*(stripe_account or ()), *listed),
        connected,
        ids.of,
    )
    outcome = sync_as_tasks(order, Path(data) if data else None)
    raise_if_wrong(outcome, strict=strict)
    return {name: value for name, value in outcome.run.items() if value is not None}


def sync_as_flow(order: Order, data: Path, progress: Progress | None = None) -> Outcome:
    """The flow run of ``fincon sync``. Of what it is asked for, Prefect is told the mode and how many sessions."""
    outcomes: list[Outcome] = []
    _HANDED.set((order, data, progress, outcomes))
    _sync_from_command_line(order.mode, len(order.session_ids))
    return outcomes[0]


_HANDED: ContextVar[tuple[Order, Path, Progress | None, list[Outcome]]] = ContextVar("handed")
"""What a command hands to its flow beside the parameters, which Prefect stores."""


@flow(name="sync", persist_result=False, task_runner=task_runner())
def _sync_from_command_line(mode: str, session_count: int) -> None:
    _sync_handed()


def _sync_handed() -> None:
    """Apart from the flow, which a task runner may send elsewhere with all that it refers to itself."""
    order, data, progress, outcomes = _HANDED.get()
    outcomes.append(sync_as_tasks(order, data, progress))


def sync_as_tasks(order: Order, data: Path | None, progress: Progress | None = None) -> Outcome:
    """`run_sync` under Prefect, within a flow run; the run's figures go to its log."""
    fetch_errands = fetch_on_workers if dask_scheduler() else None
    outcome = run_sync(load_settings(data=data), order, as_task, progress, fetch_errands)
    log = get_run_logger()
    log.info(
        "run %(run_id)s: %(requests)d requests, %(rows_added)d rows added, %(rejected)d rejected", outcome.run
    )
    if outcome.unknown_sessions:
        log.info(
            "Stripe does not know %d of the sessions: the view rejects names them",
            len(outcome.unknown_sessions),
        )
    return outcome
