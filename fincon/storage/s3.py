"""A folder in a bucket of an object store (S3), with what `pathlib.Path` offers of use here.

Credentials, region and endpoint come from the environment or from the machine's role, as for any program that speaks
to S3; they are in no object of this module, and so in no file that is made from one.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fincon.errors import RunFailed, UsageError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from fincon.storage.duckdb_s3 import OpenObject
    from fincon.storage.lease import Lease

SCHEME = "s3://"
ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9._=-]+)*)/?")


class Stat(NamedTuple):
    """What is asked of a file's status, under the names that `os.stat_result` has for it."""

    st_size: int
    st_mtime: float


class Bucket:
    """A bucket, the folder of this machine in which a run keeps its pages, and the lease of who writes."""

    def __init__(self, name: str, work: Path) -> None:
        self.name = name
        self.work = work
        self.lease: Lease | None = None
        """Held while this process may write."""
        self.opened: dict[str, tuple[float, Future[OpenObject]]] = {}
        """Key → since when, and what `fincon.storage.duckdb_s3` opened of it."""

    def __reduce__(self) -> tuple[type["Bucket"], tuple[str, Path]]:
        """To another process goes where it is, and no connection or lease."""
        return Bucket, (self.name, self.work)

    @cached_property
    def store(self) -> Any:
        """The connection, made when it is first needed.

        Raises:
            UsageError: the packages for it are not installed, or its settings cannot be used.
        """
        try:
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ImportError as error:
            raise UsageError(
                f"A lake in {SCHEME}{self.name} needs the package {error.name}.",
                "Install fincon with it: pip install 'fincon[s3]'.",
            ) from error
        try:
            return S3Store(self.name)
        except (BaseError, ValueError) as error:
            raise UsageError(
                f"The settings for {SCHEME}{self.name} cannot be used: {_first_line(error)}",
                "See AWS_… in the README.",
            ) from error


class S3Path:
    """A place in a bucket: a folder, an object, or nothing yet. An object is there entirely or not at all."""

    def __init__(self, bucket: Bucket, key: str, stat: Stat | None = None) -> None:
        self.bucket = bucket
        self.key = key
        self._stat = stat

    def __truediv__(self, name: str) -> "S3Path":
        return S3Path(self.bucket, f"{self.key}/{name}".lstrip("/"))

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket.name}/{self.key}".rstrip("/")

    def __repr__(self) -> str:
        return f"Remote({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Path) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The name's end from its last dot on."""
        return Path(self.name).suffix

    @property
    def parent(self) -> "S3Path":
        """The folder it is in."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def exists(self) -> bool:
        """Whether there is such an object."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def stat(self) -> Stat:
        """Size in bytes and time of the last change (seconds since the Unix epoch).

        Raises:
            FileNotFoundError: there is no such object.
        """
        import obstore

        if self._stat is None:
            with told(self):
                self._stat = _stat(obstore.head(self.bucket.store, self.key))
        return self._stat

    def read_bytes(self) -> bytes:
        """The object.

        Raises:
            FileNotFoundError: there is none.
        """
        return self.read_tagged()[0]

    def read_tagged(self) -> tuple[bytes, str]:
        """The object and its tag, which another version of it does not have.

        Raises:
            FileNotFoundError: there is none.
        """
        import obstore

        with told(self):
            found = obstore.get(self.bucket.store, self.key)
            return bytes(found.bytes()), str(found.meta["e_tag"])

    def put(self, content: bytes | Path, mode: Any = "overwrite") -> str:
        """Write the object whole; the tag of what was written. ``mode`` is obstore's: on which condition.

        Raises:
            obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError: the condition is not met.
        """
        import obstore

        with told(self):
            self.bucket.opened.pop(self.key, None)
            return str(obstore.put(self.bucket.store, self.key, content, mode=mode)["e_tag"])

    def unlink(self, *, missing_ok: bool = True) -> None:
        """Remove the object; S3 does not say whether there was one."""
        import obstore

        with told(self):
            obstore.delete(self.bucket.store, self.key)

    def glob(self, pattern: str) -> list["S3Path"]:
        """The objects in this folder whose names match, in order."""
        return [
            found for found in self.rglob("*") if found.parent == self and fnmatchcase(found.name, pattern)
        ]

    def rglob(self, pattern: str) -> list["S3Path"]:
        """The objects at any depth under this folder whose names match, in order."""
        import obstore

        with told(self):
            found = [meta for some in obstore.list(self.bucket.store, self.key or None) for meta in some]
        places = [S3Path(self.bucket, meta["path"], _stat(meta)) for meta in found]
        return sorted((place for place in places if fnmatchcase(place.name, pattern)), key=str)


DataPath = Path | S3Path
"""Where a lake is, or something of it: in a folder of this machine, or in a bucket."""


def _stat(meta: Any) -> Stat:
    return Stat(meta["size"], meta["last_modified"].timestamp())


@contextmanager
def told(place: S3Path) -> Iterator[None]:
    """What S3 refuses, in two lines. That there is no such object, or a condition is not met, is for the caller.

    Raises:
        UsageError: there is no such bucket, or the credentials are not accepted.
        RunFailed: S3 does not answer, or something else is wrong with it.
    """
    from obstore import exceptions

    name = place.bucket.name
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" not in str(error):
            raise
        raise UsageError(f"There is no bucket {name}.", "Check FINCON_DATA, or make the bucket.") from error
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
        raise
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        code = re.search(r"<Code>(\w+)</Code>", str(error)) or re.search(
            r"status code: (\d+ \w+)", str(error)
        )
        raise UsageError(
            f"S3 refuses {place}: {code[1] if code else _first_line(error)}.",
            "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role: it must list, get, put and delete there.",
        ) from error
    except exceptions.BaseError as error:
        raise RunFailed(
            f"S3 does not answer for {place}: {_first_line(error)}",
            "Check AWS_ENDPOINT_URL, AWS_REGION and the network, then run the same command again.",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0].strip()
