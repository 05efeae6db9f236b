"""Check what a lake says: by the checks in ``sql/checks``, and against the raw pages it was made of."""

import tempfile
from pathlib import Path
from typing import Any

from fincon.errors import UnloadableRun
from fincon.lake.append import staged_rejects, staged_sums
from fincon.lake.staging import stage, staged_files
from fincon.lake.tables import QUERY_THREADS, SPILL, Lake
from fincon.lake.version_sql import read_parquet_sql, reconcile_sql
from fincon.landing.run_folder import RunFolder
from fincon.settings import query_memory
from fincon.storage.data_folder import DataFolder
from fincon.storage.s3 import DataPath
from fincon.transforms.page import Origin
from fincon.transforms.reconcile import Sums, differences, sums_of_pages, sums_of_rejects
from fincon.transforms.schemas import BALANCES
from fincon.warehouse.checks import run_checks
from fincon.warehouse.connection import open_views

PAGES_AGREE = (
    "Balances in the views add up to those on the raw pages of the last run, per currency and to the unit."
)
"""What `pages_disagree` checks, as the checks in ``sql/checks`` say theirs."""


def failed_checks(data: DataPath) -> dict[str, int]:
    """Return check → how many rows it found wrong, for those that found any."""
    found = run_checks(
        data,
        threads=QUERY_THREADS,
        memory_limit=query_memory(),
        temp_directory=str(DataFolder(data).work / f"{SPILL}checks"),
    )
    return {name: rows for name, _, rows in found if rows}


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
            connection.execute(reconcile_sql(read_parquet_sql(parts), "FROM balances")).fetchall()
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
