"""Fetch Stripe's events of accounts: what changed since the last run, at a cost that grows with the changes alone."""

from datetime import timedelta

from fincon.extract.client import Params, StripeClient
from fincon.extract.pagination import (
    ListEndpoint,
    Progress,
    fetch_page,
    fetch_remaining,
    no_page,
    store_page,
)
from fincon.landing.page_store import PageStore
from fincon.transforms.streams import STREAMS

EVENTS = STREAMS["events"]

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
    """Fetch every event since ``since`` (microseconds), newest first, and tell whether they reach back that far.

    They do not where there was no run to go on from, or one too long ago: then the listing has to be walked.

    Raises:
        StripeError: a request failed for good; pages fetched stay on disk.
    """
    if since is None:
        return False
    since_seconds = since // 1_000_000
    query: Params = {"types[]": TYPES, "created[gte]": since_seconds - int(OVERLAP.total_seconds())}
    listed = ListEndpoint(EVENTS.endpoint, EVENTS.path, query)
    last = page_store.last(EVENTS.name)
    if last is None:
        answer, page = fetch_page(stripe, listed)
        if answer.date - since_seconds > KEPT_FOR.total_seconds():
            return False
        last = store_page(page_store, answer, page, no_page(EVENTS.name))
        progress(page.count)
    fetch_remaining(stripe, page_store, listed, last, progress)
    return True
