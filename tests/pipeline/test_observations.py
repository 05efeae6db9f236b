"""What was seen last is what is known: random interleavings of runs against a model that keeps every observation.

The model is in `tests/soak/observations.py`, and ten thousand sequences are in ``make soak``.
"""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fincon.lake import sightings
from fincon.lake.sightings import SCHEMA, asking_sightings, read_sightings
from fincon.lake.tables import Lake
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.storage.data_folder import DataFolder
from tests.conftest import rows, settings_for
from tests.scripted_stripe import ScriptedStripe, account, event, serving
from tests.soak.observations import play


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.first(1)
def test_whatever_interleaves_the_lake_is_what_was_observed(seed: int, tmp_path: Path) -> None:
    """One account alone: a run that nothing newer is known to is loaded in another way than many are."""
    play(seed, tmp_path / "data", syncs=6)


@pytest.mark.slow
def test_what_was_seen_is_the_same_where_it_is_too_much_to_be_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "MOST_READ", 0)
    play(1, tmp_path / "data", syncs=6)


def in_a_page(file: Path) -> bytes:
    """What a file of sightings holds, with nothing where some of its rows stood."""
    whole = file.read_bytes()
    middle = pq.read_metadata(file).row_group(0).column(1).data_page_offset + 1
    return whole[:middle] + bytes(20) + whole[middle + 20 :]


def in_a_name(file: Path) -> bytes:
    """The same with another column in the place of one."""
    return file.read_bytes().replace(b"has_balance", b"hat_balance")


@pytest.mark.parametrize(("damaged", "left"), [(in_a_page, 0), (in_a_name, 1)])
def test_much_of_which_a_part_is_damaged_ends_no_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: Callable[[Path], bytes], left: int
) -> None:
    """It is derived: what cannot be read is as if it were not there, and the next thing that is seen is remembered."""
    monkeypatch.setattr(sightings, "MOST_READ", 0)
    data = tmp_path / "data"
    with serving(ScriptedStripe([account("fca_1", 100)])) as stripe:

        def seen() -> int:
            with Lake(data / "lake") as lake, asking_sightings(lake) as query:
                return query.sql("FROM sightings").to_arrow_table().num_rows

        def sync(*, events: bool = False) -> int:
            stripe.clock += 10
            run_sync(settings_for(stripe.url, data), SyncRequest(accounts=not events, events=events))
            return seen()

        assert sync() == 1
        file = DataFolder(data).sightings
        file.write_bytes(damaged(file))
        assert (pq.read_metadata(file).num_rows, seen()) == (1, left)
        assert sync(events=True) == left
        assert sync() == left + 1


@pytest.mark.slow
def test_many_interleavings_in_one_lake_are_what_was_observed(tmp_path: Path) -> None:
    """Each of 99 is a Stripe account of its own, whose objects have the ids of the others'."""
    worlds = play(7, tmp_path / "data", count=99, syncs=3)
    assert worlds.finished
    assert worlds.cut_short


def test_an_event_that_left_no_row_is_said_again_after_a_page_of_its_second(tmp_path: Path) -> None:
    """It said what was known, and it is later than each page of its second: what comes in between does not outlast it."""
    data = tmp_path / "data"
    with serving(ScriptedStripe([account("fca_1", 100)])) as stripe:

        def sync(*, events: bool = False) -> None:
            run_sync(settings_for(stripe.url, data), SyncRequest(accounts=not events, events=events))

        sync()
        stripe.events = [event("evt_1", account("fca_1", 100), stripe.clock)]
        sync(events=True)
        stripe.accounts = [account("fca_1", 200)]
        sync()
        found = rows(data, "SELECT current FROM history.balances ORDER BY valid_from")
        assert [row["current"] for row in found] == [100, 200, 100]
        stripe.clock += 1
        sync()
        assert rows(data, "SELECT current FROM balances") == [{"current": 200}]


@pytest.mark.slow
def test_a_listing_that_showed_no_balance_outlasts_a_late_event_of_before(tmp_path: Path) -> None:
    """That there is none is no version while nothing else is known; it is the last thing that was seen all the same."""
    data = tmp_path / "data"
    bare = account("fca_1", balance_refresh=None)
    bare["balance"] |= {"current": {}, "cash": None}
    with serving(ScriptedStripe([bare, account("fca_2")])) as stripe:

        def sync(*, events: bool = False) -> None:
            stripe.clock += 10
            result = run_sync(settings_for(stripe.url, data), SyncRequest(accounts=not events, events=events))
            assert result.failed_checks == {}

        late = event("evt_1", account("fca_1", 100), stripe.clock + 5)
        sync()
        stripe.events = [late]
        sync(events=True)
    for table in ("balances", "refreshes"):
        found = rows(
            data, f"SELECT valid_to IS NOT NULL AS ended FROM history.{table} WHERE account_id = 'fca_1'"
        )
        assert found == [{"ended": True}]
        assert rows(data, f"SELECT account_id FROM {table}") == [{"account_id": "fca_2"}]


@pytest.mark.slow
def test_what_is_gone_keeps_what_a_late_event_of_before_says_of_it(tmp_path: Path) -> None:
    """That an account is listed no more says nothing of its name, which is what the last observation says that does."""
    data = tmp_path / "data"
    with serving(ScriptedStripe([account("fca_1"), account("fca_2")])) as stripe:

        def sync(*, events: bool = False) -> None:
            stripe.clock += 10
            result = run_sync(settings_for(stripe.url, data), SyncRequest(accounts=not events, events=events))
            assert result.failed_checks == {}

        sync()
        late = event("evt_1", account("fca_2", display_name="Renamed"), stripe.clock + 5)
        del stripe.accounts[1]
        sync()
        stripe.events = [late]
        sync(events=True)
        sync(events=True)
    found = rows(data, "FROM history.accounts WHERE account_id = 'fca_2' ORDER BY valid_from")
    named = [(row["display_name"], row["absent_since"] is not None) for row in found]
    assert named == [("Everyday", False), ("Renamed", False), ("Renamed", True)]
    assert rows(data, "SELECT display_name FROM accounts WHERE account_id = 'fca_2'") == [
        {"display_name": "Renamed"}
    ]


def test_sightings_of_a_fincon_before_do_without_what_it_did_not_note(tmp_path: Path) -> None:
    """Those of a lake that exists are read on."""
    with Lake(DataFolder(tmp_path).lake) as lake:
        lake.data.snapshots.mkdir()
        older = SCHEMA.empty_table().drop_columns(["absent"])
        pq.write_table(older, lake.data.sightings)
        assert read_sightings(lake).schema == SCHEMA
