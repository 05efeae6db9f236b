"""Compact a lake, as a Prefect flow. It needs no key.

What leads to DuckDB is imported within the flow, as in `fincon.flows.sync`.
"""

from typing import Annotated, Any

from fincon.settings import data_folder, quiet_prefect

quiet_prefect()

from prefect import flow, task  # noqa: E402 - after quiet_prefect, which must come first
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State  # noqa: E402
from pydantic import Field  # noqa: E402

from fincon.errors import DataFolderLocked  # noqa: E402
from fincon.flows.flow_options import failing_in_words, run_name  # noqa: E402


@flow(name="compact", flow_run_name=run_name, persist_result=False)
@failing_in_words
def compact(
    retention_days: Annotated[int, Field(ge=0)] = 7,
    pages_days: Annotated[int, Field(ge=0)] = 7,
    data: str | None = None,
    wait_seconds: Annotated[float, Field(ge=0)] = 0,
    s3_block: str | None = None,
) -> "dict[str, Any] | State[Any]":
    """Merge small files, and remove old ones and old pages: `fincon compact`. Skipped while the folder is in use.

    Args:
        retention_days: How long old files stay for older views.
        pages_days: How long raw pages stay.
        data: The data folder, or s3://bucket/folder; FINCON_DATA if not given.
        wait_seconds: While another run holds the data folder, wait so long at most.
        s3_block: The Secret block with AWS_ACCESS_KEY_ID and the rest, as JSON; the environment, or fincon-s3, if not given.
    """
    from fincon.flows import artifacts
    from fincon.flows.beside import wait_for_rest
    from fincon.flows.blocks import Blocks, secrets_of
    from fincon.flows.tasks import skipped
    from fincon.pipeline import compact as pipeline
    from fincon.pipeline.failures import machine_errors
    from fincon.storage.lock import retry_while_locked

    folder = data_folder(data)
    locked: list[DataFolderLocked] = []

    def merge_and_prune() -> dict[str, Any] | None:
        try:
            with secrets_of(Blocks(s3=s3_block), folder), machine_errors(folder):
                return retry_while_locked(
                    lambda: pipeline.compact(folder, retention_days, pages_days), wait_seconds
                )
        except DataFolderLocked as error:
            locked.append(error)
            return None

    as_run = task(name="merge and prune", cache_policy=NO_CACHE, persist_result=False)(merge_and_prune)
    done = as_run()
    if done is None:
        return skipped(locked[0])
    artifacts.show_compacted(done["files"], done["runs_pruned"])
    wait_for_rest()
    return done
