"""Where a lake is: a folder of this machine, or one in a bucket; and the few things that differ between the two.

In a bucket are the tables, their snapshots, the views and the key of erasures. Pages, what is staged and locks are
always in a folder of this machine, the work folder, which is the data folder itself where that is local.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from fincon.storage.s3 import DataPath, S3Path


def make(folder: DataPath) -> None:
    """Make a folder, for its owner alone. A bucket has none to make."""
    if isinstance(folder, Path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def atomic_write(place: DataPath) -> Iterator[Path]:
    """A file to be written aside, which is then put in ``place``, whole and for good; what was there is replaced.

    Where writing it fails, nothing is put.
    """
    if isinstance(place, S3Path):
        with TemporaryDirectory(prefix=".staging-", dir=place.bucket.work) as folder:
            part = Path(folder) / place.name
            yield part
            ensure_lock_held(place)
            place.put(part)
        return
    part = place.with_name(f".{place.name}.part")
    part.unlink(missing_ok=True)
    yield part
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.chmod(0o600)
    part.replace(place)


@contextmanager
def local_copy(file: DataPath) -> Iterator[Path]:
    """The file itself, or a copy of the object: whoever opened it may go on reading after the copy is gone."""
    if isinstance(file, Path):
        yield file
        return
    with TemporaryDirectory(prefix="fincon-") as folder:
        copy = Path(folder) / file.name
        copy.write_bytes(file.read_bytes())
        yield copy


def delta_options(folder: DataPath) -> dict[str, str] | None:
    """How delta-rs reaches a table there: a commit is put on the condition that there is none of its number."""
    return {"conditional_put": "etag"} if isinstance(folder, S3Path) else None


MARKS_KEPT = "interval 90 days"
"""How long a table's log says of a run that its rows are in; a run that waits to be loaded waits for days at most."""


def delta_settings(folder: DataPath) -> dict[str, str | None]:
    """What is set of a new table. To open one in a bucket takes a request for each commit since its last checkpoint."""
    settings: dict[str, str | None] = {"delta.setTransactionRetentionDuration": MARKS_KEPT}
    return settings | ({"delta.checkpointInterval": "10"} if isinstance(folder, S3Path) else {})


def cut_short(log: DataPath) -> str:
    """The name of a table's newest commit, if it is empty, as after a crash of the machine. An object is whole."""
    newest = max(log.glob("*.json"), default=None) if isinstance(log, Path) else None
    return newest.name if newest and not newest.stat().st_size else ""


def ensure_lock_held(folder: DataPath) -> None:
    """Make sure, before something is changed, that no other writer has taken over. Locally the kernel does.

    Raises:
        RunFailed: one has.
    """
    if isinstance(folder, S3Path) and folder.bucket.lease:
        folder.bucket.lease.renew()


def querying(folder: DataPath, **config: Any) -> duckdb.DuckDBPyConnection:
    """A DuckDB that reads the files there by their names."""
    connection = duckdb.connect(config=config)
    if isinstance(folder, S3Path):
        from fincon.storage.duckdb_s3 import Objects

        connection.register_filesystem(Objects(folder.bucket))
    return connection
