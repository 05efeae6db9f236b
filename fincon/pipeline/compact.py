"""Keep a lake small: merge its files, and remove what nobody needs any more."""

import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

from fincon.lake import snapshots
from fincon.landing.run_folder import RESUMED_WITHIN, Run, RunFolder, unfinished_runs
from fincon.pipeline.recovery import recovered_lake
from fincon.storage.data_folder import DataFolder
from fincon.storage.s3 import DataPath
from fincon.warehouse.views import publish


def compact(data: DataPath, retention_days: int, pages_days: int) -> dict[str, Any]:
    """Merge small files, drop those no view has needed for ``retention_days``, and pages older than ``pages_days``.

    Return ``files``: table → how many before and after; and ``runs_pruned``: how many runs lost their pages.
    """
    with recovered_lake(data, reads_logs=True) as lake:
        files = snapshots.compact(lake, timedelta(days=retention_days))
        publish(data, snapshots.latest_files_by_table(lake))
        awaited = {run.run_id for run in unfinished_runs(data, lake.run_ids()) if _is_awaited(data, run)}
        return {"files": files, "runs_pruned": _prune_pages(data, awaited, timedelta(days=pages_days))}


def _is_awaited(data: DataPath, run: Run) -> bool:
    """Tell whether an unfinished run will still be loaded or gone on with: any other was given up."""
    return (
        RunFolder(data, run.run_id).fetch_counts() is not None
        or datetime.now(UTC) - run.started_at < RESUMED_WITHIN
    )


def _prune_pages(data: DataPath, awaited: set[str], keep_for: timedelta) -> int:
    """Remove the pages of runs older than ``keep_for`` that are not awaited; return of how many runs."""
    pruned = 0
    oldest = (datetime.now(UTC) - keep_for).timestamp()
    for folder in DataFolder(data).page_folders():
        if folder.name not in awaited and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder)
            pruned += 1
    return pruned
