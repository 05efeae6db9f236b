"""Fetch what Stripe serves of each account as a list of its own: its transactions and its owners.

Which accounts are asked for is decided by `fincon.lake.incremental.due_accounts`.
"""

from collections.abc import Sequence, Set
from urllib.parse import quote

from msgspec.structs import replace as replace_header

from fincon.errors import CursorNotFound, NotFound
from fincon.extract.client import StripeClient
from fincon.extract.concurrency import fetch_each
from fincon.extract.pagination import (
    ListEndpoint,
    Progress,
    fetch_page,
    fetch_remaining,
    no_page,
    store_missing,
    store_page,
)
from fincon.landing.page_store import PageStore
from fincon.transforms.page import DueAccount, Header
from fincon.transforms.streams import STREAMS, stream_of


def fetch_features(
    stripe: StripeClient, page_store: PageStore, due: Sequence[DueAccount], progress: Progress
) -> None:
    """Fetch the transactions or owners of each account, several at a time. What is on disk is not asked for.

    Raises:
        PermissionDenied: the key may not read them. StripeError: a request failed for good; accounts already read stay
            on disk.
    """
    fetch_each(stripe, lambda one: _fetch_feature(stripe, page_store, one), due, progress)


def finish_started(stripe: StripeClient, page_store: PageStore, stream: str, due: Set[str]) -> None:
    """Fetch the rest of every list that an earlier attempt began of an account that is not ``due`` any more.

    Half of one would move the account's watermark past what was not read.
    """
    for account_id in set(page_store.started_parents(stream)) - due:
        last = page_store.last(stream, account_id)
        if last:
            fetch_remaining(stripe, page_store, _list_of(last), last)
        else:
            page_store.drop(stream, account_id)  # its first page is damaged, and nothing of it is needed


def _fetch_feature(stripe: StripeClient, page_store: PageStore, due: DueAccount) -> None:
    stream = stream_of(due.watermark.feature).name
    before = replace_header(no_page(stream, due.account_id), watermark=due.watermark, after=due.after)
    last = page_store.last(stream, due.account_id) or _fetch_first_page(stripe, page_store, before)
    fetch_remaining(stripe, page_store, _list_of(last), last)


def _fetch_first_page(stripe: StripeClient, page_store: PageStore, before: Header) -> Header:
    """Fetch and store the first page of an account's list; of an account that is not there, that answer."""
    listed = _list_of(before)
    try:
        answer, page = fetch_page(stripe, listed)
    except CursorNotFound:
        if not before.after:
            raise
        # Stripe has forgotten that refresh: from the first transaction, most of which are known and add no row.
        return _fetch_first_page(stripe, page_store, replace_header(before, after=""))
    except NotFound as missing:
        return store_missing(page_store, missing, listed.path, before)
    return store_page(page_store, answer, page, before)


def _list_of(header: Header) -> ListEndpoint:
    """Return the list that a chain walks."""
    stream = STREAMS[header.stream]
    ownership = (header.watermark and header.watermark.ownership_id) or ""
    _, query = stream.request(header.parent, after=header.after, ownership=ownership)
    return ListEndpoint(stream.endpoint, stream.path.format(parent=quote(header.parent, safe="")), query)
