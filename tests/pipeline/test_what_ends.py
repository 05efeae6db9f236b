"""What ends, ends, and what an event does not say stays: by answers made by hand."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from fincon.errors import StripeError
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from tests.conftest import copied, rows, settings_for
from tests.scripted_stripe import START, Answer, ScriptedStripe, account, event, missing, serving, session

VERSION = "2026-06-24.dahlia"
REFRESH = {"last_attempted_at": START - 100, "next_refresh_available_at": START + 3600, "status": "succeeded"}


def scripted() -> ScriptedStripe:
    return ScriptedStripe(accounts=[account("fca_A"), account("fca_B", created=START - 2000)])


@pytest.fixture
def stripe():
    with serving(scripted()) as served:
        yield served


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A lake of one run over both accounts."""
    data = tmp_path_factory.mktemp("listed") / "data"
    with serving(scripted()) as stripe:
        run(stripe, data)
    return data


@pytest.fixture
def listed(stripe: ScriptedStripe, original: Path, data: Path) -> Path:
    """A lake that lists both accounts, of now."""
    stripe.clock += 3600
    return copied(original, data)


def run(stripe: ScriptedStripe, data: Path, **asked: Any) -> dict[str, Any]:
    """One run, an hour after the last one; nothing may be found wrong."""
    stripe.clock += 3600
    result = run_sync(settings_for(stripe.url, data), SyncRequest(**asked))
    assert result.failed_checks == {}
    return result.run


@pytest.mark.quick
def test_an_account_that_the_whole_list_does_not_show_says_since_when(
    stripe: ScriptedStripe, listed: Path
) -> None:
    """One version when it goes and one when it comes back, however many runs there are; what was known stays known."""
    gone = stripe.accounts.pop()
    assert run(stripe, listed)["rows_added"] == 1
    since = stripe.clock
    assert run(stripe, listed)["rows_added"] == 0
    [row] = rows(
        listed,
        "SELECT epoch_us(absent_since) // 1000000 AS since, status FROM accounts WHERE absent_since IS NOT NULL",
    )
    assert row == {"since": since, "status": "active"}
    assert rows(listed, "SELECT current FROM balances WHERE account_id = 'fca_B'") == [{"current": 100}]
    stripe.accounts.append(gone)
    assert run(stripe, listed)["rows_added"] == 1
    assert rows(listed, "FROM accounts WHERE absent_since IS NOT NULL") == []


def test_an_account_that_is_told_as_deleted_is_absent_and_is_no_reject(
    stripe: ScriptedStripe, listed: Path
) -> None:
    stripe.accounts[1] = {"id": "fca_B", "object": "financial_connections.account", "deleted": True}
    assert run(stripe, listed)["rejected"] == 0
    assert [row["account_id"] for row in rows(listed, "FROM accounts WHERE absent_since IS NOT NULL")] == [
        "fca_B"
    ]
    assert rows(listed, "SELECT status FROM accounts WHERE account_id = 'fca_B'") == [{"status": "active"}]


def test_an_account_that_cannot_be_read_is_not_absent(stripe: ScriptedStripe, listed: Path) -> None:
    stripe.accounts[1]["created"] = "odd"
    assert run(stripe, listed)["rejected"] == 1
    assert rows(listed, "FROM accounts WHERE absent_since IS NOT NULL") == []


def test_an_account_that_is_gone_is_absent_though_its_transactions_were_asked_for_and_refused(
    stripe: ScriptedStripe, data: Path
) -> None:
    """What Stripe answers of an account that it lists no more is no sign that it still does: not in this run, nor a day later."""
    stripe.accounts[1]["transaction_refresh"] = {**REFRESH, "id": "fctxnref_1"}
    run(stripe, data)
    stripe.accounts.pop()
    stripe.intercept = lambda path, query: (
        missing("fca_B", "account", 400) if query.get("account") == ["fca_B"] else None
    )
    for _ in range(2):
        run(stripe, data, accounts=True, transactions=True)
        gone = rows(data, "FROM accounts WHERE absent_since IS NOT NULL")
        assert [row["account_id"] for row in gone] == ["fca_B"]
        stripe.clock += 2 * 86_400
    assert any("account=fca_B" in request for request in stripe.requests)


@pytest.mark.quick
def test_an_empty_list_makes_every_account_absent(stripe: ScriptedStripe, listed: Path) -> None:
    stripe.accounts.clear()
    run(stripe, listed)
    assert len(rows(listed, "FROM accounts WHERE absent_since IS NOT NULL")) == 2


@pytest.mark.quick
def test_a_refresh_that_became_null_has_ended(stripe: ScriptedStripe, listed: Path) -> None:
    """It is not refreshable now, nor is it in the latest state; history says until when it was."""
    stripe.accounts[0]["balance_refresh"] = None
    run(stripe, listed)
    assert [row["account_id"] for row in rows(listed, "FROM refreshes")] == ["fca_B"]
    assert "fca_A" not in {row["account_id"] for row in rows(listed, "FROM refreshable_now")}
    [was] = rows(listed, "FROM history.refreshes WHERE account_id = 'fca_A'")
    assert was["valid_to"] is not None
    stripe.accounts[0]["balance_refresh"] = REFRESH
    run(stripe, listed)
    assert len(rows(listed, "FROM refreshes")) == 2


def test_a_session_that_lost_its_last_account_has_none(stripe: ScriptedStripe, data: Path) -> None:
    stripe.sessions["fcsess_1"] = session("fcsess_1")
    stripe.session_accounts["fcsess_1"] = ["fca_A"]
    run(stripe, data, session_ids=("fcsess_1",), refetch="all")
    stripe.session_accounts["fcsess_1"] = []
    run(stripe, data, session_ids=("fcsess_1",), refetch="all")
    assert rows(data, "FROM session_accounts") == []
    assert len(rows(data, "FROM history.session_accounts")) == 1
    run(stripe, data, session_ids=("fcsess_1",), refetch="all")


def test_a_session_is_asked_for_until_it_was_seen_a_day_after_its_first_time(
    stripe: ScriptedStripe, data: Path
) -> None:
    """It has ended then: whoever asks for it again is told what is known, and Stripe is asked for nothing."""
    stripe.sessions["fcsess_1"] = session("fcsess_1")
    asked = {"session_ids": ("fcsess_1",), "accounts": False}
    made = []
    for _ in range(3):
        made.append(run(stripe, data, **asked)["requests"])
        stripe.clock += 86_400
    assert made == [1, 1, 0]


@pytest.mark.quick
def test_an_event_of_another_version_erases_nothing(stripe: ScriptedStripe, data: Path) -> None:
    """An attribute that it leaves away keeps its value; one that it names as null is null; so again with the next one."""
    numbers = [{"expected_expiry_date": None, "identifier_type": "account_number", "status": "transactable",
                "supported_networks": ["ach"]}]  # fmt: skip
    stripe.accounts[0] |= {
        "account_numbers": numbers,
        "subscriptions": ["transactions"],
        "transaction_refresh": REFRESH,
        "new_attribute": {"x": 1},
    }
    run(stripe, data)
    old = copy.deepcopy(stripe.accounts[0])
    for name in (
        "account_numbers",
        "subscriptions",
        "transaction_refresh",
        "status_details",
        "new_attribute",
    ):
        del old[name]
    old |= {"display_name": None, "balance": {"as_of": stripe.clock, "type": "cash", "current": {"usd": 777}}}
    stripe.events.insert(0, event("evt_1", old, stripe.clock + 60, version="2022-11-15"))
    stripe.events.insert(0, event("evt_2", {**old, "last4": "9"}, stripe.clock + 61, version="2022-11-15"))
    before = rows(data, "FROM accounts WHERE account_id = 'fca_A'")[0]
    run(stripe, data, events=True)
    after = rows(data, "FROM accounts WHERE account_id = 'fca_A'")[0]
    changed = {name for name in after if after[name] != before[name]} - {"observed_at", "run_id"}
    assert changed == {"display_name", "last4", "balance_as_of"}
    assert rows(data, "SELECT current FROM balances WHERE account_id = 'fca_A'") == [{"current": 777}]
    assert len(rows(data, "FROM refreshes WHERE account_id = 'fca_A'")) == 2


def test_an_event_of_the_version_asked_for_says_all(stripe: ScriptedStripe, data: Path) -> None:
    stripe.accounts[0]["subscriptions"] = ["transactions"]
    run(stripe, data)
    one = copy.deepcopy(stripe.accounts[0])
    del one["subscriptions"]
    stripe.events.insert(
        0, event("evt_1", one, stripe.clock + 60, version=settings_for(stripe.url, data).stripe_version)
    )
    run(stripe, data, events=True)
    assert rows(data, "SELECT subscriptions FROM accounts WHERE account_id = 'fca_A'") == [
        {"subscriptions": None}
    ]


def test_an_account_that_an_event_shows_in_a_shape_that_cannot_be_read_is_fetched_once(
    stripe: ScriptedStripe, listed: Path
) -> None:
    stripe.accounts[0]["balance"]["current"]["usd"] = 777
    old = copy.deepcopy(stripe.accounts[0])
    del old["supported_payment_method_types"]
    stripe.events = [event(f"evt_{n}", old, stripe.clock + 60 - n, version="2022-11-15") for n in range(3)]
    stripe.requests.clear()
    run(stripe, listed, events=True)
    assert [path.partition("?")[0] for path in stripe.requests] == [
        "/v1/events", "/v1/financial_connections/accounts/fca_A",
    ]  # fmt: skip
    assert rows(listed, "SELECT current FROM balances WHERE account_id = 'fca_A'") == [{"current": 777}]


@pytest.mark.slow
def test_events_of_one_second_keep_stripes_order_whenever_each_is_read(
    stripe: ScriptedStripe, listed: Path
) -> None:
    """A late event of the same second moves no other, whichever of the two is the newer, and however often they are read."""
    at = stripe.clock + 60

    def shown(event_id: str, current: int) -> dict[str, Any]:
        return event(event_id, account("fca_A", current), at, version=VERSION)

    newer, older, newest = shown("evt_CaseA", 1), shown("evt_CaseB", 2), shown("evt_CaseC", 3)
    stripe.clock = at
    for stripe.events in ([newer], [newer, older], [newest, newer, older], [newest, newer, older]):
        stripe.clock += 1
        result = run_sync(settings_for(stripe.url, listed), SyncRequest(events=True))
        assert result.failed_checks == {}
    found = rows(
        listed, "SELECT current FROM history.balances WHERE account_id = 'fca_A' ORDER BY valid_from"
    )
    assert [row["current"] for row in found] == [100, 2, 1, 3]


@pytest.mark.parametrize("nth", [2, 1])
@pytest.mark.first(1)
def test_an_answer_from_the_future_ends_the_run_in_words(
    stripe: ScriptedStripe, data: Path, nth: int
) -> None:
    """The next run is right: nothing passes for newer than all that is to come."""
    stripe.page_size = 1
    count = 0

    def from_the_future(path: str, query: dict[str, list[str]]) -> Answer | None:
        nonlocal count
        count += 1
        if count != nth:
            return None
        page = {"object": "list", "data": stripe.accounts[nth - 1 : nth], "has_more": nth == 1, "url": path}
        return Answer(page, date="Fri, 31 Dec 2100 23:59:59 GMT")

    stripe.intercept = from_the_future
    with pytest.raises(StripeError, match="is dated 'Fri, 31 Dec 2100 23:59:59 GMT'"):
        run(stripe, data)
    stripe.accounts[0]["balance"]["current"]["usd"] = 5
    run(stripe, data)
    stripe.accounts[0]["balance"]["current"]["usd"] = 6
    run(stripe, data)
    assert rows(data, "SELECT current FROM balances WHERE account_id = 'fca_A'") == [{"current": 6}]


@pytest.mark.parametrize("seconds", [3500, 3])
@pytest.mark.first(1)
@pytest.mark.first(1)
def test_clocks_that_differ_a_little_never_make_what_came_later_older(
    stripe: ScriptedStripe, listed: Path, seconds: int
) -> None:
    """Answers of servers whose clocks differ, and one dated by this machine's clock as it has no date."""
    for current, drift in ((5, seconds), (6, 0), (7, 0)):
        stripe.accounts[0]["balance"]["current"]["usd"] = current
        stripe.clock += drift
        run_sync(settings_for(stripe.url, listed), SyncRequest())
        stripe.clock -= drift
        stripe.clock += 1
    found = rows(
        listed, "SELECT current FROM history.balances WHERE account_id = 'fca_A' ORDER BY valid_from"
    )
    assert [row["current"] for row in found] == [100, 5, 6, 7]


def test_an_answer_without_a_date_is_as_old_as_the_others(stripe: ScriptedStripe, data: Path) -> None:
    stripe.page_size = 1
    stripe.intercept = lambda path, query: (
        Answer({"object": "list", "data": stripe.accounts[1:], "has_more": False, "url": path}, date=None)
        if "starting_after" in query
        else None
    )
    run(stripe, data)
    [row] = rows(data, "SELECT epoch_us(max(observed_at)) // 1000000 AS at FROM accounts")
    assert abs(row["at"] - stripe.clock) < 600


def test_an_account_twice_on_a_page_stands_once_in_the_latest_state(
    stripe: ScriptedStripe, data: Path
) -> None:
    """Identical or not; and once the API is right again, so is everything."""
    stripe.accounts.insert(1, copy.deepcopy(stripe.accounts[0]))
    assert run(stripe, data)["rejected"] == 0
    stripe.accounts[1]["display_name"] = "Other"
    assert run(stripe, data)["rejected"] == 1
    assert len(rows(data, "FROM accounts")) == 2
    [raw] = rows(data, "SELECT raw FROM rejects")
    assert json.dumps(raw["raw"]).count("fca_A") == 1
    del stripe.accounts[1]
    assert run(stripe, data)["rejected"] == 0


def test_a_list_of_events_that_begins_again_makes_each_version_once(
    stripe: ScriptedStripe, listed: Path
) -> None:
    """A cursor that is gone makes pages overlap: an event that comes twice is one version."""
    stripe.page_size = 3
    stripe.events = [
        event(f"evt_{n}", account("fca_A", n), stripe.clock + n, version=VERSION) for n in range(9, 0, -1)
    ]
    taken: list[str] = []

    def take_away_the_cursor(path: str, query: dict[str, list[str]]) -> None:
        if path == "/v1/events" and "starting_after" in query and not taken:
            taken.append(query["starting_after"][0])
            stripe.events = [one for one in stripe.events if one["id"] != taken[0]]

    stripe.intercept = take_away_the_cursor
    run(stripe, listed, events=True)
    found = rows(
        listed, "SELECT current FROM history.balances WHERE account_id = 'fca_A' ORDER BY valid_from"
    )
    assert [row["current"] for row in found] == [100, *range(1, 10)]


def after(seconds: int, stripe: ScriptedStripe, data: Path, balance: int, **asked: Any) -> dict[str, Any]:
    """A run so many seconds later, when the first account has another balance, which is known then."""
    stripe.clock += seconds - 3600
    stripe.accounts[0]["balance"]["current"]["usd"] = balance
    found = run(stripe, data, **asked)
    assert rows(data, "SELECT current FROM balances WHERE account_id = 'fca_A'") == [{"current": balance}]
    return found


def test_an_event_from_the_future_outlasts_nothing(stripe: ScriptedStripe, listed: Path) -> None:
    """It is rejected, and its account asked for instead, for as long as Stripe lists it."""
    stripe.events = [event("evt_ahead", account("fca_A", 666), 4_102_444_799, version=VERSION)]
    for balance in (777, 778):
        assert after(60, stripe, listed, balance, events=True)["rejected"] == 1
    after(3600, stripe, listed, 777)


@pytest.mark.parametrize("ahead", [40, 3])
@pytest.mark.first(0)
def test_an_event_a_little_ahead_is_older_than_what_is_seen_after_it(
    stripe: ScriptedStripe, listed: Path, ahead: int
) -> None:
    """However often it is read again, as it is within the overlap."""
    at = stripe.clock + 60 + ahead
    stripe.events = [event("evt_ahead", account("fca_A", 777), at, version=VERSION)]
    after(60, stripe, listed, 777, events=True)
    after(1, stripe, listed, 778)
    for seconds in (150, 150, 30):
        after(seconds, stripe, listed, 778, events=True)


@pytest.mark.parametrize("asked", [{"events": True}, {}], ids=["events", "listing"])
@pytest.mark.first(0)
def test_after_an_answer_from_the_future_all_is_listed_until_clocks_have_caught_up(
    stripe: ScriptedStripe, listed: Path, asked: dict[str, bool]
) -> None:
    """An event would pass for older than what that showed, or would never be asked for."""
    hour = 3600
    after(23 * hour, stripe, listed, 100, **asked)
    stripe.clock -= 23 * hour
    for seconds, balance in ((hour, 200), (21 * hour, 300), (hour + 1800, 400), (6 * hour, 500)):
        at = stripe.clock + seconds - 1800
        stripe.events.insert(0, event(f"evt_{balance}", account("fca_A", balance), at, version=VERSION))
        after(seconds, stripe, listed, balance, events=True)
