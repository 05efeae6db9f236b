"""What a person sees: tables, the status page, and results as CSV, JSON or Parquet."""

import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb

from fincon.errors import UsageError

STRIPE_ACCOUNTS_SHOWN = 10


def render_result(result: duckdb.DuckDBPyConnection, limit: int = 1000) -> str:
    """The rows of an executed query as aligned columns, numbers to the right.

    On a terminal the columns that fit are shown whole, and the last line says how many do not.
    """
    described = result.description or []
    rows = result.fetchmany(limit + 1)
    columns = [
        _column(str(name), str(kind), [_cell(row[place]) for row in rows[:limit]])
        for place, (name, kind, *_) in enumerate(described)
    ]
    shown = _fitting([len(column[0]) for column in columns])
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns[:shown], strict=True)]
    if not rows:
        lines.append("(no rows)")
    if len(rows) > limit:
        lines.append(f"… more than {limit:,} rows; --format csv gives all.")
    if shown < len(columns):
        hidden = ", ".join(str(name) for name, *_ in described[shown:])
        lines.append(f"… and {len(columns) - shown} more columns that do not fit: {hidden}")
    return "\n".join(lines)


def _column(name: str, kind: str, cells: list[str]) -> list[str]:
    """The name and the cells of a column, all of the same width."""
    width = max(map(len, [name, *cells]))
    right = kind.startswith(("BIGINT", "HUGEINT", "INTEGER", "DECIMAL", "DOUBLE", "UBIGINT", "FLOAT"))
    return [cell.rjust(width) if right else cell.ljust(width) for cell in [name, *cells]]


def _fitting(widths: list[int]) -> int:
    """How many columns fit on the terminal, at least one; all of them where there is none."""
    if not sys.stdout.isatty():
        return len(widths)
    room = shutil.get_terminal_size().columns
    ends = accumulate(width + 2 for width in widths)
    return max(1, sum(end - 2 <= room for end in ends))


def _cell(value: Any) -> str:
    if value is None:
        return "·"
    if hasattr(value, "isoformat"):
        iso = value.isoformat(sep=" ", timespec="seconds") if hasattr(value, "hour") else value.isoformat()
        return str(iso).replace("+00:00", "Z")
    if isinstance(value, list | dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value).replace("\n", " ")


def write_result(connection: duckdb.DuckDBPyConnection, query: str, style: str, output: Path | None) -> None:
    """The answer in a style of ``fincon sql``, to a file or to standard output.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        if style == "parquet" and output:
            connection.sql(query).write_parquet(str(output), compression="zstd")
        elif style == "parquet":
            with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
                connection.sql(query).write_parquet(file.name, compression="zstd")
                sys.stdout.buffer.write(Path(file.name).read_bytes())
        elif output:
            with output.open("w", encoding="utf-8", newline="") as file:
                _write_text(connection.execute(query), style, file)
        else:
            _write_text(connection.execute(query), style, sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written: {error.strerror}.", "Name another with --output."
        ) from error


def _write_text(result: duckdb.DuckDBPyConnection, style: str, file: Any) -> None:
    names = [name for name, *_ in result.description or ()]
    if style == "table":
        file.write(render_result(result) + "\n")
    elif style == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in _rows(result):
            writer.writerow([_plain(value) for value in row])
    else:
        for row in _rows(result):
            record = dict(zip(names, row, strict=True))
            file.write(json.dumps(record, default=_plain, ensure_ascii=False) + "\n")


def _rows(result: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while lot := result.fetchmany(10_000):
        yield from lot


def _plain(value: Any) -> Any:
    """A value as text that reads back exactly: ISO times, decimals digit for digit, nested values as JSON."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    if value is None or isinstance(value, int | float | str):
        return value
    return str(value)


def render_status(found: dict[str, Any]) -> str:
    """Lay out what `fincon status` tells."""
    lines = ["Runs, newest first:"]
    for run in found["runs"]:
        lines += [
            f"  {run['finished_at']}Z  {run['run_id']}  {run['mode']}"
            + (f"  {run['stripe_account']}" if run["stripe_account"] else ""),
            f"    {run['sessions_seen']:,} sessions, {run['accounts_seen']:,} accounts, {run['rows_added']:,} rows added,"
            f" {run['requests']:,} requests, {run['rejected']:,} rejected",
        ]
    by = ", ".join(f"{name} {count:,}" for name, count in found["requests_this_month"].items())
    total = sum(found["requests_this_month"].values())
    lines += ["", f"Requests this month: {total:,}" + (f" ({by})" if by else "")]
    lines += [
        "  Stripe allows 500 reads for each transaction of the last 30 days, and at least 10,000 a month."
    ]
    accounts = found["stripe_accounts"]
    if len(accounts) > 1:
        lines += ["", f"Stripe accounts: {len(accounts):,}, the longest unsynced first"]
        lines += [
            f"  {of['stripe_account'] or '(the key itself)':<24} {of['accounts']:>10,} accounts   synced {of['last_run']}"
            for of in accounts[:STRIPE_ACCOUNTS_SHOWN]
        ]
        if len(accounts) > STRIPE_ACCOUNTS_SHOWN:
            lines.append("  … `fincon status --json` has all")
    lines += ["", "Tables:"]
    lines += [
        f"  {name:<17} {of['rows']:>10,} now {of['versions']:>10,} in history   changed {of['newest'] or '·'}"
        for name, of in found["tables"].items()
    ]
    lines += [
        "",
        f"Rejected objects: {len(found['rejects'])}"
        + (' (the newest below; `fincon sql "FROM rejects"` has all)' if found["rejects"] else ""),
    ]
    lines += [
        f"  {r['object_type']} {r['object_id'] or '(no id)'}: {r['reason']} at {r['path'] or '$'}"
        for r in found["rejects"][:5]
    ]
    return "\n".join(lines)
