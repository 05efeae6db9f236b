"""Load fetched runs into the lake, many a commit, so that no table ever holds half of one."""

import json
import shutil
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from deltalake.exceptions import DeltaError

from fincon.errors import CorruptPage, FinconError, RunFailed, UnloadableRun
from fincon.lake import digests, incremental
from fincon.lake.absence import stage_absent
from fincon.lake.append import load_staged, record_runs
from fincon.lake.incremental import close_sessions, utc
from fincon.lake.sightings import remember
from fincon.lake.staging import has_staged, stage
from fincon.lake.take_back import take_back, under_way
from fincon.landing.page_store import PageStore
from fincon.landing.run_folder import REFUSED, Run, RunFolder, unfinished_runs
from fincon.pipeline.check import agree_with_pages
from fincon.pipeline.context import Advance, SyncContext
from fincon.pipeline.extract_step import ExtractResult
from fincon.settings import fincon_version
from fincon.storage.s3 import DataPath
from fincon.transforms.reconcile import sums_of_pages

PAGES_A_LOT, RUNS_A_LOT = 10_000, 500
"""How many pages and runs are loaded in one commit: a million accounts, or many small Stripe accounts."""


MACHINES = (OSError, MemoryError, duckdb.Error, DeltaError, FinconError)
"""Errors that are of the machine, or say themselves what they are of."""


class Loaded(NamedTuple):
    """Say what is in the lake now, and what could not be loaded."""

    rows: list[dict[str, Any]]
    """The row of ``runs`` of each run that is in."""
    failures: dict[str, FinconError]
    """Stripe account → why its run is not."""


def load(ctx: SyncContext, results: Sequence[ExtractResult]) -> Loaded:
    """Load the runs of which all is fetched. Pages of the listing that are staged already are not read again."""
    whole = [result for result in results if result.failure is None]
    if not whole:
        return Loaded([], {})
    pages = {result.run.run_id: RunFolder(ctx.data, result.run.run_id).pages.count() for result in whole}
    advance = ctx.progress.stage("pages into tables", sum(pages.values()))
    return ctx.run_step("transform and load", transform_and_load, ctx, whole, pages, advance)


def load_interrupted(
    ctx: SyncContext,
) -> tuple[list[tuple[Run, dict[str, Any]]], dict[str, FinconError]]:
    """Load every run that was fetched but not finished, so that no table holds half of one; oldest first.

    Returns them, and Stripe account → why one of its runs is not in. One with a damaged page is no failure: its whole pages are
    there to go on from.
    """
    waiting = reversed(unfinished_runs(ctx.data, ctx.lake.run_ids()))
    runs = {run.run_id: run for run in waiting if RunFolder(ctx.data, run.run_id).fetch_counts() is not None}
    loaded = load(ctx, [ExtractResult(run=run) for run in runs.values()])
    failures = {
        whose: error for whose, error in loaded.failures.items() if not isinstance(error, CorruptPage)
    }
    return [(runs[row["run_id"]], row) for row in loaded.rows], failures


def transform_and_load(
    ctx: SyncContext, results: Sequence[ExtractResult], pages: Mapping[str, int], advance: Advance
) -> Loaded:
    """Load runs lot by lot; their rows of ``runs`` are written last. ``pages`` says how many each run has.

    A damaged page takes its run's mark away, so that the next sync fetches the page anew. A run that cannot be loaded for
    what it holds is set aside, and the others go on.
    """
    loaded = Loaded([], {})

    def advance_or_stop(count: int) -> None:
        ctx.stop.check()
        advance(count)

    for lot in _lots(results, pages):
        staged = []
        for result in lot:
            try:
                stage_run(ctx, result, advance_or_stop)
                staged.append(result.run)
            except CorruptPage as damage:
                RunFolder(ctx.data, result.run.run_id).unmark_fetched()
                loaded.failures[result.run.stripe_account] = damage
            except Exception as error:  # noqa: BLE001 - raised again where it is not of the run's data
                _set_aside(ctx, result.run, error, loaded)
        if staged:
            _load_staged_runs(ctx, staged, loaded)
        for result in lot:
            shutil.rmtree(ctx.staging / result.run.run_id, ignore_errors=True)
    return loaded


def _load_staged_runs(ctx: SyncContext, runs: Sequence[Run], loaded: Loaded) -> None:
    """Load runs in one commit a table. Where that fails for what they hold, nothing of it stays, and each is tried alone."""
    run_ids = [run.run_id for run in runs]
    origins = [run.origin for run in runs]
    before, late = digests.state_of(ctx.lake), set[str]()
    try:
        with under_way(ctx.lake, run_ids) if has_staged(ctx.staging, origins) else nullcontext():
            seen = load_staged(ctx.lake, ctx.staging, origins, ctx.stop.check, lambda: late.update(run_ids))
            remember(ctx.lake, ctx.staging, origins, _complete_until(ctx, runs))
            made_by = fincon_version()
            rows = [_row(ctx.data, run, seen[run.run_id], made_by) for run in runs]
            loaded.rows.extend(record_runs(ctx.lake, rows))
    except Exception as error:
        if not is_of_data(error):
            raise
        take_back(ctx.lake, run_ids)
        if len(runs) == 1:
            _set_aside(ctx, runs[0], error, loaded)
            return
        for run in runs:
            _load_staged_runs(ctx, [run], loaded)
    else:
        digests.renew(ctx.lake, before, ctx.staging, origins, is_late=bool(late))


def is_of_data(error: Exception) -> bool:
    """Return whether an error is of what was to be read, which is the same the next time, and not of the machine."""
    return isinstance(error, UnloadableRun | duckdb.DataError) or not isinstance(error, MACHINES)


def _set_aside(ctx: SyncContext, run: Run, error: Exception, loaded: Loaded) -> None:
    """Put a run where it stands in nobody's way, and note why; an error that is not of its data is raised again."""
    if not is_of_data(error):
        raise error
    reason = _reason(error).removeprefix(f"Run {run.run_id}: ")
    folder = RunFolder(ctx.data, run.run_id).set_aside(reason)
    loaded.failures[run.stripe_account] = RunFailed(
        f"Run {run.run_id} cannot be loaded: {reason}",
        f"It is set aside in {folder}, and the next sync fetches anew. Please report it.",
    )


def _reason(error: Exception) -> str:
    """Say what went wrong, and where; what other libraries say may quote the data, and stays untold."""
    if isinstance(error, UnloadableRun):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"


def _complete_until(ctx: SyncContext, runs: Sequence[Run]) -> dict[str, datetime]:
    """Return Stripe account → up to when all that happened to its accounts is in, once these runs are."""
    until = incremental.complete_until(ctx.lake)
    for run in runs:
        micros = RunFolder(ctx.data, run.run_id).pages.complete_until()
        if micros is not None:
            until[run.stripe_account] = micros
    return {whose: utc(micros) for whose, micros in until.items()}


def stage_run(ctx: SyncContext, result: ExtractResult, advance: Advance) -> None:
    """Stage what is not staged yet of a run, and compare all of it with the run's pages.

    Raises:
        CorruptPage: a page is damaged or missing. UnloadableRun: the rows do not add up to what is on the pages.
    """
    pages, origin = RunFolder(ctx.data, result.run.run_id).pages, result.run.origin
    stage(pages.read(advance, result.staged, require_complete=True), origin, ctx.staging)
    if digests.contradicts(ctx.lake, ctx.staging, origin):
        shutil.rmtree(ctx.staging / origin.run_id)
        result = replace(result, staged=frozenset(), sums=Counter())
        stage(pages.read(require_complete=True), origin, ctx.staging)
    on_pages = sums_of_pages(pages.read_accounts(skip=result.staged))
    on_pages.update(result.sums)  # adds; "+" would drop what is negative
    agree_with_pages(ctx.lake, on_pages, origin, ctx.staging)
    listed_from = pages.listed_from()
    if listed_from is not None:
        stage_absent(ctx.lake, ctx.staging, origin, utc(listed_from))


def note_closed_sessions(ctx: SyncContext, runs: Iterable[Run]) -> None:
    """Keep which sessions of these runs, oldest first, are closed now."""
    page_stores: dict[str, list[PageStore]] = {}
    for run in runs:
        page_stores.setdefault(run.stripe_account, []).append(RunFolder(ctx.data, run.run_id).pages)
    close_sessions(ctx.lake, page_stores)


def _lots(results: Sequence[ExtractResult], pages: Mapping[str, int]) -> Iterator[list[ExtractResult]]:
    """Yield runs to load together: few commits, and no more staged rows than the largest run has anyhow."""
    lot: list[ExtractResult] = []
    size = 0
    for result in results:
        count = pages[result.run.run_id]
        if lot and (size + count > PAGES_A_LOT or len(lot) == RUNS_A_LOT):
            yield lot
            lot, size = [], 0
        lot.append(result)
        size += count
    if lot:
        yield lot


def _row(data: DataPath, run: Run, seen: Mapping[str, int], made_by: str) -> dict[str, Any]:
    """Make the run's row of ``runs``."""
    folder = RunFolder(data, run.run_id)
    pages, counts = folder.pages, folder.fetch_counts() or {}
    until = pages.complete_until()
    return {
        "run_id": run.run_id,
        "mode": _what_was_fetched(run, pages, counts),
        "status": "succeeded",
        "started_at": run.started_at,
        "finished_at": datetime.now(UTC),
        **{name: counts.get(name, 0) for name in ("requests", "retries", "throttled")},
        "requests_by_endpoint": json.dumps(
            {
                name.removeprefix("endpoint:"): count
                for name, count in sorted(counts.items())
                if name.startswith("endpoint:")
            }
        ),
        "complete_until": None if until is None else utc(until),
        "pages": pages.count(),
        **seen,
        "stripe_version": run.stripe_version,
        "livemode": run.livemode,
        "stripe_account": run.stripe_account,
        "fincon_version": made_by,
        "pii": run.pii or None,
    }


def _what_was_fetched(run: Run, pages: PageStore, counts: Mapping[str, int]) -> str:
    """Return a run's mode without what Stripe refused, and with the listing where that took the place of events.

    Where what Stripe had sent did not say enough, a run of webhooks has read events, or the listing, as well.
    """
    mode = run.mode
    if "webhooks" in mode and (pages.parts() or pages.parts("events")):
        mode = mode.replace("webhooks", "webhooks+events")
    if pages.parts():
        mode = mode.replace("events", "accounts")
    return "+".join(name for name in mode.split("+") if f"{REFUSED}{name}" not in counts)
