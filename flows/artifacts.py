"""Show a flow run in Prefect's UI: figures and a summary of a sync, checks, and progress while it lasts.

Counts and times alone: no id of an account, no holder, no balance.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event

from fincon.flows.beside import beside
from fincon.pipeline.context import Advance, Progress
from fincon.pipeline.request import SyncResult, name_set_aside
from fincon.storage.s3 import DataPath
from fincon.transforms.identities import mask_ids
from fincon.transforms.wording import pluralize

UPDATE_SECONDS = 5.0
"""How long a stage lasts before its progress is shown, and how often that is renewed. An update takes 20 ms."""

FIGURES = (
    ("rows added", "rows_added"),
    ("objects rejected", "rejected"),
    ("sessions seen", "sessions_seen"),
    ("accounts seen", "accounts_seen"),
    ("pages", "pages"),
    ("requests", "requests"),
    ("requests tried again", "retries"),
    ("requests throttled (429)", "throttled"),
)
"""What the table shows of a run, and the column of ``runs`` it is from."""


def figures(result: SyncResult, seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the rows of the table: the run's counts, then the time of each stage in seconds."""
    rows = [{"figure": name, "value": result.run[column]} for name, column in FIGURES]
    rows += [{"figure": f"seconds: {name}", "value": round(took, 1)} for name, took in seconds.items()]
    return rows


def summary(result: SyncResult, seconds: Mapping[str, float]) -> str:
    """Tell the run in a few lines of Markdown."""
    run = result.run
    lines = [
        f"## {run['mode']}: {pluralize(run['rows_added'], 'row')} added",
        "",
        f"Run `{run['run_id']}`, {sum(seconds.values()):,.1f} s.",
        "",
        f"- **Seen:** {pluralize(run['sessions_seen'], 'session')}, {pluralize(run['accounts_seen'], 'account')}.",
        f"- **Asked:** {pluralize(run['requests'], 'request')}, {run['retries']:,} of them again, "
        f"{run['throttled']:,} throttled.",
        f"- **Rejected:** {pluralize(run['rejected'], 'object')}"
        + (' (`fincon sql "FROM rejects"` says why).' if run["rejected"] else "."),
        f"- **Checks:** {_failed(result.failed_checks)}.",
    ]
    if result.resumed_pages:
        lines.append(
            f"- **Resumed:** {pluralize(result.resumed_pages, 'page was', 'pages were')} on disk already."
        )
    for stream, refusal, count in result.set_aside:
        lines.append(f"- **Set aside:** {name_set_aside(stream, count)}, which Stripe refused ({refusal}).")
    refused = (error for errors in result.refused.values() for error in errors)
    lines += [f"- **Refused:** {mask_ids(str(error))}" for error in refused]
    if result.unknown_sessions:
        lines.append(f"- **Unknown to Stripe:** {len(result.unknown_sessions):,} of the sessions.")
    return "\n".join(lines)


def _failed(checks: Mapping[str, int]) -> str:
    """Name the checks that failed, or say that none did."""
    return (
        ", ".join(f"{name} failed ({pluralize(rows, 'row')})" for name, rows in checks.items())
        or "all passed"
    )


def show_sync(result: SyncResult, seconds: Mapping[str, float]) -> None:
    """Create the table ``fincon-figures`` and the summary ``fincon-summary``."""
    run = result.run
    brief = f"{pluralize(run['rows_added'], 'row')} added, {run['rejected']:,} rejected"
    cost = f"{pluralize(run['requests'], 'request')} in {sum(seconds.values()):,.0f} s, {run['throttled']:,} throttled"
    beside(create_markdown_artifact, summary(result, seconds), key="fincon-summary", description=brief)
    beside(create_table_artifact, figures(result, seconds), key="fincon-figures", description=cost)


def tell_published(data: DataPath, result: SyncResult) -> None:
    """Emit the event ``fincon.lake.published``, which automations and other flows may wait for; it has counts alone."""
    run = result.run
    payload = {name: run[name] for name in ("run_id", "mode", "rows_added", "rejected", "requests")}
    place = str(data)
    beside(
        emit_event,
        "fincon.lake.published",
        resource={"prefect.resource.id": f"fincon.lake.{place.strip('/')}", "prefect.resource.name": place},
        payload=payload | {"checks_failed": len(result.failed_checks)},
    )


def show_checks(found: Sequence[tuple[str, str, int]]) -> None:
    """Create the table ``fincon-checks``: each check, its promise, and how many rows break it."""
    rows = [{"check": name, "promise": promise, "rows at fault": rows} for name, promise, rows in found]
    failed = _failed({name: rows for name, _, rows in found if rows})
    beside(
        create_table_artifact,
        rows,
        key="fincon-checks",
        description=f"{pluralize(len(found), 'check')}: {failed}",
    )


def show_compacted(files: Mapping[str, tuple[int, int]], runs_pruned: int) -> None:
    """Create the table ``fincon-compacted``: files of each table before and after, and how many runs lost their pages."""
    rows = [{"table": name, "files": before, "files now": after} for name, (before, after) in files.items()]
    beside(
        create_table_artifact,
        rows,
        key="fincon-compacted",
        description=f"Pages of {pluralize(runs_pruned, 'run')} removed.",
    )


class ProgressArtifacts:
    """Keep an artifact ``fincon-progress`` of each stage that lasts: a `Progress`, which tells ``also`` as well.

    ``known`` is how many accounts the last run knew: how long the listing will be, about.
    """

    def __init__(self, also: Progress, known: int) -> None:
        self._also, self._known = also, known
        self._bars: list[_Bar] = []

    def stage(self, name: str, total: int | None) -> Advance:
        """Begin a stage, here and there."""
        advance_also = self._also.stage(name, total)
        bar = _Bar(name, total or (self._known if name == "accounts" else 0))
        self._bars.append(bar)

        def advance(count: int) -> None:
            advance_also(count)
            bar.add(count)

        return advance

    def end(self) -> None:
        """End every stage."""
        for bar in self._bars:
            bar.end()


class _Bar:
    """Hold the progress of one stage. ``total`` is 0 where it is not known."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._artifact: UUID | None = None
        self._next_at = time.monotonic() + UPDATE_SECONDS
        self._counting = threading.Lock()
        self._run = copy_context()
        """Which flow run this is: Prefect knows it by context, which threads of a pool have not."""

    def add(self, count: int) -> None:
        with self._counting:
            self._done += count
            due = time.monotonic() >= self._next_at
            if due:
                self._next_at = float("inf")  # until this one is shown
        if due:
            percent = min(99.0, 100 * self._done / self._total) if self._total else 0.0
            beside(self._write, percent, within=self._run)

    def end(self) -> None:
        beside(self._finish, within=self._run)

    def _finish(self) -> None:
        if self._artifact:
            self._write(100.0)

    def _write(self, percent: float) -> None:
        of = f" of about {self._total:,}" if self._total > self._done else ""
        text = f"{self._name}: {self._done:,}{of}"
        try:
            if self._artifact is None:
                created = create_progress_artifact(percent, key="fincon-progress", description=text)
                self._artifact = cast("UUID", created)  # a coroutine only where an event loop runs
            else:
                update_progress_artifact(self._artifact, percent, description=text)
        finally:
            self._next_at = time.monotonic() + UPDATE_SECONDS
