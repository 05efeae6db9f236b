"""Do what a Prefect server is to be shown on a thread of its own: one that is slow, or gone, costs a run no time."""

import queue
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import cache, partial
from typing import Any

from prefect.events.worker import EventsWorker
from prefect.logging import get_run_logger

REST_SECONDS = 5.0
"""How long the end of a run waits for what is still to be shown."""

Waiting = queue.SimpleQueue[Callable[[], object]]


@cache
def _waiting() -> Waiting:
    """Return the queue of what is to be done, which a thread empties that no process waits for at its end."""
    waiting = Waiting()

    def do_all() -> None:
        while True:
            waiting.get()()

    threading.Thread(target=do_all, name="beside", daemon=True).start()
    return waiting


def beside(show: Callable[..., object], *args: Any, within: Context | None = None, **kwargs: Any) -> None:
    """Have ``show`` called soon, in order, ``within`` the context of a flow run: by default, that of the caller.

    Where it fails that is said in the run's log, and no more: what is fetched counts more than its picture.
    """
    call = partial(_safely, show, *args, **kwargs)
    _waiting().put(partial((within or copy_context()).copy().run, call))


def wait_for_rest(seconds: float = REST_SECONDS) -> None:
    """Wait until all is shown, or so many seconds; then say that some is not."""
    shown = threading.Event()
    _waiting().put(shown.set)
    if not shown.wait(seconds):
        get_run_logger().warning("Artifacts and events are left out: the server does not take them.")


def send_events(seconds: float = REST_SECONDS) -> None:
    """Wait so long until events are sent, for a process that ends without Prefect's own waiting for them."""
    EventsWorker.drain_all(timeout=seconds)


def _safely(show: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    try:
        show(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - whatever a server in trouble makes of it
        get_run_logger().warning("An artifact could not be kept: %s", error)
