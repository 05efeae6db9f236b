"""The sandbox behaves like Stripe: Stripe's own SDK reads its pages, and all it reads equals the truth."""

import gc
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import pytest
import requests
import stripe

from fincon.sandbox.events import TYPES
from fincon.sandbox.evolution import Evolution
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World

KEY = "sk_test_" + "a" * 24
RESTRICTED = "rk_test_" + "b" * 24
WORLD = World(seed=3, accounts=600, sessions=200)
ACCOUNTS = "/v1/financial_connections/accounts"


@pytest.fixture(scope="module")
def sandbox():
    with running(WORLD, denied={"financial_connections.accounts"}) as it:
        yield it
    gc.collect()


@pytest.fixture(scope="module")
def client(sandbox: Sandbox):
    return stripe.StripeClient(KEY, base_addresses={"api": sandbox.url}, max_network_retries=0).v1


def get(sandbox: Sandbox, path: str, key: str = KEY, **params: object) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return requests.get(sandbox.url + path, params=params, headers=headers, timeout=10)


def ids(found) -> list[str]:
    return [one.id for one in found.auto_paging_iter()]


# -- lists, read to the end


def test_all_accounts_are_listed_once_newest_first(client):
    found = list(client.financial_connections.accounts.list({"limit": 100}).auto_paging_iter())
    truth = WORLD.truth()["accounts"]
    assert [one.id for one in found] == [row["account_id"] for row in truth]
    assert len({one.id for one in found}) == len(found) > 600
    created = [one.created for one in found]
    assert created == sorted(created, reverse=True)


def test_accounts_of_each_session_match_truth(client):
    sizes = set()
    expected = defaultdict(list)
    truth = WORLD.truth()
    for row in truth["session_accounts"]:
        expected[row["session_id"]].append((row["position"], row["account_id"]))
    assert [row["session_id"] for row in truth["sessions"]] == WORLD.session_ids()
    for row in truth["sessions"][-125:]:
        session = client.financial_connections.sessions.retrieve(row["session_id"])
        accounts = [one.id for one in session.accounts.data]
        if session.accounts.has_more:
            assert len(accounts) == 10
            accounts = ids(client.financial_connections.accounts.list({"session": session.id, "limit": 100}))
        assert list(enumerate(accounts)) == sorted(expected[session.id])
        assert len(accounts) == row["account_count"]
        sizes.add(len(accounts))
    assert sizes >= {0, 1, 2, 3, 10, 11, 30, 120}


def test_an_account_may_be_in_two_sessions():
    times = Counter(row["account_id"] for row in WORLD.truth()["session_accounts"])
    assert set(times.values()) == {1, 2}


def test_holders_accounts_match_truth(client):
    rows = WORLD.truth()["accounts"]
    for kind in ("customer", "account", "customer_account"):
        expected = defaultdict(list)
        for row in rows:
            expected[row[f"account_holder_{kind}_id"]].append(row["account_id"])
        del expected[None]
        chosen = sorted(expected, key=lambda name: -len(expected[name]))[:3]
        assert chosen
        for name in chosen:
            found = client.financial_connections.accounts.list({"account_holder": {kind: name}})
            assert ids(found) == expected[name]


def test_owners_match_truth(client):
    rows = WORLD.owners_truth()
    assert rows
    by_account = defaultdict(list)
    for row in rows:
        by_account[row["account_id"], row["ownership_id"]].append(row["owner_id"])
    for (account, ownership), expected in list(by_account.items())[:20]:
        found = client.financial_connections.accounts.owners.list(
            account, {"ownership": ownership, "limit": 1}
        )
        assert ids(found) == expected


def test_transactions_match_truth(client):
    by_account = defaultdict(list)
    for row in WORLD.transactions_truth():
        by_account[row["account_id"]].append(row)
    for account, rows in list(by_account.items())[::40]:
        found = list(
            client.financial_connections.transactions.list(
                {"account": account, "limit": 100}
            ).auto_paging_iter()
        )
        assert [one.id for one in found] == [row["transaction_id"] for row in rows]
        assert [one.amount for one in found] == [row["amount"] for row in rows]
        middle = rows[len(rows) // 2]
        since = int(middle["transacted_at"].timestamp())
        found = client.financial_connections.transactions.list(
            {"account": account, "transacted_at": {"gte": since}, "limit": 100}
        )
        assert ids(found) == [
            row["transaction_id"] for row in rows if row["transacted_at"] >= middle["transacted_at"]
        ]
        found = client.financial_connections.transactions.list(
            {"account": account, "transaction_refresh": {"after": middle["transaction_refresh_id"]}}
        )
        assert ids(found) == [
            row["transaction_id"] for row in rows if row["updated_at"] > middle["updated_at"]
        ]


def test_events_of_a_day_are_listed_once_and_show_the_account_as_it_was(client):
    since = int((WORLD.clock - timedelta(days=1)).timestamp())
    found = list(client.events.list({"created": {"gte": since}, "limit": 100}).auto_paging_iter())
    assert len({one.id for one in found}) == len(found) > 300
    assert [one.created for one in found] == sorted((one.created for one in found), reverse=True)
    kinds = Counter(one.type.rpartition(".")[2] for one in found)
    assert kinds["refreshed_balance"] > kinds["refreshed_transactions"] > kinds["refreshed_ownership"] > 0
    for one in found[:200]:
        account = one.data.object
        then = WORLD.at(datetime.fromtimestamp(one.created, UTC))
        assert json.loads(str(account)) == then.account_json(then.account_index(account.id))
        if one.type.endswith("refreshed_balance"):
            assert account.balance.as_of <= one.created
            assert account.balance_refresh.status == "succeeded"


def test_thirty_days_of_events_hold_every_type_and_filter_by_it(client):
    rare = [
        f"financial_connections.account.{name}"
        for name in ("created", "disconnected", "deactivated", "reactivated")
    ]
    found = list(client.events.list({"types": rare, "limit": 100}).auto_paging_iter())
    assert {one.type for one in found} == set(rare)
    for one in found:
        status = one.data.object.status
        assert status == {"disconnected": "disconnected", "deactivated": "inactive"}.get(
            one.type.rpartition(".")[2], status
        )


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_pages_read_backwards_are_the_same(client, limit):
    listing = client.financial_connections.accounts
    forwards = [one.id for one in listing.list({"limit": 60})]
    later = listing.list({"limit": limit, "ending_before": forwards[50]})
    assert [one.id for one in later] == forwards[max(0, 50 - limit) : 50]
    assert later.has_more is (limit < 50)
    events = list(client.events.list({"limit": 60}))
    later = client.events.list({"limit": limit, "ending_before": events[50].id})
    assert [one.id for one in later] == [one.id for one in events][max(0, 50 - limit) : 50]


def test_expanded_attributes_are_whole_objects(client):
    found = client.financial_connections.accounts.list(
        {"limit": 100, "expand": ["data.ownership", "data.account_holder.customer"]}
    )
    ownerships = [one.ownership for one in found if getattr(one, "ownership", None)]
    assert ownerships
    assert {one.object for one in ownerships} == {"financial_connections.account_ownership"}
    holders = [one.account_holder for one in found if getattr(one, "account_holder", None)]
    customers = [one.customer for one in holders if getattr(one, "customer", None)]
    assert {one.object for one in customers} == {"customer"}


# -- errors


@pytest.mark.parametrize(
    ("path", "params", "status", "code", "param"),
    [
        (ACCOUNTS, {"limit": 0}, 400, "parameter_invalid_integer", "limit"),
        (ACCOUNTS, {"limit": 101}, 400, "parameter_invalid_integer", "limit"),
        (ACCOUNTS, {"limit": "ten"}, 400, "parameter_invalid_integer", "limit"),
        (ACCOUNTS, {"starting_after": "fca_" + "0" * 24}, 400, "resource_missing", "starting_after"),
        (ACCOUNTS, {"ending_before": "nonsense"}, 400, "resource_missing", "ending_before"),
        (ACCOUNTS, {"starting_after": "a", "ending_before": "b"}, 400, None, None),
        (ACCOUNTS, {"created": 1}, 400, "parameter_unknown", "created"),
        (ACCOUNTS, {"session": "fcsess_" + "0" * 24}, 400, "resource_missing", "session"),
        (ACCOUNTS, {"expand[]": "data.balance"}, 400, None, "expand"),
        (ACCOUNTS + "/fca_" + "0" * 24, {}, 404, "resource_missing", "account"),
        (ACCOUNTS + "/" + WORLD.account_id(1), {"limit": 3}, 400, "parameter_unknown", "limit"),
        (ACCOUNTS + "/" + WORLD.account_id(1) + "/owners", {}, 400, "parameter_missing", "ownership"),
        ("/v1/financial_connections/transactions", {}, 400, "parameter_missing", "account"),
        ("/v1/financial_connections/sessions/fcsess_x", {}, 404, "resource_missing", "session"),
        ("/v1/events", {"starting_after": "evt_x"}, 400, "resource_missing", "starting_after"),
        ("/v1/nothing", {}, 404, None, None),
    ],
)
def test_errors_come_in_stripes_envelope(sandbox, path, params, status, code, param):
    answer = get(sandbox, path, **params)
    error = answer.json()["error"]
    assert (answer.status_code, error.get("code"), error.get("param")) == (status, code, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert answer.headers["Request-Id"].startswith("req_")


@pytest.mark.parametrize("key", ["", "nonsense", "pk_test_abcdef", "sk_other_" + "x" * 30])
def test_a_missing_or_malformed_key_answers_401_without_showing_it(sandbox, key):
    answer = get(sandbox, ACCOUNTS, key=key)
    assert answer.status_code == 401
    assert not key or key not in answer.text


def test_a_restricted_key_without_permission_answers_403_and_names_it(sandbox, client):
    answer = get(sandbox, ACCOUNTS, key=RESTRICTED)
    assert answer.status_code == 403
    assert "financial_connections.accounts" in answer.json()["error"]["message"]
    assert RESTRICTED not in answer.text
    assert get(sandbox, "/v1/events", key=RESTRICTED, limit=1).ok
    denied = stripe.StripeClient(RESTRICTED, base_addresses={"api": sandbox.url}, max_network_retries=0).v1
    with pytest.raises(stripe.PermissionError):
        denied.financial_connections.accounts.list()


def test_basic_authorization_works_and_writing_does_not(sandbox):
    assert requests.get(sandbox.url + ACCOUNTS, auth=(KEY, ""), timeout=10).ok
    answer = requests.post(sandbox.url + ACCOUNTS, auth=(KEY, ""), timeout=10)
    assert answer.status_code == 405
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_headers_are_stripes_and_the_date_is_the_worlds(sandbox):
    answer = requests.get(
        sandbox.url + ACCOUNTS, auth=(KEY, ""), headers={"Stripe-Version": "2026-01-01.x"}, timeout=10
    )
    assert answer.headers["Date"] == "Mon, 01 Jun 2026 12:00:00 GMT"
    assert answer.headers["Stripe-Version"] == "2026-01-01.x"
    assert "server" not in answer.headers
    assert answer.text.startswith('{\n  "object": "list"')


# -- the world


def test_only_its_own_ids_resolve_to_numbers():
    for index in (0, 1, 599):
        assert WORLD.account_index(WORLD.account_id(index)) == index
    assert WORLD.account_index(World(seed=4).account_id(0)) is None
    assert WORLD.account_index(WORLD.account_id(10**6)) is None
    assert WORLD.session("fcsess_" + "z" * 24) is None


def test_the_world_is_a_pure_function_of_seed_clock_and_size():
    def pages(world: World) -> list[bytes]:
        with running(world) as it:
            paths = [ACCOUNTS + "?limit=50", f"{ACCOUNTS[:-8]}sessions/{world.session_ids()[-1]}"]
            return [get(it, path).content for path in [*paths, "/v1/events?limit=20"]]

    first = pages(World(seed=5))
    assert first == pages(World(seed=5))
    assert first == pages(World(seed=5).at(datetime(2030, 1, 1, tzinfo=UTC)).at(World().clock))
    assert all(one != other for one, other in zip(first, pages(World(seed=6)), strict=True))


def test_as_the_clock_moves_on_accounts_are_added_and_none_goes():
    later = WORLD.at(WORLD.clock + timedelta(days=10))
    before = [row["account_id"] for row in WORLD.truth()["accounts"]]
    after = [row["account_id"] for row in later.truth()["accounts"]]
    assert after[-len(before) :] == before
    assert len(after) == pytest.approx(len(before) + 30, abs=1)
    assert later.session_ids()[: WORLD.session_count] == WORLD.session_ids()
    assert WORLD.at(WORLD.clock - timedelta(days=365)).account_count == pytest.approx(300, abs=3)


def test_balances_are_the_sum_of_posted_transactions():
    before, after = WORLD.at(WORLD.clock - timedelta(days=40)), WORLD
    rows = {row["account_id"]: row for row in before.truth()["balances"]}
    posted = defaultdict(list)
    for row in WORLD.at(WORLD.clock + timedelta(days=15)).transactions_truth():
        if row["status"] == "posted":
            posted[row["account_id"]].append(row)
    several = Counter(row["account_id"] for row in after.truth()["balances"])
    checked = 0
    for row in after.truth()["balances"]:
        old, moves = rows.get(row["account_id"]), posted[row["account_id"]]
        if several[row["account_id"]] > 1 or row["current"] is None or not old or not moves:
            continue
        change = sum(move["amount"] for move in moves if old["as_of"] < move["posted_at"] <= row["as_of"])
        assert row["current"] - old["current"] == change
        assert {move["currency"] for move in moves} == {row["currency"]}
        checked += 1
    assert checked > 100


def test_transactions_settle_in_place():
    seen = {row["transaction_id"]: row for row in WORLD.transactions_truth()}
    later = {
        row["transaction_id"]: row for row in WORLD.at(WORLD.clock + timedelta(days=14)).transactions_truth()
    }
    assert seen.keys() <= later.keys()
    changed = [key for key in seen if later[key] != seen[key]]
    assert {seen[key]["status"] for key in changed} == {"pending"}
    assert {later[key]["status"] for key in changed} == {"posted", "void"}
    assert all(later[key]["updated_at"] > seen[key]["updated_at"] for key in changed)


def test_the_world_has_every_oddity():
    truth = World().truth()
    accounts, balances = truth["accounts"], truth["balances"]
    assert {row["status"] for row in accounts} == {"active", "inactive", "disconnected", "under_review"}
    assert {row["category"] for row in accounts} == {"cash", "credit", "investment", "other", "crypto"}
    for name in ("account_holder_type", "display_name", "last4", "permissions", "subscriptions"):
        assert any(row[name] is None for row in accounts)
        assert any(row[name] is not None for row in accounts)
    assert any(row["permissions"] == [] for row in accounts)
    assert {"usd", "eur", "gbp", "cad", "jpy", "kwd", "bhd", "isk", "idr"} == {
        row["currency"] for row in balances
    }
    assert any((row["current"] or 0) > 2**53 for row in balances)
    assert any((row["current"] or 0) < 0 for row in balances)
    assert any(row["current"] == 0 for row in balances)
    assert any(row["current"] is None for row in balances)
    assert {row["balance_type"] for row in accounts} == {None, "cash", "credit", "investment"}
    states = {(row["feature"], row["status"]) for row in truth["refreshes"]}
    assert states >= {("balance", status) for status in ("succeeded", "failed", "pending")}
    assert any(row["extra"] and isinstance(next(iter(row["extra"].values())), dict) for row in accounts)
    assert any(row["extra"] for row in truth["sessions"])
    assert max(Counter(row["account_holder_customer_id"] for row in accounts).values()) >= 20


def test_truth_says_what_the_json_says():
    world = World(accounts=1500)
    truth = world.truth()
    accounts = {row["account_id"]: row for row in truth["accounts"]}
    balances = {(row["account_id"], row["currency"]): row for row in truth["balances"]}
    refreshes = {(row["account_id"], row["feature"]): row for row in truth["refreshes"]}
    unknown = 0
    for index in range(world.account_count):
        found = world.account_json(index)
        row = accounts[found["id"]]
        for name in ("category", "subcategory", "status", "display_name", "last4", "permissions"):
            assert row[name] == found.get(name)
        balance = found.get("balance") or {}
        maps = {
            "current": balance.get("current") or {},
            "available": (balance.get("cash") or {}).get("available") or {},
            "used": (balance.get("credit") or {}).get("used") or {},
        }
        for currency in set().union(*maps.values()):
            line = balances.pop((found["id"], currency))
            assert {name: line[name] for name in maps} == {name: maps[name].get(currency) for name in maps}
            assert line["as_of"].timestamp() == balance["as_of"]
        for feature in ("balance", "ownership", "transaction"):
            refresh = found.get(f"{feature}_refresh")
            if refresh:
                line = refreshes.pop((found["id"], feature))
                assert line["status"] == refresh["status"]
                assert line["last_attempted_at"].timestamp() == refresh["last_attempted_at"]
                assert (line["next_refresh_available_at"] is None) == (
                    refresh["next_refresh_available_at"] is None
                )
                assert line["refresh_id"] == refresh.get("id")
        for name, value in (row["extra"] or {}).items():
            unknown += 1
            assert found[name] == value or value.items() <= found[name].items()
    assert not balances
    assert not refreshes
    assert unknown > 10


@pytest.mark.parametrize("seed", range(5))
def test_amounts_that_no_double_holds_are_rupiah_and_even_a_small_world_has_one(seed):
    rows = World(seed=seed, accounts=20, sessions=6).truth()["balances"]
    rows += World(seed=seed, accounts=1490).truth()["balances"]
    huge = [row for row in rows if abs(row["current"] or 0) > 2**53]
    assert len(huge) == 4
    assert {row["currency"] for row in huge} == {"idr"}
    assert {type(row["current"]) for row in huge} == {int}


def test_a_day_changes_attributes_of_one_account_in_a_hundred():
    names = ("status", "display_name", "permissions", "subscriptions", "status_details")
    world = World(accounts=10_000)
    before, after = (
        {row["account_id"]: row for row in it.truth()["accounts"]}
        for it in (world, world.at(world.clock + timedelta(days=1)))
    )
    changed = Counter(name for key, row in before.items() for name in names if after[key][name] != row[name])
    assert changed.keys() == set(names)
    assert 50 < sum(changed.values()) < 200


def test_each_change_of_status_has_its_event_and_no_other_account_has_one():
    world = World(seed=3, accounts=5000)
    start = int((world.clock - timedelta(days=1)).timestamp())
    of_link = {"deactivated", "disconnected", "reactivated"}
    events = list(
        world.events.walk(start + 1, world.time, [TYPES.index(f"account.{name}") for name in of_link])
    )
    assert events == sorted(set(events), reverse=True)
    assert events[::-1] == list(world.events.walk(start + 1, world.time, range(1, 4), newest_first=False))
    statuses = {
        index: [world.things.schedule.calendar(index).link(time).status for time in (start, world.time)]
        for index in range(world.account_count)
    }
    changed = {index for index, (old, new) in statuses.items() if old != new}
    assert changed
    assert changed == {key.account for key in events}
    assert all(world.events.key(world.events.event(key).id) == key for key in events)


@pytest.mark.parametrize(
    ("evolution", "told"),
    [(Evolution(), {"succeeded"}), (Evolution(every_event=True, ending=20), {"succeeded", "failed"})],
)
@pytest.mark.first(1)
def test_events_of_a_small_world_are_those_that_asking_every_account_every_minute_finds(evolution, told):
    world = World(seed=3, clock=datetime(2026, 6, 15, 12, tzinfo=UTC), accounts=30, evolution=evolution)
    start = world.time - 86_400
    found = set(world.events.walk(start + 1, world.time, (4, 5, 6)))
    expected = set()
    for index in range(world.account_count):
        for kind, name in enumerate(("balance", "ownership", "transaction"), 4):
            seen = None
            for time in range(start, world.time + 60, 60):
                at = min(time, world.time)
                refresh = world.account_json(index, time=at).get(f"{name}_refresh")
                state = refresh and (refresh["status"], refresh["last_attempted_at"])
                if seen is not None and state != seen[0] and state and state[0] in told:
                    expected.add((index, kind, at // 60))
                seen = (state,)
    assert {(key.account, key.type, -(-key.time // 60)) for key in found} == expected


# -- controls


def test_clock_and_request_log_can_be_controlled_from_outside():
    with running(WORLD) as it:
        get(it, ACCOUNTS, limit=3)
        get(it, ACCOUNTS + "/" + WORLD.account_id(1))
        assert it.requests[0] == ("GET", ACCOUNTS, "limit=3")
        seen = get(it, "/_sandbox/requests").json()
        assert seen["counts"] == {f"GET {ACCOUNTS}": 1, f"GET {ACCOUNTS}/{{id}}": 1}
        requests.post(it.url + "/_sandbox/requests/reset", timeout=10)
        assert it.requests == []
        requests.post(it.url + "/_sandbox/clock", json={"at": "2026-06-05T00:00:00Z"}, timeout=10)
        assert it.world.clock == datetime(2026, 6, 5, tzinfo=UTC)
        requests.post(it.url + "/_sandbox/clock", json={"advance_seconds": 60}, timeout=10)
        it.advance(timedelta(minutes=1))
        assert it.world.clock == datetime(2026, 6, 5, 0, 2, tzinfo=UTC)
        it.set_clock(WORLD.clock)
        assert get(it, ACCOUNTS).headers["Date"] == "Mon, 01 Jun 2026 12:00:00 GMT"
        assert requests.post(it.url + "/_sandbox/clock", json={"at": 5}, timeout=10).status_code == 400


def test_only_loopback_is_served():
    with pytest.raises(ValueError, match="loopback"), running(WORLD, host="0.0.0.0"):  # noqa: S104
        pass
