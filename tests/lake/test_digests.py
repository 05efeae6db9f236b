"""An account of a listing that is as it was is not read again; and nothing is lost or wrong by that."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fincon.lake import absence, digests
from fincon.lake.digests import find_unchanged, move, state_of
from fincon.lake.tables import Lake
from fincon.lake.version_sql import ACCOUNTS_A_PART
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.rewrite_privacy import rewrite
from fincon.pipeline.sync import run_sync
from fincon.storage.data_folder import DataFolder
from fincon.transforms.accounts import FILLED, account_tables
from fincon.transforms.decode import Decoders
from fincon.transforms.listed import compare
from fincon.transforms.page import Origin
from fincon.transforms.parsed_objects import ParsedObjects
from fincon.transforms.schemas import ACCOUNTS
from tests.conftest import environ, rows, settings_for
from tests.scripted_stripe import PREFIX, Answer, Object, ScriptedStripe, account, event, serving
from tests.typed import typed

MINUTE = 60


def sync(stripe: ScriptedStripe, data: Path, **asked: Any) -> dict[str, Any]:
    """One sync a minute later; its row of ``runs``."""
    stripe.clock += MINUTE
    (run,) = run_sync(settings_for(stripe.url, data), SyncRequest(**asked)).runs
    return run


def passed_over(data: Path, *accounts: Object) -> list[str]:
    """Which of these accounts the next listing would pass over, if they stand on it like that."""
    with Lake(data / "lake") as lake:
        find = find_unchanged(lake, Origin("run", "", settings_for("", data).stripe_version))
    body = json.dumps({"object": "list", "data": accounts, "has_more": False, "url": PREFIX}, indent=2)
    listed = compare(body.encode(), find)
    assert listed
    return [one for one, is_known in zip(listed.ids, listed.unchanged, strict=True) if is_known]


def versions(data: Path, account_id: str) -> list[int]:
    """The balance of an account, version by version."""
    found = rows(
        data, f"SELECT current FROM history.balances WHERE account_id = '{account_id}' ORDER BY valid_from"
    )
    return [row["current"] for row in found]


@pytest.mark.quick
def test_who_has_changed_since_is_read_and_who_has_not_is_passed_over(data: Path) -> None:
    """Also where the change goes back to what was there before, and where the account is new."""
    before, after, other = account("fca_1", 100), account("fca_1", 200), account("fca_2")
    with serving(ScriptedStripe(accounts=[before, other])) as stripe:
        assert sync(stripe, data)["accounts_seen"] == 2
        assert passed_over(data, before, other) == ["fca_1", "fca_2"]
        assert passed_over(data, after, other) == ["fca_2"]
        run = sync(stripe, data)
        assert (run["accounts_seen"], run["rows_added"], run["rejected"]) == (2, 0, 0)
        for one in (after, before):
            stripe.accounts = [account("fca_new"), one, other]
            assert sync(stripe, data)["accounts_seen"] == 3
            assert passed_over(data, one, other) == ["fca_1", "fca_2"]
        assert passed_over(data, after, other) == ["fca_2"]
    assert pq.read_metadata(DataFolder(data).digests).num_rows == 3
    assert versions(data, "fca_1") == [100, 200, 100]
    assert versions(data, "fca_2") == [100]
    assert {row["account_id"] for row in rows(data, "FROM accounts")} == {"fca_1", "fca_2", "fca_new"}


@pytest.mark.parametrize("accounts_a_part", [ACCOUNTS_A_PART, 1])
@pytest.mark.first(1)
def test_who_is_gone_and_comes_back_as_before_is_there_again(
    data: Path, monkeypatch: pytest.MonkeyPatch, accounts_a_part: int
) -> None:
    """Compared all at once, or part by part as very many are."""
    monkeypatch.setattr(digests, "ACCOUNTS_A_PART", accounts_a_part)
    monkeypatch.setattr(absence, "ACCOUNTS_A_PART", accounts_a_part)
    first, other = account("fca_1"), account("fca_2")
    with serving(ScriptedStripe(accounts=[first, other])) as stripe:
        for listed in ([first, other], [other], [first, other], [first, other]):
            stripe.accounts = listed
            sync(stripe, data)
            absent = rows(data, "SELECT account_id FROM accounts WHERE absent_since IS NOT NULL")
            assert [row["account_id"] for row in absent] == ([] if first in listed else ["fca_1"])
            assert passed_over(data, first, other) == [one["id"] for one in listed]


def test_what_an_event_has_changed_meanwhile_is_read(data: Path) -> None:
    """The listing shows the account as it was before the event; and one that the event did not name is passed over."""
    before, other = account("fca_1", 100), account("fca_2")
    with serving(ScriptedStripe(accounts=[before, other])) as stripe:
        sync(stripe, data)
        changed = account("fca_1", 300)
        stripe.events = [event("evt_1", changed, stripe.clock + 1)]
        sync(stripe, data, events=True)
        assert versions(data, "fca_1") == [100, 300]
        assert passed_over(data, before, other) == ["fca_2"]
        sync(stripe, data)
    assert versions(data, "fca_1") == [100, 300, 100]


def test_an_account_that_stands_twice_on_a_listing_is_read_both_times(data: Path) -> None:
    """First it has changed; while the list is walked it is as before again, and moves to the next page."""
    before, between, other = account("fca_1", 100), account("fca_1", 200), account("fca_2")
    with serving(ScriptedStripe(accounts=[before, other], page_size=1)) as stripe:
        sync(stripe, data)
        pages = iter([[between], [other], [before]])

        def shown(path: str, query: dict[str, list[str]]) -> Answer | None:
            page = next(pages, None) if path == f"{PREFIX}/accounts" else None
            return page and Answer(
                {"object": "list", "data": page, "has_more": page[0] is not before, "url": path}
            )

        stripe.intercept = shown
        assert sync(stripe, data)["accounts_seen"] == 2
        assert versions(data, "fca_1") == [100, 200, 100]
        stripe.intercept = lambda path, query: None
        assert sync(stripe, data)["rows_added"] == 0


def test_an_account_is_known_as_its_last_page_shows_it(data: Path) -> None:
    """One of it is odd, and read by itself."""
    before, after, odd = account("fca_1", 100), account("fca_1", 200), account("fca_2", display_name="a \\ b")
    with serving(ScriptedStripe(accounts=[before])) as stripe:
        pages = iter([[before], [after, odd]])

        def shown(path: str, query: dict[str, list[str]]) -> Answer | None:
            page = next(pages, None) if path == f"{PREFIX}/accounts" else None
            return page and Answer({"object": "list", "data": page, "has_more": len(page) == 1, "url": path})

        stripe.intercept = shown
        sync(stripe, data)
        assert passed_over(data, before) == []
        stripe.accounts = [before, odd]
        sync(stripe, data)
    assert versions(data, "fca_1") == [100, 200, 100]


@pytest.mark.quick
def test_an_account_that_cannot_be_read_is_rejected_each_time(data: Path) -> None:
    """And one that Stripe says is no more is no account that was seen."""
    one, odd = account("fca_1"), {**account("fca_2"), "created": "today"}
    gone = {"id": "fca_3", "object": "financial_connections.account", "deleted": True}
    with serving(ScriptedStripe(accounts=[one, odd, gone])) as stripe:
        for _ in range(3):
            run = sync(stripe, data)
            assert (run["accounts_seen"], run["rejected"]) == (1, 1)
            assert passed_over(data, one, odd, gone) == ["fca_1"]


def test_a_page_of_which_a_secret_was_taken_is_compared_as_it_is_kept(data: Path) -> None:
    one = account("fca_1")
    with serving(ScriptedStripe(accounts=[{**one, "client_secret": "s"}])) as stripe:
        sync(stripe, data)
        assert sync(stripe, data)["rows_added"] == 0
        stripe.accounts = [{**one, "client_secret": "zq77"}, account("fca_2")]
        sync(stripe, data)
    assert versions(data, "fca_1") == [100]
    assert b"zq77" not in b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())


def test_a_listing_that_is_dated_before_an_event_does_not_tell_how_an_account_is(data: Path) -> None:
    """Another of Stripe's servers is some seconds behind: it shows the account as it was before the event that is known."""
    before, after = account("fca_1", 100), account("fca_1", 300)
    with serving(ScriptedStripe(accounts=[before])) as stripe:
        sync(stripe, data)
        stripe.events = [event("evt_1", after, stripe.clock + 59)]
        sync(stripe, data, events=True)
        stripe.clock -= MINUTE + 5
        sync(stripe, data)
        assert versions(data, "fca_1") == [100, 300]
        assert passed_over(data, before) == []
        sync(stripe, data)
    assert versions(data, "fca_1") == [100, 300, 100]


def test_a_late_event_does_not_outlast_a_listing_that_passed_the_account_over(data: Path) -> None:
    """The listing saw it as it was: that it did is remembered, and the event is of before."""
    with serving(ScriptedStripe(accounts=[account("fca_1", 100)])) as stripe:
        sync(stripe, data)
        at = stripe.clock + 30
        sync(stripe, data)
        stripe.events = [event("evt_1", account("fca_1", 200), at)]
        sync(stripe, data, events=True)
    assert versions(data, "fca_1") == [100, 200, 100]


@pytest.mark.parametrize("command", ["erase", "compact"])
def test_what_writes_the_tables_otherwise_makes_all_digests_void(data: Path, command: str) -> None:
    one, other = account("fca_1"), account("fca_2", account_holder={"type": "customer", "customer": "cus_2"})
    with serving(ScriptedStripe(accounts=[one, other])) as stripe:
        sync(stripe, data)
        env = environ(stripe.url)
        if command == "erase":
            assert typed("erase", "--customer", "cus_1", "--yes", cwd=data.parent, env=env).code == 0
            assert typed("erase", "--customer", "cus_1", "--allow", cwd=data.parent, env=env).code == 0
        else:
            stripe.accounts = [account("fca_3"), one, other]
            sync(stripe, data)
            assert typed("compact", cwd=data.parent, env=env).code == 0
        assert passed_over(data, one, other) == []
        sync(stripe, data)
        assert {row["account_id"] for row in rows(data, "FROM accounts")} >= {"fca_1", "fca_2"}
        assert passed_over(data, one, other) == ["fca_1", "fca_2"]


@pytest.mark.parametrize("place", [None, 5, 0.5, -5])
@pytest.mark.first(1)
def test_where_its_file_is_damaged_every_account_is_read(data: Path, place: float | None) -> None:
    """Cut off, or one byte of it spoilt."""
    one = account("fca_1")
    with serving(ScriptedStripe(accounts=[one])) as stripe:
        sync(stripe, data)
        file = DataFolder(data).digests
        content = bytearray(file.read_bytes())
        if place is None:
            del content[len(content) // 2 :]
        else:
            content[int(place * len(content)) if isinstance(place, float) else place] ^= 0xFF
        file.write_bytes(content)
        stripe.accounts = [account("fca_1", 200)]
        assert sync(stripe, data)["accounts_seen"] == 1
        stripe.accounts = [one]
        assert sync(stripe, data)["accounts_seen"] == 1
        assert passed_over(data, one) == ["fca_1"]


def test_digests_that_cannot_be_written_fail_no_sync(data: Path) -> None:
    one = account("fca_1")
    with serving(ScriptedStripe(accounts=[one])) as stripe:
        in_the_way = DataFolder(data).digests
        in_the_way.mkdir(parents=True)
        assert sync(stripe, data)["accounts_seen"] == 1
        assert passed_over(data, one) == []
        in_the_way.rmdir()
        sync(stripe, data)
        assert passed_over(data, one) == ["fca_1"]


def test_a_load_of_little_notes_it_beside_the_digests(data: Path) -> None:
    """And the next one as well; the file of the digests stays as it is, until too much is noted."""
    accounts = [account(f"fca_{n}") for n in range(4)]
    with serving(ScriptedStripe(accounts=accounts)) as stripe:
        sync(stripe, data)
        written = DataFolder(data).digests.stat().st_ino
        for number in range(2):
            changed = account(f"fca_{number}", 500)
            stripe.events.insert(0, event(f"evt_{number}", changed, stripe.clock + 1))
            sync(stripe, data, events=True)
            assert passed_over(data, *accounts) == [f"fca_{n}" for n in range(number + 1, 4)]
        assert DataFolder(data).digests.stat().st_ino == written
        sync(stripe, data)
        assert passed_over(data, *accounts) == [f"fca_{n}" for n in range(4)]
    assert versions(data, "fca_0") == versions(data, "fca_1") == [100, 500, 100]


def test_files_that_are_merged_have_the_same_rows(data: Path) -> None:
    one, other = account("fca_1"), account("fca_2")
    with serving(ScriptedStripe(accounts=[one])) as stripe:
        sync(stripe, data)
        stripe.accounts = [other, one]
        sync(stripe, data)
    with Lake(data / "lake") as lake:
        before = state_of(lake)
        lake.table(ACCOUNTS).optimize.compact()
    with Lake(data / "lake") as lake:
        assert state_of(lake) != before
        move(lake, before)
    assert passed_over(data, one, other) == ["fca_1", "fca_2"]


def test_what_was_kept_in_clear_leaves_no_digest(data: Path) -> None:
    """One can be tried out, for a bank account's last digits are few."""
    one = account("fca_1")
    with serving(ScriptedStripe(accounts=[one])) as stripe:
        sync(stripe, data)
        sync(stripe, data, events=True, pii="drop")
        rewrite(data, None)
    assert not DataFolder(data).digests.exists()


def test_digests_of_other_tables_are_removed_by_whoever_finds_them(data: Path) -> None:
    """As after an erasure on another machine: they may be of who was erased."""
    with serving(ScriptedStripe(accounts=[account("fca_1")])) as stripe:
        sync(stripe, data)
        with Lake(data / "lake") as lake:
            lake.table(ACCOUNTS).delete("account_id = 'fca_none'")
            lake.table(ACCOUNTS).delete("account_id = 'fca_1'")
        sync(stripe, data, events=True)
    assert not DataFolder(data).digests.exists()


def test_digests_of_rows_that_were_made_otherwise_are_void(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another reading, of another fincon or DuckDB, or into other columns."""
    one = account("fca_1")
    with serving(ScriptedStripe(accounts=[one])) as stripe:
        for name, value in (
            ("READING", digests.READING + 1),
            ("FILLED", FILLED[:2]),
            ("fincon_version", lambda: "0"),
        ):
            sync(stripe, data)
            assert passed_over(data, one) == ["fca_1"]
            with monkeypatch.context() as patched:
                patched.setattr(digests, name, value)
                assert passed_over(data, one) == []


@pytest.mark.quick
def test_accounts_fill_the_tables_that_digests_are_of() -> None:
    assert account_tables(ParsedObjects(Decoders())).keys() == {table.name for table in FILLED}


@pytest.mark.quick
def test_each_stripe_account_has_digests_of_its_own(data: Path) -> None:
    """The same bytes of another Stripe account are another account; and a sync of one leaves the other's."""
    one = account("fca_1")
    with serving(ScriptedStripe(accounts=[one])) as stripe:
        stripe.connected = {"acct_1": ScriptedStripe(accounts=[one])}
        sync(stripe, data)
        sync(stripe, data, stripe_accounts=("acct_1",))
        assert passed_over(data, one) == ["fca_1"]
    assert len(rows(data, "FROM accounts")) == 2


def test_a_sync_that_may_see_an_account_elsewhere_passes_over_none(data: Path) -> None:
    """A session shows it as it was in between; the listing shows it as before, and that is how it is."""
    before, between = account("fca_1", 100), account("fca_1", 200)
    with serving(ScriptedStripe(accounts=[before])) as stripe:
        sync(stripe, data)
        stripe.sessions = {"fcsess_1": {"id": "fcsess_1", "object": "financial_connections.session"}}

        def shown(path: str, query: dict[str, list[str]]) -> Answer | None:
            listed = {"object": "list", "data": [between], "has_more": False, "url": path}
            body = {
                "id": "fcsess_1",
                "object": "financial_connections.session",
                "accounts": listed,
                "livemode": False,
                "permissions": [],
            }
            return Answer(body) if "/sessions/" in path else None

        stripe.intercept = shown
        sync(stripe, data, session_ids=("fcsess_1",))
    assert versions(data, "fca_1") == [100, 200, 100]
