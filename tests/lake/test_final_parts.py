"""Rows of a first listing that are added as they were staged: the lake is the same as if they had been compared."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fincon.errors import UnloadableRun
from fincon.lake import staging
from fincon.lake.append import load_staged
from fincon.lake.final_parts import FINAL, SeenAgainError, final_and_others
from fincon.lake.staging import Stager, stage, staged_files
from fincon.lake.tables import Lake, plain_schema
from fincon.lake.take_back import under_way
from fincon.pipeline import extract_step
from fincon.sandbox.server import Sandbox
from fincon.sandbox.world import World
from fincon.storage.data_folder import DataFolder
from fincon.transforms.page import Header, Origin, Page
from fincon.transforms.schemas import ACCOUNTS, BALANCES, REFRESHES, Table
from tests.benchmarks.pages import bodies
from tests.conftest import canonical, known_after, rows, state, sync, truth

RUN = Origin("run", "acct_1")
COUNT = 60


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BATCHES_A_PART", 1)
    monkeypatch.setattr(staging, "PAGES_A_BATCH", 2)


def listed(*pages: list[dict[str, Any]], ends: tuple[int, ...] = ()) -> list[Page]:
    """Pages of a listing, one a second; a range ends with the last one and with those in ``ends``."""
    found = []
    for number, accounts in enumerate(pages):
        is_last = number == len(pages) - 1 or number in ends
        header = Header(
            stream="accounts", number=number, offset=0, count=len(accounts), request="", request_id="", status=200,
            observed_at=(1_780_000_000 + number) * 1_000_000, cursor=None if is_last else "fca_next",
        )  # fmt: skip
        found.append(Page(header, orjson.dumps({"data": accounts, "has_more": not is_last})))
    return found


def accounts(count: int = COUNT) -> list[dict[str, Any]]:
    return [one for body in bodies(World(accounts=count, sessions=0)) for one in orjson.loads(body)["data"]][
        :count
    ]


def loaded(folder: Path, pages: list[Page], *, are_first: bool) -> dict[str, list[dict[str, Any]]]:
    """The rows of each table that accounts fill, once the pages are loaded."""
    with Lake(DataFolder(folder).lake) as lake, lake.staging() as staged, under_way(lake, [RUN.run_id]):
        stage(pages, RUN, staged, is_first=(lambda: True) if are_first else None)
        load_staged(lake, staged, [RUN])
        found = {}
        for table in (ACCOUNTS, BALANCES, REFRESHES):
            held = lake.table(table).to_pyarrow_dataset().to_table().to_pylist()
            found[table.name] = sorted(held, key=repr)
        return found


@pytest.mark.usefixtures("_small_parts")
def test_what_is_added_as_it_is_makes_the_lake_that_comparing_makes(tmp_path: Path) -> None:
    known = accounts()
    pages = listed(*(known[at : at + 5] for at in range(0, COUNT, 5)))
    final = loaded(tmp_path / "final", pages, are_first=True)
    assert final == loaded(tmp_path / "compared", pages, are_first=False)
    assert len(final["accounts"]) == COUNT
    with Lake(DataFolder(tmp_path / "final").lake) as lake:
        assert len(lake.files(ACCOUNTS)) > 5


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("change", [{}, {"status": "inactive"}, {"balance": None, "balance_refresh": None}])
def test_what_the_end_of_a_range_shows_again_is_compared(tmp_path: Path, change: dict[str, Any]) -> None:
    """The last page of a range shows accounts with which the next one began: as they were, changed, or with less."""
    known = accounts()
    pages = [known[at : at + 5] for at in range(0, COUNT, 5)]
    pages.insert(7, [*known[33:35], *({**one, **change} for one in known[:5])])
    found = listed(*pages, ends=(7,))
    final = loaded(tmp_path / "final", found, are_first=True)
    assert final == loaded(tmp_path / "compared", found, are_first=False)
    assert COUNT < len(final["accounts"]) <= COUNT + 5 if change else len(final["accounts"]) == COUNT


@pytest.mark.usefixtures("_small_parts")
def test_an_account_in_two_final_parts_is_no_case_for_them(tmp_path: Path) -> None:
    known = accounts()
    pages = [known[at : at + 5] for at in range(0, COUNT, 5)]
    with pytest.raises(SeenAgainError):
        stage(listed(*pages[:6], pages[0], *pages[6:]), RUN, tmp_path, is_first=lambda: True)


@pytest.mark.usefixtures("_small_parts")
def test_an_account_on_the_end_of_a_range_before_it_is_in_a_final_part_is_no_case_for_them(
    tmp_path: Path,
) -> None:
    known = accounts()
    pages = [known[at : at + 5] for at in range(0, COUNT, 5)]
    with pytest.raises(SeenAgainError):
        stage(listed(pages[8], *pages, ends=(0,)), RUN, tmp_path, is_first=lambda: True)


@pytest.mark.usefixtures("_small_parts")
def test_an_account_that_is_no_more_is_compared(tmp_path: Path) -> None:
    known = accounts()
    gone = {"id": known[7]["id"], "object": "financial_connections.account", "deleted": True}
    pages = listed(*([*known[:7], gone, *known[8:]][at : at + 5] for at in range(0, COUNT, 5)))
    stage(pages, RUN, tmp_path, is_first=lambda: True)
    final, others = final_and_others(staged_files(tmp_path, ACCOUNTS, [RUN]))
    assert (len(final), len(others)) == (6, 1)  # of seven parts one has it
    assert loaded(tmp_path / "a", pages, are_first=True) == loaded(tmp_path / "b", pages, are_first=False)


@pytest.mark.usefixtures("_small_parts")
def test_what_stands_after_one_that_is_no_more_is_no_case_for_them(tmp_path: Path) -> None:
    """It stands on an earlier page, which is compared, and in a final part."""
    known = accounts()
    gone = {"id": known[7]["id"], "object": "financial_connections.account", "deleted": True}
    pages = [[*known[:7], gone, *known[8:]][at : at + 5] for at in range(0, COUNT, 5)]
    with pytest.raises(SeenAgainError):
        stage(listed(*pages[:6], [known[7]], *pages[6:]), RUN, tmp_path, is_first=lambda: True)


@pytest.mark.usefixtures("_small_parts")
def test_a_first_listing_that_shows_an_account_again_is_staged_anew(tmp_path: Path) -> None:
    """The stager takes none of its pages then, and the lake that the load makes of them has every account once."""
    known = accounts()
    pages = [known[at : at + 5] for at in range(0, COUNT, 5)]
    found = listed(*pages[:6], pages[0], *pages[6:])
    (tmp_path / "staged").mkdir()
    stager = Stager(RUN, tmp_path / "staged", is_first=lambda: True)
    for page in found:
        stager.take(page)
    assert not stager.close()
    assert (stager.staged, stager.sums) == (set(), {})
    assert len(loaded(tmp_path / "lake", found, are_first=False)["accounts"]) == COUNT


@pytest.mark.usefixtures("_small_parts")
def test_an_account_in_the_last_two_final_parts_is_no_case_for_them_though_no_page_ends_the_list(
    tmp_path: Path,
) -> None:
    """As where the fetching broke off: it is looked for all the same."""
    known = accounts()
    pages = listed(*(known[at : at + 5] for at in range(0, 15, 5)), known[:5], known[5:10])[:4]
    with pytest.raises(SeenAgainError):
        stage(pages, RUN, tmp_path, is_first=lambda: True)


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("change", ["a file is left out", "a row is of nobody on the pages"])
def test_what_is_added_as_it_is_adds_up_in_the_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Were it not exactly what is committed, the run would not count."""
    append = Lake.append
    stranger = {
        "account_id": "fca_stranger",
        "stripe_account": "",
        "currency": "usd",
        "current": 1,
        "run_id": RUN.run_id,
    }

    def otherwise(self: Lake, table: Table, rows: Any, run_ids: Any, files: Any) -> None:
        if table is BALANCES and change == "a file is left out":
            files = dict([*files.items()][:-1])
        elif table is BALANCES:
            now = {"observed_at": datetime.now(UTC)}
            rows = pa.Table.from_pylist([stranger | now], schema=plain_schema(BALANCES))
        append(self, table, rows, run_ids, files)

    known = accounts()
    monkeypatch.setattr(Lake, "append", otherwise)
    with pytest.raises(UnloadableRun, match="in the lake"):
        loaded(tmp_path, listed(*(known[at : at + 5] for at in range(0, COUNT, 5))), are_first=True)


@pytest.mark.usefixtures("_small_parts")
def test_whether_anything_is_known_is_asked_once_and_of_long_lists_alone(tmp_path: Path) -> None:
    """Where something is, no part is final; of a list that fills no part nobody needs to know."""
    known, asked = accounts(), []

    def is_first() -> bool:
        asked.append(1)
        return False

    (tmp_path / "short").mkdir()
    (tmp_path / "long").mkdir()
    stage(listed(known[:5]), RUN, tmp_path / "short", is_first=is_first)
    assert not asked
    stage(
        listed(*(known[at : at + 5] for at in range(0, COUNT, 5))), RUN, tmp_path / "long", is_first=is_first
    )
    assert len(asked) == 1
    final, others = final_and_others(staged_files(tmp_path / "long", ACCOUNTS, [RUN]))
    assert (final, len(others)) == ([], 7)


@pytest.mark.usefixtures("_small_parts")
def test_nothing_is_added_as_it_is_to_what_is_known(tmp_path: Path) -> None:
    """Should another program have written to the lake meanwhile, the run is not loaded: it could repeat what is there."""
    known = accounts()
    pages = listed(*(known[at : at + 5] for at in range(0, COUNT, 5)))
    before = loaded(tmp_path, pages, are_first=False)
    other = Origin("other", RUN.stripe_account)
    with Lake(DataFolder(tmp_path).lake) as lake, lake.staging() as staged:
        stage(pages, other, staged, is_first=lambda: True)
        with pytest.raises(UnloadableRun, match="in the table accounts now"):
            load_staged(lake, staged, [other])
        assert lake.table(ACCOUNTS).to_pyarrow_dataset().to_table().num_rows == len(before["accounts"])


@pytest.mark.usefixtures("_small_parts")
def test_a_disk_without_links_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    known = accounts()
    pages = listed(*(known[at : at + 5] for at in range(0, COUNT, 5)))
    linked = loaded(tmp_path / "linked", pages, are_first=True)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert loaded(tmp_path / "copied", pages, are_first=True) == linked


@pytest.mark.usefixtures("_small_parts")
def test_the_log_tells_where_each_row_is(tmp_path: Path) -> None:
    """Readers that go by the log's least and greatest values find every row."""
    known = accounts()
    found = loaded(tmp_path, listed(*(known[at : at + 5] for at in range(0, COUNT, 5))), are_first=True)
    held = deltalake.DeltaTable(str(DataFolder(tmp_path).lake / "balances")).to_pyarrow_dataset()
    for row in found["balances"]:
        where = [
            (name, "==", row[name])
            for name in ("account_id", "currency", "current", "as_of", "run_id")
            if row[name] is not None
        ]
        assert row in held.to_table(filter=pq.filters_to_expression(where)).to_pylist()


def without_time(data: Path, table: str) -> list[dict[str, object]]:
    return canonical(
        rows(data, f"SELECT * EXCLUDE (run_id, observed_at, valid_from, valid_to) FROM history.{table}")
    )


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.slow
def test_syncs_go_on_from_what_was_added_as_it_is(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first listing, and two more, are what they are where the first one is compared."""
    final, compared = tmp_path / "final", tmp_path / "compared"
    seen = []
    for turn in range(3):
        sync(sandbox.url, final)
        with monkeypatch.context() as patched:
            if not turn:
                patched.setattr(extract_step, "is_unknown", lambda lake, origin: False)
            sync(sandbox.url, compared)
        seen.append(truth(sandbox.world))
        if not turn:
            with Lake(DataFolder(final).lake) as lake, Lake(DataFolder(compared).lake) as other:
                assert len(lake.files(BALANCES)) > len(other.files(BALANCES)) == 1
        sandbox.advance(timedelta(hours=9))
    made, known = state(final), known_after(*seen)
    for table in ("accounts", "balances", "refreshes"):
        assert made[table] == known[table]
        assert without_time(final, table) == without_time(compared, table)


def test_a_part_says_what_it_is() -> None:
    """No other letter of a part is taken for the final ones'."""
    others = [f"x/accounts-{letter}000020.parquet" for letter in "asz"]
    final = [f"x/accounts-{FINAL}000020.parquet"]
    assert final_and_others([*others, *final]) == (final, others)
