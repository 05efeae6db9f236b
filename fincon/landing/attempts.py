"""Attempts at a sync, on record on this machine from their beginning: a kill, a full disk and a lake in use leave theirs too.

Each is a file of ``attempts/``, which its process holds locked and writes in place. Where the lock is gone and the file still
says that it runs, the process died. Who writes to the lake next takes what has ended into the table ``attempts``.
"""

import fcntl
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from fincon.storage.data_folder import UNREADABLE, DataFolder, make_folder, sync_names
from fincon.storage.in_place import InPlaceFile
from fincon.storage.s3 import DataPath
from fincon.transforms.identities import mask_ids

Status = Literal["running", "succeeded", "failed", "interrupted", "skipped"]

SPARE = "spare"
"""A file that was an attempt's, for the next one: on a disk that is full by then no other could be made."""

TEXT_LENGTH = 1000
"""How much of an error and of its hint is kept."""

DIED = "Its process ended before the run did: it was killed, or the machine stopped."
GOES_ON = "What was fetched is kept; the next run goes on from there."


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One go at a sync; of several Stripe accounts, at each."""

    attempt_id: str
    mode: str
    started_at: datetime
    status: Status = "running"
    ended_at: datetime | None = None
    run_id: str | None = None
    stripe_account: str = ""
    counts: dict[str, int] = {}
    """What it asked Stripe for, as `StripeClient.counts` has it: of this attempt alone, not of its run."""
    error: str | None = None
    request_id: str | None = None
    hint: str | None = None

    def ended(self, status: Status, error: str = "", request_id: str = "", hint: str = "") -> "Attempt":
        """Return it as it ended just now, without the id of anybody."""
        return msgspec.structs.replace(
            self,
            status=status,
            ended_at=datetime.now(UTC),
            error=mask_ids(error)[:TEXT_LENGTH] or None,
            request_id=request_id or None,
            hint=mask_ids(hint)[:TEXT_LENGTH] or None,
        )


class AttemptFile:
    """The file of an attempt that runs. Where it cannot be written, the attempt goes on without."""

    def __init__(self, data: DataPath, attempt: Attempt) -> None:
        """Make it, and write that the attempt runs."""
        self._file: InPlaceFile | None = None
        folder = DataFolder(data).attempts
        with suppress(OSError):
            make_folder(folder)
            path = folder / f"{attempt.attempt_id}.json"
            with suppress(FileNotFoundError):
                (folder / SPARE).rename(path)
            self._file = InPlaceFile(path)
            sync_names(folder)
            fcntl.flock(self._file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.write([attempt])

    def write(self, attempts: Sequence[Attempt]) -> None:
        """Let the file say this of the attempt."""
        if self._file:
            with suppress(OSError):
                self._file.write(msgspec.json.encode(list(attempts)))

    def close(self) -> None:
        """Let others have it: what it says now is how the attempt ended."""
        if self._file:
            self._file.close()
            self._file = None


def new_attempt(mode: str, stripe_account: str = "") -> Attempt:
    """Return an attempt that begins now."""
    now = datetime.now(UTC)
    attempt_id = f"{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}Z-{secrets.token_hex(3)}"
    return Attempt(attempt_id=attempt_id, mode=mode, stripe_account=stripe_account, started_at=now)


def ended_attempts(data: DataPath) -> dict[Path, list[Attempt]]:
    """Return file → the attempts of this machine that have ended and may not be in the table yet, oldest first."""
    found = {}
    for path in sorted(DataFolder(data).attempts.glob("*.json")):
        with suppress(OSError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # it runs
            try:
                attempts = msgspec.json.decode(file.read(), type=list[Attempt])
            except UNREADABLE:
                attempts = []  # the machine stopped while it was made
            ended = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
            found[path] = [_died(attempt, ended) for attempt in attempts]
    return found


def _died(attempt: Attempt, at: datetime) -> Attempt:
    if attempt.status != "running":
        return attempt
    died = attempt.ended("interrupted", DIED, hint=GOES_ON)
    return msgspec.structs.replace(died, ended_at=at)


def forget(files: Iterable[Path]) -> None:
    """Remove files whose attempts are in the table; one of them stays as the spare one."""
    for path in files:
        with suppress(OSError):
            path.rename(path.with_name(SPARE))
            sync_names(path.parent)


def row(attempt: Attempt, fincon_version: str) -> dict[str, Any]:
    """Return an attempt's row of the table ``attempts``."""
    counts = attempt.counts
    return {
        **{
            name: getattr(attempt, name)
            for name in ("attempt_id", "mode", "status", "started_at", "ended_at", "run_id", "stripe_account")
        },
        **{name: counts.get(name, 0) for name in ("requests", "retries", "throttled")},
        "requests_by_endpoint": msgspec.json.encode(by_endpoint(counts)).decode(),
        **{name: getattr(attempt, name) for name in ("error", "request_id", "hint")},
        "fincon_version": fincon_version,
    }


def by_endpoint(counts: Mapping[str, int]) -> dict[str, int]:
    """Return endpoint → requests, of a client's counts."""
    return {name.partition(":")[2]: count for name, count in sorted(counts.items()) if ":" in name}
