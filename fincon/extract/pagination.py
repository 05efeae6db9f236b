"""Page through a list of Stripe's: the one place where cursors are followed and pages are put on disk.

A list comes a page at a time, newest object first; the id of any object on it is a cursor, after which a page can begin.
Pages that belong together are a chain: each begins where the one before it ended.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
from msgspec import Raw
from msgspec.structs import replace as replace_header

from fincon.errors import CursorNotFound, Refusal, StripeError, UnexpectedAnswer
from fincon.extract.client import Params, StripeClient
from fincon.extract.responses import StripeResponse
from fincon.landing.page_store import PageStore
from fincon.transforms.event_times import SECOND
from fincon.transforms.list_page import ListPage, list_page
from fincon.transforms.page import ERASED, Header, Page
from fincon.transforms.rejects import object_id
from fincon.transforms.streams import STREAMS
from fincon.transforms.wording import pluralize

PAGE_SIZE = 100
"""The largest that Stripe serves: the fewest requests."""

MOST_ON_A_PAGE = 10_000
"""How many objects a page may have: far more than Stripe serves, and few enough for any machine."""

CURSORS_TRIED = 10
"""How many objects of a page are tried as a cursor when its last ones are gone."""

Progress = Callable[[int], object]
"""Told how many more objects have been fetched."""


@dataclass(frozen=True)
class ListEndpoint:
    """A list of Stripe's, and which of its objects are asked for."""

    endpoint: str
    """The limit that its requests count against."""
    path: str
    query: Params = field(default_factory=dict)


def list_accounts(**query: str) -> ListEndpoint:
    """Return the list of accounts: all of them, or with ``session`` those of a session."""
    accounts = STREAMS["accounts"]
    return ListEndpoint(accounts.endpoint, accounts.path, query)


# -- asking for pages


def fetch_page(
    stripe: StripeClient, listed: ListEndpoint, after: str = "", seen: Collection[str | None] = ()
) -> tuple[StripeResponse, ListPage]:
    """Ask for the page that begins after the object ``after``; for the first where it is empty.

    Raises:
        CursorNotFound: there is no such object any more. StripeError: no good answer, or a page that ends where one of
            ``seen`` did: the list does not end.
    """
    cursor = {"starting_after": after} if after else {}
    return stripe.get(
        listed.endpoint,
        listed.path,
        lambda body: parse_list_page(body, seen=seen),
        {**listed.query, "limit": PAGE_SIZE, **cursor},
    )


def fetch_next_page(
    stripe: StripeClient,
    listed: ListEndpoint,
    cursors: Iterable[str],
    seen: Collection[str | None],
    is_next: Callable[[ListPage], bool] = lambda page: True,
) -> tuple[StripeResponse, ListPage]:
    """Ask for the page after the first of ``cursors`` that Stripe still knows, and whose page ``is_next``.

    They are the last object of the page before and then those before it, so that some objects come twice where the last
    is gone, and none is left out.

    Raises:
        StripeError: as `fetch_page`, or none of the cursors is there any more.
    """
    tried, refusal = 0, None
    for cursor in cursors:
        tried += 1
        try:
            found = fetch_page(stripe, listed, cursor, seen)
        except CursorNotFound as gone:
            refusal = gone.refusal
            continue
        if is_next(found[1]):
            return found
    raise StripeError(
        f"GET {listed.path}: the list cannot go on, for Stripe does not know "
        f"the last {pluralize(tried, 'object')} before the next page any more.",
        "Run the same command again with --restart.",
        refusal,
    )


def iterate_pages(stripe: StripeClient, listed: ListEndpoint) -> Iterator[ListPage]:
    """Yield every page of a list, of which nothing is kept on disk.

    Raises:
        StripeError: a request failed for good, or the list does not end.
    """
    _, page = fetch_page(stripe, listed)
    seen: set[str | None] = set()
    yield page
    while page.has_more:
        seen.add(page.ids[-1])
        _, page = fetch_next_page(stripe, listed, reversed(page.ids[-CURSORS_TRIED:]), seen)
        yield page


def parse_list_page(body: bytes, *, of_session: bool = False, seen: Collection[str | None] = ()) -> ListPage:
    """Return what paging needs of a body: a page of a list, or with ``of_session`` a session, which holds one.

    Raises:
        UnexpectedAnswer: it is no page, or far too large a one, says more follows but not after what, or repeats an earlier page.
    """
    try:
        page = list_page(body, of_session=of_session)
    except msgspec.DecodeError as error:
        raise UnexpectedAnswer(f"the answer is not what the API promises: {error}") from error
    if page.count > MOST_ON_A_PAGE:
        raise UnexpectedAnswer(
            f"a page of {pluralize(page.count, 'object')}, where {PAGE_SIZE} were asked for"
        )
    if page.has_more and not page.ids:
        raise UnexpectedAnswer("an empty page that says more follows")
    if page.has_more and page.ids[-1] in seen:
        raise UnexpectedAnswer("the page repeats an earlier one: the list does not end")
    return page


def refuse_another(body: bytes, asked: str) -> None:
    """Refuse an answer that says it is another object than the one that was ``asked`` for: it would pass for that.

    Raises:
        UnexpectedAnswer: it does.
    """
    said = object_id(Raw(body))
    if said not in (asked, None):
        raise UnexpectedAnswer("the answer is another object than the one that was asked for")


# -- chains of pages on disk


def no_page(stream: str, parent: str = "", part: int = 0) -> Header:
    """Return what stands before the first page of a chain."""
    return Header(
        stream=stream, parent=parent, part=part, number=-1, offset=0, count=0, request="", request_id="",
        status=200, observed_at=0, cursor=None,
    )  # fmt: skip


def fetch_remaining(  # six: a chain is a client, a place, a list and where it stands, and two that most leave out
    stripe: StripeClient,
    page_store: PageStore,
    listed: ListEndpoint,
    last: Header,
    progress: Progress = lambda count: None,
    store: "Callable[[PageStore, StripeResponse, ListPage, Header], Header] | None" = None,
) -> None:
    """Fetch and store every page of a chain after its ``last``, until one says that no more follow.

    ``store`` writes a page as `store_page` does, and by default is that.

    Raises:
        StripeError: as `fetch_next_page`; pages fetched stay on disk.
    """
    seen = {last.cursor}
    while last.cursor is not None:
        answer, page = fetch_next_page(stripe, listed, cursors_after(page_store, last), seen)
        last = (store or store_page)(page_store, answer, page, last)
        seen.add(last.cursor)
        progress(page.count)


def cursors_after(page_store: PageStore, last: Header) -> Iterator[str]:
    """Yield the ids after which a chain can go on: the last object of its ``last`` page, then those before it."""
    yield last.cursor or ""
    holds_session = last.stream == "sessions" and last.number == 0
    ids = list_page(page_store.page(last).body, of_session=holds_session).ids
    yield from reversed(ids[-CURSORS_TRIED:-1])


def store_page(
    page_store: PageStore, answer: StripeResponse, page: ListPage, before: Header, *, ends: bool = False
) -> Header:
    """Write a page behind ``before`` in the same chain, which ``ends`` with it or goes on; return its header."""
    header = replace_header(
        before,
        number=before.number + 1,
        offset=before.offset + before.count,
        count=page.count,
        request=answer.request,
        request_id=answer.request_id,
        observed_at=page_store.next_observed_at(answer.date),
        answered_at=answer.date * SECOND,
        cursor=_next_cursor(page_store, page) if page.has_more and not ends else None,
    )
    page_store.write(Page(header, answer.body))
    return header


def store_refusal(page_store: PageStore, refusal: Refusal, of: Header) -> Header:
    """Write a refusal as the only page of the chain that ``of`` is of; return its header, which says what Stripe said.

    The pages of the chain that are there go first, the last one first: whenever this is stopped, what is left goes on to
    the list's end, or is the refusal. Half a list never passes for whole.
    """
    page_store.drop(of.stream, of.parent, keep_first=True)
    header = replace_header(
        of,
        number=0,
        offset=0,
        count=0,
        request=refusal.request,
        request_id=refusal.request_id,
        status=404 if refusal.status == ERASED else refusal.status,  # gone: Stripe does not know it any more
        code=refusal.code,
        words=refusal.words,
        observed_at=page_store.next_observed_at(refusal.date),
        cursor=None,
    )
    page_store.write(Page(header, b"{}"))
    return header


def _next_cursor(page_store: PageStore, page: ListPage) -> str:
    """Return after what the next page begins: the last object that was not erased, whose id may be kept."""
    return next((i for i in reversed(page.ids) if not page_store.erased.is_erased(i)), page.ids[-1])
