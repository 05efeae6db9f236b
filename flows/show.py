"""What a person sees: tables, the status page, progress, and results as CSV, JSON or Parquet."""

import csv
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.errors import UsageError

if TYPE_CHECKING:
    import duckdb

    from flows.steps import Progress

LOG_EVERY_SECONDS = 5.0

DEMO = (
    (
        "What is held and owed, in major units (balance_totals):",
        "SELECT currency, sum(accounts)::BIGINT AS accounts, sum(current_amount) AS current, "
        "sum(available_amount) AS available, sum(used_amount) AS used "
        "FROM balance_totals GROUP BY ALL ORDER BY accounts DESC, currency",
    ),
    (
        "Do refreshes work (refresh_health):",
        "SELECT feature, sum(accounts) FILTER (status = 'succeeded')::BIGINT AS succeeded, "
        "sum(accounts) FILTER (status = 'failed')::BIGINT AS failed, "
        "sum(accounts) FILTER (status = 'pending')::BIGINT AS pending, max(newest_attempt) AS newest_attempt "
        "FROM refresh_health GROUP BY ALL ORDER BY feature",
    ),
    (
        "What changed since yesterday (account_changes):",
        "SELECT attribute, count(*) AS accounts, min(was || ' → ' || now_is) AS for_example "
        "FROM account_changes GROUP BY ALL ORDER BY accounts DESC LIMIT 5",
    ),
)
"""The demo's questions: a title, and the query behind it."""


def table(result: "duckdb.DuckDBPyConnection", limit: int = 1000) -> str:
    """The rows of an executed query, aligned to fit the terminal: long values are cut, numbers stand right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = result.fetchmany(limit + 1)
    grid = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name, kind, *_ in result.description or ():
        grid.add_column(Text(name), justify="right" if _is_number(str(kind)) else "left", no_wrap=True)
    for row in rows[:limit]:
        grid.add_row(*(Text(_cell(value)) for value in row))
    wide = None if sys.stdout.isatty() else 100_000  # a file or a pipe is as wide as its lines
    console = Console(width=wide, file=sys.stdout, highlight=False)
    with console.capture() as capture:
        console.print(grid)
    text = "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))
    if not rows:
        return text + "\n(no rows)"
    return text + (f"\n… more than {limit:,} rows; --format csv gives all." if len(rows) > limit else "")


def _is_number(kind: str) -> bool:
    return kind.startswith(("BIGINT", "HUGEINT", "INTEGER", "DECIMAL", "DOUBLE", "UBIGINT", "FLOAT"))


def _cell(value: Any) -> str:
    if value is None:
        return "·"
    if hasattr(value, "isoformat"):
        return str(
            value.isoformat(sep=" ", timespec="seconds") if hasattr(value, "hour") else value.isoformat()
        ).replace("+00:00", "Z")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list | dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def write(connection: "duckdb.DuckDBPyConnection", query: str, style: str, output: Path | None) -> None:
    """The answer in a style of ``fincon sql``, to a file or to standard output.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        if style == "parquet":
            connection.sql(query).write_parquet(str(output), compression="zstd")
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


def _write_text(result: "duckdb.DuckDBPyConnection", style: str, file: Any) -> None:
    names = [name for name, *_ in result.description or ()]
    if style == "table":
        file.write(table(result) + "\n")
    elif style == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in _rows(result):
            writer.writerow([_plain(value) for value in row])
    else:
        for row in _rows(result):
            record = dict(zip(names, row, strict=True))
            file.write(json.dumps(record, default=_plain, ensure_ascii=False) + "\n")


def _rows(result: "duckdb.DuckDBPyConnection") -> Iterator[tuple[Any, ...]]:
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


def status(found: dict[str, Any]) -> str:
    """The status page."""
    lines = ["Runs, newest first:"]
    lines += [
        f"  {run['finished_at']}  {run['mode']:<17} {run['sessions_seen']:>8,} sessions"
        f" {run['accounts_seen']:>9,} accounts {run['rows_added']:>10,} rows added"
        f" {run['requests']:>7,} requests {run['rejected']:>4,} rejected"
        for run in found["runs"]
    ]
    by = ", ".join(f"{name} {count:,}" for name, count in found["requests_this_month"].items())
    total = sum(found["requests_this_month"].values())
    lines += ["", f"Requests this month: {total:,}" + (f" ({by})" if by else "")]
    lines += [
        "  Stripe allows 500 reads for each transaction of the last 30 days, and at least 10,000 a month."
    ]
    lines += ["", "Tables:"]
    lines += [
        f"  {name:<17} {of['rows']:>10,} now {of['versions']:>10,} in history   newest {of['newest'] or '·'}"
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


class Bars:
    """Progress as bars on a terminal."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """A bar for the stage; without a total it counts."""
        task = self._bars.add_task(name, total=total)
        return lambda count: self._bars.update(task, advance=count)


class Lines:
    """Progress as plain lines: one when a stage begins, then one every few seconds."""

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """Lines for the stage."""
        done, next_at = 0, time.monotonic() + LOG_EVERY_SECONDS

        def told(count: int) -> None:
            nonlocal done, next_at
            done += count
            if time.monotonic() >= next_at:
                next_at = time.monotonic() + LOG_EVERY_SECONDS
                click.echo(f"{name}: {done:,}" + (f" of {total:,}" if total else ""), err=True)

        return told


class Nothing:
    """No progress."""

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """Nothing is shown."""
        return lambda count: None


@contextmanager
def progress(*, quiet: bool) -> Iterator["Progress"]:
    """What shows progress here: bars on a terminal, lines elsewhere, nothing with ``--quiet``."""
    if quiet:
        yield Nothing()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=False) as bars:
            yield Bars(bars)
