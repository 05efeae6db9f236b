"""Fetch sessions, each with all the accounts that it collected."""

from collections.abc import Iterable

from fincon.errors import NotFound
from fincon.extract.client import StripeClient
from fincon.extract.concurrency import Meanwhile, fetch_each
from fincon.extract.pagination import (
    Progress,
    fetch_remaining,
    list_accounts,
    no_page,
    parse_list_page,
    store_page,
    store_refusal,
)
from fincon.landing.page_store import PageStore
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

    A session that Stripe does not know is kept as the answer 404 and the others go on. ``meanwhile`` runs beside them:
    sessions have a limit of their own, which leaves that of other lists unused.

    Raises:
        StripeError: a request failed for good; sessions already fetched stay on disk.
    """
    wanted = (session_id for session_id in ids if not page_store.erased.is_erased(session_id))
    fetch_each(stripe, lambda one: fetch_session(stripe, page_store, one), wanted, progress, meanwhile)


def fetch_session(stripe: StripeClient, page_store: PageStore, session_id: str) -> None:
    """Fetch one session, and the accounts that its own page does not hold."""
    last = page_store.last(SESSIONS.name, session_id) or _fetch_first_page(stripe, page_store, session_id)
    fetch_remaining(stripe, page_store, list_accounts(session=session_id), last)


def _fetch_first_page(stripe: StripeClient, page_store: PageStore, session_id: str) -> Header:
    """Fetch and store the session's own page; of one that is not there, only that; of one that was erased, nothing."""
    path = session_path(session_id)
    before = no_page(SESSIONS.name, parent=session_id)
    try:
        answer, page = stripe.get(
            SESSIONS.endpoint, path, lambda body: parse_list_page(body, of_session=True)
        )
    except NotFound as missing:
        return store_refusal(page_store, missing.refusal, before)
    if page_store.erased.is_erased(*ids_named(answer.body)):
        return before  # a page of it would keep its id
    return store_page(page_store, answer, page, before)
