"""Objects → columns → Arrow: what all tables have in common."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from fincon.transforms.page import Origin
from fincon.transforms.schemas import TIMESTAMP, Table
from fincon.transforms.stripe_objects import AccountHolder, ActiveDetails, Expanded

Columns = dict[str, Sequence[Any]]
"""Column name → values, all of the same length; timestamps in Unix seconds, ``observed_at`` in microseconds."""

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)

_SECONDS = pa.timestamp("s", tz="UTC")
_NO_HOLDER = AccountHolder(type="")


def fields(kind: type[msgspec.Struct], objects: Sequence[msgspec.Struct]) -> Columns:
    """Field → its values in ``objects``: taken apart and transposed in C, several times as fast as field by field.

    Fields that an object has beside those of ``kind``, which `transforms.decode` adds at the end, are left out.
    """
    rows = [*map(msgspec.structs.astuple, objects)]
    values: Iterable[Sequence[Any]] = zip(*rows) if rows else ((),) * len(kind.__struct_fields__)  # noqa: B905
    return dict(zip(kind.__struct_fields__, values))  # noqa: B905 - see above


def columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Columns:
    """Rows → columns; no rows give empty columns."""
    values: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else ((),) * len(names)
    return dict(zip(names, values, strict=True))


def with_rows(columns: Columns, rows: Columns) -> Columns:
    """``columns`` and, behind them, ``rows`` that have values in some of the columns alone."""
    count = len(rows["observed_at"])
    return {name: [*values, *rows.get(name, [None] * count)] for name, values in columns.items()}


def ids(values: Sequence[str | Expanded | None]) -> Sequence[str | None]:
    """The ids: each as it stands, or of the object that stands where it would."""
    return [value.id if value.__class__ is Expanded else value for value in values]  # type: ignore[misc]


def holder_columns(holders: Iterable[AccountHolder | None]) -> Columns:
    """The columns that say whose a session or an account is."""
    of = fields(AccountHolder, [holder or _NO_HOLDER for holder in holders])
    return {
        "account_holder_type": [kind or None for kind in of["type"]],
        "account_holder_account_id": ids(of["account"]),
        "account_holder_customer_id": ids(of["customer"]),
        "account_holder_customer_account_id": ids(of["customer_account"]),
    }


def active_details(details: ActiveDetails | None) -> dict[str, Any] | None:
    """What threatens an account or an authorization, as its nested column has it.

    Here as in other nested columns, Arrow passes over the fields that `transforms.decode` adds.
    """
    if details is None:
        return None
    until = microseconds(details.expected_deactivation_date)
    return {**msgspec.structs.asdict(details), "expected_deactivation_date": until}


def microseconds(seconds: int | None) -> int | None:
    """Seconds as the timestamps within a nested column are given."""
    return None if seconds is None else seconds * 1_000_000


def to_arrow(table: Table, columns: Columns, origin: Origin) -> pa.Table:
    """``columns`` as an Arrow table of the table's schema; ``origin`` is the same in every row."""
    rows = len(columns["observed_at"])
    if not rows:
        return table.empty_staged
    made = {
        "observed_at": pa.array(columns["observed_at"], pa.int64()).cast(TIMESTAMP),
        "run_id": pa.repeat(origin.run_id, rows),
        "stripe_account": pa.repeat(origin.stripe_account, rows),
    }
    arrays = [
        made[c.name] if c.name in made else _array(columns[c.name], c.type)
        for c in (*table.columns, *table.staged)
    ]
    return pa.Table.from_arrays(arrays, schema=table.staged_schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if kind == TIMESTAMP:
        return pa.array(values, _SECONDS).cast(TIMESTAMP)
    return pa.array(values, kind)


def in_schema(rows: Rows, schema: pa.Schema) -> Rows:
    """Return rows with the types of a schema that has their columns.

    Raises:
        pa.ArrowInvalid: a value does not fit.
    """
    # To cast what is right already imports pyarrow's compute module, which takes as long as to write it.
    return rows if rows.schema == schema else rows.cast(schema)
