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
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from fincon.errors import DataFolderLocked, FinconError, RunFailed
from fincon.storage.data_folder import LOCK_FILE, DataFolder
from fincon.storage.s3 import ConditionFailed, S3Path

VALID_SECONDS = 60.0
"""How long a lease counts after its holder last said that it is alive."""

RENEW_SECONDS = 15.0


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The object ``.lock``. ``until`` is in seconds since the Unix epoch; 0 = released."""

    holder: str
    token: str
    """Of this lease alone."""
    work: str
    """Of the holder's work folder: a process that has the folder to itself knows that an earlier one is dead."""
    until: float
    must_fence: bool = msgspec.field(name="unsettled")
    """A holder died, and a commit that it may still have under way is not shut out yet."""


class Lease:
    """The lease of the lake ``root``, once `acquire` has got it."""

    def __init__(self, root: S3Path) -> None:
        self.root = root
        self.record = LeaseRecord(
            holder=f"process {os.getpid()} on {socket.gethostname()}",
            token=secrets.token_hex(16),
            work=_work_id(root),
            until=0,
            must_fence=False,
        )
        self._path = root / LOCK_FILE
        self.follows = ""
        """The token of the lease before this one, if its holder released it: nobody has written since."""
        self._tag = ""
        self._mutex = threading.Lock()
        self._released = threading.Event()

    @property
    def token(self) -> str:
        """Return what no other lease has."""
        return self.record.token

    @property
    def must_fence(self) -> bool:
        """Tell whether the holder before died, and may still have a commit under way."""
        return self.record.must_fence

    def acquire(self) -> None:
        """Get the lease: where there is none, it ran out, or its holder must be dead.

        Raises:
            DataFolderLocked: somebody else has it.
        """
        with suppress(ConditionFailed):
            return self._put("create")
        found, tag = self._read()
        # Only one process has the work folder, by the kernel's lock: another holder of the same folder is dead.
        # Its own token stands there where the answer to the put above was lost on the way.
        if found.until > time.time() and found.work != self.record.work and found.token != self.record.token:
            raise _held(self.root, found)
        self._set(must_fence=found.must_fence or found.until > 0)
        self.follows = "" if self.record.must_fence else found.token
        try:
            return self._put({"e_tag": tag})
        except ConditionFailed as error:
            raise _held(self.root, self._read()[0]) from error

    def renew(self) -> None:
        """Say that the holder is alive, and make sure that it still is the holder.

        Raises:
            RunFailed: it is not any more.
        """
        with self._mutex:
            try:
                self._put({"e_tag": self._tag})
            except ConditionFailed as error:
                found, tag = self._read()
                if found.token != self.record.token:
                    raise RunFailed(
                        f"The lake {self.root} was taken over by {found.holder}, for this run had stood still too long.",
                        "No reader sees half of it. Wait until the other ends, then run the same command again.",
                    ) from error
                self._tag = tag  # the answer to an earlier renewal was lost on the way

    def mark_fenced(self) -> None:
        """Note that no commit of the holder before can follow any more."""
        self._set(must_fence=False)
        self.renew()

    def renew_periodically(self) -> None:
        """Renew until `release`, on a thread of its own."""
        while not self._released.wait(RENEW_SECONDS):
            with suppress(FinconError):  # whoever writes next renews as well, and is told
                self.renew()

    def release(self) -> None:
        """Let others write."""
        self._released.set()
        with self._mutex:
            found, tag = self._read()
            if found.token == self.record.token:
                self._set(until=0)
                self._path.put(msgspec.json.encode(self.record), {"e_tag": tag})

    def _set(self, **changed: float) -> None:
        self.record = msgspec.structs.replace(self.record, **changed)

    def _put(self, mode: object) -> None:
        self._set(until=time.time() + VALID_SECONDS)
        self._tag = self._path.put(msgspec.json.encode(self.record), mode)

    def _read(self) -> tuple[LeaseRecord, str]:
        content, tag = self._path.read_tagged()
        return msgspec.json.decode(content, type=LeaseRecord), tag


@contextmanager
def hold_lease(root: S3Path) -> Iterator[None]:
    """Hold the lease of a lake. The work folder must be this process's alone.

    Raises:
        DataFolderLocked: somebody else holds it.
    """
    lease = Lease(root)
    lease.acquire()
    root.bucket.lease = lease
    root.bucket.opened.clear()
    threading.Thread(target=lease.renew_periodically, name="lease", daemon=True).start()
    try:
        yield
    finally:
        root.bucket.lease = None
        root.bucket.opened.clear()
        root.bucket.copies.clear()
        lease.release()


def _held(root: S3Path, found: LeaseRecord) -> DataFolderLocked:
    left = max(0, round(found.until - time.time()))
    return DataFolderLocked(
        f"The lake {root} is in use by {found.holder}.",
        f"Wait until it ends (--wait-seconds). Should it be dead, its lease runs out in {left} s.",
    )


def _work_id(root: S3Path) -> str:
    path = DataFolder(root).work_id
    if not path.exists():
        path.write_text(secrets.token_hex(16), encoding="utf-8")
    # Of this folder on this machine: a clone of the folder, or of the machine, has the same file and is another.
    return f"{path.read_text(encoding='utf-8')}-{path.parent.stat().st_ino:x}-{uuid.getnode():x}"
