"""Pages in batches, and batches into the lake: in memory that does not grow with their number."""

import itertools
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fincon.extract.pagination import no_page
from fincon.lake.staging import PAGES_A_BATCH, Stager, batches
from fincon.sandbox.server import Sandbox
from fincon.sandbox.world import World
from fincon.transforms.page import Origin, Page
from tests.benchmarks.pages import listing
from tests.conftest import OBJECTS, canonical, known_after, rows, state, sync, truth


@given(
    st.lists(st.tuples(st.sampled_from(["sessions", "accounts", "owners"]), st.integers(0, 3)), max_size=60)
)
def test_every_page_is_in_one_batch_in_order_and_no_session_is_split(
    chains: list[tuple[str, int]],
) -> None:
    pages = [Page(no_page(stream, f"parent_{number}"), b"") for stream, number in chains]
    found = list(batches(pages))
    assert [page for batch in found for page in batch] == pages
    for batch, following in itertools.pairwise(found):
        assert len(batch) >= PAGES_A_BATCH
        last, first = batch[-1].header, following[0].header
        assert first.stream == "accounts" or first.parent != last.parent


def test_a_page_is_let_go_with_its_batch() -> None:
    """Of 2,000 pages of 100 kB, one after another, no more than a few batches are held."""

    def pages() -> Iterator[Page]:
        for _ in range(2000):
            yield Page(no_page("accounts"), bytes(100_000))

    tracemalloc.start()
    try:
        assert sum(len(batch) for batch in batches(pages())) == 2000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * PAGES_A_BATCH * 100_000


def test_staging_that_fails_after_the_last_page_ends_and_says_so(tmp_path: Path) -> None:
    """A full disk at the very end: whoever waits for it gets the error, and does not wait for ever."""
    (tmp_path / "run" / "accounts-s000002.parquet").mkdir(parents=True)
    stager = Stager(Origin("run"), tmp_path)
    for page in listing(World(accounts=3, sessions=0)):
        stager.take(page)
    with pytest.raises(IsADirectoryError):
        stager.close()


@pytest.mark.slow
def test_a_run_compared_in_many_parts_makes_the_same_lake(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of 100 rows, for a world of 300 accounts; in three syncs, of which the second sees half of it change."""
    folders = [tmp_path / "whole", tmp_path / "parts"]
    seen = []
    for _ in range(3):
        for data, rows_a_part in zip(folders, (10_000, 100), strict=True):
            monkeypatch.setattr("fincon.lake.version_sql.ROWS_A_PARTITION", rows_a_part)
            outcome = sync(sandbox.url, data, sandbox.world.session_ids())
            assert outcome.failed_checks == {}
        seen.append(truth(sandbox.world))
        sandbox.advance(timedelta(hours=9))
    whole, parts = folders
    assert state(parts) == known_after(*seen)
    for table in OBJECTS:
        one, other = (canonical(without_run(data, table)) for data in (whole, parts))
        assert len(one) > len(seen[0][table])
        assert one == other


def without_run(data: Path, table: str) -> list[dict[str, object]]:
    """The versions of a table, but for when and by which run they were seen."""
    return rows(data, f"SELECT * EXCLUDE (run_id, observed_at, valid_from, valid_to) FROM history.{table}")
