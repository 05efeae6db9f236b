"""Copy the tables that are logs to the machine that writes to a lake in a bucket, to read and to commit with few requests.

To open a table there delta-rs lists its log and reads each commit since the last checkpoint, and a commit takes as much again:
some thirty requests for each table to which every run writes. On a copy in a folder it takes none. What it adds to that is put
into the bucket in delta-rs' own order: the data, then the commit, on the condition that there is none of its number, then a
checkpoint. A copy counts as long as the newest commit in the bucket is the one that it ends with, by number and by tag.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import msgspec
from deltalake import DeltaTable

from fincon.errors import RunFailed
from fincon.lake.table_logs import LOG, Logs, commit_name
from fincon.storage.data_folder import LAST_CHECKPOINT, make_folder, settle
from fincon.storage.s3 import ConditionFailed, S3Path
from fincon.transforms.schemas import LOGS

COMMIT = re.compile(r"\d{20}\.json")


class LogCopy:
    """The copy in ``folder`` of the table ``remote``. Only who holds the lease has one."""

    def __init__(self, remote: S3Path, folder: Path, tag: str) -> None:
        self.remote, self.folder = remote, folder
        self.tag = tag
        """Of the newest commit in the bucket."""
        self.delta = DeltaTable(str(folder))
        self._show(_data_files(self.delta))

    def _show(self, names: Iterable[str]) -> None:
        """Have files read here that are asked for in the bucket."""
        self.remote.bucket.copies |= {(self.remote / name).key: self.folder / name for name in names}

    def files(self) -> list[str]:
        """Return where the table's files are in the bucket."""
        return [f"{self.remote}/{name}" for name in _data_files(self.delta)]

    @contextmanager
    def pushing(self) -> Iterator[None]:
        """Let one commit be made to the copy, then put what that added into the bucket.

        Raises:
            RunFailed: somebody else has written to the table there.
        """
        before = self._names()
        yield
        added = sorted(self._names() - before, key=_order)
        for name in added:
            self._push(name)
        if any(".checkpoint." in name for name in added):
            self._push(f"{LOG}/{LAST_CHECKPOINT}")
        kept = _data_files(self.delta)
        self._show(kept)
        for path in self.folder.glob("*.parquet"):
            if path.name not in kept:
                self.remote.bucket.copies.pop((self.remote / path.name).key, None)
                path.unlink()

    def _names(self) -> set[str]:
        """Return the names of all files but the one that is written anew with each checkpoint."""
        found = (str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
        return {*found} - {f"{LOG}/{LAST_CHECKPOINT}"}

    def _push(self, name: str) -> None:
        """Put a file into the bucket: a commit only where there is none of its number."""
        settle(self.folder / name)
        content, place = (self.folder / name).read_bytes(), self.remote / name
        if not COMMIT.fullmatch(place.name):
            place.put(content)
            return
        try:
            self.tag = place.put(content, "create")
        except ConditionFailed as error:
            found, self.tag = place.read_tagged()
            if found != content:  # else the answer to an earlier try of this very put was lost on the way
                raise RunFailed(
                    f"The table {self.remote} was written by another process while this run held the lake.",
                    "No reader sees half of this run. Run the same command again.",
                ) from error


def open_copies(lake: S3Path, folder: Path, noted: Logs) -> dict[str, LogCopy] | None:
    """Return the copies below ``folder`` of a lake's tables that are logs, those made anew that were not there.

    None where the newest commit of one is another than the one noted: somebody wrote to it, or put back what was before.
    """

    def open_copy(name: str) -> LogCopy | None:
        return _open_copy(lake / name, folder / name, noted.tables[name][0], noted.tags.get(name, ""))

    names = [table.name for table in LOGS]
    with ThreadPoolExecutor(len(names)) as pool:
        found = dict(zip(names, pool.map(open_copy, names), strict=True))
    copies = {name: copy for name, copy in found.items() if copy}
    if copies.keys() != found.keys():
        lake.bucket.copies.clear()
        return None
    return copies


def _open_copy(remote: S3Path, folder: Path, version: int, tag: str) -> LogCopy | None:
    found = (remote / LOG).tags_after(commit_name(version - 1))
    newest = {name: tag_now for name, tag_now in found.items() if COMMIT.fullmatch(name)}
    if newest.keys() != {commit_name(version)} or tag not in ("", newest[commit_name(version)]):
        return None
    if not tag or not folder.exists():
        _fetch(remote, folder)
    return LogCopy(remote, folder, newest[commit_name(version)])


def _fetch(remote: S3Path, folder: Path) -> None:
    """Copy a table's log from its last checkpoint on, and the files that it names."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        last = (remote / LOG / LAST_CHECKPOINT).read_bytes()
        first = int(msgspec.json.decode(last)["version"])
    except FileNotFoundError:
        first = 0
    _download(remote / LOG, (remote / LOG).tags_after(commit_name(first - 1)), folder / LOG)
    _download(remote, _data_files(DeltaTable(str(folder))), folder)


def _download(remote: S3Path, names: Iterable[str], folder: Path) -> None:
    make_folder(folder)

    def fetch(name: str) -> None:
        (folder / name).write_bytes((remote / name).read_bytes())
        settle(folder / name)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(fetch, names))


def _data_files(delta: DeltaTable) -> list[str]:
    return [unquote(uri).rpartition("/")[2] for uri in delta.file_uris()]


def _order(name: str) -> tuple[bool, bool, str]:
    """Sort data first, then commits, then their checkpoints."""
    return name.startswith(LOG), ".checkpoint." in name, name
