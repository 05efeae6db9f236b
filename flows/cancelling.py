"""Notice that a flow run is cancelled: a worker ends its process, but nobody tells a run that was started otherwise."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from fincon.extract.stopping import StopSignal

LOOK_SECONDS = 0.5
"""How often the server is asked."""


@contextmanager
def stopped_when_cancelled(stop: StopSignal) -> Iterator[None]:
    """Have a sync stop as soon as the flow run that this is called in is cancelled."""
    over = Event()
    thread = Thread(target=_watch, args=(flow_run.id, stop, over), name="cancelling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _watch(run_id: str, stop: StopSignal, over: Event) -> None:
    with get_client(sync_client=True) as client:
        while not over.wait(LOOK_SECONDS):
            with suppress(HTTPError):  # a server that is away ends no sync: it is asked again
                state = client.read_flow_run(UUID(run_id)).state
                if state and (state.is_cancelling() or state.is_cancelled()):
                    stop.stop()
                    return
