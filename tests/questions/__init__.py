"""The lake is the truth: each question answered anew from the sandbox's own state, in plain Python, and compared to the views.

A world is synced at several times. What `tests.questions.known` remembers of it comes from the model alone: no page, no row
of the lake. `answers`, `cash_flows`, `daily_balances` and `links` reckon what each question must
answer; they share nothing with ``sql/``.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from fincon.pipeline.rates import Pair, write_rates
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.evolution import Evolution
from fincon.sandbox.server import running
from fincon.sandbox.world import World
from fincon.warehouse.connection import connect
from tests.conftest import settings_for
from tests.questions.answers import ANSWERS
from tests.questions.cash_flows import CASH_FLOWS
from tests.questions.daily_balances import DAILY_BALANCES
from tests.questions.known import Known
from tests.questions.links import LINKS

QUESTIONS = ANSWERS | CASH_FLOWS | DAILY_BALANCES | LINKS

START = datetime(2026, 6, 3, 11, 17, tzinfo=UTC)
TIMES = (timedelta(0), timedelta(days=1, hours=2), timedelta(days=8, hours=15), timedelta(days=44))
"""When a world is synced: the next day, more than a week later, and when what was not refreshed since is stale."""

RATES = {
    Pair(date(2026, 5, 1), "eur", "usd"): Decimal("1.0834"),
    Pair(date(2026, 7, 10), "usd", "eur"): Decimal("0.91"),
    Pair(date(2026, 5, 1), "usd", "jpy"): Decimal(151),
    Pair(date(2026, 5, 1), "kwd", "usd"): Decimal("3.25"),
    Pair(date(2026, 5, 1), "gbp", "usd"): Decimal("1.27"),
    Pair(date(2027, 1, 1), "cad", "usd"): Decimal("0.7"),
}
"""Rates in either direction; of other currencies none, or too late."""


def world_of(seed: int) -> World:
    """A small world; of every other the accounts and refreshes come to an end, as Stripe's do."""
    moving = Evolution(leaving=30, ending=15) if seed % 2 else Evolution()
    return World(seed=seed, clock=START, accounts=30, sessions=8, evolution=moving)


def differences(seed: int) -> Iterator[str]:
    """Yield, for a seed's world, each question whose answer is not what the world says, with some of the rows at fault."""
    with tempfile.TemporaryDirectory(prefix="fincon-questions-") as folder:
        data = Path(folder) / "data"
        known = Known(RATES)
        with running(world_of(seed)) as sandbox:
            for after in TIMES:
                sandbox.set_clock(START + after)
                ids = tuple(sandbox.world.session_ids())
                if after == TIMES[-1]:
                    write_rates(data, RATES)
                run_sync(
                    settings_for(sandbox.url, data),
                    SyncRequest(session_ids=ids, refetch="all", transactions=True, owners=True, pii="keep"),
                )
                known.see(sandbox.world)
        with connect(data) as views:
            for name, (query, answer) in QUESTIONS.items():
                found = views.execute(query).fetchall()
                names = [column for column, *_ in views.description]
                told = Counter(tuple(map(_plain, row)) for row in found)
                right = Counter(tuple(_plain(row[column]) for column in names) for row in answer(known))
                if told != right:
                    some = "\n    ".join(
                        [
                            *(f"told  {row}" for row in list(told - right)[:3]),
                            *(f"right {row}" for row in list(right - told)[:3]),
                        ]
                    )
                    yield f"{name}: {sum((told - right).values())} rows told, {sum((right - told).values())} right\n    {some}"


def _plain(value: Any) -> Any:
    """A value that compares: a decimal as a fraction, a time in UTC, a list as a tuple."""
    if isinstance(value, Decimal | Fraction):
        return Fraction(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return tuple(value) if isinstance(value, list) else value
