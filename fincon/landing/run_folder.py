"""A run on disk: the folder of its pages, what it was asked for, and the lock that keeps runs apart."""

import fcntl
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec

from fincon.errors import DataFolderLocked, RunFailed
from fincon.settings import Settings
from fincon.storage.data_folder import (
    COSTS_FILE,
    FETCHED_FILE,
    PART,
    RUN_FILE,
    STAGING,
    DataFolder,
)
from fincon.storage.lease import leased
from fincon.storage.s3 import DataPath, S3Path

RESUMED_WITHIN = timedelta(hours=24)
"""An interrupted run older than this is not gone on with: half of its pages would pass for fresh."""

POLL_SECONDS = 0.5
"""How often who waits for the data folder looks whether it is free."""

R = TypeVar("R")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is, as ``pages/<run_id>/run.json`` keeps it. Holds no secret."""

    run_id: str
    started_at: datetime
    mode: str
    """What is fetched: ``sessions``, ``accounts``, ``events``, ``transactions``, ``owners``, joined by ``+``."""
    api_base: str
    livemode: bool
    stripe_account: str
    stripe_version: str
    pii: str = ""
    """What becomes of personal data: `transforms.personal.Privacy.mark`."""


def prepare(data: DataPath) -> None:
    """The folder on this machine, for its owner alone; all that this process writes from now on is private too.

    Raises:
        RunFailed: it cannot be made or written.
    """
    os.umask(0o077)
    folder = DataFolder(data).work
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
    except OSError as error:
        raise RunFailed(
            f"The data folder {folder} cannot be written: {error.strerror}.",
            "Name another with --data or FINCON_DATA.",
        ) from error


def clean(data: DataPath) -> None:
    """Remove what killed runs left of their work in progress. Only for who holds the lock."""
    folder = DataFolder(data).work
    for leftover in folder.glob(f"{STAGING}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for pattern in (f"pages/*/*{PART}", f"lake/*/*{PART}", f"snapshots/*{PART}"):
        for leftover in folder.glob(pattern):
            leftover.unlink()


@contextmanager
def writer_lock(data: DataPath) -> Iterator[None]:
    """Hold the folder for one writer: here with a lock of the kernel, and in a bucket with a lease as well.

    Raises:
        DataFolderLocked: another run holds it.
    """
    with _locked(DataFolder(data)):
        if isinstance(data, S3Path):
            with leased(data):
                yield
        else:
            yield


@contextmanager
def _locked(data: DataFolder) -> Iterator[None]:
    """Hold a folder of this machine. The lock is the kernel's, so it ends with the process."""
    descriptor = os.open(data.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "another process"
            raise DataFolderLocked(
                f"The data folder {data.work} is in use by {holder}.",
                "Wait until it ends (--wait-seconds), or use another folder (--data).",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def retry_while_locked(do: Callable[[], R], wait_seconds: float) -> R:
    """What ``do`` returns, tried again for up to ``wait_seconds`` while another run holds the data folder.

    Raises:
        DataFolderLocked: it still does then.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return do()
        except DataFolderLocked:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_SECONDS)


def resume_or_create_run(
    settings: Settings, mode: str, pii: str, interrupted: Iterable[Run], last: str
) -> Run:
    """The run to do: the first of ``interrupted`` that asked for the same, or a new one.

    ``last`` is the last finished run of the mode: one that began before it was given up, or is old news.
    """
    for run in interrupted:
        if run.run_id > last and can_resume(run, settings, mode, pii):
            return run
    now = datetime.now(UTC)
    return Run(
        run_id=f"{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}Z-{secrets.token_hex(3)}",
        started_at=now,
        mode=mode,
        api_base=settings.api_base,
        livemode=settings.livemode,
        stripe_account=settings.stripe_account,
        stripe_version=settings.stripe_version,
        pii=pii,
    )


def begin(data: DataPath, run: Run) -> None:
    """The run's folder: from here on it can be gone on with."""
    folder = pages_folder(data, run.run_id)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / RUN_FILE).exists():
        (folder / RUN_FILE).write_bytes(msgspec.json.encode(run))


def unfinished(data: DataPath, finished: set[str]) -> list[Run]:
    """Runs with pages on disk that are in no table, newest first."""
    runs = []
    for path in sorted(DataFolder(data).pages.glob(f"*/{RUN_FILE}"), reverse=True):
        if path.parent.name in finished:
            continue
        try:
            runs.append(msgspec.json.decode(path.read_bytes(), type=Run))
        except msgspec.DecodeError:
            continue  # killed while it was being written: it holds no page yet
    return runs


def mark_fetched(data: DataPath, run: Run, counts: Mapping[str, int]) -> None:
    """Say on disk that all pages of the run are there, and what they cost: from here on it is only loaded."""
    _write(pages_folder(data, run.run_id) / FETCHED_FILE, counts)


def add_costs(data: DataPath, run: Run, counts: Mapping[str, int]) -> Counter[str]:
    """Add what an attempt to fetch the run cost to what earlier ones did; the sum."""
    path = pages_folder(data, run.run_id) / COSTS_FILE
    try:
        before = Counter(msgspec.json.decode(path.read_bytes(), type=dict[str, int]))
    except (FileNotFoundError, msgspec.DecodeError):
        before = Counter()
    costs = before + Counter(counts)
    _write(path, costs)
    return costs


def _write(path: Path, counts: Mapping[str, int]) -> None:
    part = path.with_suffix(PART)
    with part.open("wb") as file:
        file.write(msgspec.json.encode(dict(counts)))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def fetched(data: DataPath, run: Run) -> dict[str, int] | None:
    """What the fetching of a run cost, if all its pages are there; None where some are still to be fetched."""
    try:
        content = (pages_folder(data, run.run_id) / FETCHED_FILE).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(content, type=dict[str, int])


def unmark_fetched(data: DataPath, run: Run) -> None:
    """Pages are missing after all."""
    (pages_folder(data, run.run_id) / FETCHED_FILE).unlink(missing_ok=True)


def pages_folder(data: DataPath, run_id: str) -> Path:
    """Where a run's pages are."""
    return DataFolder(data).run_pages(run_id)


def can_resume(run: Run, settings: Settings, mode: str, pii: str) -> bool:
    """Whether an interrupted run is what is asked for now, and recent enough to pass for it."""
    return (
        run.mode == mode
        and run.pii == pii
        and would_ask_as(run, settings)
        and run.stripe_account == settings.stripe_account
        and abs(datetime.now(UTC) - run.started_at) < RESUMED_WITHIN
    )


def would_ask_as(run: Run, settings: Settings) -> bool:
    """Whether Stripe would be asked at the same address, in the same mode and for the same shapes."""
    return (
        run.api_base == settings.api_base
        and run.livemode == settings.livemode
        and run.stripe_version == settings.stripe_version
    )
