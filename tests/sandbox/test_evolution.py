"""The sandbox moves on as Stripe does: versions, events, what leaves and ends; the truth follows, Stripe's SDK reads it."""

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import stripe

from fincon.sandbox.events import TYPES
from fincon.sandbox.evolution import DAHLIA, ENDIVE, OLD, Evolution
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World

KEY = "sk_test_" + "a" * 24
ROOT = "/v1/financial_connections"
ACCOUNTS = f"{ROOT}/accounts"
CLOCK = datetime(2026, 6, 25, 12, tzinfo=UTC)
MOVING = Evolution(
    default_version=OLD,
    every_event=True,
    leaving=25,
    ending=20,
    grows_at=CLOCK + timedelta(days=1),
    bank_account_tokens=True,
    refuses_unreadable=True,
    inline_owners=1,
)
WORLD = World(seed=4, clock=CLOCK, accounts=350, sessions=80, evolution=MOVING)


@pytest.fixture(scope="module")
def moving():
    with running(WORLD) as it:
        yield it


@pytest.fixture
def sandbox(moving: Sandbox):
    yield moving
    moving.faults = None
    moving.set_clock(CLOCK)


def get(sandbox: Sandbox, path: str, version: str = "", **params: Any) -> requests.Response:
    headers = {"Stripe-Version": version} if version else {}
    return requests.get(sandbox.url + path, params=params, headers=headers, auth=(KEY, ""), timeout=30)


def every(sandbox: Sandbox, path: str, version: str = "", **params: Any) -> list[dict[str, Any]]:
    """All objects of a list, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        after = {"starting_after": found[-1]["id"]} if found else {}
        page = get(sandbox, path, version, limit=100, **params, **after).json()
        found += page["data"]
        if not page["has_more"]:
            return found


# -- versions


@pytest.mark.parametrize("version", [DAHLIA, ENDIVE])
@pytest.mark.first(0)
def test_stripes_sdk_pages_everything_to_the_end_under_both_versions(sandbox, version):
    client: Any = stripe.StripeClient(
        KEY, base_addresses={"api": sandbox.url}, max_network_retries=0, stripe_version=version
    ).v1
    fc = client.financial_connections
    world = WORLD.in_version(version)
    listed = list(fc.accounts.list({"limit": 100}).auto_paging_iter())
    assert {one.id for one in listed if "deleted" not in one} == {
        row["account_id"] for row in world.truth()["accounts"]
    }
    for row in world.truth()["sessions"]:
        session = fc.sessions.retrieve(row["session_id"])
        assert session.livemode is False
        assert ("limits" in session) >= (version == ENDIVE)
    owners = defaultdict(list)
    for row in world.owners_truth():
        owners[row["account_id"], row["ownership_id"]].append(row["owner_id"])
    for (account, ownership), ids in owners.items():
        found = fc.accounts.owners.list(account, {"ownership": ownership, "limit": 1})
        assert [one.id for one in found.auto_paging_iter()] == ids
    transactions = defaultdict(list)
    for row in world.transactions_truth():
        transactions[row["account_id"]].append(row["transaction_id"])
    for account, ids in list(transactions.items())[::40]:
        found = list(fc.transactions.list({"account": account, "limit": 100}).auto_paging_iter())
        assert [one.id for one in found] == ids
        assert fc.transactions.retrieve(ids[-1]) == found[-1]
    since = int((CLOCK - timedelta(days=2)).timestamp())
    events = list(client.events.list({"limit": 100, "created": {"gte": since}}).auto_paging_iter())
    assert len({one.id for one in events}) == len(events) > 500
    assert client.events.retrieve(events[7].id) == events[7]
    assert {one.api_version for one in events} == {OLD}


def test_a_session_is_rendered_in_the_version_of_the_header(sandbox):
    """What only one version has is told in that alone; the truth of each says so."""
    tokens = 0
    for session_id in WORLD.session_ids():
        path = f"{ROOT}/sessions/{session_id}"
        old, new = get(sandbox, path, DAHLIA).json(), get(sandbox, path, ENDIVE).json()
        assert "bank_account_token" not in old
        assert {"limits", "manual_entry"} <= new.keys()
        assert "countries" not in (new.get("filters") or {})
        for name in ("limits", "manual_entry"):
            assert old.get(name, new[name]) == new[name]
        if token := new.get("bank_account_token"):
            assert token["id"].startswith("btok_")
            tokens += 1
    assert tokens > 5
    rows = {row["session_id"]: row for row in WORLD.in_version(ENDIVE).truth()["sessions"]}
    for session_id, row in rows.items():
        new = get(sandbox, f"{ROOT}/sessions/{session_id}", ENDIVE).json()
        filters = new.get("filters") or {}
        assert row["filter_countries"] == (filters.get("country") and [filters["country"]])
        assert row["limit_accounts"] == (new["limits"] and new["limits"]["accounts"])
        assert row["manual_entry_mode"] == (new["manual_entry"] and new["manual_entry"]["mode"])
        assert row["filter_require_payment_method_support"] == filters.get("require_payment_method_support")
        assert (row["extra"] or {}).keys() <= {"status", "status_details", "ui_mode", "filters"}
    assert get(sandbox, ACCOUNTS).headers["Stripe-Version"] == OLD


@pytest.mark.parametrize("version", ["2020-08-27", OLD, DAHLIA, ENDIVE])
def test_an_event_is_rendered_in_the_accounts_own_version_whatever_the_header_says(version):
    """An older one leaves out what came later, which says nothing of it; a much older one what must be there."""
    world = World(seed=4, accounts=60, evolution=Evolution(default_version=version))
    with running(world) as sandbox:
        for event in get(sandbox, "/v1/events", ENDIVE, limit=100).json()["data"]:
            assert event["api_version"] == version
            account = event["data"]["object"]
            assert ("institution_name" in account) is (version > "2021")
            if version < DAHLIA:
                assert not {"subscriptions", "account_numbers", "status_details"} & account.keys()


# -- events


def test_all_fourteen_types_are_sent_and_each_says_what_was_so(sandbox):
    found = every(sandbox, "/v1/events")
    assert {one["type"].removeprefix("financial_connections.") for one in found} == set(TYPES)
    assert [one["created"] for one in found] == sorted((one["created"] for one in found), reverse=True)
    outcomes = Counter()
    for one in found:
        kind, subject = one["type"].rpartition(".")[2], one["data"]["object"]
        is_account = ".account." in one["type"]
        assert subject["object"] == f"financial_connections.{'account' if is_account else 'authorization'}"
        if kind.startswith("refreshed_"):
            feature = {"transactions": "transaction"}.get(kind[10:], kind[10:])
            outcomes[subject[f"{feature}_refresh"]["status"]] += 1
        elif not is_account:
            assert subject["id"].startswith("fcauth_")
    assert outcomes.keys() == {"succeeded", "failed"}
    assert outcomes["succeeded"] > outcomes["failed"] > 100


def test_types_can_be_asked_for_alone_and_by_star(sandbox):
    of_links = every(sandbox, "/v1/events", type="financial_connections.authorization.*")
    assert {one["type"].split(".")[1] for one in of_links} == {"authorization"}
    latest: dict[str, dict[str, Any]] = {}
    for one in reversed(of_links):
        latest[one["data"]["object"]["id"]] = one["data"]["object"]
    rows = {row["authorization_id"]: row for row in WORLD.authorizations_truth()}
    assert rows.keys() == latest.keys()
    for authorization_id, row in rows.items():
        told = latest[authorization_id]
        assert (row["status"], row["institution"]) == (told["status"], told["institution"])
        active = told["status_details"].get("active")
        if active and active["expected_deactivation_date"]:
            ends = row["status_details"]["active"]["expected_deactivation_date"]
            assert ends.timestamp() == active["expected_deactivation_date"]


@pytest.mark.slow
def test_an_event_is_found_by_its_id_as_it_is_listed(sandbox):
    found = every(sandbox, "/v1/events")
    rare = {one["type"]: one for one in found}
    for one in [*rare.values(), *found[::500]]:
        assert get(sandbox, f"/v1/events/{one['id']}").json() == one


# -- what leaves and ends


@pytest.mark.slow
def test_accounts_leave_the_list_for_good_or_for_days_or_show_as_deleted():
    """Seen day by day; no event is told of it, and a session names those alone that are there."""
    seen: dict[str, list[str]] = defaultdict(list)
    quiet = World(seed=4, clock=CLOCK, accounts=250, sessions=80, evolution=Evolution(leaving=25))
    start = datetime(2026, 6, 1, tzinfo=UTC)
    with running(quiet.at(start)) as sandbox:
        known = [sandbox.world.account_id(index) for index in range(sandbox.world.account_count)]
        for day in range(30):
            sandbox.set_clock(start + timedelta(days=day))
            listed = {one["id"]: "deleted" in one for one in every(sandbox, ACCOUNTS)}
            for account_id in known:
                seen[account_id].append({None: "-", True: "d", False: "+"}[listed.get(account_id)])
            assert {i for i in known if listed.get(i) is not False} == sandbox.world.gone() & set(known)
            assert {i for i, gone in listed.items() if not gone} == {
                row["account_id"] for row in sandbox.world.truth()["accounts"]
            }
            collected = {row["account_id"] for row in sandbox.world.truth()["session_accounts"]}
            assert not collected & sandbox.world.gone()
    paths = {
        "".join(one for n, one in enumerate(days) if not n or days[n - 1] != one) for days in seen.values()
    }
    assert paths >= {"+", "+-", "+d", "+d-"}
    assert any(path.startswith("+-+") for path in paths)
    assert 150 < sum(set(days) == {"+"} for days in seen.values()) < 225


def test_who_is_gone_is_not_found_and_who_is_deleted_is_no_more_than_that(sandbox):
    world = sandbox.world
    by_state = {world.presence(index): world.account_id(index) for index in range(world.account_count)}
    assert get(sandbox, f"{ACCOUNTS}/{by_state['absent']}").status_code == 404
    assert get(sandbox, f"{ACCOUNTS}/{by_state['deleted']}").json() == {
        "id": by_state["deleted"],
        "object": "financial_connections.account",
        "deleted": True,
    }
    for gone in (by_state["absent"], by_state["deleted"]):
        answer = get(sandbox, f"{ROOT}/transactions", account=gone)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "resource_missing")
    answer = get(sandbox, ACCOUNTS, starting_after=by_state["absent"])
    assert answer.json()["error"]["param"] == "starting_after"


def test_refreshes_that_end_are_null_from_then_on_and_what_they_brought_stays():
    quiet = World(seed=4, accounts=250, evolution=Evolution(ending=30))
    before, after = quiet.at(datetime(2026, 6, 1, 1, tzinfo=UTC)), quiet.at(datetime(2026, 7, 15, tzinfo=UTC))
    ended = 0
    for index in range(before.account_count):
        then, now = before.account_json(index), after.account_json(index)
        if then.get("balance_refresh") and not now.get("balance_refresh"):
            ended += 1
            assert now.get("balance") or then["status"] == "disconnected" or not then.get("balance")
            last = now.get("balance")
            assert last == after.at(after.clock + timedelta(days=9)).account_json(index).get("balance")
    assert ended > 20
    features = Counter(row["feature"] for row in after.truth()["refreshes"])
    assert all(
        0 < features[name] < Counter(r["feature"] for r in before.truth()["refreshes"])[name]
        for name in features
    )


def test_attributes_grow_on_every_object_from_a_clock_on(sandbox):
    """The rest of each object stays, and the truth has what grew."""
    later = CLOCK + timedelta(days=2)
    assert not any("enrichment" in (row["extra"] or {}) for row in WORLD.truth()["accounts"])
    sandbox.set_clock(later)
    world = sandbox.world
    assert all(
        row["extra"]["enrichment"] for table in ("accounts", "sessions") for row in world.truth()[table]
    )
    assert all(row["extra"]["enrichment"] for row in [*world.owners_truth(), *world.transactions_truth()])
    account = next(one for one in every(sandbox, ACCOUNTS) if one.get("ownership"))
    owners = get(sandbox, f"{ACCOUNTS}/{account['id']}/owners", ownership=account["ownership"]).json()["data"]
    told = get(sandbox, f"{ROOT}/transactions", account=world.transactions_truth()[0]["account_id"]).json()[
        "data"
    ]
    session = get(sandbox, f"{ROOT}/sessions/{world.session_ids()[3]}").json()
    events = get(sandbox, "/v1/events", type="financial_connections.account.*").json()["data"]
    subjects = [one["data"]["object"] for one in events if one["created"] > later.timestamp() - 3600]
    assert owners or subjects
    for one in [account, *owners, *told, session, *subjects]:
        assert one["enrichment"]["labels"] == ["grown", None]


# -- what cannot be read, and what is asked for less often


def test_accounts_that_cannot_be_read_are_refused_with_stripes_codes(sandbox):
    codes = Counter()
    readable = {row["account_id"] for row in WORLD.transactions_truth()}
    for row in WORLD.truth()["accounts"]:
        answer = get(sandbox, f"{ROOT}/transactions", account=row["account_id"])
        if answer.ok:
            assert bool(answer.json()["data"]) == (row["account_id"] in readable)
        else:
            codes[answer.status_code, answer.json()["error"]["code"]] += 1
    assert codes.keys() == {
        (400, "financial_connections_account_inactive"),
        (400, "financial_connections_no_successful_transaction_refresh"),
    }


@pytest.mark.parametrize(
    ("kind", "status"), [("bad_request", 400), ("forbidden", 403), ("server_error", 500)]
)
def test_one_accounts_transactions_or_owners_can_be_made_to_fail(sandbox, kind, status):
    account = next(one for one in every(sandbox, ACCOUNTS) if one.get("ownership"))
    row = next(row for row in WORLD.transactions_truth())
    sandbox.faults = Faults(
        script=[
            Rule(Fault(kind), path=f"/accounts/{account['id']}/owners"),
            Rule(Fault(kind), query=f"account={row['account_id']}"),
        ]
    )
    assert (
        get(sandbox, f"{ACCOUNTS}/{account['id']}/owners", ownership=account["ownership"]).status_code
        == status
    )
    assert get(sandbox, f"{ROOT}/transactions", account=row["account_id"], limit=1).status_code == status
    assert get(sandbox, f"{ACCOUNTS}/{account['id']}").ok
    assert get(sandbox, ACCOUNTS, limit=1).ok


def test_owners_come_with_the_list_of_accounts_and_the_rest_on_further_pages(sandbox):
    """A hundred owners' lists in one answer: the first owners of each, and whether there are more."""
    expected = defaultdict(list)
    for row in WORLD.owners_truth():
        expected[row["account_id"]].append(row["owner_id"])
    found: dict[str, list[str]] = {}
    more = 0
    for account in every(sandbox, ACCOUNTS, **{"expand[]": "data.ownership"}):
        if isinstance(account.get("ownership"), dict):
            owners = account["ownership"]["owners"]
            ids = [one["id"] for one in owners["data"]]
            if owners["has_more"]:
                more += 1
                rest = every_after(sandbox, owners["url"], account["ownership"]["id"], ids[-1])
                ids += rest
            found[account["id"]] = ids
    assert {account: ids for account, ids in found.items() if ids} == expected
    assert more > 10


def every_after(sandbox: Sandbox, url: str, ownership: str, owner: str) -> list[str]:
    page = get(sandbox, url, ownership=ownership, starting_after=owner).json()
    assert page["has_more"] is False
    return [one["id"] for one in page["data"]]


def test_expanding_owners_can_be_refused():
    with running(World(accounts=9, evolution=Evolution(refuses_ownership=True))) as sandbox:
        answer = get(sandbox, ACCOUNTS, **{"expand[]": "data.ownership"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "expand")
        assert get(sandbox, ACCOUNTS, **{"expand[]": "data.account_holder.customer"}).ok


@pytest.mark.parametrize(
    ("path", "param"),
    [
        (f"{ROOT}/transactions/fctxn_nothing", "transaction"),
        ("/v1/events/evt_nothing", "id"),
        (f"{ACCOUNTS}/fca_nothing", "account"),
    ],
)
def test_what_is_not_there_answers_404_and_names_the_parameter(sandbox, path, param):
    answer = get(sandbox, path)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, param)


def test_an_unknown_path_is_told_as_stripe_tells_it(sandbox):
    answer = get(sandbox, "/v1/financial_connections/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith(
        "Unrecognized request URL (GET: /v1/financial_connections/nothing). If you are trying to list objects, remove"
    )


def test_a_world_that_moves_on_is_a_pure_function_too(sandbox):
    def pages(world: World) -> list[str]:
        with running(world) as it:
            return [json.dumps(every(it, ACCOUNTS)), get(it, "/v1/events", limit=100).text]

    away_and_back = WORLD.at(datetime(2030, 1, 1, tzinfo=UTC)).at(CLOCK)
    assert pages(WORLD) == pages(away_and_back)
