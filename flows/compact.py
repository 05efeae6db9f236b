"""Compact a lake, as a Prefect flow. It needs no key.

What leads to DuckDB is imported within the flow, as in `fincon.flows.sync`.
"""

from typing import Any

from fincon.settings import data_folder, quiet_prefect

quiet_prefect()

from prefect import flow  # noqa: E402 - after quiet_prefect, which must come first
from prefect.client.schemas.objects import State  # noqa: E402

from fincon.errors import DataFolderLocked  # noqa: E402
from fincon.flows.flow_options import run_name  # noqa: E402


@flow(name="compact", flow_run_name=run_name, persist_result=False)
def compact(
    retention_days: int = 7, pages_days: int = 7, data: str | None = None, wait_seconds: float = 0
) -> "dict[str, Any] | State[Any]":
    """Merge small files, and remove old ones and old pages: `fincon compact`. Skipped while the folder is in use."""
    from fincon.flows import artifacts
    from fincon.flows.tasks import skipped
    from fincon.pipeline import compact as pipeline
    from fincon.pipeline.failures import machine_errors
    from fincon.storage.lock import retry_while_locked

    folder = data_folder(data)
    try:
        with machine_errors(folder):
            done = retry_while_locked(
                lambda: pipeline.compact(folder, retention_days, pages_days), wait_seconds
            )
    except DataFolderLocked as error:
        return skipped(error)
    artifacts.show_compacted(done["files"], done["runs_pruned"])
    return done
