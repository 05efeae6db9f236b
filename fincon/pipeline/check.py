"""Check what a lake says: by the checks in ``sql/checks``, and against the raw pages it was made of."""

import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from fincon.errors import UnloadableRun
from fincon.lake.append import staged_rejects, staged_sums
from fincon.lake.staging import stage, staged_files
from fincon.lake.tables import QUERY_THREADS, SPILL, Lake
from fincon.lake.version_sql import latest_sql, read_parquet_sql, reconcile_sql
from fincon.landing.run_folder import RunFolder
from fincon.settings import part_of_run_memory, run_memory
from fincon.storage.data_folder import UNREADABLE, DataFolder, atomic_write
from fincon.storage.s3 import DataPath
from fincon.transforms.page import Origin
from fincon.transforms.reconcile import Sums, differences, sums_of_pages, sums_of_rejects
from fincon.transforms.schemas import BALANCES
from fincon.warehouse.checks import Files, checks, run_checks
from fincon.warehouse.connection import open_views
from fincon.warehouse.views import made_by

PAGES_AGREE = (
    "Balances in the views add up to those on the raw pages of the last run, per currency and to the unit."
)
"""What `pages_disagree` checks, as the checks in ``sql/checks`` say theirs."""

FEW_ROWS = 200_000
"""Up to so many, two checks are asked at once: most of what one takes is then to bind it, which one thread does."""

SNAPSHOTS = "snapshots"
"""Among tables' files, the name of those that the snapshots of their latest state are."""

WHOLE_EACH_SECONDS = 86_400.0
"""After how long a sync checks all again, whoever else does: files that are there may have been changed under it."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What ``checked.json`` says: the files of the views with which every check found nothing. It is derived."""

    made_of: str
    """A hash of the checks that were asked, and of the views."""
    whole_at: float
    """When all was checked last, in seconds since the Unix epoch."""
    files: dict[str, list[str]]
    """Table → names of its files."""


def failed_checks_of_sync(data: DataPath, files: Files, at_once: int = 1) -> dict[str, int]:
    """Return what `failed_checks` does, of what is in those ``files`` alone (table → all that its views read) that are new.

    All is checked where that is not known to be enough: files are gone or snapshots are others since, some check failed then,
    or a day has passed.
    """
    checked, now = DataFolder(data).checked, time.time()
    before = _checked(checked)
    made_of = hashlib.sha256("".join([made_by(), *(query for _, _, query in checks())]).encode()).hexdigest()
    touched = None
    if before and before.made_of == made_of and 0 <= now - before.whole_at < WHOLE_EACH_SECONDS:
        touched = _added(files, before.files)
    failed = failed_checks(data, touched, at_once)
    if failed:
        checked.unlink(missing_ok=True)
        return failed
    names = {table: [_name(file) for file in of_table] for table, of_table in files.items()}
    whole_at = before.whole_at if before and touched is not None else now
    with atomic_write(checked) as part:
        part.write_bytes(msgspec.json.encode(Checked(made_of=made_of, whole_at=whole_at, files=names)))
    return {}


def _checked(path: Path) -> Checked | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Checked)
    except UNREADABLE:
        return None


def _added(files: Files, before: Files) -> dict[str, list[str]] | None:
    """Return table → the files that were not there before; None where one that was is gone."""
    added = {}
    if {_name(file) for file in files.get(SNAPSHOTS, ())} != set(before.get(SNAPSHOTS, ())):
        return None  # views of the latest state read all of another file now
    for table, of_table in files.items():
        known = set(before.get(table, ()))
        if not known <= {_name(file) for file in of_table}:
            return None
        added[table] = [file for file in of_table if _name(file) not in known]
    return added


def _name(file: str) -> str:
    return file.rpartition("/")[2]


def failed_checks(data: DataPath, touched: Files | None = None, at_once: int = 1) -> dict[str, int]:
    """Return check → how many rows it found wrong, for those that found any: everywhere, or in files that were ``touched``.

    So many are asked ``at_once``, each on its part of the threads.
    """
    spill, threads = str(DataFolder(data).work / f"{SPILL}checks"), QUERY_THREADS // at_once

    def found(memory: str) -> list[tuple[str, str, int]]:
        return run_checks(data, touched, at_once, threads=threads, memory_limit=memory, temp_directory=spill)

    try:
        wrong = found(part_of_run_memory())
    except duckdb.OutOfMemoryException:  # as with millions of transactions
        wrong = found(run_memory())
    return {name: rows for name, _, rows in wrong if rows}


def pages_disagree(data: DataPath) -> list[tuple[Any, ...]] | None:
    """Return where the views differ from the raw pages of the last run, in sums per currency, to the unit.

    None where the pages are pruned, or on another machine. An account of which a later run knows something newer is left out.
    """
    with (
        tempfile.TemporaryDirectory(prefix="fincon-") as scratch,
        open_views(data, [scratch]) as connection,
        Lake(DataFolder(data).lake) as lake,
    ):
        folder = Path(scratch)
        last = connection.execute(
            "SELECT run_id, stripe_account FROM runs ORDER BY finished_at DESC"
        ).fetchone()
        if last is None or not RunFolder(data, last[0]).path.exists():
            return None
        page_store, origin = RunFolder(data, last[0]).pages, Origin(*last)
        stage(page_store.read(), origin, folder)
        parts = staged_files(folder, BALANCES, [origin])
        found = (
            connection.execute(
                reconcile_sql(latest_sql(BALANCES, "", read_parquet_sql(parts)), "FROM balances")
            ).fetchall()
            if parts
            else []
        )
        return [*staged_differences(lake, sums_of_pages(page_store.read_accounts()), folder, origin), *found]


def staged_differences(
    lake: Lake, pages: Sums, folder: Path, origin: Origin
) -> list[tuple[str, str, int, int]]:
    """Return where the sums over what a run staged in ``folder`` differ from those over its ``pages``, read in another way."""
    rejects = sums_of_rejects(staged_rejects(lake, folder, origin))
    return differences(pages, rejects, staged_sums(lake, folder, origin))


def agree_with_pages(lake: Lake, pages: Sums, origin: Origin, folder: Path) -> None:
    """Compare what was staged with the sums of the ``pages`` it was made of, which were read in another way.

    Raises:
        UnloadableRun: the sums of a currency differ. Nothing was loaded.
    """
    wrong = staged_differences(lake, pages, folder, origin)
    if wrong:
        currency, what, sent, made = wrong[0]
        raise UnloadableRun(
            f"Run {origin.run_id}: {what} in {currency} adds up to {sent} on its pages and to {made} in the rows made of them.",
            "This is a bug in fincon; the views still answer with the run before. Please report it.",
        )
