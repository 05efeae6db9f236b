"""Say how the flows run: under which name, and on which task runner. It leads to no DuckDB, as `flows.sync` needs it."""

from typing import Any

from prefect.runtime import deployment, flow_run
from prefect.task_runners import TaskRunner

from fincon.errors import UsageError
from fincon.settings import dask_scheduler


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
