"""The dictionary: on paper, on the screen and in the file it is one."""

from pathlib import Path

import pytest

from fincon.transforms.schemas import ACCOUNTS, TABLES
from fincon.warehouse import data_dictionary as dictionary
from fincon.warehouse.views import HOLDER
from tests.typed import typed

PAGE = Path(__file__).parents[2] / "docs" / "data-dictionary.md"


def test_the_page_is_what_make_docs_would_write() -> None:
    with dictionary.empty_views() as connection:
        assert PAGE.read_text(encoding="utf-8") == dictionary.as_markdown(connection), "run: make docs"


def test_schema_lists_every_view_and_macro_and_needs_no_lake(tmp_path: Path) -> None:
    shown = typed("schema", cwd=tmp_path).out
    names = {line.split()[0] for line in shown.splitlines()}
    assert {table.name for table in TABLES} | {"history.accounts", "balances_as_of(ts)"} <= names
    assert {path.stem for path in (PAGE.parent.parent / "sql" / "questions").glob("*.sql")} <= {
        name.partition("(")[0] for name in names
    }
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_schema_shows_a_table_column_by_column_with_the_meaning_from_where_columns_are_defined(
    tmp_path: Path,
) -> None:
    lines = typed("schema", "accounts", cwd=tmp_path).out.splitlines()
    for column, line in zip((*ACCOUNTS.columns, HOLDER), lines[1:], strict=True):
        assert line.startswith(column.name)
        assert line.endswith(column.meaning)
    assert typed("schema", "history.balances", cwd=tmp_path).out.count("valid_") == 2
    wrong = typed("schema", "acounts", cwd=tmp_path)
    assert (wrong.code, "no view or macro acounts" in wrong.err) == (2, True)
