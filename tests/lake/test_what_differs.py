"""What makes a version: every value of a column that differs from the one before, however little they look apart."""

import itertools
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from fincon.lake.version_sql import changed_sql
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.transforms.schemas import OBJECT_TABLES, Column, Table
from tests.conftest import rows, settings_for
from tests.scripted_stripe import ScriptedStripe, account, serving

NESTED = [
    pytest.param(table, column, id=f"{table.name}.{column.name}")
    for table in OBJECT_TABLES
    for column in table.columns
    if pa.types.is_nested(column.type)
]


def values(kind: pa.DataType) -> list[Any]:
    """Values of a type that all differ, and that a careless comparison takes for one another."""
    if pa.types.is_list(kind):
        inner = [value for value in values(kind.value_type) if value is not None]
        return [None, [], [None], *([value] for value in inner), [None, None], [*inner, None]]
    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        nothing = dict.fromkeys(field.name for field in fields)
        one = [{**nothing, f.name: value} for f in fields for value in values(f.type) if value is not None]
        return [None, nothing, *one]
    if pa.types.is_string(kind):
        return [None, "", "NULL", "[]", "a, b", "a', 'b"]
    return [None, 0]


@pytest.mark.parametrize(("table", "column"), NESTED)
@pytest.mark.first(1, 2)
def test_each_value_of_a_nested_column_is_another_content(table: Table, column: Column) -> None:
    different = values(column.type)
    with duckdb.connect() as query:
        for before, after in itertools.permutations(different, 2):
            query.register("known", one_row(table, column, before, 1))
            query.register("staged", one_row(table, column, after, 2))
            found = query.execute(changed_sql(table, "staged", "known")).fetchall()
            assert len(found) == 1, f"{before} became {after}"


def one_row(table: Table, column: Column, value: Any, at: int) -> pa.Table:
    """A version of an object, with ids and a time, in which one column has a value."""
    row = {c.name: None for c in table.columns} | {column.name: value, "observed_at": at}
    row |= {name: "1" for name in table.full_key if table.schema.field(name).type == pa.string()}
    return pa.Table.from_pylist([row], schema=pa.schema(list(table.schema)))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("subscriptions", None, []),
        ("permissions", [], None),
        ("account_numbers", None, []),
        ("status_details", None, {"active": None}),
    ],
)
@pytest.mark.first(1, 1)
def test_an_attribute_that_was_null_and_is_empty_is_a_new_version(
    data: Path, name: str, before: Any, after: Any
) -> None:
    with serving(ScriptedStripe(accounts=[account("fca_1", **{name: before})])) as stripe:
        run_sync(settings_for(stripe.url, data), SyncRequest())
        stripe.accounts[0][name] = after
        stripe.clock += 3600
        result = run_sync(settings_for(stripe.url, data), SyncRequest())
        assert result.failed_checks == {}
    assert [row[name] for row in rows(data, "FROM accounts")] == [after]
    assert [row[name] for row in rows(data, "FROM history.accounts ORDER BY valid_from")] == [before, after]
