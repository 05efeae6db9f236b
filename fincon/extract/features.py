"""Fetch what Stripe serves of each account as a list of its own: its transactions and its owners.

Which accounts are asked for is decided by `fincon.lake.incremental.due_accounts`. One that cannot be read is set aside:
what Stripe said is kept in place of its list, and the others go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from msgspec.structs import replace

from fincon.errors import CursorNotFound, PermissionDenied, StripeError
from fincon.extract.client import StripeClient
from fincon.extract.concurrency import fetch_each
from fincon.extract.pagination import (
    ListEndpoint,
    Progress,
    fetch_page,
    fetch_remaining,
    no_page,
    store_page,
    store_refusal,
)
from fincon.extract.refusals import Refusals, RefusedAlike, drop_unread, refusal_of_one
from fincon.landing.page_store import PageStore
from fincon.transforms.page import DueAccount, Header
from fincon.transforms.streams import STREAMS, Feature, stream_of


@dataclass(frozen=True, kw_only=True)
class FeatureJob:
    """Say of which accounts the transactions or the owners are to be read."""

    feature: Feature
    due: Sequence[DueAccount]
    readable: DueAccount | None = None
    """One that could be read before, and is not due: it tells a key that lacks the permission."""


def fetch_features(stripe: StripeClient, page_store: PageStore, job: FeatureJob, progress: Progress) -> None:
    """Fetch the transactions or owners of each account, several at a time. What is on disk is not asked for.

    What an earlier attempt began of an account that is not due any more is finished first: half of a list would move the
    account's watermark past what was not read.

    Raises:
        StripeError: a request failed for good, and not for its account alone; accounts already read stay on disk. Where
            Stripe refused one account after another alike, `refusal_of_one` gives what it said, none of that is kept, and
            what is on disk is whole.
    """
    stream = stream_of(job.feature).name
    refusals = Refusals(stream, "account")

    def fetch(due: DueAccount) -> None:
        before = replace(no_page(stream, due.account_id), watermark=due.watermark, after=due.after)
        header = _fetch_list(stripe, page_store, page_store.last(stream, due.account_id), before)
        refusals.take(header, refused_before=due.refused_before)

    for account_id in set(page_store.started_parents(stream)).difference(one.account_id for one in job.due):
        if last := page_store.last(stream, account_id):
            _fetch_list(stripe, page_store, last, last)
        else:
            page_store.drop(stream, account_id)  # its first page is damaged, and nothing of it is needed
    try:
        fetch_each(stripe, fetch, job.due, progress)
        refusals.check_all(len(job.due), lambda: _is_denied(stripe, job.readable))
    except RefusedAlike as alike:
        drop_unread(page_store, stream, alike)
        raise alike.error from None


def _fetch_list(stripe: StripeClient, page_store: PageStore, last: Header | None, before: Header) -> Header:
    """Fetch and store what is left of an account's list after its ``last`` page; return a header of it.

    Where the account is refused, all that is left of the list is that: the refusal's header is returned.
    """
    try:
        last = last or _fetch_first_page(stripe, page_store, before)
        fetch_remaining(stripe, page_store, _list_of(last), last)
    except StripeError as error:
        refusal = refusal_of_one(error)
        if refusal is None:
            raise
        of = last or before
        if of.watermark and refusal.status != 404:  # its transactions are in as far as they were before
            of = replace(of, watermark=replace(of.watermark, refresh_id=of.after or None))
        return store_refusal(page_store, refusal, of)
    return last


def _fetch_first_page(stripe: StripeClient, page_store: PageStore, before: Header) -> Header:
    """Fetch and store the first page of an account's list."""
    try:
        answer, page = fetch_page(stripe, _list_of(before))
    except CursorNotFound:
        if not before.after:
            raise
        # Stripe has forgotten that refresh: from the first transaction, most of which are known and add no row.
        return _fetch_first_page(stripe, page_store, replace(before, after=""))
    return store_page(page_store, answer, page, before)


def _is_denied(stripe: StripeClient, readable: DueAccount | None) -> bool:
    """Ask for an account that could be read before; tell whether the key may not read it any more.

    Where there is none, nothing was ever read, and it is taken for denied.
    """
    if readable is None:
        return True
    stream = stream_of(readable.watermark.feature).name
    header = replace(no_page(stream, readable.account_id), watermark=readable.watermark)
    try:
        fetch_page(stripe, _list_of(header))
    except PermissionDenied:
        return True
    except StripeError as error:
        if refusal_of_one(error) is None:
            raise
    return False


def _list_of(header: Header) -> ListEndpoint:
    """Return the list that a chain walks."""
    stream = STREAMS[header.stream]
    ownership = (header.watermark and header.watermark.ownership_id) or ""
    _, query = stream.request(header.parent, after=header.after, ownership=ownership)
    return ListEndpoint(stream.endpoint, stream.path.format(parent=quote(header.parent, safe="")), query)
