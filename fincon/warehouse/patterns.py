"""Read ``patterns.csv`` of the data folder: by what texts a lender knows fees and payments of loans, beside those of fincon."""

import csv
import io
import unicodedata
from collections.abc import Iterator

import duckdb

from fincon.errors import RunFailed
from fincon.storage.data_folder import DataFolder
from fincon.storage.s3 import DataPath
from fincon.transforms.payment_patterns import KINDS, Pattern


def own_patterns(data: DataPath) -> list[Pattern]:
    """Return the patterns of ``patterns.csv``; none where there is no such file.

    Raises:
        RunFailed: a line of it cannot be taken.
    """
    file = DataFolder(data).patterns
    if not file.exists():
        return []
    try:
        return list(_read(file.read_bytes().decode("utf-8-sig")))
    except (ValueError, csv.Error, duckdb.Error) as error:
        raise RunFailed(
            f"{file} cannot be taken: {str(error).splitlines()[0]}.",
            f"It is CSV in UTF-8 with the columns kind ({', '.join(KINDS)}), language, pattern. Mend or remove it.",
        ) from error


def _read(text: str) -> Iterator[Pattern]:
    rows = csv.DictReader(io.StringIO(text), strict=True)
    for row in rows:
        kind, pattern = row.get("kind"), row.get("pattern")
        if kind not in KINDS or not pattern or None in row:
            raise ValueError(f"line {rows.line_num}: {kind!r} is no kind, or there is no pattern")
        with duckdb.connect() as engine:  # which alone knows what it can compile
            engine.execute("SELECT regexp_matches('', $1)", [pattern]).fetchall()
        yield Pattern(kind, row.get("language") or "", unicodedata.normalize("NFC", pattern))
