"""Stripe's events of accounts: what changed since the last run, at a cost that grows with the changes alone."""

from datetime import timedelta

from fincon.errors import CursorNotFound
from fincon.extract.client import Params, StripeClient
from fincon.extract.pagination import PAGE_SIZE, Progress, keep, no_page, parse_list_page
from fincon.extract.responses import StripeResponse
from fincon.landing.page_store import PageStore
from fincon.transforms.stripe_objects import ListPage

TYPES = tuple(
    f"financial_connections.account.{what}"
    for what in (
        "created",
        "deactivated",
        "disconnected",
        "reactivated",
        "refreshed_balance",
        "refreshed_ownership",
        "refreshed_transactions",
        "account_numbers_updated",
        "upcoming_account_number_expiry",
    )
)

OVERLAP = timedelta(minutes=5)
"""How far before the last run events are asked for again: one may appear late. What is known already adds no row."""

KEPT_FOR = timedelta(days=29)
"""Stripe keeps events for 30 days; a gap longer than this needs the listing."""


def fetch_events(stripe: StripeClient, page_store: PageStore, since: int | None, progress: Progress) -> bool:
    """Every event since ``since`` (microseconds), newest first; whether they reach back that far.

    False where there was no run to go on from, or one too long ago: then the listing has to be walked.

    Raises:
        StripeError: a request failed for good; pages fetched stay on disk.
    """
    if since is None:
        return False
    query: Params = {
        "types[]": TYPES,
        "created[gte]": since // 1_000_000 - int(OVERLAP.total_seconds()),
        "limit": PAGE_SIZE,
    }
    headers = [no_page("events"), *(page.header for page in page_store.chain("events"))]
    last = headers[-1]
    cursors = {header.cursor for header in headers[1:]}
    while last.number < 0 or last.cursor is not None:
        try:
            answer, page = _after(stripe, query, last.cursor, cursors)
        except CursorNotFound:
            cursors = set()  # from the newest again: what comes twice adds no row
            answer, page = _after(stripe, query, None, cursors)
        if last.number < 0 and answer.date - since // 1_000_000 > KEPT_FOR.total_seconds():
            return False
        last = keep(page_store, answer, page, last)
        cursors.add(last.cursor)
        progress(page.count)
    return True


def _after(
    stripe: StripeClient, query: Params, cursor: str | None, cursors: set[str | None]
) -> tuple[StripeResponse, ListPage]:
    after = {"starting_after": cursor} if cursor else {}
    return stripe.get(
        "events", "/v1/events", lambda body: parse_list_page(body, cursors=cursors), {**query, **after}
    )
