"""Tell others how a sync ended: a file of metrics, OpenTelemetry, a ping. None of it can fail the sync."""

import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fincon.errors import FinconError
from fincon.pipeline.context import StepRunner
from fincon.pipeline.request import SyncResult
from fincon.settings import Settings
from fincon.warehouse.metrics import (
    LastRun,
    samples,
    send_opentelemetry,
    takes_opentelemetry,
    write_prometheus,
)

P = ParamSpec("P")
R = TypeVar("R")

LOG = logging.getLogger("fincon")

PING_SECONDS = 10.0
PING_TRIES = 3


def timed(run_step: StepRunner, seconds: dict[str, float]) -> StepRunner:
    """Return a `StepRunner` that adds to ``seconds`` how long each step took, and logs it."""

    def step(name: str, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        began = time.monotonic()
        try:
            return run_step(name, do, *args, **kwargs)
        finally:
            took = time.monotonic() - began
            seconds[name] = seconds.get(name, 0.0) + took
            LOG.info("%s: %.2f s", name, took)

    return step


def announce(settings: Settings, result: SyncResult | None, failure: FinconError | None) -> None:
    """Tell what `FINCON_METRICS` and `FINCON_PING_URL` ask for; what cannot be told is a warning in the log."""
    if result:
        run = result.run
        LOG.info(
            "rows added: %d, rejected: %d",
            run["rows_added"],
            run["rejected"],
            extra={"run_id": run["run_id"]},
        )
    try:
        _measure(settings, result, failure)
    except Exception as error:  # noqa: BLE001 - the numbers are in; whatever keeps them from being counted is told
        LOG.warning("The metrics could not be written: %s", error)
    if settings.ping_url and failure is None:
        _ping(settings.ping_url.reveal())


def _measure(settings: Settings, result: SyncResult | None, failure: FinconError | None) -> None:
    run = LastRun(
        succeeded=failure is None,
        counts=result.run if result else {},
        seconds=result.seconds if result else {},
        checks_failed=len(result.failed_checks) if result else 0,
    )
    to_opentelemetry = takes_opentelemetry()
    found = list(samples(settings.data, run)) if settings.metrics or to_opentelemetry else []
    if settings.metrics:
        write_prometheus(found, settings.metrics)
    if to_opentelemetry:
        send_opentelemetry(found)


def _ping(url: str) -> None:
    """Say that a sync succeeded. The address may be all that a stranger needs, so it is in no message."""
    for attempt in range(1, PING_TRIES + 1):
        try:
            with urllib.request.urlopen(url, timeout=PING_SECONDS):  # noqa: S310 - held to http(s) by the settings
                return
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = (
                f"status {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
            )
        if attempt < PING_TRIES:
            time.sleep(attempt)
    LOG.warning("FINCON_PING_URL was not reached in %d tries: %s", PING_TRIES, reason)
