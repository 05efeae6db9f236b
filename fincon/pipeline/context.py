"""Carry what every step of a sync works with, and say who runs the steps and who is shown them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from fincon.extract.client import RequestBudget
from fincon.extract.stopping import StopSignal
from fincon.lake.tables import Lake
from fincon.landing.spool import Waiting
from fincon.settings import Settings
from fincon.storage.s3 import DataPath

P = ParamSpec("P")
R = TypeVar("R")

Advance = Callable[[int], object]
"""Called with how many more objects of a stage are done, from any thread."""


class StepRunner(Protocol):
    """Run a step: call it as it is, or as a Prefect task of that name."""

    def __call__(self, name: str, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``do`` and return what it returns."""


class Progress(Protocol):
    """Show how far a run is."""

    def stage(self, name: str, total: int | None) -> Advance:
        """Begin a stage of ``total`` objects, if that is known; return what to call with each lot done."""


def call_directly(name: str, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a step as a plain call: the `StepRunner` without Prefect."""
    return do(*args, **kwargs)


class NoProgress:
    """Show nothing: the `Progress` of whoever runs quietly."""

    def stage(self, name: str, total: int | None) -> Advance:
        """Return what ignores its calls."""
        return lambda count: None


@dataclass(frozen=True, kw_only=True)
class SyncContext:
    """Hold what the steps of one sync share. The data folder is locked for as long as it is used."""

    settings: Settings
    lake: Lake
    staging: Path
    """Where a run's pages are staged as Parquet until they are loaded: a folder of the run's id in here."""
    budget: RequestBudget
    stop: StopSignal = field(default_factory=StopSignal)
    run_step: StepRunner = call_directly
    progress: Progress = field(default_factory=NoProgress)
    waiting: Waiting = field(default_factory=dict)
    """The events that Stripe sent and that are to be loaded, where they are."""

    @property
    def data(self) -> DataPath:
        """Return the data folder."""
        return self.settings.data
