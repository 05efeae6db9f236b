"""Read ``patterns.csv`` of the data folder: by what texts a lender knows fees and payments of loans, beside those of fincon."""

import csv
import io
import unicodedata
from collections.abc import Iterator

import duckdb

from fincon.errors import RunFailed
from fincon.storage.data_folder import DataFolder
from fincon.storage.s3 import DataPath
from fincon.transforms.payment_patterns import KINDS, OURS, Pattern, combined


def own_patterns(data: DataPath) -> list[Pattern]:
    """Return the patterns of ``patterns.csv``; none where there is no such file.

    Raises:
        RunFailed: a line of it cannot be taken, or all of a kind together cannot.
    """
    file = DataFolder(data).patterns
    if not file.exists():
        return []
    try:
        text = file.read_bytes().decode("utf-8-sig")
        with duckdb.connect() as engine:  # which alone knows what it can compile
            own = list(_read(text, engine))
            for kind in KINDS:  # as they are asked: each may be taken, and all be too long
                _compile(combined([*OURS, *own], kind), engine)
    except (ValueError, csv.Error, duckdb.Error) as error:
        raise RunFailed(
            f"{file} cannot be taken: {str(error).splitlines()[0]}.",
            f"It is CSV in UTF-8 with the columns kind ({', '.join(KINDS)}), language, pattern. Mend or remove it.",
        ) from error
    return own


def _read(text: str, engine: duckdb.DuckDBPyConnection) -> Iterator[Pattern]:
    rows = csv.DictReader(io.StringIO(text), strict=True)
    for row in rows:
        kind, pattern = row.get("kind"), row.get("pattern")
        if kind not in KINDS or not pattern or None in row:
            raise ValueError(f"line {rows.line_num}: {kind!r} is no kind, or there is no pattern")
        _compile(pattern, engine)
        yield Pattern(kind, row.get("language") or "", unicodedata.normalize("NFC", pattern))


def _compile(pattern: str, engine: duckdb.DuckDBPyConnection) -> None:
    """Raise what DuckDB does where it cannot compile a pattern."""
    engine.execute("SELECT regexp_matches('', $1)", [pattern]).fetchall()
