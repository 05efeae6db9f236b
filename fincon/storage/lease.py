"""Who may write to a lake in a bucket: an object that names its holder, and until when that counts.

S3 puts an object on the condition that there is none, or that it is still the one that was read. So of two who want
the lease one gets it, and a holder that was taken for dead notices when it next says that it is alive. Nothing has
to be cleaned by hand: a lease that ran out is taken over.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from fincon.errors import DataFolderLocked, FinconError, RunFailed
from fincon.storage.data_folder import LOCK_FILE, DataFolder
from fincon.storage.s3 import S3Path

SECONDS = 60.0
"""How long a lease counts after its holder last said that it is alive."""

RENEWED_EVERY = 15.0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The object. ``until`` is in seconds since the Unix epoch; 0 = given back."""

    holder: str
    token: str
    """Of this lease alone."""
    work: str
    """Of the holder's work folder: a process that has the folder to itself knows that an earlier one is dead."""
    until: float
    unsettled: bool
    """A holder died, and what it may still have under way is not shut out yet."""


class Lease:
    """The lease of the lake ``root``, once `take` has got it."""

    def __init__(self, root: S3Path) -> None:
        self.place = root / LOCK_FILE
        self.root = root
        self.record = Record(
            holder=f"process {os.getpid()} on {socket.gethostname()}",
            token=secrets.token_hex(16),
            work=_work_id(root),
            until=0,
            unsettled=False,
        )
        self._tag = ""
        self._mutex = threading.Lock()
        self._ended = threading.Event()

    def take(self) -> None:
        """Get the lease.

        Raises:
            DataFolderLocked: somebody else has it.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with suppress(AlreadyExistsError):
            return self._put("create")
        found, tag = self._read()
        if found.until > time.time() and found.work != self.record.work and found.token != self.record.token:
            raise _held(self.root, found)
        unsettled = found.unsettled or found.until > 0
        self.record = msgspec.structs.replace(self.record, unsettled=unsettled)
        try:
            return self._put({"e_tag": tag})
        except PreconditionError as error:
            raise _held(self.root, self._read()[0]) from error

    def renew(self) -> None:
        """Say that the holder is alive, and make sure that it still is the holder.

        Raises:
            RunFailed: it is not any more.
        """
        from obstore.exceptions import PreconditionError

        with self._mutex:
            try:
                self._put({"e_tag": self._tag})
            except PreconditionError as error:
                found, tag = self._read()
                if found.token != self.record.token:
                    raise RunFailed(
                        f"The lake {self.root} was taken over by {found.holder}, for this run had stood still too long.",
                        "No reader sees half of it. Wait until the other ends, then run the same command again.",
                    ) from error
                self._tag = tag  # the answer to an earlier renewal was lost on the way

    def settled(self) -> None:
        """What the holder before may still have under way is shut out."""
        self.record = msgspec.structs.replace(self.record, unsettled=False)
        self.renew()

    def keep(self) -> None:
        """Renew until `give_back`, as a thread of its own does. Where that fails, the next `renew` tells."""
        while not self._ended.wait(RENEWED_EVERY):
            try:
                self.renew()
            except FinconError:
                continue

    def give_back(self) -> None:
        """Let others write."""
        self._ended.set()
        with self._mutex:
            found, tag = self._read()
            if found.token == self.record.token:
                gone = msgspec.structs.replace(self.record, until=0)
                self.place.put(msgspec.json.encode(gone), {"e_tag": tag})

    def _put(self, mode: object) -> None:
        self.record = msgspec.structs.replace(self.record, until=time.time() + SECONDS)
        self._tag = self.place.put(msgspec.json.encode(self.record), mode)

    def _read(self) -> tuple[Record, str]:
        content, tag = self.place.read_tagged()
        return msgspec.json.decode(content, type=Record), tag


@contextmanager
def leased(root: S3Path) -> Iterator[None]:
    """Hold the lease of a lake. The work folder must be this process's alone.

    Raises:
        DataFolderLocked: somebody else holds it.
    """
    lease = Lease(root)
    lease.take()
    root.bucket.lease = lease
    root.bucket.opened.clear()
    threading.Thread(target=lease.keep, name="lease", daemon=True).start()
    try:
        yield
    finally:
        root.bucket.lease = None
        root.bucket.opened.clear()
        lease.give_back()


def _held(root: S3Path, found: Record) -> DataFolderLocked:
    left = max(0, round(found.until - time.time()))
    return DataFolderLocked(
        f"The lake {root} is in use by {found.holder}.",
        f"Wait until it ends (--wait-seconds). Should it be dead, its lease runs out in {left} s.",
    )


def _work_id(root: S3Path) -> str:
    path = DataFolder(root).work_id
    if not path.exists():
        path.write_text(secrets.token_hex(16), encoding="utf-8")
    return path.read_text(encoding="utf-8")
