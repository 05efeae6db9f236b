"""Test and live never meet: a data folder belongs to the mode of its first run."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import environ, rows
from tests.scripted_stripe import Answer, ScriptedStripe, account, serving
from tests.typed import typed

KEYS = {False: "sk_test_sandboxkey", True: "sk_live_sandboxkey"}


@pytest.mark.parametrize("pages", ["kept", "pruned", "interrupted"])
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.first(1, 2)
def test_a_key_of_the_other_mode_is_refused_before_anything_is_sent(
    tmp_path: Path,
    live: bool,
    pages: str,
) -> None:
    """By whatever command it would fetch; the folder's own mode goes on. Where pages are pruned, rows tell the mode."""
    stripe = ScriptedStripe(accounts=[account(f"fca_{n}", livemode=live) for n in range(3)], page_size=1)
    with serving(stripe):
        own, other = (environ(stripe.url, STRIPE_API_KEY=KEYS[mode]) for mode in (live, not live))
        limited = ["--max-requests", "2"] if pages == "interrupted" else []
        assert typed("sync", *limited, cwd=tmp_path, env=own).code == 0
        if pages == "pruned":
            shutil.rmtree(tmp_path / "data" / "pages")
        sent = len(stripe.requests)
        for command in (["sync"], ["sync", "--restart"], ["events"], ["sync", "--stripe-account", "acct_1"]):
            done = typed(*command, cwd=tmp_path, env=other)
            assert done.code == 2
            [what, then] = done.err.splitlines()
            assert (
                f"holds {'live' if live else 'test'} data, and the key is a {'test' if live else 'live'} one"
                in what
            )
            assert "--data" in then
        if pages == "kept":
            assert typed("sync", "--dry-run", cwd=tmp_path, env=other).code == 2
        assert len(stripe.requests) == sent
        assert typed("sync", cwd=tmp_path, env=own).code == 0
    assert len(rows(tmp_path / "data", "FROM accounts")) == 3


def test_a_folder_without_rows_keeps_its_mode(tmp_path: Path) -> None:
    """Its first run says it, though nobody was listed, and its pages are pruned."""
    with serving(ScriptedStripe()) as stripe:
        assert typed("sync", cwd=tmp_path, env=environ(stripe.url)).code == 0
        shutil.rmtree(tmp_path / "data" / "pages")
        done = typed("sync", cwd=tmp_path, env=environ(stripe.url, STRIPE_API_KEY=KEYS[True]))
    assert done.code == 2
    assert "holds test data" in done.err


def test_a_key_that_was_never_answered_binds_no_folder(tmp_path: Path) -> None:
    """Whoever takes the wrong key first, which Stripe refuses, takes the right one then."""
    stripe = ScriptedStripe(accounts=[account("fca_1")])
    with serving(stripe):
        stripe.intercept = lambda path, query: refused()
        assert typed("sync", cwd=tmp_path, env=environ(stripe.url, STRIPE_API_KEY=KEYS[True])).code == 1
        stripe.intercept = lambda path, query: None
        assert typed("sync", cwd=tmp_path, env=environ(stripe.url)).code == 0


def refused() -> Answer:
    """Stripe's answer to a key that it does not know."""
    return Answer({"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}}, 401)
