"""A run on disk: the folder of its pages, what it was asked for, whether all is fetched, and what that cost."""

import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import msgspec

from fincon.landing.page_store import SUFFIX, PageStore
from fincon.storage.data_folder import (
    COSTS_FILE,
    FETCHED_FILE,
    RUN_FILE,
    UNREADABLE,
    DataFolder,
    atomic_write,
    make_folder,
    sync_names,
)
from fincon.storage.in_place import InPlaceFile
from fincon.storage.s3 import DataPath
from fincon.transforms.page import Origin

RESUMED_WITHIN = timedelta(hours=24)
"""An interrupted run older than this is not gone on with: half of its pages would pass for fresh."""


REFUSED = "refused:"
"""How a count begins that says that a kind of list, named behind it, was asked for and refused altogether."""

REASON_FILE = "reason.txt"
"""Why a run was set aside, beside its pages."""


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is asked for. Holds no secret."""

    mode: str
    """What is fetched: names of streams, joined by ``+``."""
    api_base: str
    livemode: bool
    stripe_account: str
    stripe_version: str
    pii: str = ""
    """What becomes of personal data: `transforms.redaction.Privacy.policy_id`."""

    def asks_like(self, other: "RunSpec") -> bool:
        """Tell whether both ask Stripe at the same address, in the same mode and for the same shapes."""
        return (self.api_base, self.livemode, self.stripe_version) == (
            other.api_base,
            other.livemode,
            other.stripe_version,
        )


class Run(RunSpec, frozen=True, kw_only=True):
    """What a run is, as ``pages/<run_id>/run.json`` keeps it."""

    run_id: str
    started_at: datetime
    runs_before: int | None = None
    """How many runs of its Stripe account were finished when it began; None where a fincon before 0.2 made it."""
    erased_before: int | None = None
    """The sequence of the last erasure that its pages leave out; None likewise."""

    @property
    def origin(self) -> Origin:
        """Return what its rows say of where they are from."""
        return Origin(self.run_id, self.stripe_account, self.stripe_version)

    def can_resume(self, asked: RunSpec) -> bool:
        """Tell whether the run, which was interrupted, is what is asked for now, and recent enough to pass for it."""
        same = all(getattr(self, name) == getattr(asked, name) for name in RunSpec.__struct_fields__)
        return same and abs(datetime.now(UTC) - self.started_at) < RESUMED_WITHIN


def resume_or_create_run(
    asked: RunSpec, interrupted: Iterable[Run], finished: Sequence[str], erased_before: int = 0
) -> Run:
    """Return the run to do: the first of ``interrupted`` that asked for the same, or a new one.

    ``finished`` are the finished runs of the Stripe account. One that was interrupted is gone on with only while no other
    has finished since it began: its pages would be older than what is known, and what they saw might be said again.
    ``erased_before`` is the sequence of the last erasure.
    """
    last = max(finished, default="")
    for run in interrupted:
        is_next = run.run_id > last if run.runs_before is None else run.runs_before == len(finished)
        if is_next and run.can_resume(asked):
            return run
    now = datetime.now(UTC)
    run_id = f"{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}Z-{secrets.token_hex(3)}"
    spec = msgspec.structs.asdict(asked)
    return Run(run_id=run_id, started_at=now, runs_before=len(finished), erased_before=erased_before, **spec)


def unfinished_runs(data: DataPath, finished: set[str]) -> list[Run]:
    """List the runs with pages on disk that are not ``finished``, newest first."""
    runs = []
    for path in sorted(DataFolder(data).pages.glob(f"*/{RUN_FILE}"), reverse=True):
        if path.parent.name in finished:
            continue
        try:
            runs.append(msgspec.json.decode(path.read_bytes(), type=Run))
        except UNREADABLE:
            continue  # killed while it was being written: it holds no page yet
    return runs


def first_run(data: DataPath) -> Run | None:
    """Return the oldest run of which there is a page here, whatever became of it; None where there is none."""
    for folder in sorted(DataFolder(data).page_folders(), key=lambda folder: folder.name):
        if not any(folder.glob(f"*{SUFFIX}")):
            continue  # it may never have been answered
        try:
            return msgspec.json.decode((folder / RUN_FILE).read_bytes(), type=Run)
        except UNREADABLE:
            continue
    return None


class RunFolder:
    """The folder of one run: its pages, and what is noted of it beside them."""

    def __init__(self, data: DataPath, run_id: str) -> None:
        names = DataFolder(data)
        self.path = names.run_pages(run_id)
        self._quarantine = names.quarantine

    @classmethod
    def create(cls, data: DataPath, run: Run) -> Self:
        """Make the folder, where it is not there yet: from here on the run can be gone on with."""
        folder = cls(data, run.run_id)
        make_folder(folder.path)
        if not (folder.path / RUN_FILE).exists():
            _write_json(folder.path / RUN_FILE, run)
        return folder

    @property
    def pages(self) -> PageStore:
        """Return its pages, to be read."""
        return PageStore(self.path)

    def mark_fetched(self, counts: Mapping[str, int]) -> None:
        """Note that all pages of the run are there, and what they cost: from here on it is only loaded."""
        _write_json(self.path / FETCHED_FILE, dict(counts))

    def unmark_fetched(self) -> None:
        """Note that pages are missing after all."""
        (self.path / FETCHED_FILE).unlink(missing_ok=True)

    def fetch_counts(self) -> dict[str, int] | None:
        """Return what fetching the run cost, if all its pages are there; None where some are still to be fetched."""
        try:
            content = (self.path / FETCHED_FILE).read_bytes()
            return msgspec.json.decode(content, type=dict[str, int])
        except UNREADABLE:
            return None  # without it the run is gone on with, and nothing is left to fetch

    def costs(self) -> Counter[str]:
        """Return what all attempts to fetch the run have cost."""
        try:
            return Counter(msgspec.json.decode((self.path / COSTS_FILE).read_bytes(), type=dict[str, int]))
        except UNREADABLE:
            return Counter()

    @contextmanager
    def keep_costs(self) -> Iterator[Callable[[Mapping[str, int]], None]]:
        """Yield what notes the costs of an attempt so far, added to those of earlier ones: a kill loses none."""
        path, costs = self.path / COSTS_FILE, self.costs()
        before = costs.copy()

        def note(counts: Mapping[str, int]) -> None:
            costs.clear()
            costs.update(before + Counter(counts))
            file.write(msgspec.json.encode(dict(costs)))

        try:
            with InPlaceFile(path) as file:
                yield note
        finally:
            _write_json(path, dict(costs))  # what was written in place a crash of the machine may undo

    def add_costs(self, counts: Mapping[str, int]) -> Counter[str]:
        """Add a cost to those of the run, and return the sum."""
        costs = self.costs() + Counter(counts)
        _write_json(self.path / COSTS_FILE, dict(costs))
        return costs

    def set_aside(self, reason: str) -> Path:
        """Move the folder to where no run is gone on with, and note why; return where that is."""
        with atomic_write(self.path / REASON_FILE) as part:
            part.write_text(f"{reason}\n", encoding="utf-8")
        make_folder(self._quarantine)
        moved = self.path.rename(self._quarantine / self.path.name)
        sync_names(moved.parent)
        sync_names(self.path.parent)
        return moved

    def remove(self) -> None:
        """Remove the folder with all its pages."""
        shutil.rmtree(self.path)


def _write_json(path: Path, content: object) -> None:
    with atomic_write(path) as part:
        part.write_bytes(msgspec.json.encode(content))


def runs_set_aside(data: DataPath) -> dict[str, str]:
    """Return each run that was set aside with the reason."""
    return {
        path.parent.name: path.read_text(encoding="utf-8").strip()
        for path in sorted(DataFolder(data).quarantine.glob(f"*/{REASON_FILE}"))
    }
