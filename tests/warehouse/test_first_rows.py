"""The first rows of each question over transactions come, of more than DuckDB hands on at once: some plans never end a LIMIT."""

from pathlib import Path
from threading import Timer

import pytest

from fincon.lake.version_sql import SQL
from fincon.warehouse.connection import connect
from tests.benchmarks.desk import BY_PARAMETER, make

OVER_TRANSACTIONS = sorted(
    path.stem
    for path in (SQL / "questions").glob("*.sql")
    if "transactions" in path.read_text(encoding="utf-8").partition("\nCOMMENT")[0]
    and path.stem not in BY_PARAMETER
)

SECONDS = 120.0
"""After which a question is taken for one that waits for ever; none takes one."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some thousands of accounts with their transactions."""
    folder = tmp_path_factory.mktemp("desk")
    make(str(folder), "3000", "20")
    return folder / "data"


@pytest.mark.slow
@pytest.mark.parametrize("name", OVER_TRANSACTIONS)
def test_the_first_rows_of_a_question_come(lake: Path, name: str) -> None:
    with connect(lake) as views:
        watch = Timer(SECONDS, views.interrupt)
        watch.start()
        try:
            rows = views.execute(f"FROM {name} LIMIT 5").fetchall()
        finally:
            watch.cancel()
    assert len(rows) <= 5
