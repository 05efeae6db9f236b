"""``fincon status``: the last runs, how fresh each table is, what was rejected; and whether that is fresh enough."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from fincon.cli.options import command, current_options, pluralize
from fincon.cli.terminal import terminal_width, visible
from fincon.cli.text import wrap
from fincon.errors import FinconError
from fincon.landing.run_folder import runs_set_aside
from fincon.landing.spool import Spool
from fincon.settings import data_folder
from fincon.storage.data_folder import DataFolder
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import OBJECT_TABLES
from fincon.warehouse.connection import connect
from fincon.warehouse.status import (
    SHOWN_DAYS,
    attempts,
    last_synced,
    pending_attempts,
    summary,
    waiting_runs,
)

JSON_FORMAT = 2
"""Of what ``--json`` writes. It is raised where a key goes or means something else; new keys may come at any time."""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
AGE = re.compile(r"(?:\d{1,6}[smhdw])+")


class Age(click.ParamType[timedelta]):
    """A time that may have passed: ``90m``, ``2h``, ``1d12h``."""

    name = "AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        if not AGE.fullmatch(value):
            self.fail(f"{value!r} is no age: it looks like 90m, 2h or 1d12h.", param, ctx)
        parts = re.findall(r"(\d+)([smhdw])", value)
        return sum((timedelta(**{UNITS[unit]: int(number)}) for number, unit in parts), timedelta())


class TooOld(FinconError):
    """What is in the lake is older than ``--max-age`` allows."""

    exit_code = 3


@command("fincon status", "fincon status --json --runs 50", "fincon status --max-age 2h --table balances")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option(
    "--runs",
    type=click.IntRange(1, 1_000_000),
    default=5,
    show_default=True,
    help="How many of the last runs.",
)
@click.option(
    "--max-age",
    type=Age(),
    metavar="AGE",
    help="Say in one line how old the data is, and exit with 3 where it is older than this: 90m, 2h, 1d.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=click.Choice([table.name for table in OBJECT_TABLES]),
    metavar="TABLE",
    help="Of this table, as the last run that asked for it left it; may be repeated [with --max-age].",
)
def status(*, as_json: bool, runs: int, max_age: timedelta | None, tables: tuple[str, ...]) -> None:
    """Show the last runs, how fresh each table is, and what was rejected."""
    if tables and max_age is None:
        raise click.UsageError("--table says of which table --max-age is meant.")
    data = data_folder(current_options().data)
    if as_json or max_age is None:
        found = _found(data, runs)
        if as_json:
            click.echo(json.dumps(_plain({"format": JSON_FORMAT, **found}), indent=2))
        else:
            click.echo(render_status(found, terminal_width()))
    if max_age is not None:
        said = _age_line(data, max_age, tables)
        click.echo(said, err=as_json)


def _found(data: DataPath, runs: int) -> dict[str, Any]:
    """Return all that a status tells."""
    folder = DataFolder(data)
    # Views that are gone are no first run that is under way: `connect` says what to do then.
    is_first = not folder.views.exists() and not any((folder.lake / "runs").glob("*.parquet"))
    waiting = waiting_runs(data, None) if is_first else []
    pending = pending_attempts(data, None) if is_first else []
    if waiting or pending:
        found: dict[str, Any] = {**attempts(pending, [], [], runs), "runs": [], "waiting": waiting}
    else:
        with connect(data) as connection:
            pending = pending_attempts(data, connection)
            found = summary(connection, runs, pending) | {"waiting": waiting_runs(data, connection)}
    return found | {"set_aside": runs_set_aside(data), "events_received": Spool(data).count()}


def _age_line(data: DataPath, max_age: timedelta, tables: Sequence[str]) -> str:
    """Say how old what was asked for is: when the last run that read it began.

    Raises:
        TooOld: that is longer ago than ``max_age``, or there was none.
    """
    views = DataFolder(data).views
    if views.exists():
        with connect(data) as connection:
            synced = last_synced(connection)
    else:
        synced = {}
    now = datetime.now(UTC)
    oldest = min(tables or ("",), key=lambda table: synced.get(table) or datetime.min.replace(tzinfo=UTC))
    since = synced.get(oldest)
    what = oldest or "the lake"
    if since is None:
        tried = not synced and (views.exists() or pending_attempts(data, None))
        why = " No attempt has succeeded: `fincon status` says why." if tried else ""
        raise TooOld(f"{what} in {data} was never synced.{why}")
    said = (
        f"{what} in {data} is {in_words(now - since)} old: the last run that read it began at {second(since)}"
    )
    if now - since > max_age:
        raise TooOld(f"{said}; --max-age is {in_words(max_age)}.")
    return f"{said}."


def in_words(age: timedelta) -> str:
    """Return ``2 d 3 h``, ``1 h 5 min``, ``40 s``: its two largest units."""
    left, words = max(0, round(age.total_seconds())), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count:,} {unit}")
    return " ".join(words[:2]) or "0 s"


def second(at: datetime | None) -> str:
    """Return a time to the second, as a person reads it; ``·`` for none."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z" if at else "·"


def _plain(value: Any) -> Any:
    """Return what JSON has words for: a time is ISO 8601 in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


STRIPE_ACCOUNTS_SHOWN = 10
REJECTS_SHOWN = 5


def render_status(found: dict[str, Any], width: int | None) -> str:
    """Lay out what `fincon status` tells."""
    lines = _not_succeeded(found["not_succeeded"], width)
    lines += [line for run in found["waiting"] for line in _waiting(run, width)]
    if received := found["events_received"]:
        said = f"Received by `fincon listen` and not loaded yet: {pluralize(received, 'event')}"
        lines += wrap(f"{said}. Load them now: fincon events --received", width, "  ")
    if set_aside := found["set_aside"]:
        lines.append(f"Runs that could not be loaded, in pages/quarantine: {len(set_aside):,}")
        for run_id, reason in set_aside.items():
            lines += wrap(visible(f"  {run_id}: {reason}"), width, "    ")
    if not found["runs"]:
        return "\n".join(["No run is finished yet.", *lines]).rstrip()
    lines += ["Runs, newest first:"]
    for run in found["runs"]:
        figures = [
            pluralize(run["sessions_seen"], "session"),
            pluralize(run["accounts_seen"], "account"),
            f"{pluralize(run['rows_added'], 'row')} added",
            pluralize(run["requests"], "request"),
            f"{run['rejected']:,} rejected",
        ]
        names = (second(run["finished_at"]), run["run_id"], run["mode"], run["stripe_account"] or "")
        lines += [
            "  " + "  ".join(filter(None, names)),
            *wrap("    " + ", ".join(figures), width, "    "),
        ]
    by = ", ".join(f"{name} {count:,}" for name, count in found["requests_this_month"].items())
    total = sum(found["requests_this_month"].values())
    lines += ["", *wrap(f"Requests this month: {total:,}" + (f" ({by})" if by else ""), width, "  ")]
    allowed = "Stripe allows 500 reads for each transaction of the last 30 days, and at least 10,000 a month."
    lines += wrap(f"  {allowed}", width, "  ")
    accounts = found["stripe_accounts"]
    if len(accounts) > 1:
        lines += ["", f"Stripe accounts: {len(accounts):,}, the longest unsynced first"]
        lines += [
            f"  {of['stripe_account'] or '(the key itself)':<24} {pluralize(of['accounts'], 'account'):>19}"
            f"   synced {second(of['last_run'])}"
            for of in accounts[:STRIPE_ACCOUNTS_SHOWN]
        ]
        if len(accounts) > STRIPE_ACCOUNTS_SHOWN:
            lines.append("  … `fincon status --json` has all")
    lines += ["", "Tables:                  now     in history  changed"]
    lines += [
        f"  {name:<17} {of['rows']:>10,} {of['versions']:>13,}   {second(of['newest'])}"
        for name, of in found["tables"].items()
    ]
    refused = found["accounts_set_aside"]
    lines += ["", f"Accounts set aside: {sum(of['accounts'] for of in refused):,}"]
    lines += [
        f"  {of['accounts']:>10,}   whose {of['table_name']} Stripe refused ({of['refusal']})"
        for of in refused
    ]
    rejects = found["rejects"]
    where = ' (the newest below; `fincon sql "FROM rejects"` has all)' if rejects else ""
    lines += ["", f"Rejected objects: {len(rejects):,}{where}"]
    for r in rejects[:REJECTS_SHOWN]:
        where = f" at {r['path']}" if r["path"] else ""
        reject = f"  {r['object_type']} {r['object_id'] or '(no id)'}: {r['reason']}{where}"
        lines += wrap(visible(reject), width, "    ")
    return "\n".join([*lines, "", *render_unknown(found["unknown_attributes"], width)])


def render_unknown(found: Sequence[dict[str, Any]], width: int | None) -> list[str]:
    """Lay out which attributes arrive that fincon does not know: names and types, never a value."""
    where = " (kept in `extra`)" if found else ""
    lines = [f"Attributes that this fincon does not know: {len(found):,}{where}"]
    for one in found[:REJECTS_SHOWN]:
        said = f"  {one['table_name']}: {one['attribute']} ({one['example_type']})"
        since = f" on {one['objects']:,} since {second(one['first_seen'])}"
        lines += wrap(visible(said + since), width, "    ")
    if len(found) > REJECTS_SHOWN:
        lines.append('  … `fincon sql "FROM unknown_attributes"` has all')
    return lines


def _not_succeeded(attempts: Sequence[dict[str, Any]], width: int | None) -> list[str]:
    """Say of the last attempts that did not succeed what went wrong, and what to do."""
    if not attempts:
        return []
    lines = [f"Did not succeed in the last {SHOWN_DAYS} days, newest first:"]
    for one in attempts:
        names = (second(one["started_at"]), one["status"], one["mode"], one["stripe_account"])
        lines.append("  " + "  ".join(filter(None, names)))
        for text in (one["error"], one["hint"]):
            if text:
                lines += wrap(visible(f"    {text}"), width, "    ")
    return [*lines, ""]


def _waiting(run: dict[str, Any], width: int | None) -> list[str]:
    """Say of a run that was interrupted, or is under way, what becomes of it."""
    if run["fetched"]:
        then = "The next `fincon sync` loads it."
    elif run["goes_on"]:
        then = "The same command goes on with it, unless it is still running."
    else:
        then = "It is too old to go on with; `fincon compact` removes its pages."
    pages = f"{pluralize(run['pages'], 'page')} {'of all' if run['fetched'] else 'so far'}"
    text = f"Waiting: run {run['run_id']} ({run['mode']}), begun {second(run['started_at'])}: {pages}. {then}"
    return [*wrap(text, width, "  "), ""]
