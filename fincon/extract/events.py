"""Fetch Stripe's events: what changed since the last run, at a cost that grows with the changes alone."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import msgspec
from msgspec.structs import replace as replace_header

from fincon.errors import StripeError
from fincon.extract.client import Params, StripeClient
from fincon.extract.pagination import (
    ListEndpoint,
    Progress,
    fetch_page,
    fetch_remaining,
    no_page,
    refuse_another,
    store_page,
    store_refusal,
)
from fincon.extract.refusals import Refusals, RefusedAlike, drop_unread, refusal_of_one
from fincon.extract.responses import StripeResponse
from fincon.landing.page_store import PageStore
from fincon.transforms.decode import ObjectDecoder
from fincon.transforms.event_times import SECOND, EventTimes, events_on, is_ahead
from fincon.transforms.events import accounts_of_events
from fincon.transforms.list_page import ListPage, list_page
from fincon.transforms.page import Header
from fincon.transforms.redaction import redact
from fincon.transforms.rejects import object_id
from fincon.transforms.streams import EVENTS_OVERLAP, STREAMS
from fincon.transforms.stripe_objects import Account

EVENTS, WEBHOOKS, SINGLE_ACCOUNTS = STREAMS["events"], STREAMS["webhooks"], STREAMS["single_accounts"]

TYPES = tuple(
    f"financial_connections.{what}"
    for what in (
        "account.created",
        "account.deactivated",
        "account.disconnected",
        "account.reactivated",
        "account.refreshed_balance",
        "account.refreshed_ownership",
        "account.refreshed_transactions",
        "account.account_numbers_updated",
        "account.upcoming_account_number_expiry",
        "account.supported_payment_method_types_updated",
        "account.upcoming_deactivation",
        "account.expected_deactivation_date_updated",
        "authorization.upcoming_deactivation",
        "authorization.expected_deactivation_date_updated",
    )
)
"""Stripe takes up to 20 types. It has none for a name or a permission that changed: the listing finds those."""

KEPT_FOR = timedelta(days=29)
"""Stripe keeps events for 30 days; a gap longer than this needs the listing."""


def fetch_events(
    stripe: StripeClient,
    page_store: PageStore,
    since: int | None,
    known_times: Mapping[int, Mapping[str, int]],
    progress: Progress,
) -> bool:
    """Fetch every event since ``since`` (microseconds), newest first, and tell whether they reach back that far.

    They do not where there was no run to go on from, or one too long ago, or a page is known that is later than Stripe's clock
    shows, which would outlast what happens now: then the listing has to be walked. Each event is
    kept once, however often Stripe shows it, with a time of its own: see `EventTimes`, which takes ``known_times``. Of the
    overlap, what an earlier run has read is not kept again.

    Raises:
        StripeError: a request failed for good; pages fetched stay on disk.
    """
    if since is None:
        return False
    since_seconds = since // SECOND
    query: Params = {"types[]": TYPES, "created[gte]": since_seconds - int(EVENTS_OVERLAP.total_seconds())}
    listed = ListEndpoint(EVENTS.endpoint, EVENTS.path, query)
    pages = _EventPages(known_times, since)
    last = pages.take(page_store)
    if last is None:
        answer, page = fetch_page(stripe, listed)
        is_too_long_ago = answer.date - since_seconds > KEPT_FOR.total_seconds()
        if is_too_long_ago or page_store.is_known_later(answer.date, since):
            return False
        last = pages.store(page_store, answer, page, no_page(EVENTS.name))
        progress(page.count)
    fetch_remaining(stripe, page_store, listed, last, progress, pages.store)
    return True


def fetch_unreadable_accounts(stripe: StripeClient, page_store: PageStore, named: Iterable[str] = ()) -> None:
    """Fetch each account once that an event shows in a shape that cannot be read: one of another API version, say.

    So are those that are ``named``, of which thin events show nothing. One that is refused is kept as that answer, and the
    others go on.

    Raises:
        StripeError: a request failed for good, and not for its account alone; pages fetched stay on disk.
    """
    refusals = Refusals("accounts", "What was fetched is kept: run the same command again to go on.")
    found = dict.fromkeys([*_unreadable_accounts(page_store), *named])
    wanted = [one for one in found if not page_store.erased.is_erased(one)]
    try:
        for account_id in wanted:
            last = page_store.last(SINGLE_ACCOUNTS.name, account_id)
            refusals.take(last or _fetch_account(stripe, page_store, account_id))
        refusals.check_all(len(wanted))
    except RefusedAlike as alike:
        drop_unread(page_store, SINGLE_ACCOUNTS.name, alike)
        raise alike.error from None


def _fetch_account(stripe: StripeClient, page_store: PageStore, account_id: str) -> Header:
    """Fetch and store one account, as a list of one, or the refusal in its place; return the page's header."""
    before = no_page(SINGLE_ACCOUNTS.name, account_id)
    path, _ = SINGLE_ACCOUNTS.request(account_id)
    try:
        answer, _ = stripe.get(SINGLE_ACCOUNTS.endpoint, path, lambda body: refuse_another(body, account_id))
    except StripeError as error:
        refusal = refusal_of_one(error)
        if refusal is None:
            raise
        return store_refusal(page_store, refusal, before)
    listed = b'{"object": "list", "has_more": false, "data": [%b]}' % answer.body
    return store_page(page_store, replace(answer, body=listed), list_page(listed), before)


def _unreadable_accounts(page_store: PageStore) -> list[str]:
    decoder = ObjectDecoder(Account, "account")
    found: dict[str, None] = {}
    pages = (page for stream in (EVENTS, WEBHOOKS) for page in page_store.chain(stream.name))
    for header, body in pages:
        for event, raw in accounts_of_events(body):
            if is_ahead(event.created, header.answered_at) or not _is_read(decoder, raw):
                found |= dict.fromkeys(filter(None, [object_id(raw)]))
    return list(found)


def _is_read(decoder: ObjectDecoder[Account], raw: msgspec.Raw) -> bool:
    try:
        decoder.decode(raw)
    except msgspec.DecodeError:
        return False
    return True


class _EventPages:
    """Stores pages of events: each event once, and with its time; none that is in the lake already."""

    def __init__(self, known_times: Mapping[int, Mapping[str, int]], since: int) -> None:
        """Take the times of events that were read before: those up to ``since`` (microseconds) are surely in."""
        self._times = EventTimes(known_times)
        self._in_lake = {
            event for times in known_times.values() for event, at in times.items() if at <= since
        }
        self._read: set[str] = set()

    def take(self, page_store: PageStore) -> Header | None:
        """Take note of what an earlier attempt stored; return the header of its last page, None where there is none."""
        last = None
        for last, body in page_store.chain(EVENTS.name):
            self._times.take(last.event_times, events_on(body))
            self._read.update(last.event_times)
        return last

    def store(self, page_store: PageStore, answer: StripeResponse, page: ListPage, before: Header) -> Header:
        """Write a page behind ``before``, without the events that are kept already; return its header."""
        times: dict[str, int] = {}
        for one in events_on(answer.body):  # those in the lake have their place in Stripe's order too
            if is_ahead(one.created, answer.date * SECOND):
                continue  # it is rejected, and its account asked for
            if one.event_id not in self._read and one.event_id not in times:
                # What is seen from now on is newer than what an event tells, whatever its server's clock showed.
                times[one.event_id] = self._times.of(one._replace(created=min(one.created, answer.date)))
        body = redact(answer.body, EVENTS.name, is_erased=self._is_kept_already)
        return store_page(
            page_store, replace(answer, body=body), page, replace_header(before, event_times=times)
        )

    def _is_kept_already(self, *ids: str) -> bool:
        is_kept = not (self._in_lake.isdisjoint(ids[:1]) and self._read.isdisjoint(ids[:1]))
        self._read.update(ids[:1])
        return is_kept
