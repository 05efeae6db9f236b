"""Write the rows of a commit to a Parquet file, and say of it what a Delta table's log says of its files.

delta-rs's own writer holds 40 MB more for the widest table, and is used for tables in a bucket alone.
"""

import shutil
import uuid
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from fincon.storage.data_folder import atomic_write
from fincon.transforms.columns import in_schema

LONGEST = 64
"""Characters of the least and greatest text that a log repeats."""

FEW_ROWS = 100
"""Of so few, as each run's own rows are, it is not worth the sixty milliseconds in which pyarrow's compute module is imported."""

LAST = "\U0010ffff"
"""After it no other character comes: what stands before a text's end with it is greater than the text."""


def write_added_file(
    delta: DeltaTable, folder: Path, rows: pa.RecordBatchReader | pa.Table
) -> AddAction | None:
    """Write rows, in a table's own columns, to a file of its ``folder``; return what adds that to the table.

    None, and no file, where there are no rows.

    Raises:
        pa.ArrowInvalid: the rows have other columns than the table, or values that do not fit.
    """
    path = folder / _new_name()
    schema = pa.schema([field.remove_metadata() for field in pa.schema(delta.schema().to_arrow())])
    if {*rows.schema.names} != {*schema.names}:
        raise pa.ArrowInvalid(f"The columns of {folder.name} are {', '.join(schema.names)}.")
    said = _Said()
    with (
        atomic_write(path) as part,
        pq.ParquetWriter(part, schema, compression="zstd", compression_level=1) as writer,
    ):
        for batch in rows.to_reader() if isinstance(rows, pa.Table) else rows:
            if batch.num_rows:
                found = in_schema(batch.select(schema.names), schema)
                writer.write_batch(found)
                said.add(found)
    if not said.rows:
        path.unlink()
        return None
    return _action(path, said.stats())


def add_as_it_is(delta: DeltaTable, folder: Path, file: Path, log: str) -> AddAction:
    """Give a Parquet file that has a table's own columns a name in its ``folder`` too; return what adds it to the table.

    ``log`` is what `log_of` said of its rows.

    Raises:
        pa.ArrowInvalid: the file has other columns than the table.
    """
    if {*pq.read_schema(file).names} != {*(field.name for field in delta.schema().fields)}:
        raise pa.ArrowInvalid(f"The columns of {folder.name} are not those of {file.name}.")
    path = folder / _new_name()
    with atomic_write(path) as part:
        try:
            part.hardlink_to(file)
        except OSError:  # on another disk, or on one that knows no links
            shutil.copyfile(file, part)
    return _action(path, log)


def log_of(rows: pa.Table) -> str:
    """Return what a log says of a file of these rows, as JSON."""
    said = _Said()
    for batch in rows.combine_chunks().to_batches():
        said.add(batch)
    return said.stats()


def _new_name() -> str:
    return f"part-00000-{uuid.uuid4()}-c000.zstd.parquet"


def _action(path: Path, log: str) -> AddAction:
    written = path.stat()
    return AddAction(
        path=path.name,
        size=written.st_size,
        partition_values={},
        modification_time=int(written.st_mtime * 1000),
        data_change=True,
        stats=log,
    )


class _Said:
    """What a log says of the rows of a file: of each column of single values the least, the greatest and how many are null.

    Of each or of none: to a reader that looks for a value, a column that is not told of is null in every row.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._least: dict[str, Any] = {}
        self._greatest: dict[str, Any] = {}
        self._nulls: Counter[str] = Counter()

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows."""
        self.rows += batch.num_rows
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_nested(values.type):
                continue
            self._nulls[name] += values.null_count
            if values.null_count < len(values):
                least, greatest = _bounds(values)
                self._least[name] = min(least, self._least.get(name, least))
                self._greatest[name] = max(greatest, self._greatest.get(name, greatest))

    def stats(self) -> str:
        """Return the JSON that the log has, as Delta's protocol defines it."""
        found = {
            "numRecords": self.rows,
            "minValues": {name: _bound(value, "") for name, value in self._least.items()},
            "maxValues": {name: _bound(value, LAST) for name, value in self._greatest.items()},
            "nullCount": self._nulls,
        }
        return msgspec.json.encode(found).decode()


def _bounds(values: pa.Array) -> tuple[Any, Any]:
    """Return the least and the greatest of values that are not all null."""
    if len(values) <= FEW_ROWS:
        found = [value for value in values.to_pylist() if value is not None]
        return min(found), max(found)
    import pyarrow.compute as pc

    bounds = pc.min_max(values).as_py()
    return bounds["min"], bounds["max"]


def _bound(value: Any, end: str) -> Any:
    """Write a least or greatest value as a log does; a long text is cut, and then has an ``end``."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, str) and len(value) > LONGEST and value[LONGEST] != LAST:
        return value[:LONGEST] + end
    return value
