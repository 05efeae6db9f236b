"""Turns at Stripe's limits: evenly spaced, and a few that nobody took are made up for."""

from itertools import pairwise

from fincon.extract.rate_limiter import SAVED_TURNS, Pacer


def test_turns_are_spaced_evenly_and_only_a_few_that_were_not_taken_are_made_up_for() -> None:
    pacer = Pacer(25.0)
    now = 1_000.0
    turns = [pacer.reserve(now) for _ in range(100)]
    assert sum(turn <= now for turn in turns) == SAVED_TURNS + 1
    assert all(abs(b - a - 0.04) < 1e-6 for a, b in pairwise(turns[SAVED_TURNS:]))


def test_nothing_is_made_up_for_after_stripe_said_that_it_was_too_fast() -> None:
    pacer = Pacer(25.0)
    pacer.slow(1_000.0)
    assert pacer.reserve(1_000.0) > 1_000.0
