"""Session ids from a file: Stripe has no list of sessions, so they come from the user's own application."""

import re
import sys
import tempfile
from pathlib import Path

import duckdb

from flows.errors import UsageError

SESSION_ID = re.compile(r"fcsess_[A-Za-z0-9_]{1,200}")
COLUMNS = ("session_id", "id")

HINT = "Give one session id (fcsess_…) a line, or CSV, Parquet or JSON with a column session_id or id."


def read_session_ids(file: str) -> list[str]:
    """The ids in ``file`` (``-`` = standard input), each once, in the order of their first appearance.

    What the file is shows in its content: Parquet, JSON, CSV with a header, or plain text.

    Raises:
        UsageError: the file cannot be read, or holds something that is no session id.
    """
    path = Path(file)
    if file != "-" and (path.is_file() or not path.exists()):
        return _read(path, file)
    try:
        content = sys.stdin.buffer.read() if file == "-" else path.read_bytes()
    except OSError as error:
        raise UsageError(f"The session ids in {file} cannot be read: {error.strerror}.", HINT) from error
    with tempfile.NamedTemporaryFile() as copy:  # a pipe can be read but once
        copy.write(content)
        copy.flush()
        return _read(Path(copy.name), "standard input" if file == "-" else file)


def _read(path: Path, name: str) -> list[str]:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        found = _from_table(path, head, name) if _is_table(head) else _from_text(path)
    except OSError as error:
        raise UsageError(f"The session ids in {name} cannot be read: {error.strerror}.", HINT) from error
    except (duckdb.Error, UnicodeDecodeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UsageError(f"The session ids in {name} cannot be read: {reason}", HINT) from error
    ids = list(dict.fromkeys(text for value in found if (text := str(value or "").strip())))
    for position, session_id in enumerate(ids, start=1):
        if not SESSION_ID.fullmatch(session_id):
            raise UsageError(f"{name}: {session_id[:60]!r} (number {position}) is not a session id.", HINT)
    if not ids:
        raise UsageError(f"{name} holds no session id.", HINT)
    return ids


def _is_table(head: bytes) -> bool:
    """Whether the content is Parquet, JSON, or has a header line that names one of `COLUMNS`."""
    first_line = head.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode(errors="replace")
    names = {name.strip().strip('"').lower() for name in re.split(r"[,;\t|]", first_line)}
    return head.startswith(b"PAR1") or head.lstrip()[:1] in (b"{", b"[") or not names.isdisjoint(COLUMNS)


def _from_text(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8-sig").splitlines()


def _from_table(path: Path, head: bytes, name: str) -> list[str]:
    reader = "read_csv"
    if head.startswith(b"PAR1"):
        reader = "read_parquet"
    elif head.lstrip()[:1] in (b"{", b"["):
        reader = "read_json"
    options = ", header = true, all_varchar = true" if reader == "read_csv" else ""
    with duckdb.connect() as connection:
        table = connection.sql(f"FROM {reader}($path{options})", params={"path": str(path)})
        column = next((c for wanted in COLUMNS for c in table.columns if c.lower() == wanted), None)
        if column is None:
            raise UsageError(f"{name} has no column session_id or id, but {', '.join(table.columns)}.", HINT)
        return [row[0] for row in table.select(duckdb.ColumnExpression(column)).fetchall()]
