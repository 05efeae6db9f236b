"""The listing in several ranges: nothing is left out, and no request is wasted."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replace_header

from fincon.errors import PermissionDenied
from fincon.extract.accounts import Listing, begin_accounts, fetch_accounts, spread
from fincon.extract.client import StripeClient
from fincon.extract.pagination import no_page
from fincon.extract.ranges import Range
from fincon.extract.split_points import places_of
from fincon.landing.page_store import PageStore
from fincon.sandbox.faults import Fault, Faults, Rule
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.storage.data_folder import RANGES_FILE
from fincon.transforms.list_page import ListPage, list_page
from tests.conftest import START, settings_for
from tests.extract.list_simulator import simulate


@pytest.fixture(scope="module")
def large() -> Iterator[Sandbox]:
    """A world of 26 pages."""
    with running(World(seed=5, clock=START, accounts=2500, sessions=0)) as served:
        yield served


@pytest.fixture(autouse=True)
def rested(request: pytest.FixtureRequest) -> None:
    """No fault and no request left over from the test before."""
    if "large" in request.fixturenames:
        sandbox = request.getfixturevalue("large")
        sandbox.faults = None
        sandbox.set_clock(START)
        sandbox.reset_requests()


def in_order(world: World) -> list[str]:
    """Every account of a world, newest first."""
    return [world.account_id(index) for index in reversed(range(world.account_count))]


def walk(sandbox: Sandbox, folder: Path, known: list[str], concurrency: int = 4) -> list[str]:
    """The ids of all accounts on the pages that a listing leaves on disk."""
    stripe = StripeClient(
        replace(settings_for(sandbox.url, folder), concurrency=concurrency, backoff_seconds=0.01)
    )
    page_store = PageStore(folder / "pages")
    fetch_accounts(stripe, page_store, known, lambda count: None)
    stripe.close()
    return [i for page in page_store.read() for i in list_page(page.body).ids]


def listed(sandbox: Sandbox) -> int:
    return len([path for _, path, _ in sandbox.requests if path.endswith("/accounts")])


@pytest.mark.quick
def test_ranges_see_every_account_in_as_many_requests_as_one_chain(large: Sandbox, tmp_path: Path) -> None:
    everyone = in_order(large.world)
    seen = walk(large, tmp_path, spread(everyone))
    assert sorted(seen) == sorted(everyone)
    assert listed(large) == -(-len(everyone) // 100)


@pytest.mark.quick
def test_a_small_list_is_walked_as_one_chain(sandbox: Sandbox, tmp_path: Path) -> None:
    everyone = in_order(sandbox.world)
    assert walk(sandbox, tmp_path, spread(everyone)) == everyone
    assert listed(sandbox) == -(-len(everyone) // 100)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_thought_to_be_known_every_account_is_seen(
    large: Sandbox, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    """Ids in a wrong order, too few, too many, or gone: requests may be wasted, accounts are not lost."""
    everyone = in_order(large.world)
    gone = [f"fca_{'0' * 20}{number:04d}" for number in range(20)]
    known = data.draw(st.lists(st.sampled_from(everyone + gone * 10), max_size=60, unique=True))
    concurrency = data.draw(st.integers(1, 6))
    assert set(walk(large, tmp_path_factory.mktemp("w"), known, concurrency)) == set(everyone)


def test_accounts_linked_meanwhile_cost_no_account_that_was_there(large: Sandbox, tmp_path: Path) -> None:
    everyone = in_order(large.world)
    large.faults = Faults(advance_every=3, advance_seconds=6 * 3600)
    assert set(everyone) <= set(walk(large, tmp_path, spread(everyone)))
    assert large.world.account_count > len(everyone)


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (1, 2, 0, 3), (1, 2, 3, 0), (1, 3, 2, 0), (3, 1, 0, 2)])
def test_two_accounts_at_which_the_list_is_divided_may_vanish(
    large: Sandbox, tmp_path: Path, order: tuple[int, ...]
) -> None:
    """They do when the first range has been walked. In four of these orders, 501 or 600 accounts were once left out."""
    everyone = in_order(large.world)
    stripe, page_store = StripeClient(settings_for(large.url, tmp_path)), PageStore(tmp_path / "pages")
    listing = Listing(stripe, page_store, spread(everyone), lambda count: None)
    assert len(listing.ranges) == len(order)
    walk_alone(listing, order[0])
    gone = [f"starting_after={listing.ranges[part].start}" for part in (1, 2)]
    large.faults = Faults(script=[Rule(Fault("cursor_gone"), query=q, nth=range(1, 99)) for q in gone])
    for part in order[1:]:
        walk_alone(listing, part)
    assert {i for page in page_store.read() for i in list_page(page.body).ids} == set(everyone)


def test_accounts_at_which_the_list_is_divided_vanish_before_it_is_walked(
    large: Sandbox, tmp_path: Path
) -> None:
    """Any number of them: there are no such ranges, and the one before walks on, with a request for each that is gone."""
    everyone = in_order(large.world)
    known = [f"fca_{'0' * 20}{number:04d}" for number in range(len(spread(everyone)))]
    assert set(walk(large, tmp_path, known)) == set(everyone)


def walk_alone(listing: Listing, part: int) -> None:
    """Walk one range to its end."""
    while not listing.ranges[part].has_ended:
        listing.fetch_next(listing.ranges[part])


@pytest.mark.parametrize("damaged", [False, True])
def test_a_range_whose_beginning_vanished_while_the_run_was_stopped_is_walked(
    large: Sandbox, tmp_path: Path, *, damaged: bool
) -> None:
    """It had begun, and the one before had ended there; a damaged first page of it must not leave a gap either."""
    everyone = in_order(large.world)
    known = spread(everyone)
    stripe, page_store = StripeClient(settings_for(large.url, tmp_path)), PageStore(tmp_path / "pages")
    listing = Listing(stripe, page_store, known, lambda count: None)
    listing.fetch_next(listing.ranges[0])
    listing.fetch_next(listing.ranges[1])
    walk_alone(listing, 0)
    assert listing.ranges[0].position < len(known) - 1, "it ended where the next one began"
    gone = f"starting_after={listing.ranges[1].start}"
    large.faults = Faults(script=[Rule(Fault("cursor_gone"), query=gone, nth=range(1, 99))])
    if damaged:
        (tmp_path / "pages" / "accounts-p0001-000000.json.zst").write_bytes(b"cut off")
    fetch_accounts(stripe, page_store, known, lambda count: None)
    assert {i for page in page_store.read() for i in list_page(page.body).ids} == set(everyone)


@pytest.mark.parametrize("plan", [b"", b"[", None])
def test_a_listing_goes_on_without_its_plan(large: Sandbox, tmp_path: Path, plan: bytes | None) -> None:
    """The file is empty after a crash of the machine, or gone: what its ranges began after stands on their pages."""
    everyone = in_order(large.world)
    large.faults = Faults(script=[Rule(Fault("forbidden"), nth=range(10, 999))])
    with pytest.raises(PermissionDenied):
        walk(large, tmp_path, spread(everyone))
    kept = len(list((tmp_path / "pages").glob("*.zst")))
    file = tmp_path / "pages" / RANGES_FILE
    file.unlink() if plan is None else file.write_bytes(plan)
    large.faults = None
    large.reset_requests()
    assert set(walk(large, tmp_path, spread(everyone))) == set(everyone)
    assert listed(large) < -(-len(everyone) // 100) - kept + 8


def test_a_range_that_is_longer_than_was_thought_is_divided(large: Sandbox, tmp_path: Path) -> None:
    """What is known is all at one end, so one range holds nearly everything; idle threads take over half of it."""
    everyone = in_order(large.world)
    stripe, page_store = StripeClient(settings_for(large.url, tmp_path)), PageStore(tmp_path / "pages")
    listing = Listing(stripe, page_store, spread(everyone), lambda count: None)
    del listing.ranges[1:]
    listing._walking = {0}
    made = listing.divide_longest()
    assert made is not None
    assert made.start == spread(everyone)[len(spread(everyone)) // 2]


def test_many_new_accounts_above_what_is_known_are_no_reason_to_divide_there(tmp_path: Path) -> None:
    """The first range has walked fifty pages of them; the second has more known ones left."""
    listing = unwalked(tmp_path, [f"fca_{i}" for i in range(200)])
    second = divided(listing)
    listing.ranges[0].last, listing.ranges[0].position = replace_header(no_page("accounts"), number=49), 30
    assert divided(listing).index == second.index + 50


@pytest.mark.quick
def test_no_object_that_is_there_all_the_time_is_left_out_however_the_list_changes() -> None:
    """3,000 walks over lists that change at any moment; `python -m tests.extract.list_simulator` has as many as wanted."""
    ended = Counter(simulate(seed, moves=seed % 2 == 0)[0].partition(":")[0] for seed in range(3000))
    assert ended["lost"] == 0
    assert ended["whole"] > 2000


def test_a_listing_begun_beside_something_else_is_finished_in_ranges_and_asks_for_no_page_twice(
    large: Sandbox, tmp_path: Path
) -> None:
    everyone = in_order(large.world)
    stripe, page_store = StripeClient(settings_for(large.url, tmp_path)), PageStore(tmp_path / "pages")
    begin_accounts(stripe, page_store, [], lambda: listed(large) == 5)
    assert (listed(large), page_store.count()) == (5, 5)
    told: list[int] = []
    fetch_accounts(stripe, page_store, spread(everyone), told.append)
    assert {i for page in page_store.read() for i in list_page(page.body).ids} == set(everyone)
    assert listed(large) == page_store.count() == -(-len(everyone) // 100)
    assert sum(told) == len(everyone)
    assert len(page_store.parts()) > 1


@pytest.mark.quick
def test_a_listing_that_was_stopped_goes_on_in_its_ranges(large: Sandbox, tmp_path: Path) -> None:
    everyone = in_order(large.world)
    large.faults = Faults(script=[Rule(Fault("forbidden"), nth=range(10, 999))])
    with pytest.raises(Exception, match="403"):
        walk(large, tmp_path, spread(everyone))
    kept = len(list((tmp_path / "pages").glob("*.zst")))
    assert kept > 0
    large.faults = None
    large.reset_requests()
    assert set(walk(large, tmp_path, [])) == set(everyone)
    assert listed(large) == -(-len(everyone) // 100) - kept


def started_after(sandbox: Sandbox) -> set[str]:
    """The accounts after which pages of the listing were asked for."""
    queries = [query for _, path, query in sandbox.requests if path.endswith("/accounts")]
    return {after for query in queries for after in parse_qs(query).get("starting_after", [])}


def test_a_first_listing_is_divided_at_accounts_that_events_name(large: Sandbox, tmp_path: Path) -> None:
    """Every account is seen, at the cost of three requests for events and of half a page for each range."""
    everyone = in_order(large.world)
    assert set(walk(large, tmp_path, [])) == set(everyone)
    assert len([path for _, path, _ in large.requests if path.endswith("/events")]) == 3
    assert listed(large) <= -(-len(everyone) // 100) + 4
    assert len(started_after(large) - set(spread(everyone))) > 3, (
        "some range began amid what one chain's page holds"
    )


def test_a_list_of_ten_pages_is_not_divided_because_events_name_many_of_its_accounts(tmp_path: Path) -> None:
    """Each range costs half a page: many Stripe accounts of a thousand accounts took half as many pages again."""
    with running(World(seed=5, clock=START, accounts=1000, sessions=0)) as sandbox:
        assert walk(sandbox, tmp_path, [], concurrency=8) == in_order(sandbox.world)
        assert len([path for _, path, _ in sandbox.requests if path.endswith("/events")]) == 3
        assert listed(sandbox) <= 12  # by how many of the pages that were walked meanwhile events name


def listed_in(first: int, last: int, a_second: int = 1) -> list[ListPage]:
    """Pages of a list of which so many objects were created each second, the newest at second 100,000."""
    return [
        ListPage([f"fca_{i}" for i in page], [100_000 - i // a_second for i in page], 100, has_more=True)
        for page in (range(100 * number, 100 * number + 100) for number in range(first, last))
    ]


def named_in(pages: Sequence[ListPage], every: int) -> list[tuple[int, str]]:
    """Of what stands on pages, each so-manieth, as events name it."""
    return [pair for page in pages for pair in zip(page.created, page.ids, strict=True)][::every]


def test_where_accounts_stand_is_told_by_when_they_were_created() -> None:
    """Events name far more of some stretches of the list than of others: ranges of as many names are not of as many pages."""
    crowd, few = named_in(listed_in(0, 50), 10), named_in(listed_in(50, 250), 500)
    places = places_of([*crowd, *few], listed_in(0, 5))
    assert len(places) == len(crowd) + len(few) + 1
    assert places == sorted(places)
    for (_, name), place in zip([*crowd, *few], places, strict=False):
        assert place == pytest.approx(int(name[4:]) / 100, rel=0.01, abs=0.1)
    assert places[-1] == pytest.approx(250, rel=0.05)


@pytest.mark.parametrize("odd", [10**400, -(10**400)])
def test_an_account_that_says_it_is_of_no_time_stands_at_an_end(odd: int) -> None:
    pages = listed_in(0, 5)
    named = sorted([*named_in(listed_in(0, 50), 100), (odd, "fca_odd")], reverse=True)
    places = places_of(named, pages)
    assert places == sorted(places)
    assert places[0] == 0
    of_no_time = replace_header(pages[0], created=[odd] * 100)
    assert places_of(named, [of_no_time, *pages[1:]]) == pytest.approx(places, rel=0.01, abs=1.3)
    assert places_of(named, [of_no_time])[-1] == len(named)


def test_a_list_that_grew_faster_once_is_as_long_as_the_accounts_that_events_name() -> None:
    """Of the first pages 20 accounts are named, as of all others; by the pace of those there would be ten pages in all."""
    now, before = listed_in(0, 5), listed_in(5, 200, a_second=40)
    places = places_of(named_in([*now, *before], 25), now)
    assert places[-1] == pytest.approx(200, rel=0.05)


def unwalked(folder: Path, known: Sequence[str], places: Sequence[float] = ()) -> Listing:
    """A listing of which one range is being walked, and nothing is fetched yet."""
    stripe = StripeClient(settings_for("http://127.0.0.1:9", folder))
    listing = Listing(stripe, PageStore(folder / "pages"), known, lambda count: None, places)
    del listing.ranges[1:]
    listing._walking = {0}
    return listing


def divided(listing: Listing) -> Range:
    """What a thread that has nothing to do is given to walk."""
    made = listing.divide_longest()
    assert made is not None
    listing._walking.add(made.part)
    return made


def test_ranges_are_of_as_many_pages_and_who_is_slower_than_was_thought_is_relieved_first(
    tmp_path: Path,
) -> None:
    """Wherever the known accounts crowd; and each range goes by its own pace."""
    places = [i / 10 for i in range(100)] + [10.0 + 3 * i for i in range(81)]
    listing = unwalked(tmp_path, [f"fca_{i}" for i in range(180)], places)
    begun = sorted(divided(listing).index for _ in range(3))
    assert [places[index] for index in begun] == pytest.approx([62.5, 125, 187.5], abs=3)
    listing._walking.remove(0)
    for walked in listing.ranges[1:]:
        walked.position = walked.index + 7
        pages = 60 if walked.index == begun[1] else 20
        walked.last = replace_header(no_page("accounts"), number=pages)
    assert begun[1] + 7 < divided(listing).index < begun[2]


def test_where_an_account_has_vanished_no_other_range_is_to_begin(tmp_path: Path) -> None:
    """Each would cost a request: the list is divided at those beside it, until none is left."""
    listing = unwalked(tmp_path, [f"fca_{i}" for i in range(6)], [0, 100, 120, 130, 140, 199, 200])
    tried = []
    for _ in range(9):
        if made := listing.divide_longest():
            made.is_lost = True
            tried.append(made.index)
    assert tried[0] == 1
    assert sorted(tried) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("created", [0, 1_700_000_000])
def test_accounts_of_one_second_stand_evenly_and_without_any_there_is_nothing(created: int) -> None:
    """As after an import, or where Stripe does not say when they were created."""
    page = ListPage([f"fca_{i}" for i in range(100)], [created] * 100, 100, has_more=True)
    assert places_of([(created, f"fca_{i}") for i in range(0, 100, 25)], [page]) == [0, 0.25, 0.5, 0.75, 1]
    assert places_of([], [page]) == [0]


@pytest.mark.parametrize("fault", ["forbidden", "server_error"])
def test_where_no_event_can_be_read_a_first_listing_is_one_chain(
    large: Sandbox, tmp_path: Path, fault: Any
) -> None:
    everyone = in_order(large.world)
    large.faults = Faults(script=[Rule(Fault(fault), path="/v1/events", nth=range(1, 99))])
    assert walk(large, tmp_path, []) == everyone
    assert listed(large) == -(-len(everyone) // 100)


def test_a_short_first_listing_asks_for_no_events(sandbox: Sandbox, tmp_path: Path) -> None:
    assert walk(sandbox, tmp_path, []) == in_order(sandbox.world)
    assert not [path for _, path, _ in sandbox.requests if path.endswith("/events")]


def test_a_first_listing_goes_on_while_events_do_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They answer once the last page was asked for, and see that it was."""
    monkeypatch.setattr("fincon.extract.accounts.EVENTS_SECONDS", 0.01)
    ids = [f"fca_{number}" for number in range(12)]
    last_page, in_time = Event(), list[bool]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            found: list[str] = []
            if path == "/v1/events":
                in_time.append(last_page.wait(20))
            else:
                after = parse_qs(query).get("starting_after", [""])[0]
                first = ids.index(after) + 1 if after else 0
                found = ids[first : first + 1]
            has_more = bool(found) and found != ids[-1:]
            if found and not has_more:
                last_page.set()
            page = {"data": [{"id": one, "created": 1} for one in found], "has_more": has_more}
            body = json.dumps(page).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        stripe = StripeClient(settings_for(f"http://127.0.0.1:{server.server_port}", tmp_path))
        page_store = PageStore(tmp_path / "pages")
        fetch_accounts(stripe, page_store, [], lambda count: None)
        stripe.close()
        server.shutdown()
    assert [i for page in page_store.read() for i in list_page(page.body).ids] == ids
    assert in_time == [True] * 3
