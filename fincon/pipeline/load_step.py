"""Fetched runs into the lake, many a commit, so that no table ever holds half of one."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fincon.errors import CorruptPage, FinconError, RunFailed
from fincon.lake import closed_sessions as sightings
from fincon.lake.append import load_staged, record_runs, remove_run, staged_rejects, staged_sums
from fincon.lake.staging import stage
from fincon.lake.tables import Lake
from fincon.landing.page_store import PageStore
from fincon.landing.run_folder import (
    Run,
    can_resume,
    fetched,
    pages_folder,
    unfinished,
    unmark_fetched,
)
from fincon.pipeline.extract_step import ExtractResult, known_sessions
from fincon.pipeline.recovery import noted
from fincon.pipeline.request import Progress, StepRunner, SyncRequest
from fincon.settings import Settings
from fincon.transforms.page import Origin
from fincon.transforms.reconcile import Sums, differences, sums_of_pages, sums_of_rejects

PAGES_A_LOT, RUNS_A_LOT = 10_000, 500
"""How many pages and runs are loaded in one commit: a million accounts, or many small Stripe accounts."""

Loaded = tuple[list[dict[str, Any]], dict[str, FinconError]]
"""Rows of ``runs``; and Stripe account → why its run could not be loaded."""


def load(
    settings: Settings,
    lake: Lake,
    results: Sequence[ExtractResult],
    step: StepRunner,
    progress: Progress,
    folder: Path,
) -> Loaded:
    """Fetched runs into the lake. The pages of the listing that are staged already are in ``folder``."""
    whole = [result for result in results if result.failure is None]
    if not whole:
        return [], {}
    pages = {result.run.run_id: _spool(settings, result.run).count() for result in whole}
    told = progress.stage("pages into tables", sum(pages.values()))
    return step("transform and load", transform_and_load, settings, lake, whole, pages, told, folder)


def finish_interrupted(
    settings: Settings, lake: Lake, step: StepRunner, progress: Progress, folder: Path
) -> list[tuple[Run, dict[str, Any]]]:
    """Load every run that was fetched but not finished, so that no table holds half of one; oldest first.

    One with a damaged page is left out: its rows are out again, and its whole pages are there to go on from.
    """
    waiting = reversed(unfinished(settings.data, lake.run_ids()))
    runs = {run.run_id: run for run in waiting if fetched(settings.data, run) is not None}
    rows, _ = load(settings, lake, [ExtractResult(run) for run in runs.values()], step, progress, folder)
    return [(runs[row["run_id"]], row) for row in rows]


def already_satisfied(
    settings: Settings,
    lake: Lake,
    requests: Mapping[str, SyncRequest],
    pii: str,
    finished: Sequence[tuple[Run, dict[str, Any]]],
) -> dict[str, dict[str, Any]]:
    """Stripe account → the row of its newest run that was ``finished`` just now, where that is what is asked for."""
    known = known_sessions(lake, requests) if finished else set()
    answers = {}
    for account, (run, row) in {run.stripe_account: (run, row) for run, row in finished}.items():
        request = requests.get(account)
        if request is None or request.restart:
            continue
        ids = {session_id for session_id in request.session_ids if (account, session_id) not in known}
        own = replace(settings, stripe_account=account)
        if can_resume(run, own, request.mode, pii) and ids.issubset(_spool(settings, run).parents()):
            answers[account] = row
    return answers


def note_settled(settings: Settings, lake: Lake, runs: Iterable[Run]) -> None:
    """Keep which sessions of these runs, oldest first, are settled now."""
    page_stores: dict[str, list[PageStore]] = {}
    for run in runs:
        page_stores.setdefault(run.stripe_account, []).append(_spool(settings, run))
    sightings.note_settled(lake, page_stores)


def _spool(settings: Settings, run: Run) -> PageStore:
    return PageStore(pages_folder(settings.data, run.run_id))


def transform_and_load(
    settings: Settings,
    lake: Lake,
    results: Sequence[ExtractResult],
    pages: Mapping[str, int],
    told: Callable[[int], object],
    folder: Path,
) -> Loaded:
    """The runs' pages into the lake, many runs a commit; their rows of ``runs``, which are written last.

    A damaged page takes its run's mark away, so that the next sync fetches the page anew.
    """
    rows: list[dict[str, Any]] = []
    failures: dict[str, FinconError] = {}
    for lot in _lots(results, pages):
        staged = []
        for result in lot:
            run = result.run
            try:
                page_store = _spool(settings, run)
                stage(page_store.read(told, result.staged, whole=True), _origin(run), folder)
                on_pages = sums_of_pages(page_store.read_accounts(without=result.staged))
                on_pages.update(result.sums)  # adds; "+" would drop what is negative
                agree_with_pages(lake, on_pages, _origin(run), folder)
                staged.append(run)
            except CorruptPage as damage:
                remove_run(lake, run.run_id)
                unmark_fetched(settings.data, run)
                failures[run.stripe_account] = damage
        if staged:
            with noted(settings.data, [run.run_id for run in staged]):
                seen = load_staged(lake, folder, [_origin(run) for run in staged])
                rows += record_runs(lake, [_row(settings, run, seen[run.run_id]) for run in staged])
        for result in lot:
            shutil.rmtree(folder / result.run.run_id, ignore_errors=True)
    return rows, failures


def staged_differences(
    lake: Lake, pages: Sums, folder: Path, origin: Origin
) -> list[tuple[str, str, int, int]]:
    """Where the sums over what a run staged in ``folder`` differ from those over its ``pages``, read in another way."""
    rejects = sums_of_rejects(staged_rejects(lake, folder, origin))
    return differences(pages, rejects, staged_sums(lake, folder, origin))


def agree_with_pages(lake: Lake, pages: Sums, origin: Origin, folder: Path) -> None:
    """Compare what was staged with the sums of the ``pages`` it was made of, which were read in another way.

    Raises:
        RunFailed: the sums of a currency differ. Nothing was loaded.
    """
    wrong = staged_differences(lake, pages, folder, origin)
    if wrong:
        currency, what, sent, made = wrong[0]
        raise RunFailed(
            f"Run {origin.run_id}: {what} in {currency} adds up to {sent} on its pages and to {made} in the rows made of them.",
            "This is a bug in fincon; the views still answer with the run before. Please report it.",
        )


def _lots(results: Sequence[ExtractResult], pages: Mapping[str, int]) -> Iterator[list[ExtractResult]]:
    """Runs to load together: few commits, and no more staged rows than the largest run has anyhow."""
    lot: list[ExtractResult] = []
    for result in results:
        full = sum(pages[other.run.run_id] for other in lot) + pages[result.run.run_id] > PAGES_A_LOT
        if lot and (full or len(lot) == RUNS_A_LOT):
            yield lot
            lot = []
        lot.append(result)
    if lot:
        yield lot


def _origin(run: Run) -> Origin:
    return Origin(run.run_id, run.stripe_account)


def _row(settings: Settings, run: Run, seen: Mapping[str, int]) -> dict[str, Any]:
    """The run's row of ``runs``."""
    page_store = _spool(settings, run)
    counts = fetched(settings.data, run) or {}
    return {
        "run_id": run.run_id,
        "mode": run.mode.replace("events", "accounts") if page_store.parts() else run.mode,
        "status": "succeeded",
        "started_at": run.started_at,
        "finished_at": datetime.now(UTC),
        **{name: counts.get(name, 0) for name in ("requests", "retries", "throttled")},
        "requests_by_endpoint": json.dumps(
            {name.partition(":")[2]: count for name, count in sorted(counts.items()) if ":" in name}
        ),
        "complete_until": _utc(page_store.complete_until()),
        "pages": page_store.count(),
        **seen,
        "stripe_version": run.stripe_version,
        "stripe_account": run.stripe_account,
        "fincon_version": version("fincon"),
        "pii": run.pii or None,
    }


def _utc(micros: int | None) -> datetime | None:
    return None if micros is None else datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
