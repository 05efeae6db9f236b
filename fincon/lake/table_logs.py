"""Say what the Delta tables' logs know of their files, so that neither a log nor a file is read for it again."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import msgspec
import pyarrow as pa
from deltalake import DeltaTable

LOG = "_delta_log"
"""The folder of a table's log, in its own."""


class FileStats(NamedTuple):
    """Say what a table's log knows of a file. What it does not say is None: of one that an erasure wrote anew, no run."""

    rows: int | None
    first_run: str | None
    last_run: str | None

    def may_hold(self, run_id: str) -> bool:
        """Tell whether rows of a run may be in it."""
        return self.first_run is None or self.last_run is None or self.first_run <= run_id <= self.last_run


class Logs(msgspec.Struct, frozen=True):
    """What ``logs.json`` says: all that a writer needs of the tables' logs, as long as nobody has written since."""

    token: str
    """Of the lease under which it was noted; of a local lake, its folder."""
    tables: dict[str, tuple[int, dict[str, FileStats]]]
    """Table → its version, and its files."""
    tags: dict[str, str] = {}
    """Table → the tag of its newest commit: in a bucket, of those tables of which there is a copy (`lake.log_copies`)."""


def commit_name(version: int) -> str:
    """Return the name of a commit in a table's log; before the first, what comes before all names."""
    return f"{version:020}.json" if version >= 0 else ""


def tag_of_commit(table: Path, version: int) -> str:
    """Return what tells a local table's newest commit from any that comes in its place; empty where it is of another version."""
    log = table / LOG
    try:
        found = (log / commit_name(version)).stat()
    except FileNotFoundError:
        return ""
    is_newest = not (log / commit_name(version + 1)).exists()
    return f"{found.st_ino}-{found.st_size}-{found.st_ctime_ns}" if is_newest else ""


def take_noted(path: Path) -> Logs | None:
    """Return what was noted, once: whoever then stops half-way must not be taken for one who noted what it did."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    path.unlink()
    try:
        return msgspec.json.decode(content, type=Logs)
    except msgspec.DecodeError:
        return None


def stats_of_files(delta: DeltaTable, paths: Sequence[str]) -> Iterator[tuple[str, FileStats]]:
    """Yield each of a table's files, whose absolute ``paths`` these are, with what its log says of it."""
    actions = pa.table(delta.get_add_actions(flatten=True))
    columns = [
        actions[name].to_pylist() if name in actions.column_names else [None] * len(actions)
        for name in ("path", "num_records", "min.run_id", "max.run_id")
    ]
    by_name = {
        unquote(path).rpartition("/")[2]: FileStats(*said) for path, *said in zip(*columns, strict=True)
    }
    for path in paths:
        yield path, by_name[path.rpartition("/")[2]]
