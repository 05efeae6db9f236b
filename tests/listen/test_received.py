"""What Stripe sent is loaded as `fincon events` loads it: the same versions, exactly once, whichever way an event came first."""

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fincon.errors import BudgetExhausted
from fincon.landing.spool import Spool
from fincon.pipeline.erase import erase
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.rewrite_privacy import rewrite
from fincon.pipeline.sync import run_sync
from fincon.privacy import Erased
from fincon.sandbox.evolution import DAHLIA, OLD, Evolution
from fincon.sandbox.server import running
from fincon.sandbox.webhooks import happened, thin
from fincon.sandbox.world import World
from fincon.settings import Secret
from fincon.transforms.redaction import Privacy
from fincon.transforms.webhooks import parse_webhook
from tests.conftest import START, Row, rows, settings_for
from tests.scripted_stripe import ScriptedStripe, account, event, serving

EVENTS = SyncRequest(events=True)
RECEIVED = SyncRequest(received=True)
ALL = SyncRequest()

VERSIONS = {
    "accounts": "account_id",
    "balances": "account_id, currency",
    "refreshes": "account_id, feature",
    "authorizations": "authorization_id",
}


def send(data: Path, *events: dict[str, Any]) -> None:
    """Keep events as the listener does, some in a file."""
    bodies = [parse_webhook(json.dumps(one).encode()).raw for one in events]
    for start in range(0, len(bodies), 7):
        Spool(data).write(bodies[start : start + 7], Privacy(), Erased())


def unchecked(name: str, do: Any, *arguments: Any) -> Any:
    """Do a step of a sync; leave the checks, which take as long as all else."""
    return {} if name == "check" else do(*arguments)


def run(url: str, data: Path, request: SyncRequest = RECEIVED, **more: str) -> SyncResult:
    return run_sync(settings_for(url, data, **more), request, unchecked)


def history(data: Path) -> dict[str, list[Row]]:
    """Every version, but which run brought it."""
    return {
        table: rows(data, f"SELECT * EXCLUDE (run_id) FROM history.{table} ORDER BY {keys}, valid_from")
        for table, keys in VERSIONS.items()
    }


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    with serving(ScriptedStripe([account("fca_1"), account("fca_2")])) as served:
        yield served


def happens(stripe: ScriptedStripe, number: int, current: int, of: str = "fca_1") -> dict[str, Any]:
    """A balance changes: the list and an event show it."""
    now = account(of, current)
    stripe.accounts = [now if one["id"] == of else one for one in stripe.accounts]
    made = event(f"evt_{number}", now, stripe.clock)
    stripe.events.insert(0, made)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "turns"), [(1, 2), *((seed, 4) for seed in range(2, 8))])
@pytest.mark.first(0, 2)
def test_whichever_mix_a_world_was_read_by_the_lake_is_what_events_alone_make_of_it(
    seed: int, turns: int, tmp_path: Path
) -> None:
    """The twin reads events where the first read anything that is no listing; both list at the same moments."""
    dice = random.Random(seed)  # noqa: S311 - a world, no secret
    evolution = Evolution(every_event=True, default_version=dice.choice([OLD, DAHLIA]))
    with running(World(seed=seed, clock=START, accounts=25, sessions=0, evolution=evolution)) as sandbox:
        mixed, twin = tmp_path / "mixed", tmp_path / "twin"
        for data in (mixed, twin):
            run(sandbox.url, data, ALL)
        for _ in range(turns):
            since = sandbox.world.time
            sandbox.advance(timedelta(seconds=dice.choice([90, 4_000, 40_000, 200_000])))
            came = list(happened(sandbox.world, since))
            dice.shuffle(came)
            send(mixed, *came[: dice.randrange(len(came) + 1)], *came[: len(came) // 4])
            for request in dice.sample([RECEIVED, EVENTS], 2):
                if request is EVENTS or Spool(mixed).count():
                    run(sandbox.url, mixed, request)
            run(sandbox.url, twin, EVENTS)
            if dice.random() < 0.5:
                for data in (mixed, twin):
                    run(sandbox.url, data, ALL)
        assert history(mixed) == history(twin)
        assert Spool(mixed).count() == 0


@pytest.mark.quick
def test_webhooks_alone_make_what_events_make_and_ask_stripe_for_nothing(tmp_path: Path) -> None:
    """In any order, and some of them twice."""
    with running(World(seed=3, clock=START, accounts=120, sessions=0)) as sandbox:
        sent, read = tmp_path / "sent", tmp_path / "read"
        for data in (sent, read):
            run(sandbox.url, data, ALL)
        sandbox.advance(timedelta(hours=9))
        came = list(happened(sandbox.world, int(START.timestamp()) - 300))
        random.Random(3).shuffle(came)  # noqa: S311
        send(sent, *came, *came[:9])
        sandbox.reset_requests()
        outcome = run_sync(settings_for(sandbox.url, sent), RECEIVED)
        brought = outcome.run
        assert outcome.failed_checks == {}
        assert sandbox.requests == []
        assert (brought["mode"], brought["requests"]) == ("webhooks", 0)
        run(sandbox.url, read, EVENTS)
        assert history(sent) == history(read)
        assert run(sandbox.url, sent, EVENTS).run["rows_added"] == 0, (
            "they are known when the list shows them"
        )
        send(read, *came)
        assert run(sandbox.url, read).run["rows_added"] == 0, "and the other way round"
        assert (Spool(sent).count(), Spool(read).count()) == (0, 0)


def test_two_events_of_one_account_and_second_are_put_in_order_by_stripes_list(
    stripe: ScriptedStripe, tmp_path: Path
) -> None:
    """Nothing else tells which was last. One that the list does not show yet waits until it does."""
    run(stripe.url, tmp_path, ALL)
    for number in range(2):  # whichever order their ids would make of it
        stripe.clock += 10
        first, second = (happens(stripe, 2 * number + n, 1000 * (n + 1) + number) for n in (0, 1))
        send(tmp_path, second, first)
        if number == 0:
            hidden = stripe.events.pop(0)
            run(stripe.url, tmp_path)
            assert Spool(tmp_path).count() == 1
            stripe.events.insert(0, hidden)
        assert run(stripe.url, tmp_path).run["mode"] == "webhooks+events"
        assert rows(tmp_path, "SELECT current FROM balances WHERE account_id = 'fca_1'") == [
            {"current": 2000 + number}
        ]
        assert Spool(tmp_path).count() == 0


@pytest.mark.slow
def test_the_sibling_of_an_event_that_is_loaded_is_put_in_order_by_stripes_list(
    stripe: ScriptedStripe, tmp_path: Path
) -> None:
    run(stripe.url, tmp_path, ALL)
    for number in range(2):
        stripe.clock += 10
        first, second = (happens(stripe, 2 * number + n, 1000 * (n + 1) + number) for n in (0, 1))
        stripe.requests.clear()
        for one in (second, first):
            send(tmp_path, one)
            run(stripe.url, tmp_path)
        assert len(stripe.requests) == 1
        assert rows(tmp_path, "SELECT current FROM balances WHERE account_id = 'fca_1'") == [
            {"current": 2000 + number}
        ]


def test_before_anything_is_known_every_account_is_listed(stripe: ScriptedStripe, tmp_path: Path) -> None:
    """As `fincon events` does; what was sent is then brought in as of its own time."""
    send(tmp_path, happens(stripe, 1, 500))
    stripe.clock += 60
    happens(stripe, 2, 700)
    assert run(stripe.url, tmp_path).run["mode"] == "webhooks+accounts"
    run(stripe.url, tmp_path)
    assert Spool(tmp_path).count() == 0
    found = rows(
        tmp_path, "SELECT current FROM history.balances WHERE account_id = 'fca_1' ORDER BY valid_from"
    )
    assert [row["current"] for row in found] == [500, 700]


def test_an_event_from_before_what_is_complete_is_not_brought_in(
    stripe: ScriptedStripe, tmp_path: Path
) -> None:
    """`fincon events` would not ask for it: it cannot be told what was seen after it."""
    old = happens(stripe, 1, 500)
    stripe.clock += 3_600
    happens(stripe, 2, 700)
    run(stripe.url, tmp_path, ALL)
    send(tmp_path, old)
    assert run(stripe.url, tmp_path).run["rows_added"] == 0
    assert Spool(tmp_path).count() == 0
    assert rows(tmp_path, "SELECT current FROM balances WHERE account_id = 'fca_1'") == [{"current": 700}]


def test_webhooks_do_not_say_that_nothing_else_happened(stripe: ScriptedStripe, tmp_path: Path) -> None:
    """One that was never sent is found by the list, however many were sent after it."""
    run(stripe.url, tmp_path, ALL)
    happens(stripe, 1, 500)
    stripe.clock += 3_600
    send(tmp_path, happens(stripe, 2, 700, of="fca_2"))
    run(stripe.url, tmp_path)
    run(stripe.url, tmp_path, EVENTS)
    assert rows(tmp_path, "SELECT current FROM balances ORDER BY account_id") == [
        {"current": 500},
        {"current": 700},
    ]


@pytest.mark.quick
def test_of_a_thin_event_the_account_is_fetched_once_however_many_name_it(
    stripe: ScriptedStripe, tmp_path: Path
) -> None:
    run(stripe.url, tmp_path, ALL)
    stripe.clock += 60
    send(tmp_path, *(thin(happens(stripe, number, 500 + number)) for number in range(3)))
    stripe.requests.clear()
    assert run(stripe.url, tmp_path).run["rejected"] == 0
    assert stripe.requests == ["/v1/financial_connections/accounts/fca_1"]
    assert rows(tmp_path, "SELECT current FROM balances WHERE account_id = 'fca_1'") == [{"current": 502}]
    assert Spool(tmp_path).count() == 0


@pytest.mark.quick
def test_an_event_in_another_shape_is_rejected_and_its_account_fetched(
    stripe: ScriptedStripe, tmp_path: Path
) -> None:
    """As `fincon events` does."""
    run(stripe.url, tmp_path, ALL)
    stripe.clock += 60
    odd = happens(stripe, 1, 500)
    odd["data"] = {"object": {**odd["data"]["object"], "institution_name": 5}}
    send(tmp_path, odd, odd | {"id": "evt_2", "created": "then"}, odd | {"id": "evt_3", "data": {}})
    assert run(stripe.url, tmp_path).run["rejected"] == 3
    assert rows(tmp_path, "SELECT current FROM balances WHERE account_id = 'fca_1'") == [{"current": 500}]
    assert Spool(tmp_path).count() == 0


def test_each_connected_account_has_its_own_events(stripe: ScriptedStripe, tmp_path: Path) -> None:
    """A new one is listed first; the platform's own events go on as they do."""
    stripe.connected = {one: ScriptedStripe([account("fca_1")]) for one in ("acct_1", "acct_2")}
    run(stripe.url, tmp_path, ALL)
    for request in (SyncRequest(stripe_accounts=("acct_1",)), RECEIVED, RECEIVED):
        if request is RECEIVED and not Spool(tmp_path).count():
            stripe.clock += 10
            own = happens(stripe, 1, 300)
            others = [
                happens(served, 2, n) | {"account": one}
                for n, (one, served) in enumerate(stripe.connected.items(), 400)
            ]
            send(tmp_path, own, *others)
        run(stripe.url, tmp_path, request)
    found = rows(
        tmp_path, "SELECT stripe_account, current FROM balances WHERE account_id = 'fca_1' ORDER BY ALL"
    )
    assert {row["stripe_account"] or "": row["current"] for row in found} == {
        "": 300,
        "acct_1": 400,
        "acct_2": 401,
    }
    assert Spool(tmp_path).count() == 0


def test_a_run_that_was_stopped_goes_on_and_its_events_wait_for_it(
    stripe: ScriptedStripe, tmp_path: Path
) -> None:
    run(stripe.url, tmp_path, ALL)
    stripe.clock += 60
    send(
        tmp_path, *(thin(happens(stripe, n, 500 + n, of=f"fca_{n}")) for n in (1, 2)), happens(stripe, 3, 900)
    )
    with pytest.raises(BudgetExhausted):
        run(stripe.url, tmp_path, SyncRequest(received=True, max_requests=1))
    assert Spool(tmp_path).count() == 3
    assert run(stripe.url, tmp_path).resumed_pages > 0
    assert Spool(tmp_path).count() == 0
    assert rows(tmp_path, "SELECT current FROM balances ORDER BY account_id") == [
        {"current": 900},
        {"current": 502},
    ]


def test_what_waits_is_erased_and_treated_with_all_else(stripe: ScriptedStripe, tmp_path: Path) -> None:
    key = {"FINCON_PII_KEY": "k" * 32}
    for request in (ALL, SyncRequest(pii="hash")):
        run(stripe.url, tmp_path, request, **key)
    send(tmp_path, *(happens(stripe, n, 500, of=f"fca_{n}") for n in (1, 2)))
    assert rewrite(tmp_path, Secret("k" * 32)) > 0
    kept = b"".join(path.read_bytes() for path in Spool(tmp_path).files())
    assert b"fca_1" in kept
    assert b"Everyday" not in kept
    erase(tmp_path, "account", "fca_1")
    assert Spool(tmp_path).count() == 1
    assert b"fca_1" not in b"".join(path.read_bytes() for path in Spool(tmp_path).files())
    send(tmp_path, happens(stripe, 3, 500))  # it had been taken before the listener knew
    run(stripe.url, tmp_path, **key)
    assert Spool(tmp_path).count() == 0
    assert rows(tmp_path, "SELECT account_id FROM accounts") == [{"account_id": "fca_2"}]


@pytest.mark.slow
def test_a_webhook_from_the_future_outlasts_nothing(tmp_path: Path) -> None:
    """Stripe's list tells whether it has happened: it is rejected there, its account asked for, and nothing waits."""
    with serving(ScriptedStripe([account("fca_1", 100)])) as stripe:
        run(stripe.url, tmp_path, ALL)
        stripe.clock += 60
        stripe.events = [event("evt_ahead", account("fca_1", 666), 4_102_444_799)]
        stripe.accounts = [account("fca_1", 200)]
        send(tmp_path, *stripe.events)
        run(stripe.url, tmp_path)
        assert rows(tmp_path, "SELECT current FROM balances") == [{"current": 200}]
        assert rows(tmp_path, "SELECT object_id FROM rejects") == [{"object_id": "evt_ahead"}]
        assert Spool(tmp_path).count() == 0
