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
from typing import Any, NamedTuple, Protocol

from fincon.errors import RunFailed, UsageError

SCHEME = "s3://"
ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9._=-]+)*)/?")


class ConditionFailed(Exception):
    """An object is not, or no longer, as a put or a get made it a condition."""


class HeldLease(Protocol):
    """The right to write to a lake, while this process holds it (`fincon.storage.lease`)."""

    follows: str
    """The token of the lease before, if it was released in order; else empty."""

    @property
    def token(self) -> str:
        """Return what no other lease has."""

    @property
    def must_fence(self) -> bool:
        """Tell whether the holder before died, and may still have a commit under way."""

    def mark_fenced(self) -> None:
        """Note that no commit of the holder before can follow any more."""

    def renew(self) -> None:
        """Say that the holder is alive, and make sure that it still is the holder."""


class Stat(NamedTuple):
    """The size and age of an object, under the names that `os.stat_result` has for them."""

    st_size: int
    st_mtime: float


class Bucket:
    """A bucket, and the folder of this machine in which a run keeps what is under way."""

    def __init__(self, name: str, work: Path) -> None:
        self.name = name
        self.work = work
        self.lease: HeldLease | None = None
        """Set while this process may write."""
        self.opened: dict[str, Any] = {}
        """Key → what a reader keeps of the object; dropped when it is written anew."""
        self.copies: dict[str, Path] = {}
        """Key → a file of this machine that is the same, as long as this process may write."""

    def __reduce__(self) -> tuple[type["Bucket"], tuple[str, Path]]:
        # To another process goes where it is, and no connection or lease.
        return Bucket, (self.name, self.work)

    @cached_property
    def store(self) -> Any:
        """Connect, when it is first needed.

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
        return f"S3Path({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Path) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def name(self) -> str:
        """Return the last part."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Return the name's end from its last dot on."""
        return Path(self.name).suffix

    @property
    def parent(self) -> "S3Path":
        """Return the folder it is in."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def exists(self) -> bool:
        """Tell whether there is such an object."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def stat(self) -> Stat:
        """Return size in bytes and time of the last change (seconds since the Unix epoch).

        Raises:
            FileNotFoundError: there is no such object.
        """
        if self._stat is None:
            with s3_errors(self):
                self._stat = _stat(self.bucket.store.head(self.key))
        return self._stat

    def read_bytes(self) -> bytes:
        """Return the object.

        Raises:
            FileNotFoundError: there is none.
        """
        return self.read_tagged()[0]

    def read_tagged(self) -> tuple[bytes, str]:
        """Return the object and its tag, which another version of it does not have.

        Raises:
            FileNotFoundError: there is none.
        """
        with s3_errors(self):
            found = self.bucket.store.get(self.key)
            return bytes(found.bytes()), str(found.meta["e_tag"])

    def put(self, content: bytes | Path, mode: Any = "overwrite") -> str:
        """Write the object whole and return its tag. ``mode`` is obstore's: on which condition.

        Raises:
            ConditionFailed: the condition is not met; nothing was written.
        """
        with s3_errors(self):
            self.bucket.opened.pop(self.key, None)  # its writer reads the new one from here on
            return str(self.bucket.store.put(self.key, content, mode=mode)["e_tag"])

    def unlink(self, *, missing_ok: bool = True) -> None:
        """Remove the object; S3 does not say whether there was one."""
        with s3_errors(self):
            self.bucket.store.delete(self.key)

    def glob(self, pattern: str) -> list["S3Path"]:
        """List the objects in this folder whose names match, in order."""
        return [found for found in self.rglob(pattern) if found.parent == self]

    def tags_after(self, name: str) -> dict[str, str]:
        """Return name → tag of the objects in this folder whose names come after a name, of all where it is empty."""
        after = f"{self.key}/{name}" if name else None
        with s3_errors(self):
            found = [meta for batch in self.bucket.store.list(self.key, offset=after) for meta in batch]
        tags = {meta["path"].removeprefix(f"{self.key}/"): str(meta["e_tag"]) for meta in found}
        return {name: tag for name, tag in tags.items() if "/" not in name}

    def rglob(self, pattern: str) -> list["S3Path"]:
        """List the objects at any depth under this folder whose names match, in order."""
        with s3_errors(self):
            found = [meta for batch in self.bucket.store.list(self.key or None) for meta in batch]
        paths = [S3Path(self.bucket, meta["path"], _stat(meta)) for meta in found]
        return sorted((path for path in paths if fnmatchcase(path.name, pattern)), key=str)


DataPath = Path | S3Path
"""Where a lake is, or something of it: in a folder of this machine, or in a bucket."""


def _stat(meta: Any) -> Stat:
    return Stat(meta["size"], meta["last_modified"].timestamp())


@contextmanager
def s3_errors(path: S3Path) -> Iterator[None]:
    """Put what S3 refuses of ``path`` in two lines. That there is no such object is for the caller to tell.

    Raises:
        ConditionFailed: the object is not as it was made a condition.
        UsageError: there is no such bucket, the credentials are not accepted, or packages are missing.
        RunFailed: S3 does not answer, or something else is wrong with it.
    """
    name, _ = (
        path.bucket.name,
        path.bucket.store,
    )  # connects first: without the package there is nothing to import
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" not in str(error):
            raise
        raise UsageError(f"There is no bucket {name}.", "Check FINCON_DATA, or make the bucket.") from error
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
        raise ConditionFailed(f"{path} is another by now.") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        code = re.search(r"<Code>(\w+)</Code>|status code: (\d+ \w+)", str(error))
        raise UsageError(
            f"S3 refuses {path}: {code[1] or code[2] if code else _first_line(error)}.",
            "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role: it must list, get, put and delete there.",
        ) from error
    except exceptions.BaseError as error:
        raise RunFailed(
            f"S3 does not answer for {path}: {_first_line(error)}",
            "Check AWS_ENDPOINT_URL, AWS_REGION and the network, then run the same command again.",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0].strip()
