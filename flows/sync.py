"""Run a sync as a Prefect flow: `fincon.pipeline.sync.run_sync` with each step a task, seen in Prefect's UI.

Parameters hold no secret: the keys come from the environment of the process that runs the flow, or from Secret blocks.

What leads to DuckDB is imported within the flow. Prefect's threads hold on to a flow function, and with it to
what its module names, until the process is gone; DuckDB then takes its own module for leaked and says so.
"""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

from fincon.settings import prefect_api_url, quiet_prefect

quiet_prefect()

from httpx import HTTPError, HTTPStatusError  # noqa: E402
from prefect import flow, tags  # noqa: E402 - after quiet_prefect, which must come first
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError  # noqa: E402
from prefect.exceptions import CancelledRun  # noqa: E402
from pydantic import Field  # noqa: E402

from fincon.errors import BudgetExhausted, DataFolderLocked, RunFailed, Stopped, reason_of  # noqa: E402
from fincon.flows.flow_options import InThisProcess, Patience, failing_in_words, run_name, task_runner  # noqa: E402
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
@failing_in_words
def sync(  # so many parameters: they are the options of the command, and what Prefect's form for a run shows
    sessions: str | None = None,
    accounts: bool = True,
    strict: bool = False,
    restart: bool = False,
    events: bool = False,
    sessions_refetch: Refetch = "open",
    max_requests: Annotated[int, Field(ge=1)] | None = None,
    stripe_account: list[str] | None = None,
    stripe_accounts: str | None = None,
    connected: bool = False,
    transactions: bool = False,
    owners: bool = False,
    pii: Choice | None = None,
    data: str | None = None,
    wait_seconds: Annotated[float, Field(ge=0)] = 0,
    retries: Annotated[int, Field(ge=0, le=20)] = 2,
    retry_seconds: Annotated[float, Field(ge=0)] = 60,
    key_block: str | None = None,
    pii_key_block: str | None = None,
    s3_block: str | None = None,
) -> "dict[str, Any] | State[Any]":
    """Sync Stripe Financial Connections → lake → views; return the run's row of ``runs``.

    A fetch that Stripe or the network let down is tried again; pages on disk are not fetched again. A run that finds the
    data folder in use ends as Skipped, one that has no request left as Budget spent; neither is a failure.

    Args:
        sessions: A file of session ids: one a line, or CSV, Parquet or JSON with a column session_id or id.
        accounts: List every account as well.
        strict: Fail if an object was rejected.
        restart: Do not go on with a run that was interrupted.
        events: Read what changed since the last run instead of listing every account.
        sessions_refetch: Of sessions known already, fetch again none, those still open, or all.
        max_requests: Stop after this many requests; the next run goes on.
        stripe_account: Connected accounts (acct_…) to act for; STRIPE_ACCOUNT if not given.
        stripe_accounts: A file of connected accounts, with a column stripe_account or id.
        connected: Every connected account of the platform.
        transactions: Read the transactions of accounts whose transactions were refreshed.
        owners: Read the owners of accounts whose ownership was refreshed.
        pii: What becomes of names, addresses and last digits; as before if not given.
        data: The data folder, or s3://bucket/folder; FINCON_DATA if not given.
        wait_seconds: While another run holds the data folder, wait so long at most.
        retries: How often a step is tried again that Stripe or the network let down.
        retry_seconds: How long to wait before each of these tries.
        key_block: The Secret block with the Stripe key; STRIPE_API_KEY, or else stripe-api-key, if not given.
        pii_key_block: The Secret block with the key of hashes; FINCON_PII_KEY, or else fincon-pii-key, if not given.
        s3_block: The Secret block with AWS_ACCESS_KEY_ID and the rest, as JSON; the environment, or fincon-s3, if not given.
    """
    from fincon.flows.blocks import Blocks, secrets_of
    from fincon.flows.tasks import budget_spent, cancelled, skipped, sync_as_tasks
    from fincon.pipeline.id_files import SessionIds, read_session_ids, read_stripe_accounts
    from fincon.pipeline.request import SyncRequest

    secrets = secrets_of(Blocks(key=key_block, pii_key=pii_key_block, s3=s3_block), data)
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
        with secrets:
            result = sync_as_tasks(request, data, patience)
        result.raise_for_failures(strict=strict)
    except DataFolderLocked as error:
        return skipped(error)
    except BudgetExhausted as error:
        return budget_spent(error)
    except Stopped as error:
        return cancelled(error)
    return {name: value for name, value in result.run.items() if value is not None}


def sync_as_flow(request: "SyncRequest", data: DataPath, progress: "Progress | None" = None) -> "SyncResult":
    """Run `fincon sync` as a flow run. Of what it is asked for, Prefect is told the mode and how many sessions.

    Raises:
        Stopped: the flow run was cancelled.
        RunFailed: the server went away, or was too busy, before the sync was done.
    """
    from fincon.flows.beside import send_events

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

    try:
        with tags("fincon"), suppress(CancelledRun):
            sync_from_command_line(request.mode, len(request.session_ids))
        send_events()
    except (HTTPError, ConcurrencySlotAcquisitionError) as error:
        refused = isinstance(error, HTTPStatusError | ConcurrencySlotAcquisitionError)
        what = "let the run down" if refused else "went away"
        gone = f"The Prefect server at {prefect_api_url()} {what}: {reason_of(error)}"
        if not results:
            raise RunFailed(
                gone, "What was fetched is kept: run again, or without the server: --no-prefect."
            ) from error
        logging.getLogger("fincon").warning("%s. It does not show how this run ended.", gone)
    if not results:
        raise Stopped("cancelled. What was fetched is kept: run the same command again to go on.")
    return results[0]
