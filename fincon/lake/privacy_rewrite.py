"""Write anew what a lake says of people, as a choice about personal data says it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from fincon.lake.erasure import Rewrite
from fincon.lake.tables import ROWS_A_BATCH, Lake
from fincon.lake.version_sql import table_sql
from fincon.storage.data_folder import local_copy
from fincon.storage.s3 import DataPath
from fincon.transforms.redaction import Privacy, redact_object
from fincon.transforms.schemas import REJECTS, Table

KINDS = {"sessions": "session", "accounts": "account", "transactions": "transaction", "owners": "owner"}
"""Table → what its ``extra`` is of."""

Redacted = Callable[[str | None], str | None]


def with_choice(lake: Lake, privacy: Privacy) -> Rewrite:
    """Return what writes a file anew with what ``privacy`` keeps of it."""

    def concerns(table: Table, file: DataPath) -> bool:
        names = _columns(table)
        if not names:
            return False
        with local_copy(file) as local, pq.ParquetFile(local) as parquet:
            there = [name for name in names if name in parquet.schema_arrow.names]
            batches = parquet.iter_batches(ROWS_A_BATCH, columns=[*there, *_kind_column(table)])
            return any(_redacted(table, batch, privacy) != batch for batch in batches)

    def write(table: Table, old: DataPath, new: Path) -> None:
        with lake.query() as query:
            rows = query.sql(f"FROM {table_sql(table, [str(old)])}").to_arrow_reader(ROWS_A_BATCH)
            with pq.ParquetWriter(new, rows.schema, compression="zstd", compression_level=1) as writer:
                for batch in rows:
                    writer.write_batch(_redacted(table, batch, privacy))

    return Rewrite(concerns, write)


def _columns(table: Table) -> list[str]:
    """Name the columns of a table that may say something of a person."""
    json = ["raw"] if table is REJECTS else ["extra"] if table.name in KINDS else []
    there = {column.name for column in table.columns}
    return [c.name for c in table.columns if c.personal] + [name for name in json if name in there]


def _kind_column(table: Table) -> list[str]:
    return ["object_type"] if table is REJECTS else []


def _redacted(table: Table, batch: pa.RecordBatch, privacy: Privacy) -> pa.RecordBatch:
    """Return rows with what is kept of their personal columns."""
    personal = {column.name for column in table.columns if column.personal}
    for name in _columns(table):
        if name not in batch.schema.names:
            continue
        values = batch[name].to_pylist()
        if name in personal:
            kept = [_value(value, privacy) for value in values]
        else:
            kinds = (
                batch["object_type"].to_pylist() if table is REJECTS else [KINDS[table.name]] * len(values)
            )
            kept = [_object(value, kind, privacy) for value, kind in zip(values, kinds, strict=True)]
        if kept != values:
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, batch.schema.field(place), pa.array(kept, batch[name].type))
    return batch


def _value(value: str | None, privacy: Privacy) -> str | None:
    if value is None:
        return None
    kept: str | None = msgspec.json.decode(privacy.redact(msgspec.Raw(msgspec.json.encode(value))))
    return kept


def _object(value: str | None, kind: str, privacy: Privacy) -> str | None:
    if value is None:
        return None
    kept = redact_object(value.encode(), kind, privacy)
    return None if kept in (b"null", b"{}") and value != kept.decode() else kept.decode()
