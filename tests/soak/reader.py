"""A reader in a process of its own: ``python -m tests.soak.reader DATA SEED`` until its standard input ends.

It opens the views again and again, and holds one connection for long. What must hold: no error, the checks find
nothing, nothing known before is gone, and a connection that is held goes on giving the same answers. Around an erasure or a
rewrite, which the soak notes beside the data folder, there may be less than before, and a query may fail; no answer is ever
another. Its last line is JSON: how often it opened, how many queries it asked, and what was wrong.
"""

# ruff: noqa: S311, T201

import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb

from fincon.transforms.schemas import OBJECT_TABLES
from fincon.warehouse.checks import checks
from fincon.warehouse.connection import connect

LET_GO, UNDER_WAY = "let-go.txt", "under way\n"
"""Beside the data folder: a line where an erasure or a rewrite begins, which take files from whoever has old views, and ends."""

TABLES = ("sessions", "session_accounts", "accounts", "balances", "refreshes")
HALF_A_RUN = {
    "a balance without its account": "SELECT account_id FROM balances ANTI JOIN accounts USING (account_id)",
    "a refresh without its account": "SELECT account_id FROM refreshes ANTI JOIN accounts USING (account_id)",
    "a session's account that is not there": "SELECT account_id FROM session_accounts ANTI JOIN accounts USING (account_id)",
    "rows that are not rows_added": f"""
        SELECT run_id FROM runs LEFT JOIN (
            SELECT run_id, count(*) AS found FROM (
                {" UNION ALL ".join(f"SELECT run_id FROM lake.{table.name}" for table in OBJECT_TABLES)}
            ) GROUP BY run_id
        ) USING (run_id) LEFT JOIN (
            SELECT run_id, sum(rows_erased)::BIGINT AS erased FROM erasures GROUP BY run_id
        ) USING (run_id) WHERE rows_added <> coalesce(found, 0) + coalesce(erased, 0)""",
    "a run twice": "SELECT run_id FROM runs GROUP BY run_id HAVING count(*) > 1",
}
"""What a reader would see of half a run; each query finds nothing."""

CONTENT = " UNION ALL ".join(
    f"SELECT '{table}', '{schema}', count(*), sum(hash(COLUMNS(*)::VARCHAR))::VARCHAR FROM "
    f"(SELECT to_json(t)::VARCHAR AS all_of_it FROM {schema}.{table} AS t)"
    for table in TABLES
    for schema in ("main", "history")
)
"""One row per view: how much it holds, and a hash over all of it."""


class Reader:
    """What was asked and what was wrong."""

    def __init__(self, data: Path, seed: int) -> None:
        self.data, self.dice = data, random.Random(seed)
        self.opened = self.queries = self.held = 0
        self.wrong: list[str] = []
        self.runs, self.sizes, self.erasures = 0, dict.fromkeys(TABLES, 0), 0
        self.holding: tuple[Any, Any, float] | None = None
        self.let_go, self.noted = 0, ""

    def ask(self, connection: duckdb.DuckDBPyConnection, query: str) -> list[Any]:
        """All rows of a query."""
        self.queries += 1
        return connection.execute(query).fetchall()

    def look(self) -> None:
        """Open the views as they are now and ask them whether they are whole."""
        self.opened += 1
        with connect(self.data) as connection:
            for name, query in (*HALF_A_RUN.items(), *((n, q) for n, _, q in checks())):
                if found := self.ask(connection, query):
                    self.wrong.append(f"{name}: {found[:3]}")
            [(runs,)] = self.ask(connection, "SELECT count(*) FROM runs")
            [(erasures,)] = self.ask(connection, "SELECT count(*) FROM erasures")
            sizes = {t: self.ask(connection, f"SELECT count(*) FROM history.{t}")[0][0] for t in TABLES}
        fewer = any(sizes[t] < self.sizes[t] for t in TABLES)
        if runs < self.runs or (fewer and erasures == self.erasures):
            self.wrong.append(f"less than before: {runs} runs, {sizes}; there were {self.runs}, {self.sizes}")
        self.runs, self.sizes, self.erasures = runs, sizes, erasures

    def look_plainly(self) -> None:
        """Open the file itself, as any program with DuckDB would."""
        self.opened += 1
        with duckdb.connect(str(self.data / "fincon.duckdb"), read_only=True) as connection:
            self.ask(connection, "SELECT status, count(*) FROM accounts GROUP BY ALL")

    def hold(self) -> None:
        """Ask the connection that is held; let it go after a while for a new one."""
        if self.holding is None:
            connection = connect(self.data)
            self.holding = (
                connection,
                self.ask(connection, CONTENT),
                time.monotonic() + self.dice.uniform(3, 40),
            )
            self.held += 1
            self.noted = self.taken()
            return
        connection, before, until = self.holding
        if (now := self.ask(connection, CONTENT)) != before:
            self.wrong.append(f"a connection that is held changed its answers: {before} → {now}")
        if time.monotonic() > until:
            connection.close()
            self.holding = None

    def turn(self) -> None:
        """One look of each kind, once there is something to see."""
        if not (self.data / "fincon.duckdb").exists():
            return
        for do in (self.look, self.hold, self.look_plainly):
            noted = self.noted if do == self.hold else self.taken()
            try:
                do()
            except Exception as error:  # noqa: BLE001 - whatever it is, no reader should have seen it
                if do == self.hold and self.holding:
                    self.holding[0].close()
                    self.holding = None
                if isinstance(error, duckdb.Error) and (
                    self.taken() != noted or self.taken().endswith(UNDER_WAY)
                ):
                    self.let_go += 1
                else:
                    self.wrong.append(f"{do.__name__}: {type(error).__name__}: {error}")

    def taken(self) -> str:
        """When files may have been taken from whoever has old views: what the soak noted so far."""
        noted = self.data.parent / LET_GO
        return noted.read_text() if noted.exists() else ""


def main() -> None:
    """Read until standard input ends."""
    reader = Reader(Path(sys.argv[1]), int(sys.argv[2]))
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.wait(reader.dice.uniform(0.02, 0.3)):
        reader.turn()
    reader.turn()
    found = {
        "opened": reader.opened,
        "queries": reader.queries,
        "held": reader.held,
        "let_go": reader.let_go,
        "wrong": reader.wrong[:20],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
