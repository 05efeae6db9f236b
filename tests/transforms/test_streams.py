"""Every stream has a reader, and one that nobody knows is an error that names it."""

import json
from collections import Counter

import pytest
from msgspec.structs import replace

from fincon.extract.pagination import no_page
from fincon.transforms.flatten import flatten
from fincon.transforms.page import Origin, Page
from fincon.transforms.reconcile import differences, sums_of_pages, sums_of_rejects
from fincon.transforms.streams import STREAMS
from tests.transforms.test_reference import ACCOUNT

BALANCE = {"balance": {"as_of": 1, "current": {"usd": 5}, "type": "cash"}}


@pytest.mark.parametrize("name", STREAMS)
def test_each_stream_has_a_reader_that_names_its_objects(name: str):
    """An object that cannot be read is rejected as the type that its stream says."""
    stream = STREAMS[name]
    body = {"id": 5, "accounts": {"data": [], "has_more": False}, "data": [{"id": 5}], "has_more": False}
    header = replace(no_page(name, "parent" if stream.parent else ""), number=0)
    rejects = flatten([Page(header, json.dumps(body).encode())], Origin("run"))["rejects"]
    assert set(rejects["object_type"].to_pylist()) == {stream.object_type}


def test_a_stream_that_nobody_knows_is_an_error_that_names_it():
    page = Page(no_page("authorisations"), b'{"data": [], "has_more": false}')
    with pytest.raises(ValueError, match="authorisations"):
        flatten([page], Origin("run"))
    with pytest.raises(ValueError, match="authorisations"):
        sums_of_pages([page])


def test_a_request_is_made_from_the_record():
    assert STREAMS["transactions"].request("fca_1", after="fctxnref_1") == (
        "/v1/financial_connections/transactions",
        {"account": "fca_1", "transaction_refresh[after]": "fctxnref_1"},
    )
    assert STREAMS["transactions"].request("fca_1")[1] == {"account": "fca_1"}
    assert STREAMS["owners"].request("fca_1", ownership="fcaowns_1") == (
        "/v1/financial_connections/accounts/fca_1/owners",
        {"ownership": "fcaowns_1"},
    )


def test_a_balance_is_summed_up_where_accounts_stand_and_nowhere_else():
    """A transaction with an attribute ``balance`` counts neither on its page nor when it is rejected."""
    body = json.dumps({"data": [BALANCE], "has_more": False}).encode()
    counted = {name for name in STREAMS if sums_of_pages([Page(no_page(name), body)])}
    assert counted == {"sessions", "accounts", "single_accounts"}
    assert sums_of_rejects([("transaction", json.dumps(BALANCE))]) == {}
    assert sums_of_rejects([("account", json.dumps(BALANCE))]) != {}


def test_an_event_with_a_number_beyond_what_can_be_read_is_read_all_the_same():
    """Its account has one as a new attribute, and the event is of another version: nothing of that stops a run."""
    account = json.dumps({**ACCOUNT, "new": "X"}).replace('"X"', "1e400")
    body = f'{{"data": [{{"id": "evt_1", "api_version": "other", "created": 5, "data": {{"object": {account}}}}}]'
    page = Page(replace(no_page("events"), number=0), f'{body}, "has_more": false}}'.encode())
    tables = flatten([page], Origin("run"))
    assert tables["accounts"]["extra"].to_pylist() == ['{"new":1e400}']


def test_accounts_without_an_id_that_are_alike_are_two_rejects_and_two_in_the_sums():
    body = json.dumps({"data": [BALANCE, BALANCE], "has_more": False}).encode()
    page = Page(no_page("accounts"), body)
    rejects = flatten([page], Origin("run"))["rejects"].to_pylist()
    refused = sums_of_rejects([(row["object_type"], row["raw"]) for row in rejects])
    assert differences(sums_of_pages([page]), refused, Counter()) == []
