"""A run that cannot be loaded stands in nobody's way: what is odd is rejected, and at worst the run is set aside."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from fincon.errors import BudgetExhausted, FinconError
from fincon.lake.append import load_staged
from fincon.lake.staging import stage
from fincon.lake.tables import Lake
from fincon.lake.take_back import take_back, under_way
from fincon.lake.version_sql import table_sql
from fincon.landing.page_store import PageStore
from fincon.landing.run_folder import RunFolder, unfinished_runs
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.transforms.page import Origin
from fincon.transforms.schemas import OBJECT_TABLES
from tests.conftest import environ, rows, settings_for
from tests.scripted_stripe import START, ScriptedStripe, account, event, serving, session
from tests.typed import typed

REFRESH = {
    "id": "fctxnref_Case",
    "last_attempted_at": START - 500,
    "next_refresh_available_at": None,
    "status": "succeeded",
}
TRANSACTION = {
    "id": "fctxn_Case1",
    "object": "financial_connections.transaction",
    "account": "fca_CaseA",
    "amount": "bad",
    "currency": "usd",
    "description": "Coffee",
    "livemode": False,
    "status": "posted",
    "transacted_at": START,
    "transaction_refresh": "fctxnref_Case",
    "updated": START,
    "status_transitions": {"posted_at": START, "void_at": None},
    "balance": {"as_of": START, "type": "cash", "current": {"usd": 7}},
}
"""One that cannot be read, and has an attribute of accounts."""


def sync(stripe: ScriptedStripe, data: Path, **asked: object) -> SyncResult:
    return run_sync(settings_for(stripe.url, data), replace(SyncRequest(), **asked))  # type: ignore[arg-type]


def test_a_rejected_object_of_any_kind_is_accounted_for(data: Path) -> None:
    """What is rejected on a list, in a session, in an event, of a feature or as deleted keeps no run from the lake."""
    unread = account("fca_Bad", 55, last4=7)
    deleted = {"id": "fca_Gone", "deleted": True, "balance": account("fca_Gone", 9)["balance"]}
    good = account("fca_CaseA", transaction_refresh=REFRESH, ownership="fcos_1", ownership_refresh=REFRESH)
    stripe = ScriptedStripe(accounts=[good, unread, deleted])
    stripe.transactions["fca_CaseA"] = [TRANSACTION]
    stripe.owners["fca_CaseA"] = [{**TRANSACTION, "id": "fcown_1"}]
    stripe.sessions["fcsess_1"] = session("fcsess_1")
    stripe.session_accounts["fcsess_1"] = ["fca_CaseA", "fca_Bad", "fca_Gone"]
    with serving(stripe):
        asked = {"session_ids": ("fcsess_1",), "transactions": True, "owners": True, "pii": "keep"}
        assert sync(stripe, data, **asked).failures == {}
        stripe.clock += 3600
        stripe.events = [
            event("evt_2", {**unread, "balance": {"current": {"usd": 3}}}, START + 1800),
            event("evt_1", deleted, START + 1700),
        ]
        assert sync(stripe, data, events=True).failures == {}
    found = rows(data, "SELECT object_type, object_id FROM rejects")
    named = {(row["object_type"], row["object_id"]) for row in found}
    assert {("transaction", "fctxn_Case1"), ("owner", "fcown_1"), ("account", "fca_Bad")} <= named
    assert rows(data, "SELECT account_id, current FROM balances") == [
        {"account_id": "fca_CaseA", "current": 100}
    ]


def fetched_but_unreadable(stripe: ScriptedStripe, data: Path) -> str:
    """A run of which all is fetched, and whose only page holds what no page of a list does; returns its id."""
    with pytest.raises(BudgetExhausted):
        sync(stripe, data, max_requests=1)
    (run,) = unfinished_runs(data, set())
    pages = PageStore(RunFolder(data, run.run_id).path)
    page = next(pages.chain("accounts"))
    pages.write(page._replace(header=msgspec.structs.replace(page.header, cursor=None), body=b'{"data": 7}'))
    RunFolder(data, run.run_id).mark_fetched({"requests": 1})
    return run.run_id


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.first(1)
def test_a_run_that_cannot_be_loaded_is_set_aside_and_the_rest_goes_on(data: Path, restart: bool) -> None:
    """Its pages are kept, it is told in two lines and counted in the status; what was asked for now is in."""
    stripe = ScriptedStripe(accounts=[account("fca_1"), account("fca_2")], page_size=1)
    with serving(stripe):
        bad = fetched_but_unreadable(stripe, data)
        done = typed("sync", *(["--restart"] if restart else []), cwd=data.parent, env=environ(stripe.url))
        assert done.code == 1
        told = done.err.splitlines()
        assert told[0].startswith("Run ")
        assert told[1].startswith(f"fincon: Run {bad} cannot be loaded: ")
        assert str(Path("pages") / "quarantine" / bad) in told[2]
        assert len(told) == 3
        again = typed("sync", cwd=data.parent, env=environ(stripe.url))
        assert again.code == 0, again.err
    assert list((data / "pages" / "quarantine" / bad).glob("*.zst"))
    assert len(rows(data, "FROM accounts")) == 2
    status = json.loads(typed("status", "--json", cwd=data.parent).out)
    assert list(status["set_aside"]) == [bad]
    assert f"{bad}: " in typed("status", cwd=data.parent).out


def test_other_stripe_accounts_are_loaded_beside_one_that_cannot_be(data: Path) -> None:
    """Two Stripe accounts, of which one is answered with a page on which nothing is a list's, at every run."""
    stripe = ScriptedStripe(accounts=[account("fca_1"), account("fca_2")], page_size=1)
    with serving(stripe):
        bad = fetched_but_unreadable(stripe, data)
        result = sync(stripe, data, stripe_accounts=("acct_1", "acct_2"))
        assert {row["stripe_account"] for row in result.runs} == {"acct_1", "acct_2"}
        assert list(result.failures) == [""]
        assert bad in str(result.failures[""])
        with pytest.raises(FinconError):
            result.raise_for_failures(strict=False)
        assert result.failed_checks == {}


def test_what_a_load_did_is_undone_in_every_table(data: Path, tmp_path: Path) -> None:
    """After it the tables are what they were, also where a version was taken out, and the runs can be loaded again."""
    stripe = ScriptedStripe(accounts=[account("fca_1")])
    with serving(stripe):
        sync(stripe, data)
        stripe.accounts = [account("fca_1", 7), account("fca_2", 8)]
        stripe.clock += 3600
        sync(stripe, tmp_path / "other")
    (run,) = (tmp_path / "other" / "pages").iterdir()
    origin = Origin(run.name)
    staging = tmp_path / "staging"
    staging.mkdir()
    stage(PageStore(run).read(), origin, staging)
    with Lake(data / "lake") as lake:
        before = {table.name: rows_of(lake, table.name) for table in OBJECT_TABLES}
        begun = under_way(lake, [origin.run_id])
        begun.__enter__()
        load_staged(lake, staging, [origin])
        assert rows_of(lake, "balances") != before["balances"]
        take_back(lake, [origin.run_id])
        assert {table.name: rows_of(lake, table.name) for table in OBJECT_TABLES} == before
        assert not any(lake.contains_run(table, origin.run_id) for table in OBJECT_TABLES)
        load_staged(lake, staging, [origin])
        assert len(rows_of(lake, "balances")) == 3


def rows_of(lake: Lake, name: str) -> list[tuple[object, ...]]:
    """Every version of a table, in an order of their own content."""
    table = next(table for table in OBJECT_TABLES if table.name == name)
    columns = ", ".join(c.name for c in table.columns)
    files = lake.files(table)
    with lake.query() as query:
        found = query.execute(f"SELECT {columns} FROM {table_sql(table, files)}").fetchall() if files else []
    return sorted(found, key=repr)
