"""What guards a number is there: each of these fails when the line that does it is taken out.

`python -m tests.mutations` takes them out, one at a time, and tells which nobody notices.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fincon.errors import BudgetExhausted, FinconError, RunFailed, Stopped
from fincon.extract.pagination import no_page, parse_list_page, store_page
from fincon.extract.responses import StripeResponse
from fincon.extract.stopping import StopSignal
from fincon.lake.tables import Lake, plain_schema
from fincon.landing.page_store import PageStore
from fincon.landing.run_folder import RunFolder, unfinished_runs
from fincon.pipeline.compact import compact
from fincon.pipeline.erase import erase
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.storage.data_folder import make_folder
from fincon.transforms.schemas import BALANCES, SESSIONS, Table
from tests.conftest import copied, rows, settings_for
from tests.scripted_stripe import START, ScriptedStripe, account, event, serving

HOUR = 3600


def scripted() -> ScriptedStripe:
    """Five accounts of 100 dollars, two to a page."""
    return ScriptedStripe([account(f"fca_{n}", 100, created=START - n) for n in range(5)], page_size=2)


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    with serving(scripted()) as it:
        yield it


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of one run over them."""
    data = tmp_path_factory.mktemp("listed") / "data"
    with serving(scripted()) as stripe:
        run(stripe, data)
    return data


@pytest.fixture
def listed(original: Path, data: Path) -> Path:
    """A lake that lists them."""
    return copied(original, data)


class AtStage:
    """Calls something once, as soon as a stage of a run begins."""

    def __init__(self, name: str, do: Callable[[], object]) -> None:
        self.name, self.do = name, do

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """Begin a stage: the moment that is waited for, or another."""
        if name == self.name:
            self.do()
        return lambda count: None


def run(stripe: ScriptedStripe, data: Path, progress: Any = None, **asked: Any) -> SyncResult:
    return run_sync(settings_for(stripe.url, data), SyncRequest(**asked), progress=progress)


def with_current(stripe: ScriptedStripe, account_id: str, current: int) -> dict[str, Any]:
    """The account as it is with another balance."""
    (now,) = (one for one in stripe.accounts if one["id"] == account_id)
    return {**now, "balance": {**now["balance"], "current": {"usd": current}}}


def add(lake: Lake, table: Table, row: dict[str, Any]) -> None:
    """Add a row as no run does."""
    lake.append(table, pa.Table.from_pylist([row], schema=plain_schema(table)), [])


def balances(data: Path, account_id: str) -> list[int]:
    """Every balance that was known of an account, in order."""
    found = rows(
        data, f"SELECT current FROM history.balances WHERE account_id = '{account_id}' ORDER BY valid_from"
    )
    return [row["current"] for row in found]


def test_a_sync_runs_the_checks_and_fails_by_them(stripe: ScriptedStripe, listed: Path) -> None:
    with Lake(listed / "lake") as lake:
        nobodys = dict.fromkeys(SESSIONS.schema.names) | {"run_id": "nobodys"}
        add(lake, SESSIONS, nobodys)
    result = run(stripe, listed)
    assert result.failed_checks["rows_have_runs"] == 1
    with pytest.raises(RunFailed, match="checks failed"):
        result.raise_for_failures(strict=False)


def test_events_are_read_from_before_the_first_page_of_the_listing(tmp_path: Path) -> None:
    """Of several ranges, the one that began first says from when on nothing is known yet."""
    store = PageStore(tmp_path)
    for part, date in enumerate((START + 6, START, START + 12)):
        body = msgspec.json.encode({"object": "list", "data": [account(f"fca_{part}")], "has_more": False})
        answer = StripeResponse(body, "/accounts", "req_1", date)
        store_page(store, answer, parse_list_page(body), no_page("accounts", part=part))
    started = {page.header.part: page.header.observed_at for page in store.read()}
    assert store.complete_until() == min(started.values())
    assert len(set(started.values())) == 3


def test_a_listing_that_is_dated_long_before_what_is_known_does_not_say_up_to_when_all_is_in(
    tmp_path: Path,
) -> None:
    """What happens until then would pass for older than what it shows: the next run lists anew."""
    store = PageStore(tmp_path, newest=(START + 60) * 1_000_000)
    body = msgspec.json.encode({"object": "list", "data": [account("fca_1")], "has_more": False})
    store_page(
        store, StripeResponse(body, "/accounts", "req_1", START), parse_list_page(body), no_page("accounts")
    )
    assert store.complete_until() is None
    assert store.is_known_later(START)


def test_rows_that_are_not_what_the_pages_say_end_a_run(stripe: ScriptedStripe, data: Path) -> None:
    """A cent too much in a staged balance: nothing is loaded, and the next run is right."""

    def spoil() -> None:
        for part in data.glob(".staging-*/*/balances-*.parquet"):
            staged = pq.read_table(part)
            more = pc.add(staged["current"], 1).cast(staged.schema.field("current").type)
            pq.write_table(staged.set_column(staged.schema.get_field_index("current"), "current", more), part)

    with pytest.raises(RunFailed, match=r"in usd adds up to 500 on its pages and to 505 in the rows"):
        run(stripe, data, AtStage("pages into tables", spoil))
    with Lake(data / "lake") as lake:
        assert lake.run_ids() == set()
    run(stripe, data)
    assert rows(data, "SELECT sum(current)::INT AS total FROM balances") == [{"total": 500}]


def test_a_run_that_the_lake_contradicts_is_set_aside(stripe: ScriptedStripe, listed: Path) -> None:
    """Another balance of the same moment is in the tables already: the run is not loaded, and says why."""
    stripe.clock += HOUR
    stripe.accounts[0] = with_current(stripe, "fca_0", 700)
    stop = StopSignal()
    with pytest.raises(Stopped):
        run_sync(
            settings_for(stripe.url, listed),
            SyncRequest(),
            progress=AtStage("pages into tables", stop.stop),
            stop=stop,
        )
    unfinished = max((listed / "pages").iterdir())
    at = next(page.header.observed_at for page in PageStore(unfinished).read())
    (known,) = rows(listed, "FROM lake.balances WHERE account_id = 'fca_0'")
    with Lake(listed / "lake") as lake:
        add(lake, BALANCES, known | {"current": 699, "observed_at": at})
    run(stripe, listed)
    [reason] = (listed / "pages" / "quarantine").glob("*/reason.txt")
    assert re.search(r"add up to .* on its pages and to .* in the lake", reason.read_text())


def test_an_event_that_stripe_shows_late_is_read(stripe: ScriptedStripe, listed: Path) -> None:
    """It is of before the last run, which could not see it; and is what was known then."""
    stripe.clock += HOUR
    run(stripe, listed, events=True)
    late = event("evt_1", with_current(stripe, "fca_0", 150), stripe.clock - 200)
    stripe.events.insert(0, late)
    stripe.clock += HOUR
    run(stripe, listed, events=True)
    assert balances(listed, "fca_0")[:2] == [100, 150]


def test_a_version_is_valid_until_the_next_one_is(stripe: ScriptedStripe, listed: Path) -> None:
    """To the microsecond: no moment has two, none has none."""
    stripe.clock += HOUR
    stripe.accounts[0] = with_current(stripe, "fca_0", 200)
    run(stripe, listed)
    first, second = rows(
        listed,
        "SELECT epoch_us(valid_from) AS since, epoch_us(valid_to) AS until FROM history.balances"
        " WHERE account_id = 'fca_0' ORDER BY valid_from",
    )
    assert first["until"] == second["since"]
    assert second["until"] is None
    assert second["since"] // 1_000_000 - START == HOUR


def test_a_late_row_is_compared_with_what_was_known_then(stripe: ScriptedStripe, listed: Path) -> None:
    """An event of between two runs that says what the first one saw adds no version, whatever the second saw."""
    stripe.clock += HOUR
    stripe.events = [event("evt_1", with_current(stripe, "fca_0", 100), stripe.clock - 10)]
    stripe.accounts[0] = with_current(stripe, "fca_0", 200)
    run(stripe, listed)
    assert balances(listed, "fca_0") == [100, 200]
    run(stripe, listed, events=True)
    assert balances(listed, "fca_0") == [100, 200]


def test_a_page_is_on_the_disk_before_it_has_its_name_and_so_is_what_is_committed(
    stripe: ScriptedStripe, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that loses its power leaves a whole page, or none: it is fsynced and then renamed."""
    synced: set[str] = set()
    kernel_fsync = os.fsync

    def counted(descriptor: int) -> None:
        kernel_fsync(descriptor)
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", counted)
    run(stripe, data)
    written = [path for path in (data / "pages").rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert {str(path.with_name(f".{path.name}.part")) for path in written} <= synced
    tables = {str(path) for path in (data / "lake").glob("*/**/*") if path.is_file()}
    assert len(tables) > 20
    assert tables <= synced


def test_a_name_is_on_the_disk_before_anything_rests_on_it(
    stripe: ScriptedStripe, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename, or a new folder, is fsynced before anything else is renamed, whatever a lake goes through."""
    named: list[Path] = []
    """Files and folders that have a new name which a machine without power would forget."""
    seen: set[str] = set()

    def synced(descriptor: int, kernel: Callable[[int], None] = os.fsync) -> None:
        kernel(descriptor)
        folder = Path(f"/proc/self/fd/{descriptor}").readlink()
        named[:] = [path for path in named if path.parent != folder]

    def renamed(old: Path, new: Path, kernel: Callable[[Path, Path], None] = os.replace) -> None:
        assert named == []
        kernel(old, new)
        named.append(Path(new))
        seen.add(re.sub("[0-9a-f]{8,}.*", "…", Path(new).name))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(os, "rename", renamed)

    run(stripe, data)
    assert named == []
    stripe.clock += HOUR
    with pytest.raises(BudgetExhausted):
        run(stripe, data, max_requests=2)
    RunFolder(data, unfinished_runs(data, set())[-1].run_id).set_aside("for a test")
    assert named == []
    compact(data, 7, 7)
    assert named == []
    erase(data, "account", "fca_3")
    assert named == []
    files = {"run.json", "fetched.json", "costs.json", "fincon.duckdb", "snapshots.json", "settled.parquet"}
    assert files | {".erasing", "sightings.parquet", "reason.txt"} <= seen


def test_a_new_folder_is_on_the_disk_with_all_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where several are made at a time, each is named for good."""
    synced: list[Path] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
    )
    make_folder(tmp_path / "a" / "b" / "c")
    assert set(synced) == {tmp_path / folder for folder in ("", "a", "a/b")}


def test_an_interrupted_run_does_not_outlive_an_erasure(stripe: ScriptedStripe, data: Path) -> None:
    """What it has fetched goes at once, and is fetched again without who was erased."""
    whole = run(stripe, data).run["run_id"]
    stripe.clock += HOUR
    with pytest.raises(FinconError) as ended:
        run(stripe, data, max_requests=2)
    assert isinstance(ended.value, BudgetExhausted)
    erase(data, "account", "fca_3")
    assert [folder.name for folder in (data / "pages").iterdir()] == [whole]
    result = run(stripe, data)
    assert result.resumed_pages == 0
    assert rows(data, "SELECT account_id FROM accounts ORDER BY ALL") == [
        {"account_id": f"fca_{n}"} for n in (0, 1, 2, 4)
    ]
