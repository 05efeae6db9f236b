"""Stripe → pages on disk: sessions with all their accounts, and what paging needs (see also `fincon.extract.accounts`)."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from threading import Event
from typing import NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace as replace_header

from fincon.errors import CursorNotFound, NotFound, StripeError, UnexpectedAnswer
from fincon.extract.client import PREFIX, StripeClient
from fincon.extract.responses import StripeResponse
from fincon.landing.page_store import PageStore
from fincon.transforms.erased import named
from fincon.transforms.page import ERASED, Header, Page
from fincon.transforms.stripe_objects import ListPage, list_page

PAGE_SIZE = 100
"""The largest that Stripe serves: the fewest requests."""

NO_LIST = ListPage([], 0, False)


class ListEndpoint(NamedTuple):
    """A list of Stripe's: the limit that its requests count against, its path, and which of its objects are asked for."""

    endpoint: str
    path: str
    query: Mapping[str, str]


def listed_accounts(**query: str) -> ListEndpoint:
    """The list of accounts: all, or a session's."""
    return ListEndpoint("accounts", f"{PREFIX}/accounts", query)


CURSORS_TRIED = 10
"""How many objects of a page are tried as a cursor when its last ones are gone."""

Progress = Callable[[int], object]
"""Told how many more objects have been fetched."""

Beside = Callable[[Callable[[], bool]], object]
"""What is done meanwhile, until what it is given says that it is time to end."""

T = TypeVar("T")


def first_request(session_id: str) -> str:
    """The path of a session."""
    return f"{PREFIX}/sessions/{session_id}"


def fetch_sessions(
    stripe: StripeClient,
    page_store: PageStore,
    ids: Iterable[str],
    progress: Progress,
    beside: Beside | None = None,
) -> None:
    """Each session of ``ids`` and the rest of its accounts, several at a time. What is on disk is not asked for.

    A session that Stripe does not know is kept as the answer 404 and the rest goes on. ``beside`` is done meanwhile:
    sessions have a limit of their own, which leaves that of other lists unused.

    Raises:
        StripeError: a request failed for good; sessions already fetched stay on disk.
    """
    wanted = (session_id for session_id in ids if not page_store.erased.is_erased(session_id))
    one = partial(fetch_session, stripe, page_store)
    fetch_each(stripe, "sessions", one, wanted, progress, beside)


def fetch_each(
    stripe: StripeClient,
    name: str,
    fetch: Callable[[T], object],
    wanted: Iterable[T],
    progress: Progress,
    beside: Beside | None = None,
) -> None:
    """``fetch`` each of ``wanted``, several at a time; and ``beside``, until all of them are done.

    Raises:
        StripeError: one failed for good; those already fetched stay on disk.
    """
    pool = ThreadPoolExecutor(stripe.settings.concurrency + bool(beside), thread_name_prefix=name)
    over = Event()
    try:
        others = {pool.submit(beside, over.is_set)} if beside else set()
        waiting = {pool.submit(fetch, one) for one in wanted}
        if not waiting:
            over.set()
        for future in as_completed(others | waiting):
            future.result()
            if future not in others:
                progress(1)
            waiting.discard(future)
            if not waiting:
                over.set()
    except BaseException as error:
        over.set()
        end_early(stripe, pool, error)
        raise
    pool.shutdown()


def end_early(stripe: StripeClient, pool: ThreadPoolExecutor, error: BaseException) -> None:
    """Stop every thread. After Ctrl-C they are not waited for: one may hang on an answer, and pages are written whole."""
    stripe.stop()
    may_go_on = isinstance(error, Exception)
    pool.shutdown(wait=may_go_on, cancel_futures=True)
    if may_go_on:
        stripe.go_on()  # whoever tries the same again fetches only what is not on disk yet


def fetch_session(stripe: StripeClient, page_store: PageStore, session_id: str) -> None:
    """One session, and the accounts that its own page did not hold."""
    last = page_store.last("sessions", session_id) or _first_of_session(stripe, page_store, session_id)
    follow(stripe, page_store, last, listed_accounts(session=session_id))


def _first_of_session(stripe: StripeClient, page_store: PageStore, session_id: str) -> Header:
    """The session's own page, kept on disk; of one that is not there, or was erased, only that."""
    path = first_request(session_id)
    before = no_page("sessions", parent=session_id)
    try:
        answer, page = stripe.get("sessions", path, lambda body: parse_list_page(body, of_session=True))
    except NotFound as missing:
        answer = StripeResponse(missing.body, path, missing.request_id, missing.observed_at)
        return keep(page_store, answer, NO_LIST, replace_header(before, status=404))
    if page_store.erased.is_erased(*named(answer.body)):
        return keep(page_store, replace(answer, body=b"{}"), NO_LIST, replace_header(before, status=ERASED))
    return keep(page_store, answer, page, before)


def no_page(stream: str, parent: str = "", part: int = 0) -> Header:
    """What stands before the first page of a chain."""
    return Header(
        stream=stream, parent=parent, part=part, number=-1, offset=0, count=0, request="", request_id="",
        status=200, observed_at=0, cursor=None,
    )  # fmt: skip


def follow(stripe: StripeClient, page_store: PageStore, last: Header, listed: ListEndpoint) -> None:
    """Every page after ``last``, until one says that no more follow."""
    cursors = {last.cursor}
    while last.cursor is not None:
        answer, page = fetch_next_page(stripe, page_store, last, listed, cursors)
        last = keep(page_store, answer, page, last)
        cursors.add(last.cursor)


def fetch_next_page(
    stripe: StripeClient,
    page_store: PageStore,
    before: Header,
    listed: ListEndpoint,
    cursors: Collection[str | None],
) -> tuple[StripeResponse, ListPage]:
    """The page of a list after ``before``.

    Where the object to go on after is gone, it goes on after one before it, so that some objects come twice.

    Raises:
        StripeError: no good answer, or a page that ends where one of ``cursors`` did: the list does not end.
    """
    for cursor in _cursors(page_store, before):
        try:
            return list_after(stripe, cursor, listed, cursors)
        except CursorNotFound:
            continue
    raise StripeError(
        f"The listing cannot go on: Stripe knows none of the {CURSORS_TRIED} objects before page {before.number + 1}.",
        "Run again with --restart.",
    )


def list_after(
    stripe: StripeClient, cursor: str, listed: ListEndpoint, cursors: Collection[str | None] = ()
) -> tuple[StripeResponse, ListPage]:
    """The page of a list after ``cursor``; the first where it is empty.

    Raises:
        CursorNotFound: there is no such object. StripeError: as `fetch_next_page`.
    """
    after = {"starting_after": cursor} if cursor else {}
    params: dict[str, str | int] = {**listed.query, "limit": PAGE_SIZE, **after}
    return stripe.get(
        listed.endpoint, listed.path, lambda body: parse_list_page(body, cursors=cursors), params
    )


def _cursors(page_store: PageStore, before: Header) -> Iterator[str]:
    """After what to go on: the last object of the page before, or else those before it."""
    yield before.cursor or ""
    first_of_session = before.stream == "sessions" and before.number == 0
    ids = list_page(page_store.page(before).body, of_session=first_of_session).ids
    yield from reversed(ids[-CURSORS_TRIED:-1])


def keep(
    page_store: PageStore, answer: StripeResponse, page: ListPage, before: Header, *, ends: bool = False
) -> Header:
    """Write the page after ``before``, in the same chain, which ``ends`` here or goes on."""
    header = replace_header(
        before,
        number=before.number + 1,
        offset=before.offset + before.count,
        count=page.count,
        request=answer.request,
        request_id=answer.request_id,
        observed_at=page_store.next_observed_at(answer.date),
        cursor=cursor_after(page_store, page) if page.has_more and not ends else None,
    )
    page_store.write(Page(header, answer.body))
    return header


def cursor_after(page_store: PageStore, page: ListPage) -> str:
    """After what the next page begins: the last object, or the last that was not erased, whose id may be kept."""
    return next((i for i in reversed(page.ids) if not page_store.erased.is_erased(i)), page.ids[-1])


def parse_list_page(
    body: bytes, *, of_session: bool = False, cursors: Collection[str | None] = ()
) -> ListPage:
    """What paging needs of a body.

    Raises:
        UnexpectedAnswer: it is no page, says that more follows but not after what, or repeats an earlier page.
    """
    try:
        page = list_page(body, of_session=of_session)
    except msgspec.DecodeError as error:
        raise UnexpectedAnswer(f"the answer is not what the API promises: {error}") from error
    if page.has_more and not page.ids:
        raise UnexpectedAnswer("an empty page that says more follows")
    if page.has_more and page.ids[-1] in cursors:
        raise UnexpectedAnswer("the page repeats an earlier one: the list does not end")
    return page
