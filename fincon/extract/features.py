"""What a linked account tells beside itself: its transactions and its owners, asked for where a refresh moved on.

A refresh moved on where another attempt was made than the last one when the rows were read, whatever became of it: of
the attempts between two runs only the last can be seen, and one before it may have succeeded.
"""

from collections.abc import Mapping, Set
from string import Template
from typing import Literal, NamedTuple

import pyarrow as pa
from msgspec.structs import replace as replace_header

from fincon.errors import CursorNotFound, NotFound
from fincon.extract.client import PREFIX, StripeClient, StripeResponse
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
from fincon.lake.staging import batches
from fincon.lake.tables import Lake
from fincon.lake.version_sql import SQL
from fincon.landing.page_store import PageStore
from fincon.transforms.flatten import flatten
from fincon.transforms.page import Header, Origin, Stream, Watermark
from fincon.transforms.schemas import ACCOUNTS, REFRESHES, WATERMARKS, Table

Feature = Literal["transaction", "ownership"]

STREAMS: dict[Feature, Stream] = {"transaction": "transactions", "ownership": "owners"}

NEEDED = {
    REFRESHES: ("account_id", "feature", "status", "last_attempted_at", "refresh_id", "observed_at"),
    ACCOUNTS: ("account_id", "ownership_id", "observed_at"),
}
"""What a run's own pages must say of accounts to tell which moved on."""


class DueAccount(NamedTuple):
    """An account whose transactions or owners are to be read: after which refresh, and how far they are in then."""

    account_id: str
    after: str
    watermark: Watermark


def seen(page_store: PageStore, origin: Origin) -> Mapping[Table, pa.Table]:
    """What this run's pages say of accounts, as far as it is `NEEDED`."""
    found = {table: [table.schema.empty_table().select(columns)] for table, columns in NEEDED.items()}
    for batch in batches(page_store.read_accounts()):
        flat = flatten(batch, origin)
        for table, columns in NEEDED.items():
            found[table].append(flat[table.name].select(columns))
    return {table: pa.concat_tables(parts) for table, parts in found.items()}


def due(
    lake: Lake, page_store: PageStore, origin: Origin, feature: Feature, seen_now: Mapping[Table, pa.Table]
) -> list[DueAccount]:
    """The accounts whose ``feature`` moved on, as the lake and this run's pages know them; nobody who was erased."""
    template = Template((SQL / "versions" / "due.sql").read_text(encoding="utf-8"))
    pii = page_store.privacy.mark if feature == "ownership" else ""
    with lake.query() as query:
        for table, rows in seen_now.items():
            query.register(f"seen_{table.name}", rows)
        known = {}
        for table in (REFRESHES, ACCOUNTS, WATERMARKS):
            query.register(f"no_{table.name}", table.schema.empty_table())
            now = lake.current(table)
            known[table.name] = now.sql(table, str) if now.active else f"FROM no_{table.name}"
        found = query.execute(
            template.substitute(known, feature=feature),
            {"stripe_account": origin.stripe_account, "pii": pii},
        ).fetchall()
    return [
        DueAccount(
            account_id,
            after or "",
            Watermark(
                feature=feature,
                last_attempted_at=attempted,
                status=status,
                refresh_id=refresh_id,
                ownership_id=ownership_id if feature == "ownership" else None,
                pii=pii,
            ),
        )
        for account_id, attempted, status, after, refresh_id, ownership_id in found
        if (feature != "ownership" or ownership_id) and not page_store.erased.is_erased(account_id)
    ]


def fetch_details(
    stripe: StripeClient, page_store: PageStore, wanted: list[DueAccount], progress: Progress
) -> None:
    """The transactions or owners of each account, several accounts at a time. What is on disk is not asked for.

    Raises:
        PermissionDenied: the key may not read them. StripeError: a request failed for good; accounts already read stay
            on disk.
    """
    fetch_each(stripe, "details", lambda one: _fetch(stripe, page_store, one), wanted, progress)


def finish_begun(stripe: StripeClient, page_store: PageStore, stream: Stream, due_now: Set[str]) -> None:
    """The rest of every list that an earlier attempt began of an account that is not due any more.

    Half of one would move the account's watermark past what was not read.
    """
    for account_id in set(page_store.parents(stream)) - due_now:
        last = page_store.last(stream, account_id)
        if last:
            follow(stripe, page_store, last, _listed(last))
        else:
            page_store.drop(stream, account_id)  # its first page is damaged, and nothing of it is needed


def _fetch(stripe: StripeClient, page_store: PageStore, wanted: DueAccount) -> None:
    stream = STREAMS[wanted.watermark.feature]
    begin = replace_header(no_page(stream, wanted.account_id), watermark=wanted.watermark, after=wanted.after)
    last = page_store.last(stream, wanted.account_id) or _first_page(stripe, page_store, begin)
    follow(stripe, page_store, last, _listed(last))


def _listed(header: Header) -> ListEndpoint:
    """The list that a chain walks."""
    if header.stream == "transactions":
        after = {"transaction_refresh[after]": header.after} if header.after else {}
        return ListEndpoint("transactions", f"{PREFIX}/transactions", {"account": header.parent, **after})
    ownership = (header.watermark and header.watermark.ownership_id) or ""
    return ListEndpoint("owners", f"{PREFIX}/accounts/{header.parent}/owners", {"ownership": ownership})


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
