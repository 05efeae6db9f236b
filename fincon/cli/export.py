"""Results for other programs: CSV, JSON, Parquet, Arrow and Excel, all rows and all columns, every digit."""

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, Any, TextIO

import duckdb
from duckdb.sqltypes import VARCHAR

from fincon.cli import interrupt
from fincon.cli.output import (
    ROWS_SHOWN,
    read_rows,
    render_markdown,
    render_table,
    render_vertical,
)
from fincon.cli.terminal import terminal_width, visible
from fincon.errors import UsageError
from fincon.transforms.wording import nested_as_json
from fincon.warehouse.read_only import ReadOnlyConnection

FORMATS = ("table", "vertical", "markdown", "csv", "json", "jsonl", "parquet", "arrow")
"""What ``--format`` may be."""

ENDINGS = {
    ".csv": "csv",
    ".json": "json array",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".xlsx": "xlsx",
}
"""How a file's name ends → what is written into it."""

BINARY = ("parquet", "arrow", "xlsx")

BATCH_ROWS = 10_000
EXACT_IN_EXCEL = 15
"""How many digits of a number Excel keeps; a longer one is written as text."""
EXCEL_ROWS = 1_048_576
EXCEL_TEXT = 32_767


@dataclass
class Written:
    """What was written."""

    rows: int = 0
    more: bool = False
    """``--limit`` left rows out."""
    not_numbers: int = 0
    """Infinities and NaNs, for which JSON has no word."""


def choose_format(asked: str | None, output: Path | None) -> str:
    """Return the format of a result: what was asked for, else what the file's name says, else a table.

    Raises:
        UsageError: the name says nothing, or something else than what was asked for.
    """
    if output is None:
        return asked or "table"
    named = ENDINGS.get(output.suffix.lower())
    if asked is None and named is None:
        endings = " ".join(ENDINGS)
        raise UsageError(
            f"{output}: its ending says no format.", f"Name it with one of {endings}, or give --format."
        )
    if asked and named and asked[:4] != named[:4]:
        raise UsageError(
            f"{output} is {named.split()[0]} by its name, but --format is {asked}.",
            "Leave out --format, or name it otherwise.",
        )
    if named == "xlsx" and not find_spec("openpyxl"):
        raise UsageError(f"{output}: to write Excel takes the package openpyxl.", "pip install openpyxl")
    return asked or named or "table"


def write_result(
    connection: ReadOnlyConnection, query: str, style: str, output: Path | None, limit: int | None
) -> Written:
    """Write what a query answers in one of the formats, to a file or to standard output; return how much.

    Raises:
        UsageError: the file cannot be written; what was there before still is.
    """
    binary = style in BINARY
    write: Callable[..., Written] = _write_binary if binary else _write_text
    try:
        if output is None:
            return write(connection, query, style, sys.stdout.buffer if binary else sys.stdout, limit)
        with aside(output) as part, _opened(part, binary=binary) as file:
            return write(connection, query, style, file, limit)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(
            f"{output or 'Standard output'} cannot be written: {error.strerror}.",
            "Name another with --output.",
        ) from error


@contextmanager
def aside(output: Path) -> Iterator[Path]:
    """Yield where to write what then replaces the file, so that nobody reads half of it; a device is written as it is."""
    target = output.resolve()
    if target.exists() and not target.is_file():
        yield target
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    with interrupt.unwinding():
        try:
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _opened(path: Path, *, binary: bool) -> IO[Any]:
    return path.open("wb") if binary else path.open("w", encoding="utf-8", newline="")


def _write_text(
    connection: ReadOnlyConnection, query: str, style: str, file: TextIO, limit: int | None
) -> Written:
    result = connection.execute(query)
    if style in ("table", "vertical", "markdown"):
        return _write_for_person(result, style, file, limit)
    written = Written()
    names = [str(name) for name, *_ in result.description or ()]
    rows = _counted(_rows(result), limit, written)
    if style == "csv":
        show = visible if file.isatty() else str
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow([show(value) if isinstance(value, str) else value for value in map(_plain, row)])
        return written
    before, between, after = ("[\n", ",\n", "\n]\n") if style == "json array" else ("", "\n", "\n")
    for row in rows:
        record = {name: _json_value(value, written) for name, value in zip(names, row, strict=True)}
        file.write((before if written.rows == 1 else between) + _json(record, file))
    if written.rows or before:
        file.write(after if written.rows else "[]\n")
    return written


def _write_for_person(result: ReadOnlyConnection, style: str, file: TextIO, limit: int | None) -> Written:
    """Write rows to be read: on standard output the first thousand if nothing is said, within the terminal's width.

    A plan (EXPLAIN) is a drawing, and written as it is.
    """
    on_screen = file is sys.stdout
    if [name for name, *_ in result.description or ()] == ["explain_key", "explain_value"]:
        plans = [str(plan) for _, plan in result.fetchall()]
        file.write("\n".join(visible(plan, keep="\n").rstrip() for plan in plans) + "\n")
        return Written(len(plans))
    rows = read_rows(result, limit or (ROWS_SHOWN if on_screen else None))
    if style == "table":
        text = render_table(rows, terminal_width() if on_screen else None)
    else:
        text = render_vertical(rows) if style == "vertical" else render_markdown(rows)
    file.write(text + "\n")
    return Written(rows.count, rows.more)


def _write_binary(
    connection: ReadOnlyConnection, query: str, style: str, file: IO[bytes], limit: int | None
) -> Written:
    if style == "xlsx":
        return _write_excel(connection.execute(query), file, limit)
    import pyarrow as pa  # for these two formats alone: it takes as long to import as DuckDB
    import pyarrow.parquet as pq

    written = Written()
    # Through Arrow: DuckDB's own writer makes sums, which are HUGEINT, into DOUBLE.
    reader = _for_parquet(connection.sql(query)).to_arrow_reader(BATCH_ROWS)
    is_parquet = style == "parquet"
    with (
        pq.ParquetWriter(file, reader.schema, compression="zstd")
        if is_parquet
        else pa.ipc.new_file(file, reader.schema) as writer
    ):
        for batch in reader:
            left = batch.num_rows if limit is None else min(batch.num_rows, limit - written.rows)
            writer.write_batch(batch.slice(0, left))
            written.rows += left
            if left < batch.num_rows:
                written.more = True
                break
    return written


def _for_parquet(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Return the relation with what Parquet has no type for as text."""
    columns = []
    for name, kind in zip(relation.columns, map(str, relation.types), strict=True):
        column = duckdb.ColumnExpression(name)
        columns.append(column.cast(VARCHAR).alias(name) if kind in ("INTERVAL", "BIT") else column)
    return relation.select(*columns)


def _write_excel(result: ReadOnlyConnection, file: IO[bytes], limit: int | None) -> Written:
    from openpyxl import Workbook  # not among fincon's requirements: `choose_format` has looked for it
    from openpyxl.cell import WriteOnlyCell

    written = Written()
    book = Workbook(write_only=True)
    sheet = book.create_sheet("fincon")

    def cell(value: Any) -> Any:
        made = WriteOnlyCell(sheet, value=value)
        if isinstance(value, str):
            made.data_type = "s"  # a text that begins with = is no formula
        return made

    sheet.append([cell(str(name)) for name, *_ in result.description or ()])
    for row in _counted(_rows(result), limit, written):
        if written.rows >= EXCEL_ROWS:
            raise UsageError(
                f"Excel holds {EXCEL_ROWS:,} rows, and there are more.",
                "Write CSV or Parquet, or give --limit.",
            )
        sheet.append([cell(_excel_value(value)) for value in row])
    book.save(file)
    return written


def _excel_value(value: Any) -> Any:
    """Return what Excel shows exactly: a number of up to 15 digits as such, anything else as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | Decimal) and len(Decimal(value).as_tuple().digits) <= EXACT_IN_EXCEL:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    text = visible(str(_plain(value)), keep="\n\t")
    if len(text) > EXCEL_TEXT:
        raise UsageError(
            f"A text of {len(text):,} characters is longer than a cell of Excel holds.",
            "Write CSV or Parquet.",
        )
    return text


def _rows(result: ReadOnlyConnection) -> Iterator[tuple[Any, ...]]:
    while batch := result.fetchmany(BATCH_ROWS):
        yield from batch


def _counted(
    rows: Iterator[tuple[Any, ...]], limit: int | None, written: Written
) -> Iterator[tuple[Any, ...]]:
    """Yield up to ``limit`` rows, and note how many, and whether there are more."""
    for row in islice(rows, limit):
        written.rows += 1
        yield row
    written.more = limit is not None and next(rows, None) is not None


def _plain(value: Any) -> Any:
    """Return a value as text that reads back exactly: ISO times, decimals digit for digit, nested values as JSON."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | dict):
        return nested_as_json(value)
    if value is None or isinstance(value, int | float | str):
        return value
    return str(value)


def _json_value(value: Any, written: Written) -> Any:
    """Return a value that JSON has a word for; decimals and times are strings."""
    if isinstance(value, float) and not math.isfinite(value):
        written.not_numbers += 1
        return None
    if isinstance(value, list):
        return [_json_value(one, written) for one in value]
    if isinstance(value, dict):
        return {str(_plain(key)): _json_value(one, written) for key, one in value.items()}
    return _plain(value)


def _json(record: dict[str, Any], file: TextIO) -> str:
    r"""Return a record on one line; what could steer a terminal as ``\u…``, which reads back the same."""
    text = json.dumps(record, ensure_ascii=file.encoding.lower() != "utf-8")
    return (
        text if text.isprintable() else "".join(c if c == visible(c) else json.dumps(c)[1:-1] for c in text)
    )
