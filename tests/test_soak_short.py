"""`make soak` in small: a handful of syncs and erasures, some killed at some moment, and the lake is the truth in the end."""

from pathlib import Path

from tests.soak.chaos import Soak


def test_syncs_killed_at_random_moments_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    soak = Soak(tmp_path / "data", seed=5, kills=3, accounts=30, sessions=6, connected=2, choices=True).run()
    assert soak.wrong == []
    assert soak.figures.killed == 3
    assert soak.figures.erasures
    assert soak.figures.rewrites
    assert soak.figures.reader_queries
