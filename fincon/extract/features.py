"""What a linked account tells beside itself: its transactions and its owners.

Which accounts are asked for is decided in `fincon.lake.incremental`.
"""

from collections.abc import Set

from msgspec.structs import replace as replace_header

from fincon.errors import CursorNotFound, NotFound
from fincon.extract.client import StripeClient
from fincon.extract.pagination import (
    NO_LIST,
    ListEndpoint,
    Progress,
    fetch_each,
    follow,
    keep,
    list_after,
    no_page,
)
from fincon.extract.responses import StripeResponse
from fincon.landing.page_store import PageStore
from fincon.transforms.page import DueAccount, Header
from fincon.transforms.streams import STREAMS, stream_of


def fetch_details(
    stripe: StripeClient, page_store: PageStore, wanted: list[DueAccount], progress: Progress
) -> None:
    """The transactions or owners of each account, several accounts at a time. What is on disk is not asked for.

    Raises:
        PermissionDenied: the key may not read them. StripeError: a request failed for good; accounts already read stay
            on disk.
    """
    fetch_each(stripe, "details", lambda one: _fetch(stripe, page_store, one), wanted, progress)


def finish_begun(stripe: StripeClient, page_store: PageStore, stream: str, due_now: Set[str]) -> None:
    """The rest of every list that an earlier attempt began of an account that is not due any more.

    Half of one would move the account's watermark past what was not read.
    """
    for account_id in set(page_store.started_parents(stream)) - due_now:
        last = page_store.last(stream, account_id)
        if last:
            follow(stripe, page_store, last, _listed(last))
        else:
            page_store.drop(stream, account_id)  # its first page is damaged, and nothing of it is needed


def _fetch(stripe: StripeClient, page_store: PageStore, wanted: DueAccount) -> None:
    stream = stream_of(wanted.watermark.feature).name
    begin = replace_header(no_page(stream, wanted.account_id), watermark=wanted.watermark, after=wanted.after)
    last = page_store.last(stream, wanted.account_id) or _first_page(stripe, page_store, begin)
    follow(stripe, page_store, last, _listed(last))


def _listed(header: Header) -> ListEndpoint:
    """The list that a chain walks."""
    stream = STREAMS[header.stream]
    ownership = (header.watermark and header.watermark.ownership_id) or ""
    return ListEndpoint(
        stream.endpoint, *stream.request(header.parent, after=header.after, ownership=ownership)
    )


def _first_page(stripe: StripeClient, page_store: PageStore, before: Header) -> Header:
    """The first page of a chain, kept on disk; of an account that is not there, that answer."""
    listed = _listed(before)
    try:
        answer, page = list_after(stripe, "", listed)
    except CursorNotFound:
        if not before.after:
            raise
        # Stripe has forgotten that refresh: from the first transaction, most of which are known and add no row.
        return _first_page(stripe, page_store, replace_header(before, after=""))
    except NotFound as missing:
        answer = StripeResponse(missing.body, listed.path, missing.request_id, missing.observed_at)
        return keep(page_store, answer, NO_LIST, replace_header(before, status=404))
    return keep(page_store, answer, page, before)
