"""Make pages of events that Stripe sent: no request is made, and all that is done with pages goes for them too."""

import time
from collections.abc import Mapping, Sequence
from itertools import count

import msgspec
from msgspec.structs import replace

from fincon.extract.pagination import no_page
from fincon.landing.page_store import PageStore
from fincon.transforms.event_times import SECOND, events_on
from fincon.transforms.list_page import list_body
from fincon.transforms.page import Page
from fincon.transforms.rejects import object_id
from fincon.transforms.streams import STREAMS
from fincon.transforms.webhooks import with_events

EVENTS, WEBHOOKS = STREAMS["events"], STREAMS["webhooks"]

EVENTS_A_PAGE = 1_000

DAY_SECONDS = 86_400


def with_listed(
    page_store: PageStore, known: Mapping[int, Mapping[str, int]]
) -> Mapping[int, Mapping[str, int]]:
    """Return ``known``, as `sort_webhooks` takes it, with the events that this run has read from Stripe's list."""
    for header, body in page_store.chain(EVENTS.name):
        known = with_events(known, events_on(body), header.event_times)
    return known


def listed(page_store: PageStore) -> set[str]:
    """Return the events that this run has read from Stripe's list: what has no time there was rejected."""
    return {one.event_id for _, body in page_store.chain(EVENTS.name) for one in events_on(body)}


def store_webhooks(
    page_store: PageStore, events: Sequence[tuple[msgspec.Raw, int | None]], newest: int
) -> None:
    """Write events, each with its time, in place of those that an earlier attempt has written.

    A page is as old as its newest event says; ``newest`` (microseconds) is what the Stripe account's newest page was.
    """
    page_store.drop(WEBHOOKS.name, "")
    before = no_page(WEBHOOKS.name)
    latest = time.time() + DAY_SECONDS
    for number, start in zip(count(), range(0, len(events), EVENTS_A_PAGE), strict=False):
        some = events[start : start + EVENTS_A_PAGE]
        seconds = [at // SECOND for _, at in some if at is not None and at // SECOND < latest]
        header = replace(
            before,
            number=number,
            offset=start,
            count=len(some),
            observed_at=page_store.next_observed_at(max(seconds, default=newest // SECOND)),
            event_times={object_id(raw) or "": at for raw, at in some if at is not None},
        )
        page_store.write(Page(header, list_body(raw for raw, _ in some)))
