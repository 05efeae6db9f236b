"""Ids and small files that nobody expects: what is asked of one account fails none of the others."""

from collections import Counter
from pathlib import Path

import pytest

from fincon.errors import BudgetExhausted
from fincon.landing.page_store import Chain
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from tests.conftest import rows, settings_for
from tests.scripted_stripe import START, ScriptedStripe, account, serving

ODD = (
    "fca/../../x",
    "fca_\0",
    "fca_" + "x" * 300,
    "..",
    ".",
    "fca_é 1",
    "fca_*",
    "fca_[a]",
    "=fca",
    "fca_\n",
    "-",
    "fca_1-2",
)


def refresh(name: str) -> dict[str, object]:
    return {
        "id": name,
        "last_attempted_at": START - 500,
        "next_refresh_available_at": None,
        "status": "succeeded",
    }


def transaction(account_id: str, number: int) -> dict[str, object]:
    return {
        "id": f"fctxn_{number}", "object": "financial_connections.transaction", "account": account_id, "amount": number,
        "currency": "usd", "description": "Coffee", "livemode": False, "status": "posted", "transacted_at": START,
        "transaction_refresh": "fctxnref_1", "updated": START, "status_transitions": {"posted_at": START, "void_at": None},
    }  # fmt: skip


def test_an_account_of_any_id_is_read_with_its_transactions_and_owners(data: Path) -> None:
    """Whatever stands in an id: interrupted after each third of the requests, and gone on with."""
    ids = ["fca_good", *ODD]
    stripe = ScriptedStripe(page_size=2)
    for number, one in enumerate(ids):
        more = {
            "transaction_refresh": refresh("fctxnref_1"),
            "ownership_refresh": refresh("x"),
            "ownership": "fcos_1",
        }
        stripe.accounts.append(account(one, created=START - 1000 - number, **more))
        stripe.transactions[one] = [transaction(one, 10 * number + place) for place in range(3)]
    order = SyncRequest(transactions=True, owners=True, pii="keep", max_requests=15)
    with serving(stripe):
        for _ in range(20):
            try:
                result = run_sync(settings_for(stripe.url, data), order)
                break
            except BudgetExhausted:
                continue
    assert result.failed_checks == {}
    assert result.failures == {}
    assert rows(data, "SELECT DISTINCT account_id FROM transactions ORDER BY ALL") == [
        {"account_id": one} for one in sorted(ids)
    ]
    assert rows(data, "SELECT count(*) AS n FROM transactions") == [{"n": 3 * len(ids)}]
    twice = [request for request, times in Counter(stripe.requests).items() if times > 1]
    assert [one for one in twice if "/accounts?" not in one] == []  # a list is divided where a page may end


def test_ids_of_stripe_stand_in_the_names_of_files_as_before() -> None:
    """So the pages that an older fincon wrote are read."""
    assert Chain("owners", "fca_1").file(0) == "owners-fca_1-000000.json.zst"
    assert Chain("accounts", part=3).file(12) == "accounts-p0003-000012.json.zst"


@pytest.mark.parametrize("content", [b'["\xff"]', b"", b"{", b"[1", b"\0" * 40])
@pytest.mark.parametrize("name", ["pages/*/parts.json", "pages/*/fetched.json", "pages/*/costs.json", "pages/*/run.json",
                                  "snapshots/snapshots.json", "snapshots/settled.parquet", "logs.json",
                                  "checked.json", "page_times.json"])  # fmt: skip
@pytest.mark.first(3, 3)
def test_a_small_file_that_cannot_be_read_is_as_if_it_were_not_there(
    data: Path, name: str, content: bytes
) -> None:
    """After an interruption each is emptied, or half; the same command ends well."""
    stripe = ScriptedStripe(accounts=[account(f"fca_{number}") for number in range(5)], page_size=2)
    with serving(stripe):
        run_sync(settings_for(stripe.url, data), SyncRequest())
        with pytest.raises(BudgetExhausted):
            run_sync(settings_for(stripe.url, data), SyncRequest(max_requests=2))
        folder, _, file = name.rpartition("/")
        for path in data.parent.glob(f"{data.name}/{folder}".rstrip("/")):
            (path / file).write_bytes(content)
        result = run_sync(settings_for(stripe.url, data), SyncRequest())
    assert result.failed_checks == {}
    assert len(rows(data, "FROM accounts")) == 5
