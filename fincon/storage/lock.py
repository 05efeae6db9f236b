"""One writer at a time: a lock of the kernel's on this machine, and in a bucket a lease as well."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from fincon.errors import DataFolderLocked
from fincon.storage.data_folder import DataFolder, prepare, remove_leftovers
from fincon.storage.lease import hold_lease
from fincon.storage.s3 import DataPath, S3Path

POLL_SECONDS = 0.5
"""How often who waits for the data folder looks whether it is free."""

R = TypeVar("R")


@contextmanager
def writer_lock(data: DataPath) -> Iterator[None]:
    """Hold the data folder, made where it is not there yet, for one writer; what killed ones left under way is gone.

    Raises:
        DataFolderLocked: another run holds it.
        RunFailed: it cannot be made or written.
    """
    prepare(data)
    lease = hold_lease(data) if isinstance(data, S3Path) else nullcontext()
    with _kernel_lock(DataFolder(data)), lease:
        remove_leftovers(data)
        yield


@contextmanager
def _kernel_lock(data: DataFolder) -> Iterator[None]:
    """Hold a folder of this machine. The lock is the kernel's, so it ends with the process."""
    descriptor = os.open(data.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            # The holder wrote its name below, and lives: with a process that ends goes its lock.
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
    """Call ``do`` and return what it returns; for up to ``wait_seconds`` again, while another run holds the data folder.

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
