"""Put each attempt at a sync on record, whatever becomes of it: in its file at once, and in the table as soon as may be."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import duckdb
import msgspec
from deltalake.exceptions import DeltaError

from fincon.errors import BudgetExhausted, DataFolderLocked, FinconError, Stopped, UsageError, reason_of
from fincon.lake.append import record_attempts
from fincon.lake.snapshots import latest_files_by_table
from fincon.lake.tables import Lake
from fincon.landing.attempts import (
    GOES_ON,
    Attempt,
    AttemptFile,
    Status,
    ended_attempts,
    forget,
    new_attempt,
    row,
)
from fincon.landing.run_folder import Run
from fincon.pipeline.recovery import recovered_lake
from fincon.settings import fincon_version
from fincon.storage.data_folder import DataFolder
from fincon.storage.s3 import DataPath
from fincon.warehouse.views import publish

REQUEST_ID = re.compile(r"Request-Id (\w+)")


class RunCost(Protocol):
    """What is known of a run that was gone at."""

    @property
    def run(self) -> Run:
        """The run."""

    @property
    def counts(self) -> Counter[str]:
        """What it cost this time."""


class OpenAttempt:
    """An attempt that runs: what it costs and what is known of its runs, for the record."""

    def __init__(self, data: DataPath, mode: str, stripe_account: str) -> None:
        self._data = data
        self._begun = new_attempt(mode, stripe_account)
        self._file = AttemptFile(data, self._begun)
        self._rows: list[Attempt] = []

    def count(self, counts: Mapping[str, int]) -> None:
        """Note what it has cost so far."""
        self._begun = msgspec.structs.replace(self._begun, counts=dict(counts))
        self._file.write([self._begun])

    def end_runs(self, results: Sequence[RunCost], failures: Mapping[str, FinconError]) -> None:
        """Note how each run that it went at ended; what cost it no run's, as the list of connected accounts, is the first's."""
        left = Counter(self._begun.counts)
        for result in results:
            left -= result.counts
        for result in results:
            run, failure = result.run, failures.get(result.run.stripe_account)
            attempt = msgspec.structs.replace(
                self._begun,
                mode=run.mode,
                run_id=run.run_id,
                stripe_account=run.stripe_account,
                counts=dict(result.counts + left),
            )
            self._rows.append(_ended(attempt, failure))
            left = Counter()
        self._file.write(self._rows)
        if self._rows:
            self._file.close()

    def end(self, error: BaseException | None) -> None:
        """Note how it ended, where that is not said of its runs already."""
        if self._rows and (error is None or any(row.status != "succeeded" for row in self._rows)):
            return
        if self._rows:  # its runs are in, and what came after them failed
            after = msgspec.structs.replace(
                self._begun, attempt_id=f"{self._begun.attempt_id}-after", counts={}
            )
            self._file = AttemptFile(self._data, after)
            self._begun = after
        self._file.write([_ended(self._begun, error)])
        self._file.close()


def _ended(attempt: Attempt, error: BaseException | None) -> Attempt:
    """Return an attempt as it ended with an error, or with none."""
    if error is None:
        return attempt.ended("succeeded")
    if not isinstance(error, Exception):  # Ctrl-C, SIGTERM
        return attempt.ended("interrupted", "It was stopped by a signal.", hint=GOES_ON)
    said = str(error) if isinstance(error, FinconError) else f"{type(error).__name__}: {reason_of(error)}"
    found = REQUEST_ID.search(said)
    return attempt.ended(
        _status(error), said, found[1] if found else "", error.hint if isinstance(error, FinconError) else ""
    )


def _status(error: Exception) -> Status:
    if isinstance(error, DataFolderLocked):
        return "skipped"
    return "interrupted" if isinstance(error, Stopped | BudgetExhausted) else "failed"


@contextmanager
def recorded(data: DataPath, mode: str, stripe_account: str = "") -> Iterator[OpenAttempt]:
    """Have an attempt on record while it runs, and how it ended then."""
    attempt = OpenAttempt(data, mode, stripe_account)
    try:
        yield attempt
    except BaseException as error:
        attempt.end(error)
        if isinstance(error, Exception) and _status(error) == "failed":
            publish_ended(data)
        raise
    attempt.end(None)


@contextmanager
def recorded_if_refused(data: DataPath, mode: str) -> Iterator[None]:
    """Put on record what keeps a sync of a lake that is there from beginning: a setting that is missing or wrong."""
    try:
        yield
    except UsageError as error:
        if DataFolder(data).views.exists():
            OpenAttempt(data, mode, "").end(error)
            publish_ended(data)
        raise


def record_ended(data: DataPath, lake: Lake) -> list[Path]:
    """Take the attempts of this machine that have ended into the table; return their files, to be forgotten once published."""
    ended, made_by = ended_attempts(data), fincon_version()
    rows = {
        attempts[0].attempt_id: [row(attempt, made_by) for attempt in attempts]
        for attempts in ended.values()
        if attempts
    }
    record_attempts(lake, rows)
    return list(ended)


def publish_ended(data: DataPath) -> None:
    """Show attempts that have ended in the views, if nothing stands in the way; if something does, a later run does so.

    A lake whose first sync failed has views from then on: of no row but those of ``attempts``, which say why.
    """
    folder = DataFolder(data)
    with suppress(FinconError, OSError, duckdb.Error, DeltaError):
        if not folder.views.exists() and not folder.lake_format.exists():
            return
        with recovered_lake(data) as lake:
            files = record_ended(data, lake)
            publish(data, latest_files_by_table(lake))
            forget(files)
