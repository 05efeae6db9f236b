"""Which task runner a flow has: Dask's or Prefect's own. Apart from `fincon.flows.dask_workers`, for it leads to no DuckDB."""

from typing import Any

from prefect.task_runners import TaskRunner

from fincon.errors import UsageError
from fincon.settings import dask_scheduler


def task_runner() -> TaskRunner[Any] | None:
    """Dask's, where ``FINCON_DASK`` names a scheduler; else None, which is Prefect's own threads.

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
