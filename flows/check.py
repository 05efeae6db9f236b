"""Check what a lake says, as a Prefect flow: each check a task run, red where it finds rows. It needs no key.

What leads to DuckDB is imported within the flow, as in `fincon.flows.sync`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fincon.settings import data_folder, quiet_prefect

quiet_prefect()

from prefect import flow, task  # noqa: E402 - after quiet_prefect, which must come first
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.states import Failed  # noqa: E402

from fincon.errors import RunFailed  # noqa: E402
from fincon.flows.flow_options import failing_in_words, run_name  # noqa: E402
from fincon.transforms.wording import pluralize  # noqa: E402


@flow(name="check", flow_run_name=run_name, persist_result=False)
@failing_in_words
def check(data: str | None = None, s3_block: str | None = None) -> dict[str, int]:
    """Run every check of ``sql/checks``, and compare the last run with its pages; return how many rows break each: 0.

    Args:
        data: The data folder, or s3://bucket/folder; FINCON_DATA if not given.
        s3_block: The Secret block with AWS_ACCESS_KEY_ID and the rest, as JSON; the environment, or fincon-s3, if not given.

    Raises:
        RunFailed: a check found rows.
    """
    from fincon.flows import artifacts
    from fincon.flows.beside import wait_for_rest
    from fincon.flows.blocks import Blocks, secrets_of
    from fincon.pipeline.check import PAGES_AGREE, pages_disagree
    from fincon.warehouse.checks import checks, rows_at_fault
    from fincon.warehouse.connection import connect

    folder = data_folder(data)
    found = []
    with secrets_of(Blocks(s3=s3_block), folder):
        with connect(folder) as views:
            for name, promise, query in checks():
                find = partial(rows_at_fault, views, name, query)
                found.append((name, promise, _checked(name, find)))
        agree = _checked("pages_agree", partial(pages_disagree, folder))
    found.append(("pages_agree", PAGES_AGREE, agree))
    artifacts.show_checks(found)
    wait_for_rest()
    failed = [f"{name} ({pluralize(rows, 'row')})" for name, _, rows in found if rows]
    if failed:
        raise RunFailed(f"Checks failed: {', '.join(failed)}.", "`fincon check` shows the rows.")
    return {name: rows for name, _, rows in found}


def _checked(name: str, find: Callable[[], Sequence[Any] | None]) -> int:
    """Count the rows that a check finds, in a task run that fails where there are any."""
    rows: list[int] = []

    def run() -> State[Any] | None:
        rows.append(len(find() or ()))
        if not rows[0]:
            return None
        return Failed(message=f"{pluralize(rows[0], 'row')} found. `fincon check` shows them.")

    as_run = task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(run)
    state = as_run(return_state=True)
    if not rows:  # it could not be asked
        state.result()
    return rows[0]
