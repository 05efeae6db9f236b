"""Each question against a small lake made by hand: ``tests/views/<question>/given.json`` → ``expect.json``.

``given`` holds rows by table; a column left out is null, and ``stripe_account``, ``observed_at`` and ``run_id`` have
defaults; ``rates`` are lists of day, from, to, rate. ``expect`` holds rows by query; a column left out is null, and the
order of rows does not matter. A time is ISO 8601, or ``now-26h``, ``now+3d`` for questions that ask about now. Decimals
are text, so that each digit counts.
"""

import json
import re
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from fincon.errors import Stopped
from fincon.lake.snapshots import LatestFiles, latest_files
from fincon.lake.tables import Lake
from fincon.pipeline.rates import Pair, write_rates
from fincon.sandbox.server import Sandbox
from fincon.transforms.schemas import ACCOUNTS, TABLES, Table
from fincon.warehouse import views
from fincon.warehouse.connection import connect
from fincon.warehouse.data_dictionary import empty_views
from fincon.warehouse.stand_ins import STOOD_ON
from fincon.warehouse.views import publish
from tests.conftest import sync

VIEWS = Path(__file__).parent / "views"
QUESTIONS = Path(__file__).parents[2] / "sql" / "questions"
DEFAULTS = {"stripe_account": "", "observed_at": "2026-11-01T12:00:00Z", "run_id": "run_1"}
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def tables_of(folder: Path) -> tuple[list[str], str]:
    """Which tables a folder fills, then its name: views over the same tables, one after the other, are made once."""
    return sorted(json.loads((folder / "given.json").read_text(encoding="utf-8"))), folder.name


@pytest.mark.parametrize("folder", sorted(VIEWS.iterdir(), key=tables_of), ids=lambda folder: folder.name)
@pytest.mark.first(28, 200)
def test_a_question_answers_as_expected(folder: Path, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    given = json.loads((folder / "given.json").read_text(encoding="utf-8"))
    publish_rows(tmp_path / "data", given, now)
    expect = json.loads((folder / "expect.json").read_text(encoding="utf-8"))
    with connect(tmp_path / "data") as connection:
        for query, expected in expect.items():
            cursor = connection.execute(query)
            names = [name for name, *_ in cursor.description or ()]
            assert {name for row in expected for name in row} <= set(names)
            whole = [{name: written(timed(row.get(name), now)) for name in names} for row in expected]
            found = [dict(zip(names, map(written, row), strict=True)) for row in cursor.fetchall()]
            assert ordered(found) == ordered(whole), query


def test_every_question_has_its_folder() -> None:
    assert {path.stem for path in QUESTIONS.glob("*.sql")} <= {folder.name for folder in VIEWS.iterdir()}


def test_amounts_and_shares_are_exact_whatever_reads_them() -> None:
    """No column is HUGEINT or floating: pandas and Parquet would make a DOUBLE of it. Decimals stay exact in pandas by Arrow."""
    with empty_views() as connection:
        loose = connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns()"
            " WHERE schema_name IN ('main', 'history') AND NOT internal"
            " AND regexp_matches(data_type, 'HUGEINT|DOUBLE|FLOAT')"
        ).fetchall()
        assert not loose
        beyond = connection.sql(
            "SELECT sum(x)::DECIMAL(38, 0) AS current FROM (VALUES (9007199254740993)) AS t(x)"
        )
        frame = beyond.to_arrow_table().to_pandas(types_mapper=pd.ArrowDtype)
    assert int(frame["current"].sum()) == 9_007_199_254_740_993


def test_every_amount_in_minor_units_stands_beside_the_same_in_major_ones() -> None:
    """`balance_change` calls them `from_amount` and `to_amount`."""
    with empty_views() as connection:
        columns = connection.execute(
            "SELECT table_name, column_name, data_type = 'DECIMAL(38,0)' OR comment LIKE '%minor units%'"
            " FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal"
        ).fetchall()
    names = {(view, name) for view, name, _ in columns}
    alone = [
        f"{view}.{name}"
        for view, name, is_amount in columns
        if is_amount and not name.endswith("amount")
        if not {(view, f"{name}_amount"), (view, name.replace("current", "amount"))} & names
    ]
    assert alone == []
    assert {view for view, name in names if name == "amount"} == {
        v for v, name in names if name == "major_amount"
    }


def test_every_question_about_accounts_says_whose_they_are() -> None:
    with empty_views() as connection:
        nameless = connection.execute(
            "SELECT table_name FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal"
            " AND table_name IN (SELECT unnest($1)) GROUP BY ALL"
            " HAVING bool_or(column_name = 'account_id') AND NOT bool_or(column_name = 'account_holder_id')",
            [[path.stem for path in QUESTIONS.glob("*.sql")]],
        ).fetchall()
        strangers = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND view_name IN (SELECT unnest($1))"
            " EXCEPT SELECT table_name FROM duckdb_columns() WHERE column_name = 'stripe_account'",
            [[path.stem for path in QUESTIONS.glob("*.sql")]],
        ).fetchall()
    assert (nameless, strangers) == ([], []), "every question has stripe_account, too"


def test_every_list_of_an_account_is_sorted_before_it_is_compared() -> None:
    text = (QUESTIONS / "account_changes.sql").read_text(encoding="utf-8")
    lists = [column.name for column in ACCOUNTS.columns if pa.types.is_list(column.type)]
    assert [name for name in lists if f") AS {name}" not in text] == []
    personal = [column.name for column in ACCOUNTS.columns if column.personal]
    assert [name for name in personal if f"'{name}'" not in text] == []


def publish_rows(data: Path, given: dict[str, list[Any]], now: datetime) -> None:
    """Rows by table as a lake of Delta tables, and the views over it."""
    lake = Lake(data / "lake")
    tables = {table.name: table for table in TABLES}
    data.mkdir(exist_ok=True)
    if rates := given.pop("rates", []):
        write_rates(data, {Pair(date.fromisoformat(d), s, t): Decimal(rate) for d, s, t, rate in rates})
    for name, found in given.items():
        rows = [typed_row(tables[name], row, now) for row in found]
        lake.append(tables[name], pa.Table.from_pylist(rows, schema=tables[name].schema), "run_1")
    none = LatestFiles([], [], [])
    publish(data, {t.name: latest_files(lake, t) if t.name in given else none for t in TABLES})


def typed_row(table: Table, row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """A row of JSON with the types of its table."""
    fields = {column.name: column.type for column in table.columns}
    assert row.keys() <= fields.keys(), row
    whole = {**{name: value for name, value in DEFAULTS.items() if name in fields}, **row}
    return {name: typed(whole.get(name), kind, now) for name, kind in fields.items()}


def typed(value: Any, kind: pa.DataType, now: datetime) -> Any:
    """A value of JSON as its Arrow type takes it."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [typed(each, kind.value_type, now) for each in value]
    if pa.types.is_struct(kind):
        return {field.name: typed(value.get(field.name), field.type, now) for field in kind}
    return datetime.fromisoformat(timed(value, now)) if pa.types.is_timestamp(kind) else value


def timed(value: Any, now: datetime) -> Any:
    """``now-26h`` as the time that it is; all else as it is."""
    found = re.fullmatch(r"now([+-]\d+)([mhd])", value) if isinstance(value, str) else None
    return (now + timedelta(**{UNITS[found[2]]: int(found[1])})).isoformat() if found else value


def written(value: Any) -> Any:
    """A value of DuckDB as JSON has it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT.*", value):
        return datetime.fromisoformat(value).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the order of their own content."""
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def test_views_that_are_given_up_half_way_are_not_kept(monkeypatch: pytest.MonkeyPatch):
    """Some are made beside a first sync; where that fails, the next one does not get the half."""
    monkeypatch.setattr(views, "_MADE", [])
    over = iter([False] * 9)
    with pytest.raises(Stopped):
        views._over_no_files(lambda: next(over, True))
    assert views._MADE == []
    made = views._over_no_files()
    assert views._over_no_files(lambda: True) is made  # made once


def test_the_views_of_a_first_listing_are_made_while_it_is_fetched(sandbox: Sandbox, data: Path) -> None:
    """Beside it and once: whoever publishes finds them, or waits for them."""
    views._made_over_no_rows.cache_clear()
    sync(sandbox.url, data)
    for thread in threading.enumerate():
        if thread.name == "views":
            thread.join()
    made = views._made_over_no_rows.cache_info()
    assert (made.misses, made.hits) == (1, 1)


def test_views_have_the_columns_that_they_were_made_with() -> None:
    """They are made over tables that stand in for what they read: of these nothing is left, and none had other columns."""
    with empty_views() as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        made: dict[str, list[tuple[str, str]]] = {}
        for schema, view, *column in connection.execute(
            "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns()"
            " WHERE NOT internal ORDER BY column_index"
        ).fetchall():
            made.setdefault(f"{schema}.{view}", []).append((column[0], column[1]))
        for view, columns in made.items():
            bound = connection.sql(f"FROM {view}")
            assert list(zip(bound.columns, map(str, bound.types), strict=True)) == columns, view
        macros = connection.execute(
            "SELECT schema_name || '.' || function_name FROM duckdb_functions()"
        ).fetchall()
    assert {name for (name,) in tables} == {"rates", "alerts_told"}
    assert {name.removeprefix("main.") for (name,) in macros} >= STOOD_ON
    assert {"main.accounts", "lake.accounts", "history.accounts", "main.underwriting_summary"} <= {*made}


def test_macros_of_a_time_are_bound_when_they_are_called(tmp_path: Path) -> None:
    """Not when they are made too, through all that they stand on: a wrong column is told by the call alone."""
    publish(tmp_path, {table.name: LatestFiles([], [], []) for table in TABLES})
    with duckdb.connect(tmp_path / "fincon.duckdb") as connection:
        for macro in (
            "underwriting_summary_as_of",
            "balance_backcast_as_of",
            "classified_transactions_as_of",
        ):
            connection.execute(f"CREATE MACRO wrong(ts) AS TABLE SELECT nothing_such FROM {macro}(ts)")
            with pytest.raises(duckdb.BinderException, match="nothing_such"):
                connection.execute("FROM wrong('infinity')")
            connection.execute("DROP MACRO TABLE wrong")
