"""Say how flows run: under which name, on which task runner, and what of them stays here. It leads to no DuckDB."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Failed
from prefect.task_runners import TaskRunner

from fincon.errors import FinconError, UsageError
from fincon.settings import dask_scheduler
from fincon.transforms.identities import mask_ids

P = ParamSpec("P")
R = TypeVar("R")


def run_name() -> str:
    """Name a flow run: its deployment, or its flow, and when it was due."""
    what = deployment.name or flow_run.flow_name
    return f"{what} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"


def task_runner() -> TaskRunner[Any] | None:
    """Return Dask's, where ``FINCON_DASK`` names a scheduler; else None, which is Prefect's own threads.

    Raises:
        UsageError: prefect-dask is not installed.
    """
    address = dask_scheduler()
    if not address:
        return None
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise UsageError(
            "FINCON_DASK is set, but prefect-dask is not installed.", "pip install 'fincon[dask]'"
        ) from error
    return DaskTaskRunner(address=address)


def failing_in_words(body: Callable[P, R]) -> Callable[P, "R | State[Any]"]:
    """Have a flow that fails with an error of fincon's end as Failed with its words and its hint, and without a traceback.

    One that nobody foresaw goes on without the frames that it went through, which are logged: Prefect keeps a flow's error
    until the process is gone, and with it each frame and what its module names; DuckDB then takes its own module for leaked
    and says so in a hundred lines.
    """

    @wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> "R | State[Any]":
        try:
            return body(*args, **kwargs)
        except FinconError as error:
            return Failed(message=mask_ids(f"{str(error).rstrip('.')}. {error.hint}".strip()))
        except Exception as error:
            get_run_logger().exception("Unforeseen:")
            one: BaseException | None = error
            while one:
                one.__traceback__ = None
                one = one.__cause__ or one.__context__
            raise

    return run


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Say how often a flow run tries a step again."""

    retries: int = 0
    retry_seconds: float = 0


class InThisProcess:
    """Call a function that stays here: a task runner sends the flow or task it is of elsewhere, and there it is none."""

    __slots__ = ("_call",)  # Prefect copies the attributes of a function, which would go with its task

    def __init__(self, call: Callable[..., Any] | None) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        if self._call is None:
            raise RuntimeError("It stayed in the process of the flow.")
        return self._call(*args)

    def __reduce__(self) -> tuple[type, tuple[None]]:
        return InThisProcess, (None,)
