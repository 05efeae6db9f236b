"""As of a past second, the macros say what a reader would have seen then; whatever form the second is written in."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fincon.sandbox.server import running
from fincon.sandbox.world import World
from fincon.warehouse.connection import connect
from tests.conftest import START, known_after, state, sync, truth

STEPS = (timedelta(hours=1), timedelta(minutes=1, seconds=1), timedelta(days=1), timedelta(days=12))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[datetime], list[World]]:
    """A lake synced at five clocks, the clocks, and the worlds as they were."""
    data = tmp_path_factory.mktemp("lived") / "data"
    worlds = []
    with running(World(seed=4, clock=START, accounts=90, sessions=25)) as sandbox:
        for step in (timedelta(), *STEPS):
            sandbox.advance(step)
            sync(sandbox.url, data, sandbox.world.session_ids())
            worlds.append(sandbox.world)
    return data, [world.clock for world in worlds], worlds


def test_the_state_at_each_past_second_is_what_was_known_then(
    lived: tuple[Path, list[datetime], list[World]],
) -> None:
    data, clocks, worlds = lived
    truths = [truth(world) for world in worlds]
    for count, clock in enumerate(clocks):
        for at, seen in ((clock - timedelta(seconds=1), count), (clock + timedelta(seconds=1), count + 1)):
            found = state(data, lambda table, at=at: f"{table}_as_of('{at.isoformat()}')")
            assert found == known_after(*truths[:seen]), at
    assert truths[0] != truths[1] != truths[2]
    latest = state(data, lambda table: f"{table}_as_of(now())")
    assert latest == state(data)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/New_York"])
@pytest.mark.first(0, 1)
def test_a_time_without_a_zone_is_utc_wherever_the_reader_is(
    lived: tuple[Path, list[datetime], list[World]], zone: str
) -> None:
    """A date, a timestamp and text mean the same as the time with its zone."""
    data, clocks, _ = lived
    with connect(data) as connection:
        connection.execute(f"SET TimeZone = '{zone}'")
        for at, forms in {
            datetime(2026, 6, 4, tzinfo=UTC): (
                "'2026-06-04'",
                "DATE '2026-06-04'",
                "'2026-06-04 12:00:00+12'",
            ),
            clocks[1] + timedelta(seconds=1): (
                "'2026-06-03 13:00:01'",
                "'2026-06-03T13:00:01Z'",
                "TIMESTAMP '2026-06-03 13:00:01'",
                "'2026-06-03T09:00:01-04:00'",
            ),
        }.items():
            counts = {}
            for form in (f"TIMESTAMPTZ '{at.isoformat()}'", *forms):
                query = f"SELECT count(*), max(observed_at) FROM balances_as_of({form})"
                counts[form] = connection.execute(query).fetchall()
            assert len(set(map(str, counts.values()))) == 1, counts
            assert counts[forms[0]][0][0] > 0


def test_a_day_is_a_day_in_utc_wherever_the_reader_is(
    lived: tuple[Path, list[datetime], list[World]],
) -> None:
    data, _, _ = lived
    query = "SELECT day, count(*), sum(current) FROM balance_daily GROUP BY ALL ORDER BY ALL"
    answers = []
    for zone in ("UTC", "Pacific/Auckland"):
        with connect(data) as connection:
            connection.execute(f"SET TimeZone = '{zone}'")
            answers.append(connection.execute(query).fetchall())
    assert answers[0] == answers[1] != []
