"""``fincon sync --dry-run``: which requests there would be, what they take, and that none is made."""

from pathlib import Path

import pytest

from fincon.sandbox.server import running
from fincon.sandbox.world import World
from tests.cli.conftest import Call
from tests.conftest import START, sync

ENV = {"STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": "http://127.0.0.1:9"}
SESSIONS = "GET /v1/financial_connections/sessions/"


def test_a_hundred_thousand_sessions_are_a_summary(call: Call, tmp_path: Path) -> None:
    """One line for each kind of request; then the duration at the limit and the share of a month's allocation."""
    (tmp_path / "ids").write_text("\n".join(f"fcsess_{n}" for n in range(100_000)))
    shown = call("sync", "--sessions", "ids", "--dry-run", cwd=tmp_path, env=ENV)
    assert shown.code == 0
    assert shown.out.splitlines() == [
        f"{SESSIONS}…, 100,000 times: from fcsess_0 to fcsess_99999",
        "GET /v1/financial_connections/accounts?session=…&limit=100, for each session with more accounts than its page holds",
        "GET /v1/financial_connections/accounts?limit=100, until the last page",
        "At least 100,001 requests: 67 min or more at 25 a second, 25 on each endpoint (test mode).",
        "1,000 % of the 10,000 reads a month that Stripe allows at the least; 0 requests were made this month.",
    ]
    assert shown.err == "Nothing was sent to http://127.0.0.1:9.\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("env", "pace"),
    [
        # Sessions are one endpoint: its limit counts, not that of the Stripe account.
        (
            {"STRIPE_API_KEY": "rk_live_x"},
            "67 min or more at 100 a second, 25 on each endpoint (live mode).",
        ),
        (
            {"FINCON_REQUESTS_PER_SECOND": "5"},
            "5.6 h or more at 5 a second, 5 on each endpoint (test mode).",
        ),
    ],
)
def test_the_duration_is_that_at_the_limit_that_counts(
    env: dict[str, str], pace: str, call: Call, tmp_path: Path
) -> None:
    content = "\n".join(f"fcsess_{n}" for n in range(100_000)).encode()
    shown = call(
        "sync", "--no-accounts", "--sessions", "-", "--dry-run", cwd=tmp_path, env=ENV | env, stdin=content
    )
    assert f"At least 100,000 requests: {pace}" in shown.out


def test_a_lake_that_was_moved_is_read_all_the_same(call: Call, tmp_path: Path) -> None:
    """It knows the accounts, and what this month's runs cost; sessions that need no second look are left out."""
    world = World(clock=START, accounts=200, sessions=4)
    with running(world) as sandbox:
        sync(sandbox.url, tmp_path / "before", world.session_ids())
        made = len(sandbox.requests)
    (tmp_path / "before").rename(tmp_path / "data")
    (tmp_path / "ids").write_text("\n".join([*world.session_ids(), "fcsess_new"]))
    asked = ("--sessions", "ids", "--sessions-refetch", "never", "--dry-run")
    shown = call("sync", *asked, cwd=tmp_path, env=ENV)
    assert shown.code == 0, shown.err
    assert shown.out.startswith(f"{SESSIONS}fcsess_new\n")
    assert "GET /v1/financial_connections/accounts?limit=100, 3 times: 203 accounts are known\n" in shown.out
    assert "At least 4 requests: 1 s or more" in shown.out
    assert "0.04 % of the 10,000 reads a month" in shown.out
    assert f"; {made} requests were made this month." in shown.out
    assert f"{len(world.session_ids())} sessions known already" in shown.err


def test_many_stripe_accounts_are_a_summary(call: Call, tmp_path: Path) -> None:
    """A few are named; of many, only how much they are asked for together."""
    few = [word for n in range(3) for word in ("--stripe-account", f"acct_{n}")]
    shown = call("sync", *few, "--dry-run", cwd=tmp_path, env=ENV)
    assert "accounts?limit=100 as acct_2, until the last page" in shown.out
    (tmp_path / "of").write_text(
        "stripe_account,session_id\n" + "".join(f"acct_{n},fcsess_{n}\n" for n in range(400))
    )
    shown = call("sync", "--sessions", "of", "--dry-run", cwd=tmp_path, env=ENV)
    assert shown.out.splitlines()[0] == f"{SESSIONS}… of 400 Stripe accounts, 400 times"
    assert "accounts?limit=100 of 400 Stripe accounts, 400 times\n" in shown.out
    assert "At least 800 requests" in shown.out
    assert len(shown.out.splitlines()) == 5
