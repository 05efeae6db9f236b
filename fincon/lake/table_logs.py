"""Say what the Delta tables' logs know of their files, so that neither a log nor a file is read for it again."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import msgspec
import pyarrow as pa
from deltalake import DeltaTable

from fincon.storage.data_folder import UNREADABLE, sync_names

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
    """Return what tells the commit of a version from any that is put in its place: which file it is, and where.

    Empty where it is not the newest of the local table's log, or cannot be looked at.
    """
    log = table / LOG
    try:
        found = (log / commit_name(version)).stat()
        is_newest = not (log / commit_name(version + 1)).exists()
        where = log.resolve()  # of a table behind a link the files are named where they are
    except OSError:
        return ""
    return f"{found.st_ino}-{found.st_size}-{found.st_ctime_ns}-{where}" if is_newest else ""


def tags_of(lake: Path, tables: Mapping[str, tuple[int, object]]) -> dict[str, str]:
    """Return the tag of the newest commit of each of a local lake's ``tables`` (name → its version, and more)."""
    return {name: tag_of_commit(lake / name, version) for name, (version, _) in tables.items()}


def is_as_noted(lake: Path, noted: Logs) -> bool:
    """Return whether nothing was committed to a local lake since, nor put in the place of what was."""
    now = tags_of(lake, noted.tables)
    return noted.tags == now and all(now.values())


def take_noted(path: Path) -> Logs | None:
    """Return what was noted, once: whoever then stops half-way must not be taken for one who noted what it did.

    What cannot be read is as if it were not there: the logs say it all.
    """
    try:
        content = path.read_bytes()
        path.unlink()
        sync_names(path.parent)  # or a crash of the machine brings it back
        return msgspec.json.decode(content, type=Logs)
    except (OSError, *UNREADABLE):
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
