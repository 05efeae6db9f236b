"""One account that cannot be read does not stop the rest: it is set aside, told, and asked for again in time."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fincon.errors import PermissionDenied, RetriesExhausted, RunFailed, StripeError
from fincon.extract.pagination import no_page, parse_list_page, store_page, store_refusal
from fincon.extract.responses import StripeResponse, classify_response
from fincon.landing.page_store import PageStore
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.sandbox.evolution import Evolution
from fincon.sandbox.server import running
from fincon.sandbox.world import World
from fincon.transforms.flatten import flatten
from fincon.transforms.page import Header, Origin, Page, Watermark
from tests.conftest import START as CLOCK
from tests.conftest import Row, environ, rows, settings_for
from tests.killed import kill_at_change
from tests.scripted_stripe import PREFIX, START, Answer, Query, ScriptedStripe, account, serving
from tests.typed import typed

HOUR, DAY = 3600, 86_400
INACTIVE = "financial_connections_account_inactive"
NEVER_REFRESHED = "financial_connections_no_successful_transaction_refresh"
NO_PERMISSION = "The key lacks the permission 'rak_financial_connections_transactions_read'."


def refusal(status: int, code: str | None = None, words: str = "Not this one.") -> Answer:
    """Stripe's answer to what it does not tell; nothing is gained by asking again."""
    error = {"type": "invalid_request_error", "message": words, **({"code": code} if code else {})}
    return Answer({"error": error}, status, headers={"Stripe-Should-Retry": "false"})


def refreshed(account_id: str, attempt: int = 1, **more: Any) -> dict[str, Any]:
    """An account whose transactions and owners were refreshed."""
    refresh = {
        "last_attempted_at": START - 900 + attempt,
        "next_refresh_available_at": None,
        "status": "succeeded",
    }
    return account(
        account_id,
        ownership=f"fcaowns_{account_id}",
        ownership_refresh=refresh,
        transaction_refresh={**refresh, "id": f"fctxnref_{account_id}_{attempt}"},
        **more,
    )


def transaction(account_id: str, number: int) -> dict[str, Any]:
    return {
        "id": f"fctxn_{account_id}_{number}",
        "object": "financial_connections.transaction",
        "account": account_id,
        "amount": number,
        "currency": "usd",
        "description": "Rocket Rides",
        "livemode": False,
        "status": "posted",
        "status_transitions": {"posted_at": START - 5000, "void_at": None},
        "transacted_at": START - 5000,
        "transaction_refresh": f"fctxnref_{account_id}_1",
        "updated": START - 5000,
    }


def owner(account_id: str) -> dict[str, Any]:
    return {
        "id": f"fcaown_{account_id}",
        "object": "financial_connections.account_owner",
        "name": f"Holder of {account_id}",
        "ownership": f"fcaowns_{account_id}",
        "refreshed_at": START - 900,
    }


def asks_for(account_id: str, path: str, query: Query) -> bool:
    """Whether a request asks for an account's transactions or owners."""
    return query.get("account") == [account_id] or path == f"{PREFIX}/accounts/{account_id}/owners"


class Refusing:
    """Refuses the lists of some accounts, by id, as long as they are in ``answers``."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers

    def __call__(self, path: str, query: Query) -> Answer | None:
        """Answer a request for the lists of one of them."""
        return next((it for one, it in self.answers.items() if asks_for(one, path, query)), None)


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    """Fifteen accounts, each with three transactions and an owner, two to a page."""
    ids = [f"fca_Case{letter}" for letter in "ABCDEFGHIJKLMNO"]
    stripe = ScriptedStripe(accounts=[refreshed(one) for one in ids])
    stripe.transactions = {one: [transaction(one, number) for number in (3, 2, 1)] for one in ids}
    stripe.owners = {one: [owner(one)] for one in ids}
    with serving(stripe) as it:
        yield it


def run(stripe: ScriptedStripe, data: Path, after: int = HOUR, **asked: Any) -> SyncResult:
    """One run, an hour after the last one; nothing may be found wrong."""
    stripe.clock += after
    stripe.requests.clear()
    settings = replace(settings_for(stripe.url, data), backoff_seconds=0.001)
    result = run_sync(settings, SyncRequest(**{"transactions": True, "owners": True, "pii": "keep"} | asked))
    assert result.failed_checks == {}
    return result


def asked(stripe: ScriptedStripe, account_id: str, what: str = "transactions") -> int:
    """How many requests the last run made for an account's transactions or owners."""
    name = f"account={account_id}&" if what == "transactions" else f"/{account_id}/owners"
    return sum(name in request for request in stripe.requests)


def set_aside(data: Path) -> list[Row]:
    return rows(
        data,
        "SELECT account_id, feature, refusal FROM watermarks WHERE refused_at IS NOT NULL ORDER BY ALL",
    )


def with_rows(data: Path, table: str) -> set[str]:
    """The accounts of which a table has rows."""
    return {row["account_id"] for row in rows(data, f"SELECT DISTINCT account_id FROM {table}")}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (refusal(400, words="It cannot be read at the moment."), "400"),
        (refusal(400, INACTIVE, "The account is inactive."), f"400 {INACTIVE}"),
        (refusal(403, "account_closed", "It may not be read."), "403 account_closed"),
        (
            refusal(403, "more_permissions_required", NO_PERMISSION),
            "403 more_permissions_required",
        ),
        (refusal(400, NEVER_REFRESHED, "Never refreshed."), f"400 {NEVER_REFRESHED}"),
        (refusal(402, "payment_required", "Pay first."), "402 payment_required"),
        (refusal(500, words="An unknown error occurred."), "500"),
        (Answer(b"<html>", 503, headers={"Stripe-Should-Retry": "false"}), "503"),
        (Answer({"object": "list", "data": [], "has_more": True}), "502"),
        (Answer({"object": "account"}), "502"),
    ],
    ids=["400", "inactive", "403", "permission", "never", "402", "500", "html", "endless", "no list"],
)
@pytest.mark.first(0, 2)
def test_an_account_that_is_refused_is_set_aside_and_the_others_are_in(
    stripe: ScriptedStripe, data: Path, answer: Answer, told: str
) -> None:
    """With Stripe's code and words in rejects, and none of the answer beside; the run fails with ``--strict`` alone."""
    everyone = {one["id"] for one in stripe.accounts}
    stripe.intercept = Refusing({"fca_CaseC": answer})
    result = run(stripe, data)
    assert with_rows(data, "balances") == everyone
    assert with_rows(data, "transactions") == with_rows(data, "owners") == everyone - {"fca_CaseC"}
    assert set_aside(data) == [
        {"account_id": "fca_CaseC", "feature": feature, "refusal": told}
        for feature in ("ownership", "transaction")
    ]
    found = rows(data, "SELECT object_id, reason, raw FROM rejects ORDER BY reason")
    assert [(row["object_id"], row["raw"]) for row in found] == [("fca_CaseC", None)] * 2
    assert [row["reason"].split()[1] for row in found] == ["owners", "transactions"]
    if isinstance(answer.body, dict) and "error" in answer.body:
        said = answer.body["error"]
        assert all(said["message"] in row["reason"] for row in found)
        assert all(said.get("code", "") in row["reason"] for row in found)
    result.raise_for_failures(strict=False)
    with pytest.raises(RunFailed, match="2 objects were rejected"):
        result.raise_for_failures(strict=True)


def test_it_is_asked_for_again_after_a_day_or_once_it_is_refreshed_and_then_counts_no_more(
    stripe: ScriptedStripe, data: Path
) -> None:
    stripe.intercept = Refusing({one: refusal(400, INACTIVE) for one in ("fca_CaseA", "fca_CaseB")})
    run(stripe, data)
    run(stripe, data)
    assert (asked(stripe, "fca_CaseA"), asked(stripe, "fca_CaseB")) == (0, 0)
    stripe.accounts[0] = refreshed("fca_CaseA", attempt=2)
    run(stripe, data)
    assert (asked(stripe, "fca_CaseA"), asked(stripe, "fca_CaseB")) == (1, 0)
    run(stripe, data, after=DAY - 2 * HOUR)  # a day after the first refusal
    assert (asked(stripe, "fca_CaseA"), asked(stripe, "fca_CaseB")) == (0, 1)
    assert len(set_aside(data)) == 4
    stripe.intercept = lambda path, query: None
    result = run(stripe, data, after=DAY)
    assert (set_aside(data), result.set_aside) == ([], [])
    assert with_rows(data, "transactions") >= {"fca_CaseA", "fca_CaseB"}
    assert len(rows(data, "FROM transactions WHERE account_id = 'fca_CaseA'")) == 3
    run(stripe, data, after=2 * DAY)
    assert (asked(stripe, "fca_CaseA"), asked(stripe, "fca_CaseB")) == (0, 0)


def test_what_was_read_before_stays_and_the_next_list_goes_on_after_it(
    stripe: ScriptedStripe, data: Path
) -> None:
    """A refusal moves no watermark: what came since the last list is asked for, not what came since the refused one."""
    run(stripe, data)
    stripe.accounts[0] = refreshed("fca_CaseA", attempt=2)
    stripe.intercept = Refusing({"fca_CaseA": refusal(400, words="Not now.")})
    run(stripe, data)
    assert len(rows(data, "FROM transactions WHERE account_id = 'fca_CaseA'")) == 3
    assert len(rows(data, "FROM owners WHERE account_id = 'fca_CaseA'")) == 1
    stripe.intercept = lambda path, query: None
    run(stripe, data, after=DAY)
    [request] = [one for one in stripe.requests if "account=fca_CaseA&" in one]
    assert "transaction_refresh%5Bafter%5D=fctxnref_fca_CaseA_1" in request


def test_half_a_list_does_not_count_where_the_rest_of_it_is_refused(
    stripe: ScriptedStripe, data: Path
) -> None:
    stripe.page_size = 2
    stripe.intercept = lambda path, query: (
        refusal(500) if query.get("account") == ["fca_CaseA"] and "starting_after" in query else None
    )
    run(stripe, data)
    assert "fca_CaseA" not in with_rows(data, "transactions")
    [mark] = rows(data, "FROM watermarks WHERE account_id = 'fca_CaseA' AND feature = 'transaction'")
    assert (mark["refresh_id"], mark["refusal"]) == (None, "500")
    assert len(list(data.glob("pages/*/transactions-fca_CaseA-*"))) == 1
    stripe.intercept = lambda path, query: None
    run(stripe, data, after=DAY)
    assert len(rows(data, "FROM transactions WHERE account_id = 'fca_CaseA'")) == 3


def refuse_the_rest(folder: Path) -> None:
    """Put a refusal in the place of three pages of an account's transactions."""
    failed = classify_response("/t", 500, {}, b'{"error": {"message": "No."}}', START)
    assert not isinstance(failed, StripeResponse)
    assert failed.error.refusal is not None
    page_store = PageStore(folder)
    last = page_store.last("transactions", "fca_A")
    assert last is not None
    store_refusal(page_store, failed.error.refusal, last)


def test_whenever_it_is_killed_half_a_list_never_passes_for_whole(tmp_path: Path) -> None:
    """What is left on disk is how the list begins, with its cursor, so that it is gone on with; or it is the refusal."""
    number, killed, left = 1, True, set()
    while killed:
        folder = tmp_path / str(number)
        page_store, header = PageStore(folder), no_page("transactions", "fca_A")
        for first in (1, 3, 5):
            data = [transaction("fca_A", first), transaction("fca_A", first + 1)]
            body = json.dumps({"object": "list", "data": data, "has_more": True}).encode()
            answer = StripeResponse(body, "/t", "req_1", START)
            header = store_page(page_store, answer, parse_list_page(body), header)
        killed = kill_at_change(number, folder, refuse_the_rest, folder)
        pages = [page.header for page in PageStore(folder).read()]
        assert all(page.cursor is not None and page.status == 200 for page in pages) or len(pages) == 1
        assert len(pages) == len(list(folder.glob("*.json.zst")))
        left.add((len(pages), pages[-1].status))
        number += 1
    assert left == {(3, 200), (2, 200), (1, 200), (1, 500)}


def test_a_run_stopped_after_a_refusal_goes_on_and_ends_as_one_that_was_not(
    stripe: ScriptedStripe, data: Path
) -> None:
    refusing = Refusing({one: refusal(400, words=one) for one in ("fca_CaseA", "fca_CaseB")})

    def limited(path: str, query: Query) -> Answer | None:
        """The last account, asked for after the two that are refused, meets the limit."""
        return Answer({}, 429) if query.get("account") == ["fca_CaseO"] else refusing(path, query)

    stripe.intercept = limited
    with pytest.raises(RetriesExhausted):
        run(stripe, data)
    assert rows(data, "FROM accounts") == []
    stripe.intercept = refusing
    result = run(stripe, data, after=0)
    assert result.resumed_pages > 0
    assert asked(stripe, "fca_CaseA") == 0
    assert {row["account_id"] for row in set_aside(data)} == {"fca_CaseA", "fca_CaseB"}
    assert len(rows(data, "FROM transactions")) == 13 * 3


def test_accounts_with_codes_of_their_own_are_never_taken_for_a_key_that_may_not_read(data: Path) -> None:
    """A world in which many are inactive, or were never refreshed."""
    world = World(
        seed=4, clock=CLOCK, accounts=120, sessions=20, evolution=Evolution(refuses_unreadable=True)
    )
    with running(world) as sandbox:
        result = run_sync(
            settings_for(sandbox.url, data, FINCON_CONCURRENCY="1"), SyncRequest(transactions=True)
        )
        assert (result.failed_checks, result.refused) == ({}, {})
        told = {row["transaction_id"] for row in rows(data, "FROM transactions")}
        assert told == {row["transaction_id"] for row in world.transactions_truth()}
    [(stream, code, count)] = result.set_aside
    assert (stream, code) == ("transactions", f"400 {INACTIVE}")
    assert count > 10


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(403, "more_permissions_required", NO_PERMISSION), PermissionDenied),
        (refusal(403, words=NO_PERMISSION), PermissionDenied),
        (refusal(400, "odd", "No."), StripeError),
        (refusal(500, words="Down."), RetriesExhausted),
    ],
)
@pytest.mark.first(0, 2)
def test_ten_in_a_row_that_are_refused_alike_end_their_stage_and_nothing_of_them_is_noted(
    stripe: ScriptedStripe, data: Path, answer: Answer, error: type[StripeError]
) -> None:
    """Balances and what else was asked for are in; the next run asks for them all again."""
    everyone = {one["id"] for one in stripe.accounts}
    stripe.page_size = 2
    stripe.intercept = lambda path, query: answer if path.endswith("/transactions") else None
    result = run(stripe, data, accounts=True)
    assert sum("/transactions?" in request for request in stripe.requests) < 15 + 8
    assert with_rows(data, "balances") == with_rows(data, "owners") == everyone
    assert with_rows(data, "transactions") == set()
    assert rows(data, "FROM rejects") == []
    assert (set_aside(data), result.run["mode"]) == ([], "accounts+owners")
    with pytest.raises(error, match=r"No more transactions were asked for.*10 accounts") as caught:
        result.raise_for_failures(strict=False)
    assert answer.body["error"]["message"] in str(caught.value)
    stripe.intercept = lambda path, query: None
    run(stripe, data).raise_for_failures(strict=True)
    assert with_rows(data, "transactions") == everyone


def test_fewer_that_all_lack_the_permission_end_it_too_unless_another_can_still_be_read(
    stripe: ScriptedStripe, data: Path
) -> None:
    """Where the only one that is due is refused, one that was read before tells whether it is the key."""
    denied = refusal(403, "more_permissions_required", NO_PERMISSION)
    del stripe.accounts[3:]
    nobody = stripe.intercept
    stripe.intercept = lambda path, query: denied if path.endswith("/transactions") else None
    with pytest.raises(PermissionDenied, match="rak_financial_connections_transactions_read"):
        run(stripe, data).raise_for_failures(strict=False)
    stripe.intercept = nobody
    run(stripe, data).raise_for_failures(strict=True)
    stripe.intercept = Refusing({"fca_CaseA": denied})
    stripe.accounts[0] = refreshed("fca_CaseA", attempt=2)
    run(stripe, data).raise_for_failures(strict=False)  # alone, and for the first time
    assert len(set_aside(data)) == 2
    assert asked(stripe, "fca_CaseB") + asked(stripe, "fca_CaseC") == 1
    run(stripe, data, after=2 * DAY).raise_for_failures(strict=False)  # alone, and as before
    assert [asked(stripe, one["id"]) for one in stripe.accounts] == [1, 0, 0]
    stripe.accounts[1] = refreshed("fca_CaseB", attempt=3)
    stripe.intercept = lambda path, query: denied if path.endswith("/transactions") else None
    with pytest.raises(PermissionDenied, match="the one account that was due"):
        run(stripe, data).raise_for_failures(strict=False)


def test_those_that_were_refused_before_do_not_end_the_stage_when_they_are_asked_for_again(
    stripe: ScriptedStripe, data: Path
) -> None:
    """Twelve were set aside among others; a day later they alone are due, and the others would starve otherwise."""
    of_their_own = [one["id"] for one in stripe.accounts[:12]]
    run(stripe, data)
    for attempt, ids in ((2, of_their_own[:6]), (3, of_their_own[6:])):
        for place, one in enumerate(stripe.accounts):
            if one["id"] in ids:
                stripe.accounts[place] = refreshed(one["id"], attempt)
        stripe.intercept = Refusing({one: refusal(400, "odd") for one in ids})
        run(stripe, data).raise_for_failures(strict=False)
    stripe.intercept = Refusing({one: refusal(400, "odd") for one in of_their_own})
    for _ in range(2):
        run(stripe, data, after=DAY + HOUR).raise_for_failures(strict=False)
        assert all(asked(stripe, one) == 1 for one in of_their_own)


def test_words_that_hold_personal_data_or_a_key_are_kept_without(stripe: ScriptedStripe, data: Path) -> None:
    words = "No: jane@example.com, +1 555 555 5555, rk_test_51secret, btok_1secret of fca_CaseA"
    stripe.intercept = Refusing({"fca_CaseA": refusal(400, "odd", words)})
    run(stripe, data)
    [reason] = {
        row["reason"] for row in rows(data, "SELECT reason FROM rejects WHERE reason LIKE '%transactions%'")
    }
    assert reason.endswith("No: [removed], [removed], [removed], [removed] of fca_CaseA")


@pytest.mark.quick
def test_words_that_hold_personal_data_or_a_key_are_shown_without(
    stripe: ScriptedStripe, tmp_path: Path
) -> None:
    """On the terminal, in the log of retries and in what Prefect is told, for each error takes its words from there."""
    words = "No: jane@example.com, +1 555 555 5555, rk_test_51secret, btok_1secret of fca_CaseA"
    for status in (400, 401, 403, 404, 500):
        stripe.intercept = lambda path, query, status=status: refusal(status, words=words)  # type: ignore[misc]
        done = typed("sync", cwd=tmp_path, env=environ(stripe.url))
        assert done.code == 1
        assert "No: [removed], [removed], [removed], [removed] of fca_CaseA" in done.err


def test_the_command_tells_and_status_counts(stripe: ScriptedStripe, tmp_path: Path) -> None:
    stripe.intercept = Refusing({"fca_CaseA": refusal(400, INACTIVE, "The account is inactive.")})
    env = environ(stripe.url)
    done = typed("sync", "--transactions", cwd=tmp_path, env=env)
    assert done.code == 0, done.err
    assert f"Stripe refused the transactions of 1 account (400 {INACTIVE})" in done.err
    told = typed("status", cwd=tmp_path).out
    assert "Accounts set aside: 1" in told
    assert f"whose transactions Stripe refused (400 {INACTIVE})" in told
    assert "must link it again" in " ".join(told.split())
    stripe.accounts[0] = refreshed("fca_CaseA", attempt=2)
    assert typed("sync", "--transactions", "--strict", cwd=tmp_path, env=env).code == 1
    found = json.loads(typed("status", "--json", cwd=tmp_path).out)
    assert found["accounts_set_aside"] == [
        {"table_name": "transactions", "refusal": f"400 {INACTIVE}", "accounts": 1}
    ]
    stripe.intercept = lambda path, query: refusal(403, words=NO_PERMISSION) if "owners" in path else None
    denied = typed("sync", "--owners", "--pii", "drop", cwd=tmp_path, env=env)
    assert denied.code == 1
    assert NO_PERMISSION in denied.err
    assert "All else that was fetched is in" in denied.err


@pytest.mark.quick
def test_a_session_of_the_other_mode_is_told_in_stripes_words(stripe: ScriptedStripe, tmp_path: Path) -> None:
    words = (
        "No such financial connections session: 'fcsess_1'; a similar object exists in live mode, but a test mode key"
        " was used to make this request."
    )
    stripe.intercept = lambda path, query: (
        refusal(404, "resource_missing", words) if "/sessions/" in path else None
    )
    (tmp_path / "ids.txt").write_text("fcsess_1\n")
    done = typed("sync", "--sessions", "ids.txt", cwd=tmp_path, env=environ(stripe.url))
    assert done.code == 0, done.err
    assert f"Stripe does not know the session fcsess_1. It says: {words}" in done.err
    [row] = rows(tmp_path / "data", "FROM rejects")
    assert (row["object_id"], row["reason"]) == ("fcsess_1", f"Stripe does not know it (404): {words}")


@pytest.mark.quick
def test_pages_from_before_headers_told_what_stripe_said_are_read() -> None:
    """A run that an older fincon fetched is loaded as ever."""
    mark = Watermark(feature="transaction", last_attempted_at=1, status="succeeded")
    header = msgspec.structs.replace(
        no_page("transactions", "fca_A"), number=0, status=404, watermark=mark, cursor=None
    )
    fields = msgspec.to_builtins(header)
    del fields["code"], fields["words"]
    old = msgspec.json.decode(msgspec.json.encode(fields), type=Header)
    tables = flatten([Page(old, b'{"error": {}}')], Origin("run"))
    assert tables["rejects"]["reason"].to_pylist() == ["Stripe does not know it (404)"]
    assert tables["watermarks"]["refused_at"].to_pylist() == [None]
