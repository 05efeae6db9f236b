"""Run a sync under Prefect: its steps as task runs, its log, its artifacts, its key, and how it ends when it is not its turn."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from fincon.settings import Settings, dask_scheduler, data_folder, load_settings, quiet_prefect

quiet_prefect()

from prefect import get_run_logger, task  # noqa: E402 - after quiet_prefect, which must come first
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.states import Cancelled, Completed  # noqa: E402

from fincon.errors import (  # noqa: E402
    BudgetExhausted,
    DataFolderLocked,
    FinconError,
    RetriesExhausted,
    Stopped,
    UsageError,
)
from fincon.extract.stopping import StopSignal  # noqa: E402
from fincon.flows import artifacts  # noqa: E402
from fincon.flows.account_tasks import extract_as_tasks  # noqa: E402
from fincon.flows.assets import publishing  # noqa: E402
from fincon.flows.beside import wait_for_rest  # noqa: E402
from fincon.flows.blocks import DEFAULTS, KEY  # noqa: E402
from fincon.flows.cancelling import stopped_when_cancelled  # noqa: E402
from fincon.flows.dask_workers import extract_on_workers  # noqa: E402
from fincon.flows.flow_options import Patience  # noqa: E402
from fincon.lake.incremental import count_accounts  # noqa: E402
from fincon.lake.tables import Lake  # noqa: E402
from fincon.pipeline.attempts import recorded_if_refused  # noqa: E402
from fincon.pipeline.context import NoProgress, Progress, StepRunner  # noqa: E402
from fincon.pipeline.request import SyncRequest, SyncResult, name_set_aside  # noqa: E402
from fincon.pipeline.sync import publish, run_sync  # noqa: E402
from fincon.storage.data_folder import DataFolder  # noqa: E402
from fincon.storage.s3 import DataPath  # noqa: E402
from fincon.transforms.identities import mask_ids  # noqa: E402
from fincon.transforms.wording import pluralize  # noqa: E402

P = ParamSpec("P")
R = TypeVar("R")

LOG = logging.getLogger("fincon")
"""What fincon's modules log to."""


def refuse_no_key() -> str:
    """Say of what neither the environment nor a block has.

    Raises:
        UsageError: always.
    """
    block = DEFAULTS[KEY]
    raise UsageError(
        f"There is no STRIPE_API_KEY in the worker's environment, and no Secret block {block!r}.",
        f"Set the variable where the worker is started, or make the block: Blocks, Secret, name {block}.",
    )


def skipped(error: DataFolderLocked) -> State[Any]:
    """End a run that found the folder in use: as no failure that wakes anyone, for the next one comes."""
    get_run_logger().info("%s", error)
    return Completed(name="Skipped", message=str(error))


def budget_spent(error: BudgetExhausted) -> State[Any]:
    """End a run that made as many requests as it was allowed: what it fetched is kept, and the next one goes on."""
    get_run_logger().info("%s", error)
    return Completed(name="Budget spent", message=str(error))


def cancelled(error: Stopped) -> State[Any]:
    """End a run that was cancelled while it went on."""
    get_run_logger().info("%s", error)
    return Cancelled(message=str(error))


def sync_as_tasks(
    request: SyncRequest,
    data: str | DataPath | None,
    patience: Patience,
    progress: Progress | None = None,
) -> SyncResult:
    """Run a sync within a flow run; its figures go to the log and into artifacts.

    Raises:
        Stopped: the flow run was cancelled.
    """
    with recorded_if_refused(data_folder(data), request.mode):
        settings = load_settings(data=data, other_key=refuse_no_key)
    extract = extract_on_workers if dask_scheduler() else extract_as_tasks
    shown = artifacts.ProgressArtifacts(progress or NoProgress(), _known_accounts(settings.data))
    stop = StopSignal()
    run_step = as_tasks(patience, settings)
    with logged_to_run(), stopped_when_cancelled(stop):
        result = run_sync(settings, request, run_step, shown, extract, stop)
    shown.end()
    artifacts.show_sync(result, result.seconds)
    artifacts.tell_published(settings.data, result)
    wait_for_rest()
    log = get_run_logger()
    log.info(
        "run %(run_id)s: %(requests)d requests, %(rows_added)d rows added, %(rejected)d rejected", result.run
    )
    for before in result.loaded_first:
        log.info("run %(run_id)s, which an earlier sync had fetched, was loaded first", before)
    if result.unknown_sessions:
        log.info(
            "Stripe does not know %s: the view rejects names them",
            pluralize(len(result.unknown_sessions), "session"),
        )
    for stream, refusal, count in result.set_aside:
        log.warning("Stripe refused %s (%s), set aside", name_set_aside(stream, count), refusal)
    return result


def _known_accounts(data: DataPath) -> int:
    """Return how many accounts the last run knew, about; 0 before the first one."""
    folder = DataFolder(data)
    if not folder.views.exists():
        return 0
    with Lake(folder.lake) as lake:
        return sum(count_accounts(lake).values())


def as_tasks(patience: Patience, settings: Settings) -> StepRunner:
    """Return the `StepRunner` that makes task runs; that of the step which publishes makes assets, too.

    They are never cached and their results never stored: the pages are the checkpoint.
    """

    def step(name: str, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        options: dict[str, Any] = {
            "name": name,
            "task_run_name": name,
            "cache_policy": NO_CACHE,
            "persist_result": False,
            "retries": patience.retries,
            "retry_delay_seconds": patience.retry_seconds,
            "retry_condition_fn": may_pass,
        }
        as_run: Any = publishing(settings, do, options) if do is publish else task(**options)(do)
        result: R = as_run(*args, **kwargs)
        return result

    return step


def may_pass(run: Any, task_run: Any, state: State[Any]) -> bool:
    """Tell whether a failed task is worth another try: Stripe or the network were in trouble, and nothing else was wrong."""
    return isinstance(state.data, RetriesExhausted)


@contextmanager
def logged_to_run() -> Iterator[None]:
    """Send what fincon's modules log to the flow run's log, whichever thread says it; and what to do about an error."""
    handler = _ToRun(get_run_logger())
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    try:
        yield
    except (DataFolderLocked, Stopped, BudgetExhausted):
        raise
    except FinconError as error:
        LOG.error("%s %s", error, error.hint)  # noqa: TRY400 - two lines, and no traceback for a person
        raise
    finally:
        LOG.removeHandler(handler)


class _ToRun(logging.Handler):
    """Hand records to a run's logger, without ids: it knows its run; Prefect's own handler knows it by thread alone."""

    def __init__(self, log: Any) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, mask_ids(record.getMessage()))
