"""Owners that come with the list of accounts: the same rows for fewer requests, and nobody's owners lost or leaked."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fincon.extract.inline_owners import Stretch, find_stretches
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.evolution import Evolution
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from tests.conftest import NOT_TRUTH, START, Row, canonical, rows, settings_for
from tests.scripted_stripe import Answer, Query, ScriptedStripe, account, serving

WORLD = World(seed=6, clock=START, accounts=300, sessions=4)
REFUSING = World(seed=6, clock=START, accounts=300, sessions=4, evolution=Evolution(refuses_ownership=True))
OWNERS = SyncRequest(owners=True, pii="keep")
ACCOUNTS = "/v1/financial_connections/accounts"
KEY = "a-key-that-stays-the-same"


def fetched(sandbox: Sandbox, data: Path, asked: SyncRequest = OWNERS) -> tuple[int, int]:
    """Sync, with no failed check; return how many requests for owners went with the list, and how many to an account."""
    sandbox.reset_requests()
    result = run_sync(settings_for(sandbox.url, data, FINCON_PII_KEY=KEY), asked)
    assert (result.failed_checks, result.run["requests"]) == ({}, len(sandbox.requests))
    inline = sum(path == ACCOUNTS and "expand" in query for _, path, query in sandbox.requests)
    return inline, sum(path.endswith("/owners") for _, path, _ in sandbox.requests)


def known(data: Path, table: str) -> list[Row]:
    found = rows(data, f"FROM {table}")
    return canonical({k: v for k, v in row.items() if k not in NOT_TRUTH} for row in found)


def longer(data: Path, than: int = 10) -> int:
    """How many lists of owners are longer than what an expanded ownership shows."""
    return len(rows(data, f"FROM owners SELECT account_id GROUP BY ALL HAVING count(*) > {than}"))


def true_owners(sandbox: Sandbox) -> list[Row]:
    return canonical({**row, "extra": None} for row in sandbox.world.owners_truth())


def test_the_owners_of_300_accounts_cost_3_requests_and_are_what_one_request_each_brings(
    tmp_path: Path,
) -> None:
    """Counted before and after."""
    with running(WORLD) as one, running(REFUSING) as other:
        inline, each = tmp_path / "inline", tmp_path / "each"
        assert fetched(one, inline) == (3, longer(inline))
        refused, asked = fetched(other, each)
        assert (refused, asked) == (1, len(known(each, "watermarks")))
        assert asked > 100
        for table in ("owners", "watermarks"):
            assert known(inline, table) == known(each, table)
        assert known(inline, "owners") == true_owners(one)

        for sandbox in (one, other):
            sandbox.advance(timedelta(days=2))
        few, _ = fetched(one, inline)
        _, moved = fetched(other, each)
        assert 0 < few <= 3 < moved < asked
        for table in ("history.owners", "watermarks"):
            assert [
                {k: v for k, v in row.items() if not k.startswith("valid_")} for row in known(inline, table)
            ] == [{k: v for k, v in row.items() if not k.startswith("valid_")} for row in known(each, table)]
        assert fetched(one, inline) == (0, 0), "nothing is asked for that is not due"


def test_a_list_that_shows_only_its_first_owner_is_fetched_from_its_account(data: Path) -> None:
    with running(replace(WORLD, evolution=Evolution(inline_owners=1))) as sandbox:
        inline, each = fetched(sandbox, data)
        assert (inline, each) == (3, longer(data, than=1))
        assert each > 10
        assert not [path for _, path, query in sandbox.requests if "owners" in path and "starting" in query]
        assert known(data, "owners") == true_owners(sandbox)


def test_where_the_list_tells_nobodys_owners_it_is_asked_once_and_then_each_account(data: Path) -> None:
    """Whatever the refusal: of the request, of the permission, an error that stays, or ids where owners should be."""
    for number, fault in enumerate(("bad_request", "forbidden", "server_error", "")):
        with running(WORLD) as sandbox:
            sandbox.faults = Faults(script=[Rule(Fault(fault), ACCOUNTS, query="expand")] if fault else [])
            if (
                not fault
            ):  # a script that spoils the owners of every account, once, spoils them in the list as well
                owners = Rule(Fault("rate_limit"), f"{ACCOUNTS}/{{id}}/owners", nth=(1,))
                sandbox.faults = Faults(script=[owners])
            folder = data.with_name(f"data{number}")
            asked = settings_for(sandbox.url, folder)
            sandbox.reset_requests()
            run_sync(replace(asked, backoff_seconds=0.001), OWNERS)
            with_the_list = {query for _, path, query in sandbox.requests if "expand" in query}
            assert len(with_the_list) == 1, fault
            assert known(folder, "owners") == true_owners(sandbox), fault


@pytest.mark.quick
def test_owners_of_another_ownership_than_the_one_that_is_due_are_asked_for_by_that(data: Path) -> None:
    """The account was refreshed between its listing and its owners: the next run sees that, and asks again."""
    refreshed = {"ownership_refresh": {"last_attempted_at": 1, "status": "succeeded"}}
    accounts = [account(f"fca_{n}", ownership=f"fcaowns_{n}", **refreshed) for n in "ABC"]
    owner = {"object": "financial_connections.account_owner", "name": "Ada", "ownership": "fcaowns_A"}
    owners = {"A": [{**owner, "id": "fcaown_old"}], "B": [], "C": []}

    def expanded(path: str, query: Query) -> Answer | None:
        if "expand[]" not in query:
            return None
        newer = {"object": "list", "data": [{**owner, "id": "fcaown_new"}], "has_more": False}
        empty = {"object": "list", "data": [], "has_more": False}
        shown = [
            {**accounts[0], "ownership": {"id": "fcaowns_newer", "owners": newer}},
            {**accounts[1], "ownership": {"id": "fcaowns_B", "owners": empty}},
            {**accounts[2], "ownership": {"id": "fcaowns_C", "owners": {"data": 1}}},
        ]
        return Answer({"object": "list", "data": shown, "has_more": False})

    scripted = ScriptedStripe(accounts=accounts, owners={f"fca_{n}": found for n, found in owners.items()})
    with serving(scripted) as stripe:
        stripe.intercept = expanded
        run_sync(settings_for(stripe.url, data), OWNERS)
        assert sum("/owners" in request for request in stripe.requests) == 2, "of A and C"
        assert [row["owner_id"] for row in rows(data, "FROM owners")] == ["fcaown_old"]


def test_a_stretch_whose_beginning_has_vanished_is_asked_account_by_account(data: Path) -> None:
    with running(WORLD) as sandbox:
        gone = Rule(Fault("cursor_gone"), ACCOUNTS, query="expand", nth=(2,))
        sandbox.faults = Faults(script=[gone])
        inline, each = fetched(sandbox, data)
        assert inline == 3
        assert 0 < each <= 100
        assert known(data, "owners") == true_owners(sandbox)


def test_without_a_listing_each_account_is_asked(data: Path) -> None:
    with running(WORLD) as sandbox:
        fetched(sandbox, data, SyncRequest())
        inline, each = fetched(sandbox, data, replace(OWNERS, accounts=False))
        assert (inline, each) == (0, len(known(data, "watermarks")))
        assert known(data, "owners") == true_owners(sandbox)


@pytest.mark.parametrize("choice", ["keep", "hash", "drop"])
def test_no_byte_on_disk_tells_an_owner_whom_the_choice_hides(data: Path, choice: str) -> None:
    with running(WORLD) as sandbox:
        assert fetched(sandbox, data, replace(OWNERS, pii=choice)) == (3, longer(data))
        owners = sandbox.world.owners_truth()
    written = b"\n".join(readable(path) for path in data.rglob("*") if path.is_file())
    told = [row["email"] for row in owners if row["email"] and row["email"].encode() in written]
    assert bool(told) == (choice == "keep")
    if choice == "keep":
        due = {row["account_id"] for row in known(data, "watermarks")}
        others = [row for row in owners if row["account_id"] not in due]
        assert not [row for row in others if row["owner_id"].encode() in written], (
            "who is not due is not kept"
        )


def readable(path: Path) -> bytes:
    """A file's content, unpacked."""
    if path.suffix == ".parquet":
        return str(pq.read_table(path).to_pylist()).encode()
    if path.suffix == ".zst":
        return bytes(pa.input_stream(str(path), compression="zstd").read())
    return path.read_bytes()


@pytest.mark.quick
@given(st.lists(st.booleans(), max_size=400))
def test_stretches_are_the_fewest_pages_that_hold_every_due_account_but_lonely_ones(due: list[bool]) -> None:
    listed = [f"fca_{number}" for number in range(len(due))]
    wanted = {one for one, is_due in zip(listed, due, strict=True) if is_due}
    found = list(find_stretches(listed, wanted))
    told = [one for stretch in found for one in stretch.due]
    assert len(told) == len(set(told))
    assert set(told) <= wanted
    assert all(2 <= len(stretch.due) <= stretch.size <= 100 for stretch in found)
    for stretch in found:
        first = listed.index(stretch.after) + 1 if stretch.after else 0
        assert set(stretch.due) <= set(listed[first : first + stretch.size])
    left = sorted(listed.index(one) for one in wanted - set(told))
    assert all(after - before >= 100 for before, after in pairwise(left))


@pytest.mark.quick
def test_ranges_that_overlap_ask_for_nobody_twice() -> None:
    """Where two ranges of the listing meet, accounts come twice."""
    listed = ["a", "b", "c", "b", "c", "d"]
    assert list(find_stretches(listed, {"b", "c", "d"})) == [Stretch(after="a", size=5, due=("b", "c", "d"))]
