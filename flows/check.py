"""Check what a lake says, as a Prefect flow. It needs no key.

What leads to DuckDB is imported within the flow, as in `fincon.flows.sync`.
"""

from fincon.settings import data_folder, quiet_prefect

quiet_prefect()

from prefect import flow  # noqa: E402 - after quiet_prefect, which must come first

from fincon.errors import RunFailed  # noqa: E402
from fincon.flows.flow_options import run_name  # noqa: E402
from fincon.transforms.wording import pluralize  # noqa: E402


@flow(name="check", flow_run_name=run_name, persist_result=False)
def check(data: str | None = None) -> dict[str, int]:
    """Run every check of ``sql/checks``, and compare the last run with its pages; return how many rows break each: 0.

    Raises:
        RunFailed: a check found rows.
    """
    from fincon.flows import artifacts
    from fincon.pipeline.check import PAGES_AGREE, pages_disagree
    from fincon.warehouse.checks import run_checks

    folder = data_folder(data)
    found = run_checks(folder)
    found.append(("pages_agree", PAGES_AGREE, len(pages_disagree(folder) or ())))
    artifacts.show_checks(found)
    failed = [f"{name} ({pluralize(rows, 'row')})" for name, _, rows in found if rows]
    if failed:
        raise RunFailed(f"Checks failed: {', '.join(failed)}.", "`fincon check` shows the rows.")
    return {name: rows for name, _, rows in found}
