"""Each event has a time of its own, in Stripe's order, whatever was known of its second already."""

from itertools import pairwise

import pytest

from fincon.transforms.event_times import COUNT_FROM, SECOND, EventOf, EventTimes, account_number, own_time

CREATED = 1_795_780_265
FIRST = CREATED * SECOND


def times_of(known: int, count: int) -> list[int]:
    """The times of so many new events of one account and second, oldest first, after one that has a time already."""
    times = EventTimes({account_number("fca_1"): {"evt_known": FIRST + known}})
    found = [times.of(EventOf(f"evt_{number}", "fca_1", CREATED)) for number in reversed(range(count))]
    assert times.of(EventOf("evt_known", "fca_1", CREATED)) == FIRST + known
    return found[::-1]


@pytest.mark.parametrize("known", [COUNT_FROM, 950_000, 997_998, 999_000])
def test_events_after_one_that_is_known_have_room_behind_it(known: int) -> None:
    """However late in the second that one is by its id."""
    found = times_of(known, 7)
    assert all(one < other for one, other in pairwise([FIRST + known, *found]))
    assert found[-1] < FIRST + SECOND


@pytest.mark.parametrize("known", [999_997, 999_998, 999_999])
def test_where_no_microsecond_is_left_no_two_events_have_the_same(known: int) -> None:
    found = times_of(known, 7)
    assert len({FIRST + known, *found}) == 8
    assert all(FIRST < at < FIRST + SECOND for at in found)


@pytest.mark.parametrize("a_time", [500, 7, 1])
@pytest.mark.first(1)
def test_no_two_of_hundreds_of_events_in_a_second_have_the_same(a_time: int) -> None:
    """However many of them come at a time, each newest first."""
    events = [EventOf(f"evt_{n}", "fca_1", 60) for n in range(500)]
    known: dict[int, dict[str, int]] = {}
    for start in range(0, len(events), a_time):
        times = EventTimes(known)
        given = {one.event_id: times.of(one) for one in reversed(events[: start + a_time])}
        known = {account_number("fca_1"): given}
    assert len({*given.values()}) == len(events)
    assert {at // SECOND for at in given.values()} == {60}


def test_an_event_has_the_time_of_its_id_where_nothing_speaks_against_it() -> None:
    event = EventOf("evt_1", "fca_1", CREATED)
    assert EventTimes({}).of(event) == own_time("evt_1", CREATED)


def test_what_an_interrupted_attempt_gave_times_to_keeps_its_place_above_what_follows() -> None:
    """Also an event that was in the lake already, and so is not on the attempt's page."""
    times = EventTimes({account_number("fca_1"): {"evt_known": FIRST + 950_000}})
    times.take(
        {"evt_other": FIRST + 960_000, "evt_known": FIRST + 950_000}, [EventOf("evt_other", "fca_2", CREATED)]
    )
    assert times.of(EventOf("evt_2", "fca_1", CREATED)) < FIRST + 950_000
    assert times.of(EventOf("evt_3", "fca_2", CREATED)) < FIRST + 960_000
