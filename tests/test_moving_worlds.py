"""`python -m tests.moving_worlds` in small: Stripe moves on between syncs, and the lake is the truth."""

from pathlib import Path

import pytest

from tests.moving_worlds import MovingWorld


@pytest.mark.parametrize("seed", [4, pytest.param(1, marks=pytest.mark.minutes)])
def test_the_lake_is_the_truth_of_a_world_that_moves_on(tmp_path: Path, seed: int) -> None:
    """Seed 1 is listed, seed 4 told by events of an older version; both have accounts and refreshes that end."""
    world = MovingWorld(tmp_path / "data", seed).run()
    assert world.wrong == []
    assert world.counts["accounts gone"] > 2
    assert bool(world.counts["versions of accounts by events"]) == (seed == 4)
