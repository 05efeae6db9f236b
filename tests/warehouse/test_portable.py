"""A lake is read wherever it lies, and its rows go where there is no fincon."""

import shutil
import subprocess
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

import fincon
from fincon.sandbox.server import running
from fincon.sandbox.world import World
from fincon.transforms.schemas import TABLES
from tests.conftest import START, rows, state, sync
from tests.conftest import fincon as command

SUMS = "SELECT currency, count(*) AS n, sum(current) AS total FROM balances GROUP BY ALL ORDER BY ALL"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs. Only read it."""
    data = tmp_path_factory.mktemp("portable") / "data"
    with running(World(seed=1, clock=START, accounts=40, sessions=12)) as sandbox:
        sync(sandbox.url, data, sandbox.world.session_ids())
        sync(sandbox.url, data)
    return data


@pytest.fixture
def moved(lake: Path, tmp_path: Path) -> Path:
    """A copy of it elsewhere; that it was made for is not there to be read by accident."""
    copy = tmp_path / "elsewhere" / "data"
    shutil.copytree(lake, copy)
    return copy


@pytest.mark.slow
def test_a_copy_is_read_by_fincon_and_by_connect(lake: Path, moved: Path) -> None:
    expected = rows(lake, SUMS)
    hidden = lake.with_name("hidden")
    lake.rename(hidden)
    try:
        assert rows(moved, SUMS) == expected
        assert fincon.connect(moved).sql("SELECT count(*) FROM history.accounts").fetchall()[0][0] > 0
        for words in ("status", "check", "schema balances"):
            done = command(*words.split(), "--data", str(moved), cwd=moved.parent)
            assert done.returncode == 0, (words, done.stderr)
        asked = command("sql", SUMS, "--format", "csv", "--data", str(moved), cwd=moved.parent)
        assert len(asked.stdout.splitlines()) == len(expected) + 1
    finally:
        hidden.rename(lake)


@pytest.mark.slow
def test_a_copy_goes_on_being_synced(moved: Path) -> None:
    with running(World(seed=1, clock=START, accounts=40, sessions=12)) as sandbox:
        before = state(moved)
        sync(sandbox.url, moved)
        assert state(moved) == before


def test_a_folder_that_cannot_be_written_is_read(moved: Path, tmp_path: Path) -> None:
    """Mounted read-only, elsewhere than it was made: nothing is written beside it, and nothing in it."""
    place = tmp_path / "mounted"
    place.mkdir()
    if subprocess.run(
        ["mount", "--bind", str(moved), str(place)], capture_output=True, check=False
    ).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        assert rows(place, SUMS) == rows(moved, SUMS)
        for words in ("status", "check", "status --max-age 1d"):
            done = command(*words.split(), "--data", str(place), cwd=tmp_path)
            assert done.returncode == 0, (words, done.stderr)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_views_for_a_mount_are_read_by_plain_duckdb(lake: Path, moved: Path, tmp_path: Path) -> None:
    file = tmp_path / "bi.duckdb"
    done = command("views", "--for", str(moved), "--output", str(file), "--data", str(lake), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for table in ("accounts", "balances"):
        for path in (lake / "lake" / table).glob("*.parquet"):
            assert path.exists()
    with duckdb.connect(str(file), read_only=True) as plain:
        plain.execute("SET TimeZone = 'UTC'")
        names = plain.execute("SELECT lake.balances_files()").fetchall()[0][0]
        assert all(name.startswith(f"{moved}/") for name in names)
        found = plain.execute(SUMS).fetchall()
    assert found == [tuple(row.values()) for row in rows(lake, SUMS)]


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.first(1)
def test_an_export_has_every_row_and_needs_nothing_else(
    lake: Path, tmp_path: Path, kind: str, history: bool
) -> None:
    target = tmp_path / ("out" if kind == "folder" else "out.duckdb")
    more = ["--history"] if history else []
    done = command("export", str(target), *more, "--data", str(lake), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    schema = "history" if history else "main"
    with duckdb.connect(":memory:" if kind == "folder" else str(target)) as plain:
        plain.execute("SET TimeZone = 'UTC'")
        for table in TABLES:
            source = f"'{target / table.name}.parquet'" if kind == "folder" else table.name
            found = plain.execute(f"SELECT * FROM {source} ORDER BY ALL").fetchall()
            expected = (
                fincon.connect(lake).execute(f"SELECT * FROM {schema}.{table.name} ORDER BY ALL").fetchall()
            )
            assert found == expected, table.name
        assert plain.execute(
            "SELECT count(*) > 0 FROM " + (f"'{target}/balances.parquet'" if kind == "folder" else "balances")
        ).fetchall() == [(True,)]
    if kind == "folder":
        assert pq.read_schema(target / "balances.parquet").field("current").type == "int64"


@pytest.mark.slow
def test_an_export_to_a_place_that_is_none_says_so(lake: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dir.duckdb").mkdir()
    for target in ("file", "dir.duckdb"):
        done = command("export", target, "--data", str(lake), cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)
