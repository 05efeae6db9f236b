"""Objects of a bucket as files that DuckDB reads, through the interface it has for that in Python (fsspec).

DuckDB's own httpfs reads the same names, but is downloaded when it is first used; this needs no download, and the
environment alone has the credentials.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem

from fincon.storage.s3 import SCHEME, Bucket, ConditionFailed, S3Path, s3_errors

END = 1 << 14
"""Bytes fetched when an object is opened: the end, where a Parquet file has its footer."""

FRESH_SECONDS = 1.0
"""For how long an object that was opened need not be opened again: a query opens each file several times.

Whoever holds the lease knows of every change, and opens an object once.
"""

POOL = ThreadPoolExecutor(16, thread_name_prefix="objects")


class S3FileSystem(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """The bucket, by names that begin with ``s3://``.

    DuckDB first asks for what each name stands for, then opens one after the other: so they are fetched side by side
    from the first moment on.
    """

    protocol = "s3"
    cachable = False

    def __init__(self, bucket: Bucket) -> None:
        super().__init__()
        self._bucket = bucket

    def open(self, path: str, mode: str = "rb", **_: Any) -> "OpenObject":
        """Open the object for reading."""
        try:
            return self._open(path).result()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{path} is not there any more: ask again, of the newest views"
            ) from error

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the object itself, for no name is a pattern."""
        self._open(path)  # DuckDB asks this of every name first, so all are fetched side by side
        return [path]

    def exists(self, path: str, **_: Any) -> bool:
        """Say yes: whether it is there shows when it is opened."""
        return True

    def size(self, path: str) -> int:
        """Return the bytes of an object that was opened."""
        return self._open(path).result().size

    def modified(self, path: str) -> datetime:
        """Return when an object that was opened had been written."""
        return self._open(path).result().modified

    def _open(self, path: str) -> "Future[OpenObject]":
        key = path.removeprefix(f"{SCHEME}{self._bucket.name}/")
        found: tuple[float, Future[OpenObject]] | None = self._bucket.opened.get(key)
        if found and (self._bucket.lease or time.monotonic() - found[0] < FRESH_SECONDS):
            return found[1]
        opened = POOL.submit(self._object, key)
        self._bucket.opened[key] = (time.monotonic(), opened)
        return opened

    def _object(self, key: str) -> "OpenObject":
        copy = self._bucket.copies.get(key)
        return CopiedObject(copy) if copy else OpenObject(S3Path(self._bucket, key))


class _Thread(threading.local):
    at = 0


class OpenObject:
    """An object as a file that is read. DuckDB shares one among its threads, so each thread has a place of its own.

    All is read from the object as it was when it was opened; if it was written anew meanwhile, reading fails rather
    than mix the two.
    """

    def __init__(self, path: S3Path) -> None:
        with s3_errors(path):
            end = path.bucket.store.get(path.key, options={"range": {"suffix": END}})
            self._end = bytes(end.bytes())
        self._path = path
        self._tag = end.meta["e_tag"]
        self._thread = _Thread()
        self.size: int = end.meta["size"]
        self.modified: datetime = end.meta["last_modified"]

    def seek(self, offset: int) -> int:
        """Set where this thread reads next."""
        self._thread.at = offset
        return offset

    def read(self, length: int) -> bytes:
        """Return the next ``length`` bytes, fewer at the end."""
        start = self._thread.at
        end = min(self.size, start + length)
        found = self._range(start, end) if start < end else b""
        self._thread.at = start + len(found)
        return found

    def _range(self, start: int, end: int) -> bytes:
        cached = self.size - len(self._end)
        if start >= cached:
            return self._end[start - cached : end - cached]
        options = {"range": (start, end), "if_match": self._tag}
        try:
            with s3_errors(self._path):
                return bytes(self._path.bucket.store.get(self._path.key, options=options).bytes())
        except ConditionFailed as error:
            raise OSError(f"{self._path} was written anew while it was read: ask again") from error

    def close(self) -> None:
        """Do nothing: nothing is held."""


class CopiedObject(OpenObject):
    """An object of which there is a copy on this machine, small enough to be held."""

    def __init__(self, copy: Path) -> None:
        self._end = copy.read_bytes()
        self._thread = _Thread()
        self.size = len(self._end)
        self.modified = datetime.fromtimestamp(copy.stat().st_mtime, UTC)
