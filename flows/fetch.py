"""Stripe → pages on disk: sessions with all their accounts, and the listing of every account."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed

import msgspec

from flows.errors import NotFound, StripeError
from flows.pages import Spool
from flows.stripe_api import PREFIX, Answer, Stripe
from transforms.envelope import Header, Page, Stream
from transforms.stripe_objects import ListPage, list_page

PAGE_SIZE = 100
"""The largest that Stripe serves: the fewest requests."""

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
        futures = [pool.submit(fetch_session, stripe, spool, session_id) for session_id in ids]
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
        answer = stripe.get("sessions", path)
    except NotFound as missing:
        answer = Answer(missing.body, path, missing.request_id, missing.observed_at)
        return _keep(spool, answer, None, "sessions", session_id, None)
    return _keep(spool, answer, _read(answer, of_session=True), "sessions", session_id, None)


def _follow(stripe: Stripe, spool: Spool, last: Header, query: dict[str, str], progress: Progress) -> None:
    """Every page after ``last``. Stops at a list that repeats itself instead of ending."""
    seen = {last.cursor}
    while last.cursor:
        last = _fetch(stripe, spool, last.stream, last.parent, last, query, progress)
        if last.cursor in seen and last.cursor:
            raise StripeError(
                f"GET {last.request}: the page repeats an earlier one (Request-Id {last.request_id}).",
                "Stripe's list does not end. Run the same command again; if it stays so, tell Stripe's support.",
            )
        seen.add(last.cursor)


def _fetch(
    stripe: Stripe,
    spool: Spool,
    stream: Stream,
    parent: str,
    before: Header | None,
    query: dict[str, str],
    progress: Progress,
) -> Header:
    """The page after ``before``, kept on disk; its header."""
    after = {"starting_after": before.cursor} if before and before.cursor else {}
    answer = stripe.get("accounts", f"{PREFIX}/accounts", {**query, "limit": PAGE_SIZE, **after})
    page = _read(answer)
    header = _keep(spool, answer, page, stream, parent, before)
    progress(page.count)
    return header


def _read(answer: Answer, *, of_session: bool = False) -> ListPage:
    """What paging needs of an answer.

    Raises:
        StripeError: it is no page, or says that more follows but not after what.
    """
    said = f"GET {answer.request}: "
    try:
        page = list_page(answer.body, of_session=of_session)
    except msgspec.DecodeError as error:
        raise StripeError(
            f"{said}the answer is not what the API promises: {error} (Request-Id {answer.request_id}).",
            "Check STRIPE_API_BASE and STRIPE_VERSION.",
        ) from error
    if page.has_more and not page.ids and not of_session:
        raise StripeError(
            f"{said}an empty page that says more follows (Request-Id {answer.request_id}).",
            "Run the same command again; if it stays so, tell Stripe's support.",
        )
    return page


def _keep(
    spool: Spool, answer: Answer, page: ListPage | None, stream: Stream, parent: str, before: Header | None
) -> Header:
    """Write a page; its cursor counts only from then on. ``page`` None stands for an answer 404."""
    header = Header(
        stream=stream,
        parent=parent,
        number=before.number + 1 if before else 0,
        offset=before.offset + before.count if before else 0,
        count=page.count if page else 0,
        request=answer.request,
        request_id=answer.request_id,
        status=200 if page else 404,
        observed_at=spool.stamp(answer.date),
        cursor=page.ids[-1] if page and page.has_more and page.ids else None,
    )
    spool.write(Page(header, answer.body))
    return header
