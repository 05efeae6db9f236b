"""Read ids from a file: of Stripe accounts, and of sessions.

Stripe has no list of sessions, so their ids come from the user's own application.
"""

import codecs
import gzip
import re
import sys
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec

from fincon.errors import UsageError
from fincon.settings import STRIPE_ACCOUNT_ID


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


@dataclass(frozen=True)
class SessionIds:
    """Hold the ids in a file: ``plain``, or ``of`` each Stripe account where the file names those."""

    plain: tuple[str, ...] = ()
    of: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_session_ids(file: str) -> SessionIds:
    """Read the session ids in ``file`` (``-`` = standard input), each once, in the order of their first appearance.

    What the file is shows in its content: Parquet, JSON, CSV with a header, or plain text.

    Raises:
        UsageError: the file cannot be read, or holds something that is no session id.
    """
    found = _read(file, SESSION)
    if found.accounts is None:
        return SessionIds(tuple(dict.fromkeys(found.ids)))
    of: dict[str, dict[str, None]] = {}
    for session_id, account in zip(found.ids, found.accounts, strict=True):
        if account and not STRIPE_ACCOUNT_ID.fullmatch(account):
            raise UsageError(
                f"{found.name}: {account[:60]!r} of {session_id} is not a Stripe account.",
                "It looks like acct_…, or is empty for the key's own.",
            )
        of.setdefault(account, {})[session_id] = None
    return SessionIds(of={account: tuple(ids) for account, ids in of.items()})


def read_stripe_accounts(file: str) -> tuple[str, ...]:
    """Read the Stripe accounts in ``file``, as `read_session_ids` does.

    Raises:
        UsageError: the file cannot be read, or holds something that is no Stripe account.
    """
    return tuple(dict.fromkeys(_read(file, STRIPE_ACCOUNT).ids))


class _Found(NamedTuple):
    name: str
    ids: list[str]
    accounts: list[str] | None
    """The column `OF_SESSION`, row for row with the ids; None where the file has no such column beside them."""


def _read(file: str, kind: Kind) -> _Found:
    name = "standard input" if file == "-" else file
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        with tempfile.NamedTemporaryFile() as copy:  # what DuckDB reads: unpacked, in UTF-8
            copy.write(_plain(content, name, kind))
            copy.flush()
            return _read_path(Path(copy.name), name, kind)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error), kind) from error


def _plain(content: bytes, name: str, kind: Kind) -> bytes:
    """Return the content unpacked, without a byte order mark, and text in UTF-8.

    Raises:
        UsageError: it is a workbook or an archive, or what it is cannot be told.
    """
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(name, "it is packed, and cut short or damaged.", kind) from error
    if content.startswith(b"PK\x03\x04"):
        raise UsageError(f"{name} is a workbook of Excel, or an archive.", "Save it as CSV, and name that.")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", errors="replace").encode()
    elif b"\0" in content[:100] and not content.startswith(b"PAR1"):
        raise _unreadable(name, "it is no text in UTF-8.", kind)
    return content.removeprefix(codecs.BOM_UTF8)


def _read_path(path: Path, name: str, kind: Kind) -> _Found:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        found = _from_table(path, head, name, kind) if _is_table(head, kind) else _from_text(path, name)
    except OSError as error:
        raise _unreadable(name, error.strerror, kind) from error
    except (duckdb.Error, UnicodeDecodeError) as error:
        raise _unreadable(name, str(error).split("\n", 1)[0], kind) from error
    for position, one in enumerate(dict.fromkeys(found.ids), start=1):
        if not kind.pattern.fullmatch(one):
            raise UsageError(f"{name}: {one[:60]!r} (number {position}) is not a {kind.name}.", kind.hint)
    if not found.ids:
        raise UsageError(f"{name} holds no {kind.name}.", kind.hint)
    return found


def _unreadable(name: str, reason: str | None, kind: Kind) -> UsageError:
    return UsageError(f"The {kind.name}s in {name} cannot be read: {reason}", kind.hint)


def _is_table(head: bytes, kind: Kind) -> bool:
    """Tell whether the content is Parquet, JSON, or has a header line that names one of the kind's columns."""
    first_line = head.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode(errors="replace")
    names = {name.strip().strip('"').lower() for name in re.split(r"[,;\t|]", first_line)}
    return head.startswith(b"PAR1") or head.lstrip()[:1] in (b"{", b"[") or not names.isdisjoint(kind.columns)


def _from_text(path: Path, name: str) -> _Found:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return _Found(name, [text for line in lines if (text := line.strip())], None)


def _from_table(path: Path, head: bytes, name: str, kind: Kind) -> _Found:
    if re.match(rb"\s*\[\s*\"", head):
        return _from_list(path, name, kind)
    if head.startswith(b"PAR1"):
        reader = "read_parquet($path, hive_partitioning = false)"
    elif head.lstrip()[:1] in (b"{", b"["):
        reader = "read_json($path, hive_partitioning = false)"
    else:
        reader = "read_csv($path, header = true, all_varchar = true, null_padding = true, hive_partitioning = false)"
    with duckdb.connect() as connection:
        table = connection.sql(f"FROM {reader}", params={"path": str(path)})
        column = next((c for wanted in kind.columns for c in table.columns if c.lower() == wanted), None)
        if column is None:
            wanted = " or ".join(kind.columns)
            raise UsageError(f"{name} has no column {wanted}, but {', '.join(table.columns)}.", kind.hint)
        others = [c for c in table.columns if c != column and c.lower() == OF_SESSION]
        chosen = table.select(*(duckdb.ColumnExpression(c) for c in [column, *others])).fetchall()
    rows = [[str(value or "").strip() for value in row] for row in chosen]
    rows = [row for row in rows if row[0]]
    return _Found(name, [row[0] for row in rows], [row[1] for row in rows] if others else None)


def _from_list(path: Path, name: str, kind: Kind) -> _Found:
    """Read a list of ids in JSON, which is no table: ``["fcsess_1", "fcsess_2"]``."""
    try:
        return _Found(name, msgspec.json.decode(path.read_bytes(), type=list[str]), None)
    except msgspec.DecodeError as error:
        raise _unreadable(name, str(error), kind) from error
