"""Fetch the owners of many accounts with one request: the list of accounts, with each ownership expanded.

A run that listed the accounts knows where in the list those stand whose owners are due. A stretch of the list that holds
at least two of them is asked for once, and of each due account what its own list of owners would have said is stored as
that list's first page. What a stretch does not tell is left to `fincon.extract.features`, which asks an account at a time.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Event

from msgspec.structs import replace as replace_header

from fincon.errors import AccountDisconnected, CursorNotFound, InvalidKey, StripeError, UnexpectedAnswer
from fincon.extract.client import LOG, StripeClient
from fincon.extract.concurrency import fetch_each
from fincon.extract.features import FeatureJob, fetch_features
from fincon.extract.pagination import (
    PAGE_SIZE,
    Progress,
    list_accounts,
    no_page,
    parse_list_page,
    store_page,
)
from fincon.extract.responses import StripeResponse
from fincon.landing.page_store import PageStore
from fincon.transforms.list_page import expanded_owners, list_page
from fincon.transforms.page import DueAccount
from fincon.transforms.streams import stream_of

LISTED = "accounts"
OWNERS = stream_of("ownership").name
EXPAND = {"expand[]": "data.ownership"}


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stretch of the list of accounts, no longer than a page, from one due account to another."""

    after: str
    """The account before the first; empty at the top of the list."""
    size: int
    """How many accounts stand on it."""
    due: tuple[str, ...]
    """Those of them whose owners are due, at least two."""


def fetch_owners(stripe: StripeClient, page_store: PageStore, job: FeatureJob, progress: Progress) -> None:
    """Fetch the owners of each account: as many as may be with the list, where this run walked it, the others one by one.

    Raises:
        StripeError: as `fetch_features`.
    """
    fetch_first_pages(stripe, page_store, job.due)
    fetch_features(stripe, page_store, job, progress)


def fetch_first_pages(stripe: StripeClient, page_store: PageStore, due: Sequence[DueAccount]) -> None:
    """Store what the list of accounts tells of the owners of accounts that are ``due``, and of no other.

    Where Stripe refuses it, or shows nobody's owners, that is the last that is asked so in this run.

    Raises:
        StripeError: the key is refused altogether.
    """
    started = set(page_store.started_parents(OWNERS))
    wanted = {one.account_id: one for one in due if one.account_id not in started}
    stretches = list(find_stretches(_listed_ids(page_store), wanted))
    refused = Event()

    def fetch(stretch: Stretch) -> None:
        if refused.is_set():
            return
        try:
            shown = _fetch_stretch(stripe, page_store, stretch, wanted)
        except CursorNotFound:
            return  # the account before it has vanished since: of this stretch alone
        except (InvalidKey, AccountDisconnected):
            raise
        except StripeError as error:
            LOG.info("%s; owners are asked for an account at a time", error)
            shown = False
        if not shown:
            refused.set()

    for first in stretches[:1]:  # alone, for it shows whether the others are worth asking for
        fetch(first)
    fetch_each(stripe, fetch, stretches[1:], lambda _: None)


def find_stretches(listed: Iterable[str], due: Collection[str]) -> Iterator[Stretch]:
    """Yield the fewest stretches of the list that hold all accounts that are due, but those that hold one alone."""
    after = before = ""
    size, length, found = 0, 0, list[str]()
    taken: set[str] = set()
    for account_id in listed:
        length += 1
        if account_id in due and account_id not in taken:
            if length > PAGE_SIZE or not found:
                if len(found) > 1:
                    yield Stretch(after=after, size=size, due=tuple(found))
                after, length, found = before, 1, []
            size = length
            found.append(account_id)
            taken.add(account_id)
        before = account_id
    if len(found) > 1:
        yield Stretch(after=after, size=size, due=tuple(found))


def _listed_ids(page_store: PageStore) -> Iterator[str]:
    """Yield the accounts that this run listed, about in the list's order; where ranges of it meet, some come twice."""
    tops = []
    for part in page_store.parts(LISTED):
        for page in page_store.chain(LISTED, part=part):
            tops.append((-max(list_page(page.body).created, default=0), part))
            break
    for _, part in sorted(tops):
        for page in page_store.chain(LISTED, part=part):
            yield from list_page(page.body).ids


def _fetch_stretch(
    stripe: StripeClient, page_store: PageStore, stretch: Stretch, due: dict[str, DueAccount]
) -> bool:
    """Ask for a stretch of the list and store the owners of its due accounts; return whether it shows any owners."""
    listed = list_accounts()
    cursor = {"starting_after": stretch.after} if stretch.after else {}
    answer, _ = stripe.get(
        listed.endpoint, listed.path, parse_list_page, {**EXPAND, "limit": stretch.size, **cursor}
    )
    lists = expanded_owners(answer.body)
    for account_id in stretch.due:
        if account_id in lists:
            _store_owners(page_store, answer, due[account_id], *lists[account_id])
    return bool(lists)


def _store_owners(
    page_store: PageStore, answer: StripeResponse, due: DueAccount, ownership_id: str, owners: bytes
) -> None:
    """Store an inline list of owners as the only page of its account's own, if it is the whole of what is due.

    It is not where the ownership is another than the one that is due, nor where more owners follow: the account's own list
    shows a hundred at one moment, so that asking for the rest would cost as many requests.
    """
    try:
        page = parse_list_page(owners)
    except UnexpectedAnswer:
        return
    if ownership_id == due.watermark.ownership_id and not page.has_more:
        before = replace_header(no_page(OWNERS, due.account_id), watermark=due.watermark)
        store_page(page_store, replace(answer, body=owners), page, before)
