"""The data folder: what it is called in it, and the few things that differ between one of this machine and one in a bucket.

    lake/<table>/                 the Delta tables; format.json, by which version they are written
    lake/format.json              as what they were written
    snapshots/                    the latest state of each table, snapshots.json, settled.parquet,
                                  sightings.parquet
    loading/<run_id>              runs that are being loaded
    before/<run_id>.….parquet     what that takes out or corrects, as it was before
    alerts.json                   what was told to whom, by hashes
    rates.parquet                 the exchange rates that `fincon rates` was given
    patterns.csv                  by what texts a lender knows fees and payments of loans; people write it
    fincon.duckdb                 the views
    .erasure-key                  the key of the hashes that stand for who was erased
    .erasing                      who is being erased, until nothing names them any more
    .lock                         who writes

Always on this machine, in the work folder, which is the data folder itself where that is local:

    pages/<run_id>/               raw pages, run.json, fetched.json, costs.json, parts.json
    pages/quarantine/<run_id>/    those of a run that cannot be loaded, and reason.txt
    serve.json                    when `fincon serve` began each deployment last
    logs.json                     what the tables' logs said when this machine wrote last
    copies/<table>/               for a lake in a bucket: the tables runs, attempts and erasures as they were then
    page_times.json               from when the newest pages are that some files of the tables hold
    digests.bin, digests.json     which accounts of a listing need not be read again: those that are as they were
    checked.json                  with which files every check found nothing wrong last
    spool/                        events that `fincon listen` took, until they are loaded
    attempts/                     attempts that run, or are not in the table of that name yet
    .staging-…                    what a run has under way
    .lock, .work-id               who writes; and for a lake in a bucket, which folder this is
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import msgspec

from fincon.errors import RunFailed, UsageError
from fincon.storage.duckdbs_ahead import start_duckdb
from fincon.storage.s3 import DataPath, S3Path

RUN_FILE, FETCHED_FILE, COSTS_FILE, RANGES_FILE = "run.json", "fetched.json", "costs.json", "parts.json"
"""Of a run, beside its pages: what it was asked for; that all is fetched; what that cost; how the listing was divided."""

LOCK_FILE = ".lock"
"""Who writes: a lock of the kernel's in the work folder, and a lease of that name in a bucket."""

STAGING = ".staging-"
"""How folders begin that hold what a run has under way."""

NO_FSYNC_OF_FOLDERS = (errno.EINVAL, errno.ENOTSUP)
"""What file systems say that have no fsync for folders, some of those in a network."""

GARBLED = (msgspec.DecodeError, UnicodeDecodeError)
"""What it raises to decode JSON that is cut short, or is no text."""

UNREADABLE = (FileNotFoundError, *GARBLED)
"""What it raises to read a small file of ours that is gone or garbled: where it is derived, as if there were none."""

PART = ".part"
"""How files end that are being written."""


class DataFolder:
    """Name every file and folder of the data folder ``root``. What reads or writes one takes its name from here."""

    def __init__(self, root: DataPath) -> None:
        self.root = root
        self.work = root.bucket.work if isinstance(root, S3Path) else root
        self.lake = root / "lake"
        self.lake_format = self.lake / "format.json"
        self.snapshots = root / "snapshots"
        self.snapshot_index = self.snapshots / "snapshots.json"
        self.settled_sessions = self.snapshots / "settled.parquet"
        self.sightings = self.snapshots / "sightings.parquet"
        self.loading = root / "loading"
        self.before = root / "before"
        self.alerts = root / "alerts.json"
        self.rates = root / "rates.parquet"
        self.patterns = root / "patterns.csv"
        self.views = root / "fincon.duckdb"
        self.erasure_key = root / ".erasure-key"
        self.erasing = root / ".erasing"
        self.lock = self.work / LOCK_FILE
        self.work_id = self.work / ".work-id"
        self.pages = self.work / "pages"
        self.quarantine = self.pages / "quarantine"
        self.spool = self.work / "spool"
        self.attempts = self.work / "attempts"
        self.logs = self.work / "logs.json"
        self.log_copies = self.work / "copies"
        self.page_times = self.work / "page_times.json"
        self.checked = self.work / "checked.json"
        self.served = self.work / "serve.json"

    @property
    def digests(self) -> Path:
        """Return the file of the digests of accounts."""
        return self.work / "digests.bin"  # nobody takes it for a table

    @property
    def digests_since(self) -> Path:
        """Return the file that says which of them do not hold any more."""
        return self.work / "digests.json"

    def owns(self, file: DataPath | str) -> bool:
        """Return whether a file below the data or the work folder is one of those that fincon makes there."""
        below = str(file)
        for root in (self.root, self.work):
            below = below.removeprefix(f"{root}/")
        top = below.partition("/")[0]
        own = {path.name for path in vars(self).values() if path not in (self.root, self.work)}
        own |= {self.digests.name, self.digests_since.name}
        return top in own or top.startswith(STAGING) or (top.startswith(".") and top.endswith(PART))

    def run_pages(self, run_id: str) -> Path:
        """Return the folder of a run's pages."""
        return self.pages / run_id

    def page_folders(self) -> list[Path]:
        """List the folders that hold pages, those of runs that were set aside among them."""
        found = [*self.pages.glob("*"), *self.quarantine.glob("*")]
        return sorted(folder for folder in found if folder != self.quarantine)


def refuse_own(output: Path, data: DataPath) -> None:
    """Refuse to write over what fincon keeps in the data folder.

    Raises:
        UsageError: the file is one of those, or would be among them.
    """
    targets = (output.absolute(), output.resolve())  # the lake's own folders may be links
    folders = {DataFolder(data).work, *([data] if isinstance(data, Path) else [])}
    if any(
        one.is_relative_to(folder) and DataFolder(data).owns(one) for one in targets for folder in folders
    ):
        raise UsageError(f"{output} is where fincon keeps the lake itself.", "Name another place.")


def prepare(data: DataPath) -> None:
    """Make the folder on this machine, for its owner alone; all that this process writes from now on is private too.

    Raises:
        RunFailed: it cannot be made or written.
    """
    os.umask(0o077)  # DuckDB and delta-rs make files of their own, which no mode of ours reaches
    folder = DataFolder(data).work
    try:
        make_folder(folder)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
    except OSError as error:
        raise RunFailed(
            f"The data folder {folder} cannot be written: {error.strerror}.",
            "Name another with --data or FINCON_DATA.",
        ) from error


def remove_leftovers(data: DataPath) -> None:
    """Remove what killed runs left of their work in progress. Only for who holds the lock.

    What others write without it, as news that was told, metrics or an export, may be under way: it is left alone.
    """
    names = DataFolder(data)
    folder = names.work
    for leftover in folder.glob(f"{STAGING}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    locked = [f".{file.name}{PART}" for file in (names.views, names.rates, names.erasing, names.erasure_key)]
    locked += [f".{file.name}{PART}" for file in (names.digests, names.digests_since)]
    for pattern in (*locked, f"pages/*/*{PART}", f"lake/*/*{PART}", f"snapshots/*{PART}"):
        for leftover in folder.glob(pattern):
            leftover.unlink()


def make_folder(folder: DataPath) -> None:
    """Make a folder, for its owner alone, that outlasts a crash of the machine. A bucket has none to make."""
    if not isinstance(folder, Path) or folder.is_dir():
        return
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for made in missing:
        sync_names(made.parent)


@contextmanager
def atomic_write(path: DataPath) -> Iterator[Path]:
    """Yield a file to be written, which then replaces what was at ``path``, whole and for good.

    Where writing it fails, what was there stays.
    """
    if isinstance(path, S3Path):
        with TemporaryDirectory(prefix=STAGING, dir=path.bucket.work) as folder:
            part = Path(folder) / path.name
            yield part
            ensure_lock_held(path)
            path.put(part)
        return
    part = path.with_name(f".{path.name}{PART}")
    part.unlink(missing_ok=True)
    try:
        yield part
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync(part)  # before the rename, or a crash of the machine leaves an empty file of that name
    part.chmod(0o600)
    part.replace(path)
    sync_names(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Do what `atomic_write` does with content that is there already: for the many files of a run, in half the time."""
    part = path.with_name(f".{path.name}{PART}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        left = memoryview(content)
        while left:  # the kernel may take a part at a time
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)  # before the rename, or a crash leaves an empty file of that name
    finally:
        os.close(descriptor)
    os.replace(part, path)  # noqa: PTH105 - pathlib takes as long again as the kernel
    sync_names(path.parent)


def settle(*paths: Path) -> None:
    """Make sure that files outlast a crash of the machine, and their names."""
    for path in paths:
        _sync(path)
    for folder in {path.parent for path in paths}:
        sync_names(folder)


def _sync(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def sync_names(folder: DataPath) -> None:
    """Make sure that what a folder names outlasts a crash of the machine: after a rename too. A bucket's names do."""
    if not isinstance(folder, Path):
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # a folder above the data folder, which may be written and not be listed
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FSYNC_OF_FOLDERS:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def local_copy(file: DataPath) -> Iterator[Path]:
    """Yield the file itself, or a copy of the object: whoever opened it may go on reading after the copy is gone.

    Raises:
        FileNotFoundError: there is none.
    """
    if isinstance(file, Path):
        file.stat()
        yield file
        return
    with TemporaryDirectory(prefix="fincon-") as folder:
        copy = Path(folder) / file.name
        copy.write_bytes(file.read_bytes())
        yield copy


def delta_options(folder: DataPath) -> dict[str, str] | None:
    """Tell delta-rs how to reach a table there: it puts a commit on the condition that there is none of its number."""
    return {"conditional_put": "etag"} if isinstance(folder, S3Path) else None


LAST_CHECKPOINT = "_last_checkpoint"
"""What names the newest checkpoint of a table's log."""

MARKS_KEPT = "interval 90 days"
"""How long a table's log says of a run that its rows are in; a run that waits to be loaded waits for days at most."""

DELTA_SETTINGS = {"delta.setTransactionRetentionDuration": MARKS_KEPT, "delta.checkpointInterval": "10"}
"""What is set of a new table. To open one takes a millisecond for each commit since its last checkpoint, or a request."""


def cut_short(log: DataPath) -> str:
    """Name a table's newest commit, if it is empty, as after a crash of the machine. An object is whole."""
    newest = max(log.glob("*.json"), default=None) if isinstance(log, Path) else None
    return newest.name if newest and not newest.stat().st_size else ""


def drop_cut_checkpoint(log: DataPath) -> None:
    """Remove a table's newest checkpoint, if a crash of the machine left it empty or half: the commits say the same."""
    newest = max(log.glob("*.checkpoint.parquet"), default=None) if isinstance(log, Path) else None
    if newest and not newest.read_bytes().endswith(b"PAR1"):  # with which every Parquet file ends
        newest.with_name(LAST_CHECKPOINT).unlink(missing_ok=True)
        newest.unlink()


def ensure_lock_held(folder: DataPath) -> None:
    """Make sure, before something is changed, that no other writer has taken over. Locally the kernel does.

    Raises:
        RunFailed: one has.
    """
    if isinstance(folder, S3Path) and folder.bucket.lease:
        folder.bucket.lease.renew()


def open_duckdb(folder: DataPath, **config: Any) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB that reads the files there by their names; ``config`` is its own.

    Raises:
        duckdb.Error: it cannot be started, or not so.
    """
    connection = start_duckdb()
    for name, value in config.items():
        connection.execute(f"SET {name} = ?", [value])
    # DuckDB takes `python -c` and spawned workers for a person at a terminal, and writes a bar onto their standard output.
    # In a notebook without ipywidgets it draws none, and takes no word about it.
    if connection.execute("SELECT current_setting('enable_progress_bar')").fetchall() == [(True,)]:
        connection.execute("SET enable_progress_bar = false")
    if isinstance(folder, S3Path):
        from fincon.storage.duckdb_s3 import S3FileSystem  # its packages come with fincon[s3] alone

        connection.register_filesystem(S3FileSystem(folder.bucket))
    return connection
