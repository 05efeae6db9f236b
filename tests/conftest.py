"""What tests share: a sandbox over real HTTP, a data folder, and ways to run fincon and to read what it made."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fincon.lake.tables import Lake
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import publish, run_sync
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.settings import Settings, load_settings
from fincon.warehouse.connection import connect

KEY = "sk_test_sandboxkey"
FINCON = Path(sys.executable).with_name("fincon")
START = datetime(2026, 6, 3, 12, tzinfo=UTC)

Row = dict[str, Any]

SLOW = (
    "test_as_of",
    "test_dask_workers",
    "test_desk",
    "test_digests",
    "test_events",
    "test_features",
    "test_fuzz_short",
    "test_hostile_api",
    "test_hostile_machine",
    "test_inline_owners",
    "test_listing",
    "test_maintenance",
    "test_moving_worlds",
    "test_personal",
    "test_prefect",
    "test_questions_of_features",
    "test_questions_of_worlds",
    "test_received",
    "test_reconcile",
    "test_report_page",
    "test_refused",
    "test_refused_sessions",
    "test_resume",
    "test_s3",
    "test_scheduled_runs",
    "test_secrets_at_rest",
    "test_soak_short",
    "test_stripe_accounts",
    "test_what_ends",
    "test_wheel",
)
"""Files whose tests kill processes, wait for servers or sync again and again: ``make test-slow``, which CI runs too.

The tests in them that are marked as quick are not: each promise has one in ``make test``.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow ones."""
    cases: Counter[str] = Counter()
    for item in items:
        case = cases[name := item.nodeid.partition("[")[0]]
        cases[name] += 1
        first = item.get_closest_marker("first")
        is_quick = item.get_closest_marker("quick") or item.path.stem not in SLOW
        quick, *slow = first.args if first else [len(items) if is_quick else 0]
        if case >= quick:
            item.add_marker("slow")
        if slow and case >= quick + slow[0]:
            item.add_marker("minutes")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A small world, served."""
    with running(World(seed=1, clock=START, accounts=300, sessions=90)) as served:
        yield served


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that is not there yet."""
    return tmp_path / "data"


def environ(url: str, **more: str) -> dict[str, str]:
    """The environment of a sync against the sandbox, unhindered by test mode's rate limit."""
    return {
        "STRIPE_API_KEY": KEY,
        "STRIPE_API_BASE": url,
        "FINCON_REQUESTS_PER_SECOND": "2000",
        **more,
    }


def settings_for(url: str, data: Path, **more: str) -> Settings:
    """Settings against the sandbox."""
    return load_settings(environ(url, **more), data)


def sync(url: str, data: Path, session_ids: Iterable[str] = (), *, accounts: bool = True) -> SyncResult:
    """One run in this process."""
    return run_sync(settings_for(url, data), SyncRequest(session_ids=tuple(session_ids), accounts=accounts))


def copied(lake: Path, data: Path) -> Path:
    """A copy of a data folder that was synced once for many tests, with views of its own."""
    shutil.copytree(lake, data)
    publish(data, Lake(data / "lake"))
    return data


class Child(subprocess.Popen[str]):
    """A process that ends with its ``with`` block: where the block fails, it is killed, and no test waits for it for ever."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


PROGRESS = re.compile(r"^[\w ]+: [\d,]+(?: of [\d,]+)?\n", re.MULTILINE)


def fincon(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None, stdin: str | None = None, text: bool = True
) -> Any:
    """The command as a person runs it, in a process of its own.

    Without the lines that tell how far a slow run is: they come by the clock, and no test may depend on it.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("STRIPE_", "FINCON_", "PREFECT_"))}
    done = subprocess.run(
        [str(FINCON), *arguments],
        cwd=cwd,
        env={**clean, "COLUMNS": "120", **(env or {})},
        input=stdin,
        capture_output=True,
        text=text,
        timeout=120,
        check=False,
    )
    if text:
        done.stderr = PROGRESS.sub("", done.stderr)
    return done


def rows(data: Path, query: str) -> list[Row]:
    """What a query answers, as dicts; JSON columns parsed."""
    with connect(data) as views:
        return rows_of(views, query)


def rows_of(views: Any, query: str) -> list[Row]:
    """What a query answers on views that are open, as `rows` says it."""
    cursor = views.execute(query)
    described = cursor.description or []
    return [
        {
            name: json.loads(value) if str(kind) == "JSON" and value is not None else value
            for (name, kind, *_), value in zip(described, row, strict=True)
        }
        for row in cursor.fetchall()
    ]


OBJECTS = ("sessions", "session_accounts", "accounts", "balances", "refreshes")
NOT_TRUTH = (
    "absent_since",
    "account_holder_id",
    "stripe_account",
    "observed_at",
    "run_id",
    "current_amount",
    "available_amount",
    "used_amount",
)


def state(data: Path, source: Callable[[str], str] = lambda table: table) -> dict[str, list[Row]]:
    """The business columns of the five object tables, in a canonical order."""
    return {
        table: canonical(
            {k: v for k, v in row.items() if k not in NOT_TRUTH}
            for row in rows(data, f"FROM {source(table)}")
        )
        for table in OBJECTS
    }


def canonical(found: Iterable[Row]) -> list[Row]:
    """Rows in an order of their own content, keys sorted."""
    return sorted((dict(sorted(row.items())) for row in found), key=lambda row: json.dumps(row, default=str))


def truth(world: World) -> dict[str, list[Row]]:
    """What the world says that the five tables must hold."""
    return {table: canonical(found) for table, found in world.truth().items() if table in OBJECTS}


GROUPS = {
    "sessions": ("session_id",),
    "session_accounts": ("session_id",),
    "accounts": ("account_id",),
    "balances": ("account_id",),
    "refreshes": ("account_id", "feature"),
}


def known_after(*states: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """What is known after seeing ``states`` in turn: a later version replaces an earlier; what is gone stays known."""
    known: dict[str, dict[tuple[str, ...], list[Row]]] = {table: {} for table in OBJECTS}
    for seen in states:
        for table in OBJECTS:
            groups: dict[tuple[str, ...], list[Row]] = {}
            for row in seen[table]:
                groups.setdefault(tuple(row[k] for k in GROUPS[table]), []).append(row)
            known[table] |= groups
    return {table: canonical(row for group in known[table].values() for row in group) for table in OBJECTS}


Serve = Callable[..., AbstractContextManager[Sandbox]]
