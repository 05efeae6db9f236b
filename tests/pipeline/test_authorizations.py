"""Authorizations: events alone show them; each is a row of its own table, and never an account."""

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fincon.pipeline.erase import erase, traces
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.sandbox.events import OF_AUTHORIZATIONS
from fincon.sandbox.evolution import Evolution
from fincon.sandbox.server import running
from fincon.sandbox.world import World
from fincon.settings import STRIPE_VERSION
from fincon.transforms.event_times import own_time
from tests.conftest import START, Row, canonical, rows, settings_for
from tests.scripted_stripe import ScriptedStripe, account, event, serving

ENDS = 1_796_200_000

AUTHORIZATION: dict[str, Any] = {
    "id": "fcauth_Case",
    "object": "financial_connections.authorization",
    "account_holder": {"type": "customer", "customer": "cus_1"},
    "display_name": "Everyday",
    "institution": "fcinst_Case",
    "institution_name": "Case Bank",
    "livemode": False,
    "status": "active",
    "status_details": {
        "active": {"action": "relink_required", "cause": "access_expired", "expected_deactivation_date": ENDS}
    },
}


def told(stripe: ScriptedStripe, event_id: str, version: str = STRIPE_VERSION, **changes: Any) -> None:
    """An event of the authorization, with ``changes``; one that is None is left away."""
    subject = {k: v for k, v in {**copy.deepcopy(AUTHORIZATION), **changes}.items() if v is not None}
    one = event(event_id, subject, stripe.clock, version=version)
    stripe.events.insert(0, {**one, "type": "financial_connections.authorization.upcoming_deactivation"})


def sync(stripe: ScriptedStripe, data: Path, seconds: int = 60, **asked: Any) -> SyncResult:
    """A run of events, or of what is asked for, so many seconds later; no check fails."""
    result = run_sync(
        settings_for(stripe.url, data, FINCON_PII_KEY="k" * 16), SyncRequest(**(asked or {"events": True}))
    )
    assert result.failed_checks == {}
    stripe.clock += seconds
    return result


def test_an_event_of_an_authorization_is_a_row_of_it_and_no_account(data: Path) -> None:
    with serving(ScriptedStripe(accounts=[account("fca_1")])) as stripe:
        sync(stripe, data, accounts=True)
        told(stripe, "evt_1")
        result = sync(stripe, data)
        assert result.run["rejected"] == 0
    assert [row["account_id"] for row in rows(data, "FROM history.accounts")] == ["fca_1"]
    [row] = rows(data, "FROM authorizations")
    assert (row["authorization_id"], row["institution"], row["display_name"]) == (
        "fcauth_Case",
        "fcinst_Case",
        "Everyday",
    )
    assert (row["account_holder_customer_id"], row["status"]) == ("cus_1", "active")
    assert row["status_details"]["active"]["expected_deactivation_date"].timestamp() == ENDS
    assert row["extra"] is None
    [link] = rows(data, "FROM links_ending")
    assert (link["account_id"], link["account_holder_id"], link["ends_at"].timestamp()) == (
        "fca_1",
        "cus_1",
        ENDS,
    )


@pytest.mark.slow
def test_an_authorization_that_ends_keeps_what_was_known_of_it(data: Path) -> None:
    """What another version leaves away says nothing; what its own version says to be null is null."""
    with serving(ScriptedStripe(accounts=[account("fca_1")])) as stripe:
        sync(stripe, data, accounts=True)
        told(stripe, "evt_1", risk={"score": 1})
        sync(stripe, data)
        ended = {"status": "inactive", "status_details": {"inactive": {"action": "relink_required"}}}
        told(
            stripe,
            "evt_2",
            "2026-07-29.other",
            **ended,
            institution=None,
            display_name=None,
            account_holder=None,
        )
        sync(stripe, data)
        [row] = rows(data, "FROM authorizations")
        assert (row["institution"], row["display_name"], row["account_holder_customer_id"]) == (
            "fcinst_Case",
            "Everyday",
            "cus_1",
        )
        assert (row["status"], row["status_details"]["active"]) == ("inactive", None)
        assert row["status_details"]["inactive"]["action"] == "relink_required"
        assert row["extra"] == {"risk": {"score": 1}}
        told(stripe, "evt_3", **ended, display_name=None)
        sync(stripe, data)
        [row] = rows(data, "FROM authorizations")
        assert (row["display_name"], row["extra"]) == (None, None)
        assert sync(stripe, data).run["rows_added"] == 0
    assert len(rows(data, "FROM history.authorizations")) == 3


def test_two_events_of_one_second_have_the_same_times_whenever_they_are_read(data: Path) -> None:
    with serving(ScriptedStripe(accounts=[account("fca_1")])) as stripe:
        sync(stripe, data, accounts=True)
        for number in range(6):
            told(stripe, f"evt_{number}", display_name=f"Name {number}")
        newer, stripe.events = stripe.events[:3], stripe.events[3:]
        sync(stripe, data, seconds=0)
        stripe.events = [*newer, *stripe.events]
        sync(stripe, data)
        names = [
            row["display_name"] for row in rows(data, "FROM history.authorizations ORDER BY observed_at")
        ]
        assert names == [f"Name {number}" for number in range(6)]
        assert sync(stripe, data).run["rows_added"] == 0


def test_an_object_that_resembles_an_account_but_says_that_it_is_another_is_rejected(data: Path) -> None:
    with serving(ScriptedStripe(accounts=[account("fca_1")])) as stripe:
        sync(stripe, data, accounts=True)
        other = {**account("fcx_1"), "object": "financial_connections.novelty"}
        stripe.events.insert(0, event("evt_1", other, stripe.clock))
        nameless = {k: v for k, v in AUTHORIZATION.items() if k != "object"}
        one = event("evt_2", nameless, stripe.clock)
        stripe.events.insert(0, {**one, "type": "financial_connections.authorization.upcoming_deactivation"})
        assert sync(stripe, data).run["rejected"] == 1
    [reject] = rows(data, "FROM rejects")
    assert (reject["object_type"], reject["path"]) == ("event", "$.data.object")
    assert "financial_connections.novelty" in reject["reason"]
    assert [row["account_id"] for row in rows(data, "FROM accounts")] == ["fca_1"]
    assert [row["authorization_id"] for row in rows(data, "FROM authorizations")] == ["fcauth_Case"]


@pytest.mark.slow
def test_personal_data_of_an_authorization_is_hashed_and_erased_with_its_customer(data: Path) -> None:
    with serving(ScriptedStripe(accounts=[account("fca_1")])) as stripe:
        sync(stripe, data, accounts=True, pii="hash")
        told(stripe, "evt_1", pre_collected={"name": "Ada Example"})
        sync(stripe, data, events=True, pii="hash")
        [row] = rows(data, "FROM authorizations")
        assert row["display_name"].startswith("pii_")
        assert traces(data, ["Ada Example"]) == []
        erase(data, "customer", "cus_1")
        assert rows(data, "FROM history.authorizations") == []
        sync(stripe, data, events=True, pii="hash")
        assert traces(data, ["cus_1"]) == []


@pytest.mark.slow
def test_the_lake_is_the_truth_of_a_world_that_sends_every_event(data: Path) -> None:
    """Of those authorizations that had an event since the first run; there is no other way to learn of one."""
    world = World(seed=3, clock=START, accounts=350, sessions=80, evolution=Evolution(every_event=True))
    with running(world) as sandbox:
        for days in (0, 9, 12):
            sandbox.advance(timedelta(days=days))
            result = run_sync(settings_for(sandbox.url, data), SyncRequest(events=True))
            assert result.failed_checks == {}
        world = sandbox.world
    since = world.events.walk(int(START.timestamp()), world.time, OF_AUTHORIZATIONS)
    told_since = {world.things.authorization(key.account, key.time).id for key in since}
    expected = [row for row in world.authorizations_truth() if row["authorization_id"] in told_since]
    found = rows(data, "SELECT * EXCLUDE (stripe_account, observed_at, run_id, extra) FROM authorizations")
    assert len(found) > 2
    assert canonical(map(whole, found)) == canonical(map(whole, expected))


def whole(row: Row) -> Row:
    """A row without the nulls within its details, which the world does not write."""
    details = row["status_details"] or {}
    said = {k: {n: v for n, v in part.items() if v is not None} for k, part in details.items() if part}
    return {**row, "status_details": {k: part for k, part in said.items() if part}}


@pytest.mark.slow
def test_an_event_of_an_authorization_keeps_its_time_though_a_late_one_of_its_second_comes_before_it(
    data: Path,
) -> None:
    """By their ids alone the late one would be the older: what an earlier run has told stands."""
    newer, older = sorted((f"evt_{n}" for n in range(2)), key=lambda one: own_time(one, 0))
    with serving(ScriptedStripe(accounts=[account("fca_1")])) as stripe:
        sync(stripe, data, accounts=True)
        second = stripe.clock
        told(stripe, older, status="active")
        sync(stripe, data)
        before = rows(data, "FROM history.authorizations")
        stripe.clock, now = second, stripe.clock
        told(stripe, newer, status="inactive")  # Stripe lists it above the other
        stripe.clock = now
        sync(stripe, data)
        sync(stripe, data)
    assert (
        rows(data, "FROM history.authorizations ORDER BY observed_at LIMIT 1")[0]["observed_at"]
        == (before[0]["observed_at"])
    )
    assert [row["status"] for row in rows(data, "FROM history.authorizations ORDER BY observed_at")] == [
        "active",
        "inactive",
    ]
    assert [row["status"] for row in rows(data, "FROM authorizations")] == ["inactive"]


@pytest.mark.slow
def test_an_authorization_that_was_seen_again_outlasts_a_late_event_of_between(data: Path) -> None:
    """As an account does: what was seen last is what is known, though it left no row."""
    with serving(ScriptedStripe(accounts=[account("fca_1")])) as stripe:
        sync(stripe, data, accounts=True)
        start = stripe.clock
        for at, name in ((5, "Name 1"), (10, "Name 2"), (15, "Name 1")):
            stripe.clock = start + at
            told(stripe, f"evt_{at}", display_name=name)
        third, second, first = stripe.events
        for now, stripe.events in ((10, [first]), (20, [third, first]), (30, [third, second, first])):
            stripe.clock = start + now
            sync(stripe, data)
    found = rows(data, "SELECT display_name FROM history.authorizations ORDER BY valid_from")
    assert [row["display_name"] for row in found] == ["Name 1", "Name 2", "Name 1"]
