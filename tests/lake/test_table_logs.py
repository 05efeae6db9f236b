"""What a writer noted of the tables' logs counts as long as they are as it left them."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from fincon.errors import RunFailed, UsageError
from fincon.lake.table_logs import LOG
from fincon.lake.tables import Lake
from fincon.pipeline.check import failed_checks
from fincon.pipeline.erase import erase
from fincon.pipeline.recovery import recovered_lake
from fincon.sandbox.server import Sandbox
from fincon.storage.data_folder import DataFolder
from fincon.transforms.schemas import TABLES
from tests.conftest import state, sync, truth

Known = dict[str, set[str]]


def known(data: Path) -> tuple[bool, Known]:
    """Whether the next writer recalls what was noted, and which files it takes each table to have."""
    with recovered_lake(data) as lake:
        return lake.is_recalled, {table.name: set(lake.files(table)) for table in TABLES}


def in_the_logs(data: Path) -> Known:
    """Which files each table has by its log."""
    with Lake(data / "lake") as lake:
        return {table.name: set(lake.files(table)) for table in TABLES}


def newest_commit(data: Path, table: str) -> Path:
    """The last file of a table's log that is a commit."""
    return max((data / "lake" / table / LOG).glob("*.json"))


def test_what_was_noted_is_what_the_logs_say_and_a_sync_goes_on_from_it(sandbox: Sandbox, data: Path) -> None:
    """The lake is then what it would be if every log had been read."""
    sync(sandbox.url, data)
    assert known(data) == (True, in_the_logs(data))
    sandbox.advance(timedelta(days=3))
    sync(sandbox.url, data)
    assert known(data) == (True, in_the_logs(data))
    assert state(data)["balances"] == truth(sandbox.world)["balances"]
    assert failed_checks(data) == {}


def test_whoever_commits_without_a_note_makes_the_last_one_void(sandbox: Sandbox, data: Path) -> None:
    """A run that failed leaves none either: what it did must not be missed."""
    sync(sandbox.url, data)
    with Lake(data / "lake") as lake:
        lake.fence_previous_writer()  # which commits to every table
    assert not known(data)[0]
    assert known(data)[0]
    with pytest.raises(UsageError), recovered_lake(data):
        raise UsageError("Something went wrong.", "It was written half.")
    assert not known(data)[0]


def put_back(commit: Path) -> None:
    """As from a backup: the same bytes, of the same time, in another file."""
    copy = commit.with_name("copy")
    shutil.copy2(commit, copy)
    copy.replace(commit)


@pytest.mark.first(2)
@pytest.mark.parametrize("table", ["accounts", "runs"])
@pytest.mark.parametrize(
    "change",
    [Path.unlink, put_back, lambda commit: commit.write_bytes(commit.read_bytes() + b"\n")],
    ids=["the commit before", "put back", "changed"],
)
def test_a_log_that_is_another_is_read_anew(
    sandbox: Sandbox, data: Path, table: str, change: Callable[[Path], object]
) -> None:
    """Whichever of the tables it is of."""
    sync(sandbox.url, data)
    sandbox.advance(timedelta(days=3))
    sync(sandbox.url, data)
    change(newest_commit(data, table))
    assert known(data) == (False, in_the_logs(data))


def test_a_table_behind_a_link_is_read_where_it_is(sandbox: Sandbox, data: Path) -> None:
    """Its files are named where the link leads to: on another disk they are the same, and somewhere else."""
    sync(sandbox.url, data)
    table, disks = data / "lake" / "balances", [data.with_name("disk1"), data.with_name("disk2")]
    table.rename(disks[0])
    table.symlink_to(disks[0])
    assert not known(data)[0]
    assert known(data)[0]
    disks[0].rename(disks[1])
    table.unlink()
    table.symlink_to(disks[1])
    assert known(data) == (False, in_the_logs(data))


@pytest.mark.parametrize("left", [bytes(0), bytes(4096)], ids=["nothing", "zeros"])
def test_of_many_runs_only_the_last_few_are_read_to_open_a_table_and_a_crash_leaves_no_harm(
    sandbox: Sandbox, data: Path, left: bytes
) -> None:
    """A checkpoint says what ten commits do; one that a crash of the machine left empty or half is as if it were not there."""
    sync(sandbox.url, data)
    with Lake(data / "lake") as lake:
        for _ in range(10):
            lake.fence_previous_writer()
    log, before = data / "lake" / "runs" / LOG, in_the_logs(data)
    newest = max(log.glob("*.checkpoint.parquet"))
    newest.write_bytes(left)
    assert in_the_logs(data) == before
    sync(sandbox.url, data)
    assert state(data)["balances"] == truth(sandbox.world)["balances"]
    assert failed_checks(data) == {}


def test_what_is_not_fincons_stays(sandbox: Sandbox, data: Path) -> None:
    """``copies`` is a folder of fincon's beside a lake in a bucket alone."""
    own = data / "copies" / "mine.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    sync(sandbox.url, data)
    assert own.read_text() == "mine"


@pytest.mark.parametrize("table", ["owners", "attempts"])
def test_who_writes_all_anew_reads_every_log_first(sandbox: Sandbox, data: Path, table: str) -> None:
    """A log that is damaged where no sync has looked is told before anything of an erasure is done."""
    sync(sandbox.url, data)
    with Lake(data / "lake") as lake:  # an older commit than the newest, which is looked at
        lake.fence_previous_writer()
    assert not known(data)[0]
    (data / "lake" / table / LOG / f"{0:020}.json").write_text("{")
    assert known(data)[0]
    before = sorted(data.rglob("*"))
    with pytest.raises(RunFailed, match=f"lake/{table} cannot be read"):
        erase(data, "account", state(data)["accounts"][0]["account_id"])
    assert [path for path in sorted(data.rglob("*")) if path not in before] == []
    assert not DataFolder(data).erasing.exists()


def test_a_lake_that_was_moved_is_read_where_it_is(
    sandbox: Sandbox, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note names the files where they were; so does one beside a copy. A path from where the writer stands is no place."""
    sync(sandbox.url, data)
    moved = data.rename(data.with_name("moved"))
    assert known(moved) == (False, in_the_logs(moved))
    shutil.copytree(moved, data)
    assert known(data) == (False, in_the_logs(data))
    (data.parent / "there").mkdir()
    monkeypatch.chdir(data.parent)
    assert known(Path("data"))[0]
    data.rename(data.parent / "there" / "data")
    monkeypatch.chdir("there")
    assert known(Path("data")) == (False, in_the_logs(Path("data").absolute()))
