"""Run a sync as a Prefect flow: `fincon.pipeline.sync.run_sync` with each step a task, seen in Prefect's UI.

Parameters hold no secret: the keys come from the environment of the process that runs the flow, Stripe's or else from
the Secret block ``stripe-api-key``.

What leads to DuckDB is imported within the flow. Prefect's threads hold on to a flow function, and with it to
what its module names, until the process is gone; DuckDB then takes its own module for leaked and says so.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fincon.settings import quiet_prefect

quiet_prefect()

from prefect import flow, tags  # noqa: E402 - after quiet_prefect, which must come first
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.exceptions import CancelledRun  # noqa: E402

from fincon.errors import DataFolderLocked, Stopped  # noqa: E402
from fincon.flows.flow_options import InThisProcess, Patience, run_name, task_runner  # noqa: E402
from fincon.lake.incremental import Refetch  # noqa: E402
from fincon.storage.s3 import DataPath  # noqa: E402
from fincon.transforms.redaction import Choice  # noqa: E402

if TYPE_CHECKING:
    from fincon.pipeline.context import Progress
    from fincon.pipeline.request import SyncRequest, SyncResult


@flow(
    name="sync",
    flow_run_name=run_name,
    persist_result=False,
    validate_parameters=True,
    task_runner=task_runner(),
)
def sync(  # so many parameters: they are the options of the command, and what Prefect's form for a run shows
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
    transactions: bool = False,
    owners: bool = False,
    pii: Choice | None = None,
    data: str | None = None,
    wait_seconds: float = 0,
    retries: int = 2,
    retry_seconds: float = 60,
) -> "dict[str, Any] | State[Any]":
    """Sync Stripe Financial Connections → lake → views; return the run's row of ``runs``.

    The parameters are the options of ``fincon sync``; ``sessions`` and ``stripe_accounts`` name files, ``data``
    the data folder.
    A fetch that Stripe or the network let down is tried again ``retries`` times, ``retry_seconds`` apart; pages
    on disk are not fetched again. While another run holds the folder this one waits for ``wait_seconds``, and
    then ends as Skipped.
    """
    from fincon.flows.tasks import cancelled, skipped, sync_as_tasks
    from fincon.pipeline.id_files import SessionIds, read_session_ids, read_stripe_accounts
    from fincon.pipeline.request import SyncRequest

    ids = read_session_ids(sessions) if sessions else SessionIds()
    listed = read_stripe_accounts(stripe_accounts) if stripe_accounts else ()
    request = SyncRequest(
        session_ids=ids.plain,
        sessions_of=ids.of,
        accounts=accounts,
        events=events,
        refetch=sessions_refetch,
        restart=restart,
        max_requests=max_requests,
        stripe_accounts=(*(stripe_account or ()), *listed),
        connected=connected,
        transactions=transactions,
        owners=owners,
        strict=strict,
        wait_seconds=wait_seconds,
        pii=pii,
    )
    patience = Patience(retries=retries, retry_seconds=retry_seconds)
    try:
        result = sync_as_tasks(request, data, patience)
    except DataFolderLocked as error:
        return skipped(error)
    except Stopped as error:
        return cancelled(error)
    result.raise_for_failures(strict=strict)
    return {name: value for name, value in result.run.items() if value is not None}


def sync_as_flow(request: "SyncRequest", data: DataPath, progress: "Progress | None" = None) -> "SyncResult":
    """Run `fincon sync` as a flow run. Of what it is asked for, Prefect is told the mode and how many sessions.

    Raises:
        Stopped: the flow run was cancelled.
    """

    def run() -> State[Any] | None:
        from fincon.flows.tasks import cancelled, sync_as_tasks

        try:
            results.append(sync_as_tasks(request, data, Patience(), progress))
        except Stopped as error:
            return cancelled(error)
        return None

    results: list[SyncResult] = []
    here = InThisProcess(run)

    @flow(name="sync", flow_run_name=run_name, persist_result=False, task_runner=task_runner())
    def sync_from_command_line(mode: str, session_count: int) -> Any:
        return here()

    with tags("fincon"), suppress(CancelledRun):
        sync_from_command_line(request.mode, len(request.session_ids))
    if not results:
        raise Stopped("cancelled. What was fetched is kept: run the same command again to go on.")
    return results[0]
