"""Makes the small lakes of earlier commits that stand beside it: each by the commit's own sandbox and sync.

From a checkout, with its packages installed; the folders of the commits named (all, if none is) are made anew:

    python tests/lakes/make.py [COMMIT …]

What a lake is made of is the same each time; the ids of its runs and the names of its files are new. The last one also
has a run whose rows are half in the tables, and one that was interrupted while it was fetched.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COMMITS = ("41fa4b9", "46aaf28", "9295f19", "b98723b")
FOLDER = "@DATA@"
"""Stands for the data folder's path in ``views.sql``."""

FIRST = datetime(2026, 6, 3, 12, tzinfo=UTC)
SECOND = FIRST + timedelta(days=3)
COMPACTED_AT = {"46aaf28": SECOND, "9295f19": FIRST}
"""So that one lake has a snapshot that copies rows, one a snapshot and what came since, and two have none."""

WORLD = {"seed": 1, "clock": FIRST, "accounts": 2, "sessions": 2}
PII_KEY = "a-key-for-tests-alone"


def main(commits: list[str]) -> None:
    """Check each commit out beside this repository, and make its lake in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        for commit in commits or COMMITS:
            checkout = Path(scratch) / commit
            git = ["git", "-C", str(HERE), "worktree"]
            subprocess.run([*git, "add", "--detach", str(checkout), commit], check=True)
            try:
                subprocess.run([sys.executable, __file__, "--in", str(checkout), commit], check=True)
            finally:
                subprocess.run([*git, "remove", "--force", str(checkout)], check=True)


def make(commit: str) -> None:
    """Make one lake, with the modules of its commit."""
    from flows.maintenance import compact
    from flows.steps import Order

    from sandbox.server import running
    from sandbox.world import World

    has_features = "transactions" in Order.__dataclass_fields__
    world = World(**WORLD, **({"connected": 1} if has_features else {}))
    features = {"transactions": True, "owners": True, "pii": "hash"} if has_features else {}
    with running(world) as sandbox, tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        for moment in (FIRST, SECOND):
            sandbox.set_clock(moment)
            sync(sandbox.url, data, Order(tuple(sandbox.world.session_ids()[:6]), **features))
            if COMPACTED_AT.get(commit) == moment:
                compact(data, retention_days=0, pages_days=0)
        record_views(data)
        expected = answers(data)
        if commit == COMMITS[-1]:
            sandbox.advance(timedelta(days=1))
            with suppress(interruption()):
                sync(sandbox.url, data, Order(tuple(sandbox.world.session_ids()), max_requests=3))
            half_loaded(sandbox.url, data, sandbox.connected[0])
        store(data, HERE / commit, expected)


def sync(url: str, data: Path, order: Any, step: Callable[..., Any] | None = None, account: str = "") -> None:
    """Run the commit's sync."""
    from flows.settings import load_settings
    from flows.steps import run_sync

    environment = {
        "STRIPE_API_KEY": "sk_test_sandboxkey",
        "STRIPE_API_BASE": url,
        "FINCON_REQUESTS_PER_SECOND": "2000",
        "FINCON_PII_KEY": PII_KEY,
        "STRIPE_ACCOUNT": account,
    }
    settings = load_settings({name: value for name, value in environment.items() if value}, data)
    run_sync(settings, order, **({"step": step} if step else {}))


class Killed(Exception):
    """Stands for the end of a process."""


def half_loaded(url: str, data: Path, account: str) -> None:
    """A run of another Stripe account whose rows are in, and whose end is not."""
    from flows.lake import Lake
    from flows.orders import Order

    def killed(*_: object) -> None:
        raise Killed

    def step(name: str, do: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if name != "transform and load":
            return do(*arguments, **named)
        Lake.finish = killed  # type: ignore[method-assign, assignment]
        return do(*arguments, **named)

    finish = Lake.finish
    with suppress(Killed):
        sync(url, data, Order(pii="hash"), step, account)
    Lake.finish = finish  # type: ignore[method-assign]


def interruption() -> type[Exception]:
    """What a run is ended with that has no request left."""
    from flows.errors import FinconError

    return FinconError


def record_views(data: Path) -> None:
    """Write ``views.sql``: the statements with which the commit makes ``fincon.duckdb``, comments aside."""
    import duckdb
    from flows.lake import Lake

    from flows import warehouse
    from transforms.schemas import TABLES

    said: list[str] = []
    connect = duckdb.connect

    class Recorder:
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def __enter__(self) -> "Recorder":
            return self

        def __exit__(self, *error: object) -> None:
            self.connection.close()

        def execute(self, query: str, *values: Any) -> Any:
            said.append(query)
            return self.connection.execute(query, *values)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

    lake = Lake(data / "lake")
    files = {table.name: lake.current(table) for table in TABLES}
    (data / "fincon.duckdb").unlink()
    duckdb.connect = lambda *values, **named: Recorder(connect(*values, **named))
    try:
        warehouse.publish(data, files)
    finally:
        duckdb.connect = connect
    made = said[next(at for at, query in enumerate(said) if query.startswith("ATTACH")) + 1 :]
    statements = [
        part.query.strip().rstrip(";") for query in made for part in duckdb.extract_statements(query)
    ]
    kept = [part for part in statements if not part.startswith(("USE", "SET", "DETACH", "COMMENT"))]
    (data / "views.sql").write_text(";\n\n".join(kept).replace(str(data), FOLDER) + ";\n", encoding="utf-8")


def answers(data: Path) -> dict[str, Any]:
    """What the commit answers, by its own views: its runs, how many versions there are, and as of the time of each run."""
    from flows.warehouse import connect

    from transforms.schemas import OBJECT_TABLES, TABLES

    def ask(relation: str) -> dict[str, Any]:
        cursor = connection.execute(f"SELECT * FROM {relation} ORDER BY ALL")
        return {"columns": [column[0] for column in cursor.description], "rows": cursor.fetchall()}

    with connect(data) as connection:
        return {
            "logs": {table.name: ask(table.name) for table in TABLES if table not in OBJECT_TABLES},
            "versions": {table.name: len(ask(f"history.{table.name}")["rows"]) for table in OBJECT_TABLES},
            "as_of": {
                at: {table.name: ask(f"{table.name}_as_of('{at}')") for table in OBJECT_TABLES}
                for at in ((moment + timedelta(hours=1)).isoformat() for moment in (FIRST, SECOND))
            },
        }


def store(data: Path, folder: Path, expected: dict[str, Any]) -> None:
    """Put the lake with its views, and its answers, into the commit's folder."""
    folder.mkdir(exist_ok=True)
    (data / "fincon.duckdb").unlink()  # made of views.sql, for the folder in which a test places it
    with tarfile.open(folder / "data.tar.xz", "w:xz") as archive:
        archive.add(data, ".")
    (folder / "answers.json").write_text(json.dumps(expected, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in"]:
        sys.path.insert(0, sys.argv[2])
        os.chdir(sys.argv[2])
        make(sys.argv[3])
    else:
        main(sys.argv[1:])
