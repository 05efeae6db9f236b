"""A run on disk, as earlier versions left it and as this one does."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from fincon.landing.run_folder import (
    RESUMED_WITHIN,
    Run,
    RunFolder,
    RunSpec,
    resume_or_create_run,
    unfinished_runs,
)
from tests.lakes import place

SPEC = RunSpec(
    mode="accounts",
    api_base="https://api.stripe.com",
    livemode=False,
    stripe_account="",
    stripe_version="2026-06-24.dahlia",
)


def started(ago: timedelta = timedelta()) -> Run:
    """A run that asked for `SPEC` so long ago."""
    run = resume_or_create_run(SPEC, [], "")
    return msgspec.structs.replace(run, started_at=datetime.now(UTC) - ago)


def test_the_runs_of_an_earlier_version_are_known_and_can_be_gone_on_with(tmp_path: Path) -> None:
    """Of commit b98723b: two that are fetched, one that waits to be loaded, one that was interrupted."""
    data = place("b98723b", tmp_path / "data")
    runs = unfinished_runs(data, set())
    assert len(runs) == len(list((data / "pages").iterdir())) == 4
    counts = {run.run_id: RunFolder(data, run.run_id).fetch_counts() for run in runs}
    [interrupted] = [run for run in runs if counts[run.run_id] is None]
    assert all((found or {"requests": 1})["requests"] > 0 for found in counts.values())

    pages = RunFolder(data, interrupted.run_id).pages
    assert (pages.catch_up(), len(pages.started_parents())) == (3, 3)
    asked = RunSpec(**{name: getattr(interrupted, name) for name in RunSpec.__struct_fields__})
    fresh = msgspec.structs.replace(interrupted, started_at=datetime.now(UTC))
    assert resume_or_create_run(asked, [fresh], []) == fresh
    assert RunFolder(data, interrupted.run_id).add_costs({"requests": 2})["requests"] == 5


def test_a_run_is_written_under_the_keys_that_earlier_versions_read(tmp_path: Path) -> None:
    run = started()
    folder = RunFolder.create(tmp_path, run)
    folder.add_costs({"requests": 1})
    folder.mark_fetched({"requests": 3})
    assert json.loads((folder.path / "run.json").read_bytes()).keys() == {
        *("run_id", "started_at", "mode", "api_base", "livemode", "stripe_account", "stripe_version", "pii"),
        *("runs_before", "erased_before"),  # which earlier versions pass over
    }
    assert {path.name for path in folder.path.iterdir()} == {"run.json", "costs.json", "fetched.json"}
    assert unfinished_runs(tmp_path, set()) == [run]
    assert unfinished_runs(tmp_path, {run.run_id}) == []
    assert folder.fetch_counts() == {"requests": 3}
    folder.unmark_fetched()
    assert folder.fetch_counts() is None


@pytest.mark.parametrize("attribute", RunSpec.__struct_fields__)
def test_a_run_that_asked_for_something_else_is_not_gone_on_with(attribute: str) -> None:
    run = started()
    assert run.can_resume(SPEC)
    other = {"livemode": True}.get(attribute, "another")
    assert not run.can_resume(msgspec.structs.replace(SPEC, **{attribute: other}))


def test_a_run_is_gone_on_with_for_a_day_and_not_behind_a_later_one_that_is_in() -> None:
    old, recent = (
        started(RESUMED_WITHIN + timedelta(minutes=1)),
        started(RESUMED_WITHIN - timedelta(minutes=1)),
    )
    assert resume_or_create_run(SPEC, [old, recent], "") == recent
    assert resume_or_create_run(SPEC, [recent], recent.run_id + "later").run_id != recent.run_id
