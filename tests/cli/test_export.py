"""Nothing is lost between the views and a file: every row, every column, every digit, in every format."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Call

QUERY = (
    "SELECT n, n::HUGEINT * 10000000000000000000000 AS big, (n / 3)::DECIMAL(38, 4) AS d,"
    " 'ü\"|\n' || n AS t FROM range(25000) AS r(n)"
)
ROWS = 25_000


def read(path: Path) -> list[dict[str, object]]:
    """The rows of a file, read by a library that is not fincon."""
    content = path.read_bytes()
    readers = {
        ".csv": lambda: list(csv.DictReader(io.StringIO(content.decode(), newline=""))),
        ".json": lambda: json.loads(content),
        ".jsonl": lambda: [json.loads(line) for line in content.decode().split("\n") if line],
        ".parquet": lambda: pq.read_table(path).to_pylist(),
        ".arrow": lambda: pa.ipc.open_file(content).read_all().to_pylist(),
    }
    found: list[dict[str, object]] = readers[path.suffix]()
    return found


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet", "arrow"])
def test_a_file_is_what_its_name_says_and_holds_all(
    ending: str, call: Call, synced: Path, tmp_path: Path
) -> None:
    """Sums, which are wider than 64 bits, are exact too; standard error says how many rows went where."""
    path = tmp_path / f"big.{ending}"
    shown = call("sql", QUERY, "--output", str(path), cwd=synced, width=80)
    assert (shown.code, shown.out, " ".join(shown.err.split())) == (0, "", f"25,000 rows → {path}")
    rows = read(path)
    assert len(rows) == ROWS
    for n in (0, 1, 9_999, 10_000, ROWS - 1):
        assert list(rows[n]) == ["n", "big", "d", "t"]
        assert int(str(rows[n]["n"])) == n
        assert Decimal(str(rows[n]["big"])) == n * 10**22
        assert Decimal(str(rows[n]["d"])) == round(Decimal(n) / 3, 4)
        assert rows[n]["t"] == f'ü"|\n{n}'


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet", "arrow"])
def test_limit_holds_for_files_and_is_told(ending: str, call: Call, synced: Path, tmp_path: Path) -> None:
    path = tmp_path / f"few.{ending}"
    shown = call("sql", QUERY, "--limit", "12000", "--output", str(path), cwd=synced)
    assert shown.err == f"12,000 rows → {path} (--limit; there are more)\n"
    assert len(read(path)) == 12_000
    shown = call("sql", "SELECT 1 AS a", "--limit", "1", "--output", str(path), cwd=synced)
    assert shown.err == f"1 row → {path}\n"


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet", "arrow"])
def test_no_rows_make_a_file_that_can_be_read(ending: str, call: Call, synced: Path, tmp_path: Path) -> None:
    path = tmp_path / f"none.{ending}"
    assert call("sql", "SELECT 1 AS a WHERE false", "--output", str(path), cwd=synced).code == 0
    assert read(path) == []


def test_a_query_that_fails_leaves_the_file_as_it_was(call: Call, synced: Path, tmp_path: Path) -> None:
    """Nor does it leave half of a new one beside it."""
    path = tmp_path / "a.csv"
    path.write_text("precious\n")
    for query in (
        "FROM nothing",
        "SELECT (CASE WHEN n = 20000 THEN 'x' ELSE '1' END)::INT FROM range(30000) AS r(n)",
    ):
        assert call("sql", query, "--output", str(path), cwd=synced).code == 2
        assert [p.read_text() for p in tmp_path.iterdir()] == ["precious\n"]


def test_no_file_of_the_lake_is_written_over(call: Call, synced: Path) -> None:
    """Nor one put among them."""
    data = synced / "data"
    [part, *_] = (data / "lake").rglob("*.parquet")
    before = part.read_bytes()
    for output in (part, data / "fincon.duckdb", data / "lake" / "new.parquet"):
        for command in (["sql", "FROM balances"], ["report"], ["views", "--for", "/srv"]):
            done = call("--data", str(data), *command, "--output", str(output))
            assert (done.code, "keeps the lake itself" in done.err) == (2, True), done.err
    assert part.read_bytes() == before


def test_a_link_stays_a_link(call: Call, synced: Path, tmp_path: Path) -> None:
    (tmp_path / "to.csv").symlink_to(tmp_path / "real.csv")
    call("sql", "SELECT 1 AS a", "--output", str(tmp_path / "to.csv"), cwd=synced)
    assert (tmp_path / "to.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "a\n1\n"


@pytest.mark.parametrize(
    "kind", ["INTERVAL 1 DAY", "'101'::BIT", "uuid()", "TIME '10:00'", "MAP {'a': 1}", "now()"]
)
@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet", "arrow"])
def test_any_type_can_be_written(kind: str, ending: str, call: Call, synced: Path, tmp_path: Path) -> None:
    shown = call("sql", f"SELECT {kind} AS a", "--output", str(tmp_path / f"a.{ending}"), cwd=synced)
    assert shown.code == 0, shown.err
    assert len(read(tmp_path / f"a.{ending}")) == 1


def test_excel_is_written_where_a_library_is(call: Call, synced: Path, tmp_path: Path) -> None:
    """What Excel would round is text, and a text that begins with = is no formula; without the library it says so."""
    path = tmp_path / "a.xlsx"
    query = "SELECT 12::BIGINT AS n, 1234567890123456789 AS long, '=1+1' AS t, 1.25 AS d"
    shown = call("sql", query, "--output", str(path), cwd=synced)
    try:
        import openpyxl
    except ModuleNotFoundError:
        assert (shown.code, "pip install openpyxl" in shown.err) == (2, True)
        return
    rows = list(openpyxl.load_workbook(path).active.iter_rows(values_only=True))
    assert rows == [("n", "long", "t", "d"), (12, "1234567890123456789", "=1+1", 1.25)]
