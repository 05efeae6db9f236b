"""Stripe → pages on disk: sessions with all their accounts, and the listing of every account."""

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

import msgspec

from flows.errors import CursorGone, NotFound, StripeError, UnexpectedAnswer
from flows.pages import Spool
from flows.stripe_api import PREFIX, Answer, Stripe
from transforms.envelope import ERASED, Header, Page, Stream
from transforms.hidden import named
from transforms.stripe_objects import ListPage, list_page

PAGE_SIZE = 100
"""The largest that Stripe serves: the fewest requests."""

CURSORS_TRIED = 10
"""How many objects of a page are tried as a cursor when its last ones are gone."""

Progress = Callable[[int], object]
"""Told how many more objects have been fetched."""


def first_request(session_id: str) -> str:
    """The path of a session."""
    return f"{PREFIX}/sessions/{session_id}"


def fetch_sessions(stripe: Stripe, spool: Spool, ids: Iterable[str], progress: Progress) -> None:
    """Each session of ``ids`` and the rest of its accounts, several at a time. What is on disk is not asked for.

    A session that Stripe does not know is kept as the answer 404 and the rest goes on.

    Raises:
        StripeError: a request failed for good; sessions already fetched stay on disk.
    """
    with ThreadPoolExecutor(stripe.settings.concurrency, thread_name_prefix="sessions") as pool:
        futures = [
            pool.submit(fetch_session, stripe, spool, session_id)
            for session_id in ids
            if not spool.erased.hides(session_id)
        ]
        try:
            for future in as_completed(futures):
                future.result()
                progress(1)
        except BaseException:
            stripe.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def fetch_session(stripe: Stripe, spool: Spool, session_id: str) -> None:
    """One session, and the accounts that its own page did not hold."""
    chain = spool.chain("sessions", session_id)
    last = chain[-1].header if chain else _first_of_session(stripe, spool, session_id)
    _follow(stripe, spool, last, {"session": session_id}, lambda count: None)


def fetch_accounts(stripe: Stripe, spool: Spool, progress: Progress) -> None:
    """The listing of every account, 100 a page, from where the pages on disk end.

    Raises:
        StripeError: a request failed for good, or the list does not end; pages fetched stay on disk.
    """
    chain = spool.chain("accounts")
    if chain:
        last = chain[-1].header
        progress(last.offset + list_page(chain[-1].body).count)
    else:
        last = _fetch(stripe, spool, "accounts", "", None, {}, progress)
    _follow(stripe, spool, last, {}, progress)


def _first_of_session(stripe: Stripe, spool: Spool, session_id: str) -> Header:
    path = first_request(session_id)
    try:
        answer, page = stripe.get("sessions", path, lambda body: _page(body, of_session=True))
        if spool.erased.hides(*named(answer.body)):
            answer = replace(answer, body=b"{}")
            return _keep(spool, answer, None, "sessions", session_id, None, status=ERASED)
    except NotFound as missing:
        answer = Answer(missing.body, path, missing.request_id, missing.observed_at)
        return _keep(spool, answer, None, "sessions", session_id, None, status=404)
    return _keep(spool, answer, page, "sessions", session_id, None)


def _follow(stripe: Stripe, spool: Spool, last: Header, query: dict[str, str], progress: Progress) -> None:
    """Every page after ``last``, until one says that no more follow."""
    cursors = {last.cursor}
    while last.cursor is not None:
        last = _fetch(stripe, spool, last.stream, last.parent, last, query, progress, cursors)
        cursors.add(last.cursor)


def _fetch(
    stripe: Stripe,
    spool: Spool,
    stream: Stream,
    parent: str,
    before: Header | None,
    query: dict[str, str],
    progress: Progress,
    cursors: Collection[str | None] = (),
) -> Header:
    """The page after ``before``, kept on disk; its header.

    Where the object to go on after is gone, the page goes on after one before it, so some objects come twice.

    Raises:
        StripeError: no good answer, or a page that ends where one of ``cursors`` did: the list does not end.
    """
    for cursor in _cursors(spool, before):
        after = {"starting_after": cursor} if cursor else {}
        try:
            answer, page = stripe.get(
                "accounts",
                f"{PREFIX}/accounts",
                lambda body: _page(body, cursors=cursors),
                {**query, "limit": PAGE_SIZE, **after},
            )
        except CursorGone:
            continue
        header = _keep(spool, answer, page, stream, parent, before)
        progress(page.count)
        return header
    raise StripeError(
        f"The listing cannot go on: Stripe knows none of the {CURSORS_TRIED} objects before page {before and before.number + 1}.",
        "Run again with --restart.",
    )


def _cursors(spool: Spool, before: Header | None) -> Iterator[str]:
    """After what to go on: the last object of the page before, or else those before it. Empty for the start."""
    if before is None or before.cursor is None:
        yield ""
        return
    yield before.cursor
    ids = list_page(
        spool.page(before).body, of_session=before.stream == "sessions" and before.number == 0
    ).ids
    yield from reversed(ids[-CURSORS_TRIED:-1])


def _cursor(spool: Spool, page: ListPage) -> str:
    """After what the next page begins: the last object, or the last that was not erased, whose id may be kept."""
    return next((i for i in reversed(page.ids) if not spool.erased.hides(i)), page.ids[-1])


def _page(body: bytes, *, of_session: bool = False, cursors: Collection[str | None] = ()) -> ListPage:
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


def _keep(
    spool: Spool,
    answer: Answer,
    page: ListPage | None,
    stream: Stream,
    parent: str,
    before: Header | None,
    status: int = 200,
) -> Header:
    """Write a page; its cursor counts only from then on. ``page`` is None where the answer is none to be read."""
    header = Header(
        stream=stream,
        parent=parent,
        number=before.number + 1 if before else 0,
        offset=before.offset + before.count if before else 0,
        count=page.count if page else 0,
        request=answer.request,
        request_id=answer.request_id,
        status=status,
        observed_at=spool.stamp(answer.date),
        cursor=_cursor(spool, page) if page and page.has_more else None,
    )
    spool.write(Page(header, answer.body))
    return header
