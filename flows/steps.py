"""A sync as plain functions, and the one composition of them. Prefect's flow and the command line both run it."""

import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

import duckdb
from deltalake.exceptions import DeltaError

from flows import events, fetch, listing, sightings, warehouse
from flows.erasure import known_erasures
from flows.errors import DamagedPage, RunFailed, reason_of
from flows.lake import MEMORY, SPILL, Lake
from flows.pages import Spool
from flows.runs import (
    Run,
    add_costs,
    asked_for_the_same,
    begin,
    clean,
    fetched,
    locked,
    mark_fetched,
    pages_folder,
    prepare,
    unfinished,
    unmark_fetched,
)
from flows.settings import Settings
from flows.sightings import Refetch
from flows.staging import Stager, stage, staged_files
from flows.stripe_api import Stripe
from flows.versions import parquet, reconcile_sql, text
from transforms.envelope import Origin
from transforms.reconcile import differences, sums_of_pages, sums_of_rejects
from transforms.schemas import BALANCES, ERASURES, TABLES
from transforms.stripe_objects import created_accounts

P = ParamSpec("P")
R = TypeVar("R")


class Step(Protocol):
    """How a step is run: called as it is, or as a Prefect task of that name."""

    def __call__(self, name: str, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``do`` and return what it returns."""


class Progress(Protocol):
    """Who is told how far a run is."""

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """A stage begins, of ``total`` objects if that is known; the answer is told of each lot done."""


def plainly(name: str, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The `Step` that is nothing but a call."""
    return do(*args, **kwargs)


class Silent:
    """The `Progress` that tells nobody."""

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """Nothing is told."""
        return lambda count: None


@dataclass(frozen=True)
class Order:
    """What a run is asked for."""

    session_ids: tuple[str, ...] = ()
    accounts: bool = True
    """List every account."""
    events: bool = False
    """Read the events since the last run instead of the listing, which is walked only where they do not reach."""
    refetch: Refetch = "open"
    restart: bool = False
    max_requests: int | None = None

    @property
    def mode(self) -> str:
        """As the table ``runs`` says it."""
        accounts = "events" if self.events else "accounts"
        return "+".join(["sessions"] * bool(self.session_ids) + [accounts] * (self.accounts or self.events))


@dataclass(frozen=True)
class Outcome:
    """What a run did: its row of ``runs``, the sessions that Stripe does not know, and checks that failed."""

    run: dict[str, Any]
    unknown_sessions: tuple[str, ...] = ()
    failed_checks: dict[str, int] = field(default_factory=dict)
    resumed_pages: int = 0


def run_sync(
    settings: Settings, order: Order, step: Step = plainly, progress: Progress | None = None
) -> Outcome:
    """One run: fetch what is missing on disk, load what changed, publish the views, check them.

    Raises:
        StripeError, RunFailed: what is on disk stays, and the next run goes on from there.
    """
    progress = progress or Silent()
    with machine_errors(settings.data):
        prepare(settings.data)
        with locked(settings.data), Lake(settings.data / "lake") as lake:
            clean(settings.data)
            erased = known_erasures(settings.data, lake.records(ERASURES, "action", "identity_hash"))
            row = finish_interrupted(settings, lake, order, step, progress)
            resumed = 0
            if row is None:
                last = lake.runs_by_mode(settings.stripe_account)
                run = begin(settings, order.mode, lake.run_ids(), last, restart=order.restart)
                spool = Spool(pages_folder(settings.data, run.run_id), erased, lake.newest())
                resumed = spool.catch_up()
                with lake.staging() as folder:
                    stager = Stager(Origin(run.run_id, run.stripe_account), folder)
                    spool.kept = stager.take
                    try:
                        fetch_all(settings, order, run, lake, spool, step, progress)
                    finally:
                        stager.close()
                    row = load(settings, lake, run, step, progress, folder, stager.staged)
            sightings.note_settled(lake, Spool(pages_folder(settings.data, row["run_id"])))
            told = progress.stage("views and checks", 2)
            step("publish", publish, settings, lake)
            told(1)
            failed = step("check", failed_checks, settings)
            told(1)
            unknown = Spool(pages_folder(settings.data, row["run_id"])).missing_sessions()
            return Outcome(row, unknown, failed, resumed)


def fetch_all(
    settings: Settings, order: Order, run: Run, lake: Lake, spool: Spool, step: Step, progress: Progress
) -> None:
    """Every page that the order asks for and that is not on disk yet; then the mark that all are there."""
    stripe = Stripe(settings, order.max_requests)
    try:
        ids = sightings.to_fetch(lake.snapshots, lake, order.session_ids, order.refetch)
        if ids:
            told = progress.stage("sessions", len(ids))
            step("fetch sessions", fetch.fetch_sessions, stripe, spool, ids, told)
        if order.accounts or order.events:
            fetch_accounts_or_events(order, lake, stripe, spool, step, progress)
    finally:
        stripe.stop()
        stripe.close()
        costs = add_costs(settings.data, run, stripe.counts)
    mark_fetched(settings.data, run, {**costs, "requests": max(costs["requests"], spool.count())})


def fetch_accounts_or_events(
    order: Order, lake: Lake, stripe: Stripe, spool: Spool, step: Step, progress: Progress
) -> None:
    """The events since the last run that knew of every account, where they reach so far; else the listing."""
    if order.events and not spool.parts():
        told = progress.stage("events", None)
        if step(
            "fetch events",
            events.fetch_events,
            stripe,
            spool,
            lake.complete_until(stripe.settings.stripe_account),
            told,
        ):
            return
        progress.stage("no run within 29 days to go on from: listing every account", None)
    known = known_accounts(lake, spool, stripe.settings.stripe_account)
    told = progress.stage("accounts", None)
    step("fetch accounts", listing.fetch_accounts, stripe, spool, known, told)


def known_accounts(lake: Lake, spool: Spool, stripe_account: str) -> list[str]:
    """Ids of accounts a page apart in the listing's order, newest first: the lake's, or those the sessions gave."""
    known = lake.accounts_a_page_apart(stripe_account, fetch.PAGE_SIZE)
    if known:
        return known
    found = {pair for page in spool.read_sessions() for pair in created_accounts(page.body)}
    return listing.spread([account_id for _, account_id in sorted(found, reverse=True)])


def load(
    settings: Settings,
    lake: Lake,
    run: Run,
    step: Step,
    progress: Progress,
    folder: Path,
    staged: Collection[tuple[int, int]] = (),
) -> dict[str, Any]:
    """A fetched run into the lake. The pages of the listing named in ``staged`` are in ``folder`` already.

    A damaged page takes the mark away, so that the next run fetches it anew.
    """
    spool = Spool(pages_folder(settings.data, run.run_id))
    told = progress.stage("pages into tables", spool.count())
    counts = fetched(settings.data, run) or {}
    try:
        return step("transform and load", transform_and_load, lake, spool, run, counts, told, folder, staged)
    except DamagedPage:
        lake.forget(run.run_id)
        unmark_fetched(settings.data, run)
        raise


def finish_interrupted(
    settings: Settings, lake: Lake, order: Order, step: Step, progress: Progress
) -> dict[str, Any] | None:
    """Load every run that was fetched but not finished, so that no table holds half of one.

    The row of one that answers ``order``; None where there is none, and a run is still to be made.
    """
    answer = None
    for run in reversed(unfinished(settings.data, lake.run_ids())):
        if fetched(settings.data, run) is None:
            continue
        try:
            with lake.staging() as folder:
                row = load(settings, lake, run, step, progress, folder)
        except DamagedPage:
            continue  # its rows are out again, and its whole pages are there to go on from
        known = set(Spool(pages_folder(settings.data, run.run_id)).parents())
        same = asked_for_the_same(run, settings, order.mode) and known.issuperset(
            sightings.to_fetch(lake.snapshots, lake, order.session_ids, order.refetch)
        )
        answer = row if same and not order.restart else None
    return answer


@contextmanager
def machine_errors(data: Path) -> Iterator[None]:
    """What the machine refuses (a full disk, a folder that cannot be written) as a `RunFailed` in two lines."""
    try:
        yield
    except (OSError, duckdb.Error, DeltaError) as error:
        raise RunFailed(
            f"The run could not go on in {data}: {reason_of(error)}",
            "What was fetched is kept and the views still answer. Mend it, then run the same command again.",
        ) from error


def transform_and_load(
    lake: Lake,
    spool: Spool,
    run: Run,
    counts: Mapping[str, int],
    told: Callable[[int], object],
    folder: Path,
    staged: Collection[tuple[int, int]],
) -> dict[str, Any]:
    """The run's pages into the lake; its row of ``runs``, which is written last."""
    stage(spool.read(told, staged), Origin(run.run_id, run.stripe_account), folder)
    agree_with_pages(lake, spool, run.run_id, folder)
    seen = lake.load_staged(folder, run.run_id)
    row = {
        "run_id": run.run_id,
        "mode": run.mode.replace("events", "accounts") if spool.parts() else run.mode,
        "status": "succeeded",
        "started_at": run.started_at,
        "finished_at": datetime.now(UTC),
        **{name: counts.get(name, 0) for name in ("requests", "retries", "throttled")},
        "requests_by_endpoint": json.dumps(
            {name.partition(":")[2]: count for name, count in sorted(counts.items()) if ":" in name}
        ),
        "complete_until": _utc(spool.complete_until()),
        "pages": spool.count(),
        **seen,
        "stripe_version": run.stripe_version,
        "stripe_account": run.stripe_account,
        "fincon_version": version("fincon"),
    }
    return lake.finish(row)


def staged_differences(lake: Lake, spool: Spool, folder: Path) -> list[tuple[str, str, int, int]]:
    """Where the sums over what is staged in ``folder`` differ from those over the pages, read in another way."""
    pages = sums_of_pages(spool.read())
    return differences(pages, sums_of_rejects(lake.staged_rejects(folder)), lake.staged_sums(folder))


def pages_disagree(data: Path) -> list[tuple[Any, ...]] | None:
    """Where the views differ from the raw pages of the last run, in sums per currency, to the unit.

    None where the pages are pruned. An account of which a later run knows something newer is left out.
    """
    with (
        warehouse.connect(data) as views,
        Lake(data / "lake") as lake,
        tempfile.TemporaryDirectory(prefix="fincon-") as scratch,
    ):
        folder = Path(scratch)
        last = views.execute("SELECT run_id, stripe_account FROM runs ORDER BY finished_at DESC").fetchone()
        if last is None or not pages_folder(data, last[0]).exists():
            return None
        spool = Spool(pages_folder(data, last[0]))
        stage(spool.read(), Origin(*last), folder)
        parts = staged_files(folder, BALANCES)
        held = views.execute(reconcile_sql(parquet(parts), "FROM balances")).fetchall() if parts else []
        return [*staged_differences(lake, spool, folder), *held]


def agree_with_pages(lake: Lake, spool: Spool, run_id: str, folder: Path) -> None:
    """Compare what was staged with the pages it was made of, which are read once more in another way.

    Raises:
        RunFailed: the sums of a currency differ. Nothing was loaded.
    """
    wrong = staged_differences(lake, spool, folder)
    if wrong:
        currency, what, sent, made = wrong[0]
        raise RunFailed(
            f"Run {run_id}: {what} in {currency} adds up to {sent} on its pages and to {made} in the rows made of them.",
            "This is a bug in fincon; the views still answer with the run before. Please report it.",
        )


def _utc(micros: int | None) -> datetime | None:
    return None if micros is None else datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)


def publish(settings: Settings, lake: Lake) -> None:
    """The views over the lake as it is now."""
    lake.renew_snapshots()
    warehouse.publish(settings.data, {table.name: lake.current(table) for table in TABLES})


def failed_checks(settings: Settings) -> dict[str, int]:
    """Check → how many rows it found wrong, for those that found any."""
    with warehouse.connect(settings.data) as connection:
        spill = text(str(settings.data / SPILL))
        connection.execute(f"SET memory_limit = '{MEMORY}'; SET temp_directory = {spill}")
        found = {name: len(connection.sql(query).fetchall()) for name, _, query in warehouse.checks()}
    return {name: rows for name, rows in found.items() if rows}


def raise_if_wrong(outcome: Outcome, *, strict: bool) -> None:
    """Fail the run whose numbers cannot be trusted.

    Raises:
        RunFailed: a check failed; or, with ``strict``, an object was rejected.
    """
    if outcome.failed_checks:
        names = ", ".join(f"{name} ({rows} rows)" for name, rows in outcome.failed_checks.items())
        raise RunFailed(
            f"Run {outcome.run['run_id']}: checks failed: {names}.", "`fincon check` shows the rows."
        )
    if strict and outcome.run["rejected"]:
        raise RunFailed(
            f"Run {outcome.run['run_id']}: {outcome.run['rejected']} objects were rejected (--strict).",
            '`fincon sql "FROM rejects"` says which and why.',
        )
