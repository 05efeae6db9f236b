"""Read ids from a file: of Stripe accounts, and of sessions.

Stripe has no list of sessions, so their ids come from the user's own application: as text, CSV, JSON or Parquet, in
whatever form people have them. What cannot be read is refused with its place; no row is passed over.
"""

import codecs
import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from fincon.errors import UsageError, reason_of
from fincon.settings import STRIPE_ACCOUNT_ID, data_folder
from fincon.storage.s3 import SCHEME
from fincon.warehouse.read_only import reading


class Kind(NamedTuple):
    """Describe a kind of ids: what they look like, and the columns that may hold them, the likeliest first."""

    name: str
    pattern: re.Pattern[str]
    columns: tuple[str, ...]
    hint: str


SESSION = Kind(
    "session id",
    re.compile(r"fcsess_[A-Za-z0-9_]{1,200}"),
    ("session_id", "id"),
    "Give one session id (fcsess_…) a line, or CSV, Parquet or JSON with a column session_id or id.",
)
STRIPE_ACCOUNT = Kind(
    "Stripe account",
    STRIPE_ACCOUNT_ID,
    ("stripe_account", "id"),
    "Give one Stripe account (acct_…) a line, or CSV, Parquet or JSON with a column stripe_account or id.",
)
OF_SESSION = "stripe_account"
"""The column of a file of sessions that says to which Stripe account each belongs; empty = the key's own."""

SHOWABLE = re.compile(r"(?!.*(?:\w=|\b[prs]k_)).+", re.DOTALL)
"""What may be shown of what stands in an id's place: neither a setting nor a key."""

SEPARATORS = ",;\t|"

PACKED_OR_NO_TEXT = {
    b"PK\x03\x04": ("is a workbook of Excel, or an archive", "Save it as CSV, and name that."),
    b"\xd0\xcf\x11\xe0": ("is a workbook of Excel", "Save it as CSV, and name that."),
    b"%PDF": ("is a PDF", "Name a file of ids."),
    b"\x1f\x8b": ("is packed twice", "Unpack it once."),
    b"BZh": ("is packed with bzip2", "Unpack it, or pack it with gzip."),
    b"\xfd7zXZ": ("is packed with xz", "Unpack it, or pack it with gzip."),
    b"\x28\xb5\x2f\xfd": ("is packed with zstd", "Unpack it, or pack it with gzip."),
}
"""How content begins that is neither text nor Parquet → what it is, and what to do."""

ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""How a text begins → its encoding."""


@dataclass(frozen=True)
class SessionIds:
    """Hold the ids in a file: ``plain``, or ``of`` each Stripe account where the file names those."""

    plain: tuple[str, ...] = ()
    of: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Row(NamedTuple):
    """Hold what a row of a file says, as it stands there."""

    place: str
    """``line 3`` of a text, ``row 3`` of others."""
    id: Any
    account: Any
    """What the column `OF_SESSION` says; None where there is no such column beside the ids."""


def read_session_ids(file: str) -> SessionIds:
    """Read the session ids in ``file`` (``-`` = standard input), each once, in the order of their first appearance.

    What the file is shows in its content: Parquet, JSON, CSV with a header, or plain text.

    Raises:
        UsageError: the file cannot be read, or holds something that is no session id.
    """
    return _by_account(_name(file), _read(_name(file), partial(_content, file), SESSION))


def ask_session_ids(query: str, database: Path | None) -> SessionIds:
    """Return the session ids that a query answers, asked of a DuckDB file that is only read, or of none.

    Raises:
        UsageError: DuckDB cannot answer it, or the answer holds something that is no session id.
    """

    def answer() -> bytes:
        try:
            with duckdb.connect(str(database or ":memory:"), read_only=database is not None) as connection:
                found = connection.sql(reading(connection, query))
                written = io.BytesIO()
                pq.write_table(found.to_arrow_table(), written)
        except UsageError as error:
            raise UsageError(f"The session ids cannot be asked: {error}", error.hint) from error
        except duckdb.Error as error:
            raise UsageError(
                f"The session ids cannot be asked: {reason_of(error)}",
                "--from names the DuckDB file that is asked.",
            ) from error
        return written.getvalue()

    name = "the answer to --sessions-sql"
    return _by_account(name, _read(name, answer, SESSION))


def _by_account(name: str, rows: Iterable[Row]) -> SessionIds:
    """Gather session ids by the Stripe account that they belong to.

    Raises:
        UsageError: what says so is no Stripe account.
    """
    of: dict[str | None, dict[str, None]] = {}
    for place, session_id, account in rows:
        account = None if account is None else str(account).strip()
        if account and not STRIPE_ACCOUNT_ID.fullmatch(account):
            raise UsageError(
                f"{name}, {place}: {account[:60]!r} of {session_id} is not a Stripe account.",
                "It looks like acct_…, or is empty for the key's own.",
            )
        of.setdefault(account, {})[session_id] = None
    if of.keys() <= {None}:
        return SessionIds(tuple(of.get(None, ())))
    own = {**of.pop(None, {}), **of.pop("", {})}
    return SessionIds(
        of={**({"": tuple(own)} if own else {}), **{str(a): tuple(ids) for a, ids in of.items()}}
    )


def read_stripe_accounts(file: str) -> tuple[str, ...]:
    """Read the Stripe accounts in ``file``, as `read_session_ids` does.

    Raises:
        UsageError: the file cannot be read, or holds something that is no Stripe account.
    """
    return tuple(dict.fromkeys(row.id for row in _read(_name(file), partial(_content, file), STRIPE_ACCOUNT)))


def _name(file: str) -> str:
    return "standard input" if file == "-" else file


def _content(file: str) -> bytes:
    """Return what is in a file, on standard input (``-``), or in an object (``s3://bucket/key``)."""
    if file == "-":
        return sys.stdin.buffer.read()
    return (data_folder(file) if file.startswith(SCHEME) else Path(file)).read_bytes()


def _read(name: str, content_of: Callable[[], bytes], kind: Kind) -> Iterator[Row]:
    """Yield the rows of a file, each with an id of the kind.

    Raises:
        UsageError: the file cannot be read, holds no id, or a row of it has none or something else.
    """
    try:
        content = content_of()
        found = 0
        for row in _rows(content, kind):
            one = "" if row.id is None else str(row.id).strip()
            if not kind.pattern.fullmatch(one):
                # What may be anything of this machine's is not shown: a key may stand there.
                shown = repr(one[:60]) if SHOWABLE.fullmatch(one[:60]) else "what stands there"
                wrong = f"{shown} is not a {kind.name}" if one else f"there is no {kind.name}"
                raise UsageError(f"{name}, {row.place}: {wrong}.", kind.hint)
            found += 1
            yield Row(row.place, one, row.account)
    except _Unreadable as error:
        raise UsageError(f"{name} {error}.", error.hint or kind.hint) from error
    except (OSError, pa.ArrowException) as error:
        reason = str(getattr(error, "strerror", None) or error).partition("\n")[0]
        raise UsageError(f"The {kind.name}s in {name} cannot be read: {reason}", kind.hint) from error
    if not found:
        raise UsageError(f"{name} holds no {kind.name}.", kind.hint)


class _Unreadable(Exception):
    """Why a file cannot be read: goes on after its name."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


def _rows(content: bytes, kind: Kind) -> Iterator[Row]:
    """Yield the rows of a file, whatever it is.

    Raises:
        _Unreadable: it cannot be told, or is damaged.
    """
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise _Unreadable("is packed, and cut short or damaged") from error
    for start, (reason, hint) in PACKED_OR_NO_TEXT.items():
        if content.startswith(start):
            raise _Unreadable(reason, hint)
    if content.startswith(b"PAR1"):
        return _rows_of_parquet(content, kind)
    try:
        text = decode_text(
            content, errors="replace"
        )  # ids are ASCII: what cannot be read of others does no harm
    except UnicodeDecodeError as error:
        raise _Unreadable("is no text") from error
    return _rows_of_json(text, kind) if text.lstrip()[:1] in ("{", "[") else _rows_of_text(text, kind)


def decode_text(content: bytes, errors: str = "strict") -> str:
    """Return the text of a file that a person made: UTF-8, -16 or -32, with a mark at its beginning or without.

    Raises:
        UnicodeDecodeError: it is no text, or, where ``errors`` is strict, not wholly in its encoding.
    """
    encoding = next((named for mark, named in ENCODINGS.items() if content.startswith(mark)), "utf-8")
    for place, unmarked in ((1, "utf-16-le"), (0, "utf-16-be")):  # half of the bytes of ASCII are zero there
        if encoding == "utf-8" and 4 * content[place:100:2].count(0) > len(content[:100]):
            encoding = unmarked
    text = content.decode(encoding, errors=errors).replace("\ufeff", "")
    if "\0" in text[:100]:
        raise UnicodeDecodeError(encoding, content, 0, len(content), "it holds zero bytes")
    return text


def _rows_of_text(text: str, kind: Kind) -> Iterator[Row]:
    """Yield a row for each line of CSV, if the first one names a column of ids; else for each line, which is an id."""
    lines = io.StringIO(text, newline=None)  # which ends lines at \r as well
    line, head, separators = _head(lines)
    try:
        for separator in separators:
            names = next(csv.reader([head], delimiter=separator, skipinitialspace=True), [])
            at, of = _place(names, kind.columns), _place(names, (OF_SESSION,))
            if at is not None:
                break
        else:
            lines, line, separator, at, of = io.StringIO(text, newline=None), 0, ",", None, None
        before, line = line, line + 1
        # Strict: a quote that is not closed would swallow the rows that follow.
        cells = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        for row in cells:
            if any(cell.strip() for cell in row):
                own = separator.join(row).rstrip(", ") if at is None else _cell(row, at)
                yield Row(f"line {line:,}", own, None if of in (None, at) else _cell(row, of) or "")
            line = before + cells.line_num + 1
    except csv.Error as error:
        raise _Unreadable(f"cannot be read in line {line:,}: {error}") from error


def _head(lines: io.StringIO) -> tuple[int, str, Sequence[str]]:
    """Read to the first line that says something; return its number, itself, and what may separate its cells."""
    number, separators = 0, SEPARATORS
    while line := lines.readline():
        number += 1
        if declared := re.fullmatch(r"sep=(.)\s*", line, re.IGNORECASE):  # Excel's own line
            separators = declared[1]
        elif line.strip():
            break
    return number, line, separators


def _cell(row: Sequence[str], place: int | None) -> str | None:
    return row[place] if place is not None and place < len(row) else None


def _place(names: Iterable[str], wanted: Sequence[str]) -> int | None:
    """Return which of the names is the likeliest column: ``Session ID`` and ``sessionId`` are ``session_id`` too."""
    plain = [re.sub(r"[\s_-]", "", name).lower() for name in names]
    return next((plain.index(one) for one in (w.replace("_", "") for w in wanted) if one in plain), None)


def _rows_of_json(text: str, kind: Kind) -> Iterator[Row]:
    """Yield a row for each object or text of a JSON array, of a list as Stripe's API gives it, or of lines of JSON."""
    try:
        whole = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        first, _, rest = text.strip().partition("\n")
        if not rest or not _is_json(first):
            raise _Unreadable(f"is no JSON: {error}") from error
        yield from _rows_of_json_lines(text, kind)
        return
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        whole = whole["data"]
    for number, record in enumerate(whole if isinstance(whole, list) else [whole], start=1):
        yield _row_of_record(f"row {number:,}", record, kind)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _rows_of_json_lines(text: str, kind: Kind) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            try:
                record = msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                raise _Unreadable(f"cannot be read in line {number:,}: {error}") from error
            yield _row_of_record(f"line {number:,}", record, kind)


def _row_of_record(place: str, record: Any, kind: Kind) -> Row:
    """Return what an object of JSON says; a text is an id."""
    if not isinstance(record, dict):
        return Row(place, record if isinstance(record, str) else msgspec.json.encode(record).decode(), None)
    names, values = list(record), list(record.values())
    at, of = _place(names, kind.columns), _place(names, (OF_SESSION,))
    if at is None:
        raise _without_column(names, kind, f" in {place}")
    return Row(place, values[at], None if of is None or of == at else values[of] or "")


def _rows_of_parquet(content: bytes, kind: Kind) -> Iterator[Row]:
    file = pq.ParquetFile(pa.BufferReader(content))
    names = file.schema_arrow.names
    at, of = _place(names, kind.columns), _place(names, (OF_SESSION,))
    if at is None:
        raise _without_column(names, kind)
    number = 0
    for batch in file.iter_batches(columns=[names[place] for place in {at, of} - {None}]):
        ids = batch.column(names[at]).to_pylist()
        accounts = [None] * len(ids) if of is None or of == at else batch.column(names[of]).to_pylist()
        for one, account in zip(ids, accounts, strict=True):
            number += 1
            text = one.decode(errors="replace") if isinstance(one, bytes) else one
            yield Row(f"row {number:,}", text, account or "" if of is not None else None)


def _without_column(names: Sequence[str], kind: Kind, where: str = "") -> _Unreadable:
    return _Unreadable(f"has no column {' or '.join(kind.columns)}{where}, but {', '.join(names) or 'none'}")
