"""Take in exchange rates that a person gives, as CSV, and publish them with the views. Nothing is fetched."""

import csv
import io
import re
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fincon.errors import UsageError
from fincon.lake.snapshots import latest_files_by_table
from fincon.pipeline.id_files import decode_text
from fincon.pipeline.recovery import recovered_lake
from fincon.storage.data_folder import DataFolder, atomic_write
from fincon.storage.s3 import DataPath
from fincon.transforms.wording import pluralize
from fincon.warehouse.views import publish

SCHEMA = pa.schema(
    {
        "day": pa.date32(),
        "from_currency": pa.string(),
        "to_currency": pa.string(),
        "rate": pa.decimal128(19, 12),
    }
)
COLUMNS = ("day", "from", "to", "rate")
HINT = (
    "Nothing was stored. Give CSV with the header day,from,to,rate and lines like 2026-11-02,eur,usd,1.0834,"
    " by which one euro is 1.0834 dollars."
)
LINES_TOLD = 5
"""How many bad lines are told one by one."""

RATE = re.compile(r"[0-9]{1,7}(\.[0-9]{1,12})?")
CURRENCY = re.compile(r"[a-z]{3}")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Pair(NamedTuple):
    """What a rate is of: how many ``target`` one ``source`` is, from ``day`` on."""

    day: date
    source: str
    target: str


Rates = dict[Pair, Decimal]


class Stored(NamedTuple):
    """How many rates a file brought, how many of them took the place of another, and how many there are now."""

    given: int
    replaced: int
    total: int


def read_rates(file: str) -> Rates:
    """Read the rates in ``file`` (``-`` = standard input): CSV by commas, semicolons or tabs, under a header.

    Raises:
        UsageError: it cannot be read, or a line of it is no rate; each is told by its number, and what was expected.
    """
    name = "standard input" if file == "-" else file
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        lines = decode_text(content).splitlines()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.", HINT) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is no text in {error.encoding.upper()}: {error.reason} at byte {error.start}.", HINT
        ) from error
    rates: Rates = {}
    first_lines: dict[Pair, int] = {}
    wrong = []
    for number, names, values in _rows(lines, name):
        found = _rate(names, values)
        if isinstance(found, str):
            wrong.append(f"line {number}: {found}")
            continue
        pair, rate = found
        if rates.setdefault(pair, rate) != rate:
            said = f"line {first_lines[pair]} gives {rates[pair]:f} for the same day and currencies, this one {rate:f}"
            wrong.append(f"line {number}: {said}")
        first_lines.setdefault(pair, number)
    if wrong:
        more = f"; and {pluralize(len(wrong) - LINES_TOLD, 'more line')}" if len(wrong) > LINES_TOLD else ""
        raise UsageError(f"{name}: {'; '.join(wrong[:LINES_TOLD])}{more}.", HINT)
    if not rates:
        raise UsageError(f"{name} holds no rate.", HINT)
    return rates


def _rows(lines: list[str], name: str) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield the rows that are not blank: the number of the line, the names in the header, the values."""
    header = next((line for line in lines if line.strip()), "")
    reader = csv.reader(lines, delimiter=max(",;\t", key=header.count))
    names: list[str] = []
    for row in reader:
        values = [value.strip() for value in row]
        if not any(values):
            continue
        if names:
            yield reader.line_num, names, values
            continue
        names = [value.lower() for value in values]
        if sorted(names) != sorted(COLUMNS):
            said = f"the columns are {', '.join(names)[:200]}, and {', '.join(COLUMNS)} were expected"
            raise UsageError(f"{name}: line {reader.line_num}: {said}.", HINT)


def _rate(names: list[str], values: list[str]) -> tuple[Pair, Decimal] | str:
    """Return the rate in a row, or what is wrong with it and what was expected."""
    if len(values) != len(names):
        return f"it has {len(values)} values, and {len(names)} were expected"
    row = dict(zip(names, values, strict=True))
    day, source, target, rate = row["day"], row["from"].lower(), row["to"].lower(), row["rate"]
    try:
        on = date.fromisoformat(day) if DAY.fullmatch(day) else None
    except ValueError:
        on = None
    if on is None:
        return f"day is {day[:30]!r}, and a day like 2026-11-02 was expected"
    for column, currency in (("from", source), ("to", target)):
        if not CURRENCY.fullmatch(currency):
            return f"{column} is {currency[:30]!r}, and a currency's three letters were expected"
    if source == target:
        return f"from and to are both {source}, and two currencies were expected"
    if not RATE.fullmatch(rate):
        return f"rate is {rate[:30]!r}, and a number like 1.0834 was expected, of 7 digits and 12 decimals at most"
    if not Decimal(rate):
        return "rate is 0, and a number above it was expected"
    return Pair(on, source, target), Decimal(rate)


def store_rates(data: DataPath, given: Rates, *, replace: bool) -> Stored:
    """Add rates to those that are stored, or put them in their place, and publish the views with them.

    A rate of the same day and currencies, in the same direction, takes the place of the one before.

    Raises:
        DataFolderLocked: a run holds the folder.
        RunFailed: they cannot be read or written.
    """
    with recovered_lake(data) as lake:
        before = {} if replace else stored_rates(data)
        rates = before | given
        write_rates(data, rates)
        publish(data, latest_files_by_table(lake))
    return Stored(len(given), len(before.keys() & given.keys()), len(rates))


def stored_rates(data: DataPath) -> Rates:
    """Return the rates that are stored."""
    file = DataFolder(data).rates
    if not file.exists():
        return {}
    rows = pq.read_table(io.BytesIO(file.read_bytes()), schema=SCHEMA).to_pylist()
    return {Pair(row["day"], row["from_currency"], row["to_currency"]): row["rate"] for row in rows}


def write_rates(data: DataPath, rates: Rates) -> None:
    """Replace what is stored. The lock must be held."""
    rows = [(*pair, rate) for pair, rate in sorted(rates.items())]
    with atomic_write(DataFolder(data).rates) as part:
        pq.write_table(
            pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA),
            part,
        )
