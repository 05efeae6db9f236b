"""Fetch sessions, each with all the accounts that it collected."""

from collections.abc import Iterable

from fincon.errors import StripeError
from fincon.extract.client import StripeClient
from fincon.extract.concurrency import Meanwhile, fetch_each
from fincon.extract.pagination import (
    Progress,
    fetch_remaining,
    list_accounts,
    no_page,
    parse_list_page,
    refuse_another,
    store_page,
    store_refusal,
)
from fincon.extract.refusals import Refusals, RefusedAlike, drop_unread, refusal_of_one
from fincon.landing.page_store import PageStore
from fincon.transforms.list_page import ListPage
from fincon.transforms.page import Header
from fincon.transforms.redaction import ids_named
from fincon.transforms.streams import STREAMS

SESSIONS = STREAMS["sessions"]


def session_path(session_id: str) -> str:
    """Return the path of a session."""
    return SESSIONS.request(session_id)[0]


def fetch_sessions(
    stripe: StripeClient,
    page_store: PageStore,
    ids: Iterable[str],
    progress: Progress,
    meanwhile: Meanwhile | None = None,
) -> None:
    """Fetch each session of ``ids`` and the rest of its accounts, several at a time. What is on disk is not asked for.

    Of a session that Stripe does not know, or refuses, its answer is kept, and the others go on. ``meanwhile`` runs beside
    them: sessions have a limit of their own, which leaves that of other lists unused.

    Raises:
        StripeError: a request failed for good, and not for its session alone; sessions already fetched stay on disk. Where
            Stripe refused one session after another alike, it `ends_stage_alone`: none of that is kept.
    """
    refusals = Refusals(SESSIONS.name, "session")
    wanted = [session_id for session_id in ids if not page_store.erased.is_erased(session_id)]

    def fetch(session_id: str) -> None:
        refusals.take(fetch_session(stripe, page_store, session_id))

    try:
        fetch_each(stripe, fetch, wanted, progress, meanwhile)
        refusals.check_all(len(wanted))
    except RefusedAlike as alike:
        drop_unread(page_store, SESSIONS.name, alike)
        raise alike.error from None


def fetch_session(stripe: StripeClient, page_store: PageStore, session_id: str) -> Header:
    """Fetch one session, and the accounts that its own page does not hold; return a header of it.

    Where Stripe refuses any of it, all that is left of the session is that: the refusal's header is returned.
    """
    before = no_page(SESSIONS.name, parent=session_id)
    try:
        last = page_store.last(SESSIONS.name, session_id) or _fetch_first_page(stripe, page_store, before)
        fetch_remaining(stripe, page_store, list_accounts(session=session_id), last)
    except StripeError as error:
        refusal = refusal_of_one(error)
        if refusal is None:
            raise
        return store_refusal(page_store, refusal, before)
    return last


def _fetch_first_page(stripe: StripeClient, page_store: PageStore, before: Header) -> Header:
    """Fetch and store the session's own page; of one that was erased, nothing."""

    def read(body: bytes) -> ListPage:
        refuse_another(body, before.parent)
        return parse_list_page(body, of_session=True)

    answer, page = stripe.get(SESSIONS.endpoint, session_path(before.parent), read)
    if page_store.erased.is_erased(*ids_named(answer.body)):
        return before  # a page of it would keep its id
    return store_page(page_store, answer, page, before)
