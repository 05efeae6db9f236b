"""The Prefect flows beside a sync: compacting the lake, and checking what it says. They need no key.

What leads to DuckDB is imported within the flows, as in `flows.sync`.
"""

from typing import Any

from fincon.settings import data_folder, quiet_prefect

quiet_prefect()

from prefect import flow  # noqa: E402 - after quiet_prefect, which must come first
from prefect.client.schemas.objects import State  # noqa: E402

from fincon.errors import DataFolderLocked, RunFailed  # noqa: E402
from fincon.flows.sync import run_name  # noqa: E402


@flow(name="compact", flow_run_name=run_name, persist_result=False)
def compact(
    retention_days: int = 7, pages_days: int = 7, data: str | None = None, wait_seconds: float = 0
) -> "dict[str, Any] | State[Any]":
    """Merge small files, and remove old ones and old pages: `fincon compact`. Skipped while the folder is in use."""
    from fincon.flows import artifacts
    from fincon.flows.tasks import skipped
    from fincon.landing.run_folder import retry_while_locked
    from fincon.pipeline import erase as maintenance
    from fincon.pipeline.sync import machine_errors

    folder = data_folder(data)
    try:
        with machine_errors(folder):
            done = retry_while_locked(
                lambda: maintenance.compact(folder, retention_days, pages_days), wait_seconds
            )
    except DataFolderLocked as error:
        return skipped(error)
    artifacts.show_compacted(done["files"], done["runs_pruned"])
    return done


@flow(name="check", flow_run_name=run_name, persist_result=False)
def check(data: str | None = None) -> dict[str, int]:
    """Every check of ``sql/checks``, and the last run against its pages; returns how many rows break each: 0.

    Raises:
        RunFailed: a check found rows.
    """
    from fincon.flows import artifacts
    from fincon.pipeline.sync import PAGES_AGREE, pages_disagree
    from fincon.warehouse.checks import run_checks

    folder = data_folder(data)
    found = run_checks(folder)
    found.append(("pages_agree", PAGES_AGREE, len(pages_disagree(folder) or ())))
    artifacts.show_checks(found)
    failed = [f"{name} ({rows} rows)" for name, _, rows in found if rows]
    if failed:
        raise RunFailed(f"Checks failed: {', '.join(failed)}.", "`fincon check` shows the rows.")
    return {name: rows for name, _, rows in found}
