"""Erase what was noted that it must go, from whatever an earlier attempt left of it, and prove it.

Who must go is on disk for good before their first row goes, and is forgotten last: what a customer's accounts are stands in
tables that are erased too. So whoever holds the data folder next finishes what was begun.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from fincon.errors import RunFailed, UsageError
from fincon.lake import digests
from fincon.lake import erasure as lake_erasure
from fincon.lake.incremental import closed_sessions, write_closed_sessions
from fincon.lake.sightings import forget
from fincon.lake.snapshots import latest_files_by_table
from fincon.lake.tables import Lake
from fincon.lake.version_sql import sql_name
from fincon.landing.page_store import PageStore
from fincon.landing.spool import Spool
from fincon.storage.data_folder import GARBLED, RANGES_FILE, DataFolder, atomic_write, open_duckdb, sync_names
from fincon.storage.readers import Readers
from fincon.storage.s3 import DataPath, S3Path
from fincon.transforms.identities import is_id, names_one_of, one_of
from fincon.transforms.schemas import ERASURES, OBJECT_TABLES
from fincon.transforms.wording import pluralize
from fincon.warehouse.views import publish

SHOWN = 3
"""How many files are named where something is left."""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """Who is being erased: all that is needed to begin again at any moment."""

    identities: list[str]
    """The one that was asked for, then those that belong to it."""
    records: list[dict[str, Any]]
    """The rows of ``erasures``: keyed hashes, and how many rows each table loses of each run."""
    after: int
    """The sequence of what was recorded last before."""
    removed: dict[str, int]
    """Table → how many rows go; and ``pages``."""


def note(data: DataPath, erasure: Erasure) -> None:
    """Write down for good who must go: from here on they do."""
    with atomic_write(DataFolder(data).erasing) as part:
        part.touch(mode=0o600)
        part.write_bytes(msgspec.json.encode(erasure))


def begun(data: DataPath) -> Erasure | None:
    """Return the erasure that was begun and not finished, if there is one.

    Raises:
        RunFailed: it cannot be read.
    """
    path = DataFolder(data).erasing
    try:
        return msgspec.json.decode(path.read_bytes(), type=Erasure) if path.exists() else None
    except GARBLED as error:
        raise RunFailed(
            f"An erasure was begun, and {path}, which says of whom, cannot be read: {error}.",
            "Remove that file, and erase the same id again.",
        ) from error


def finish(data: DataPath, lake: Lake) -> bool:
    """Do all that is left of an erasure that was begun; return whether a reader held on to old views. Needs the lock.

    Raises:
        RunFailed: a trace is left.
    """
    erasure = begun(data)
    if erasure is None:
        return False
    readers = Readers(DataFolder(data).views)
    identities = erasure.identities
    if lake.last_sequence(ERASURES) == erasure.after:
        lake.add_records(ERASURES, [_typed(record) for record in erasure.records])
    lake_erasure.remove_torn_files(lake)
    rewrite = lake_erasure.without(lake, identities)
    for table in OBJECT_TABLES:
        lake_erasure.replace_files(lake, table, rewrite)
    closed = closed_sessions(lake.data)
    write_closed_sessions(lake.data, {session for session in closed if session[1] not in identities})
    forget(lake, identities)
    digests.forget(lake)
    for copy in [*pages_naming(data, identities), *_ranges_naming(data, identities)]:
        copy.unlink()
    publish(data, latest_files_by_table(lake))
    is_held = readers.wait()
    for table in OBJECT_TABLES:
        lake_erasure.remove_old_files(lake, table, rewrite)
    Spool(data).erase(identities)  # last, for a listener goes on writing what comes
    if left := traces(data, identities):
        raise RunFailed(f"Traces are left in {some(left)}.", _what_to_do(data, left))
    DataFolder(data).erasing.unlink()
    sync_names(data)
    return is_held


def refuse_others(data: DataPath, identity: str, found: list[str]) -> None:
    """Refuse an erasure of which traces are in files that are not this lake's: what cannot be finished is not begun.

    Raises:
        UsageError: some of the files that were ``found`` are a lake of their own, or somebody's.
    """
    if others := [path for path in found if not DataFolder(data).owns(path)]:
        raise UsageError(
            f"{identity} is named in {some(others)} too, which is not of this lake.",
            f"{_what_to_do(data, others)} Nothing was changed.",
        )


def _what_to_do(data: DataPath, left: list[str]) -> str:
    """Return how to go on where these files name who must go."""
    others = [path for path in left if not DataFolder(data).owns(path)]
    if not others:
        return "Run the same command again."
    for folder in Path(others[0]).parents if isinstance(data, Path) else ():
        if folder == data:
            break
        if DataFolder(folder).views.exists():
            return f"{folder} is a lake of its own: erase there first, with --data, or remove it."
    return "Remove what fincon did not write, then run the same command again."


def some(paths: list[str]) -> str:
    """Return the first few of the paths, and how many others there are."""
    others = f" and {pluralize(len(paths) - SHOWN, 'other')}" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + others


def traces(data: DataPath, identities: list[str]) -> list[str]:
    """Find the files under ``data`` that still name one of the ids: pages and Parquet unpacked, all else byte by byte.

    What was noted of an erasure that is not finished is not among them.
    """
    found = {str(path) for path in pages_naming(data, identities)}
    pattern = names_one_of(identities)
    needles = re.compile(pattern.encode())
    with open_duckdb(data) as query:
        for path in _files(data):
            if path.suffix == ".parquet":
                if _is_named_in(query, path, identities):
                    found.add(str(path))
            elif path.name != DataFolder(data).erasing.name:
                with suppress(
                    FileNotFoundError
                ):  # what a listener writes meanwhile is looked at when it is loaded
                    if needles.search(path.read_bytes()):
                        found.add(str(path))
    return sorted(found)


def _is_named_in(query: duckdb.DuckDBPyConnection, file: DataPath, identities: list[str]) -> bool:
    """Return whether a Parquet file names one of the ids: as all of a cell in a column of ids, anywhere in others.

    One that is torn may.
    """
    rows = "FROM read_parquet(?, hive_partitioning = false)"
    try:
        columns = [name for name, *_ in query.execute(f"DESCRIBE {rows}", [str(file)]).fetchall()]
    except duckdb.InvalidInputException:
        return True
    tests = {
        name: ("regexp_full_match", one_of(identities))
        if is_id(name)
        else ("regexp_matches", names_one_of(identities))
        for name in columns
    }
    named = " OR ".join(
        f"coalesce({test}({sql_name(name)}::VARCHAR, ?), false)" for name, (test, _) in tests.items()
    )
    patterns = [pattern for _, pattern in tests.values()]
    return bool(query.execute(f"SELECT 1 {rows} WHERE {named} LIMIT 1", [str(file), *patterns]).fetchall())


def pages_naming(data: DataPath, identities: list[str]) -> list[Path]:
    """List the pages on this machine that name one of the ids: they are copies of what the tables hold."""
    return [p for folder in DataFolder(data).page_folders() for p in PageStore(folder).naming(identities)]


def _ranges_naming(data: DataPath, identities: list[str]) -> list[Path]:
    """List what is noted of where listings were divided, where that names one of the ids. No finished run needs it."""
    needles = re.compile(names_one_of(identities).encode())
    noted = DataFolder(data).pages.glob(f"**/{RANGES_FILE}")
    return [path for path in noted if needles.search(path.read_bytes())]


def _files(data: DataPath) -> Iterator[DataPath]:
    """Yield every file of the data folder, and of the work folder where that is another; behind links too."""
    if isinstance(data, S3Path):
        yield from data.rglob("*")
    seen: set[str] = set()
    for folder, folders, names in os.walk(DataFolder(data).work, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (path for name in names if (path := Path(folder, name)).is_file())


def _typed(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "observed_at": datetime.fromisoformat(record["observed_at"])}
