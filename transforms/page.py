"""A page as it is kept: what Stripe answered, and a header that says to which request and when."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from fincon.transforms.streams import Feature

ERASED = 410
"""The status of a page that was answered but is not kept: its session belongs to someone who was erased."""


UNREADABLE = 502
"""The status of a page in place of an answer 200 whose body is not what the API promises, however often it was asked for."""


class Watermark(Struct, frozen=True, kw_only=True):
    """How far an account's transactions or owners are in once the pages of a chain are."""

    feature: Feature
    last_attempted_at: int
    """Of the account's refresh of that feature, as it was known when the chain was begun; Unix seconds."""
    status: str
    """Of that attempt."""
    refresh_id: str | None = None
    """The last transaction refresh that is known to have succeeded; the next chain asks for what came after it."""
    ownership_id: str | None = None
    """The ownership whose owners these are."""
    pii: str = ""
    """What became of the owners' personal data: `transforms.redaction.Privacy.policy_id`."""


class DueAccount(NamedTuple):
    """An account whose transactions or owners are to be read: after which refresh, and how far they are in then."""

    account_id: str
    after: str
    """The last refresh whose transactions are in; empty where all are to be read, and for owners."""
    watermark: Watermark
    refused_before: bool = False
    """Whether it could not be read the last time either."""


class Header(Struct, frozen=True, kw_only=True):
    """What is known of a page beside its body."""

    stream: str
    """Its name in `transforms.streams.STREAMS`."""
    parent: str = ""
    """The id of the session or account to which the list belongs; else empty."""
    part: int = 0
    """Which range of the listing the chain walks; 0 begins at its top."""
    number: int
    """0 for the first page of its chain."""
    offset: int
    """How many objects of the same list stood on the pages before."""
    count: int
    """How many stand on this one."""
    request: str
    """Path and query, as sent."""
    request_id: str
    """Stripe's ``Request-Id``."""
    status: int
    """The HTTP status: 200; or 404 for a session or account that is not there, another where it was refused; or `ERASED`."""
    code: str = ""
    """Stripe's code of a refusal."""
    words: str = ""
    """What Stripe said of it."""
    observed_at: int
    """Microseconds since the Unix epoch: the second by Stripe's clock (the response's ``Date``), and the page's
    place in its run below that, so that every page of a run has a time of its own."""
    answered_at: int = 0
    """The second alone by Stripe's clock, likewise in microseconds: earlier than ``observed_at`` where another answer was dated
    later before. 0 of pages without an answer of their own, and of an older fincon."""
    cursor: str | None
    """``starting_after`` of the next page; None on the last."""
    watermark: Watermark | None = None
    """What the chain brings; of transactions and owners alone."""
    event_times: dict[str, int] = {}
    """Event → its time in microseconds since the Unix epoch; of events alone."""
    after: str = ""
    """``transaction_refresh[after]`` of the chain; empty where it begins at an account's first transaction."""


class Origin(NamedTuple):
    """What is the same for all rows of a run."""

    run_id: str
    stripe_account: str = ""
    """``acct_…``; empty for the key's own."""
    stripe_version: str = ""
    """The API version that was asked for."""


class Listed(NamedTuple):
    """The accounts on a page of the listing, in order, by what tells whether one has changed since."""

    ids: Sequence[str]
    digests: bytes
    """`listed.DIGEST` bytes of each."""
    unchanged: Sequence[bool]
    """Whether each is known as it stands there; its rows are in the lake then."""
    had_balance: Sequence[bool]
    """Whether one that is known has a balance."""
    changed: bytes
    """A list of the others alone, as they came: what is left to be read of the page."""


class Page(NamedTuple):
    """A header and the body that it stands for, secrets removed."""

    header: Header
    body: bytes


class ListedPage(Page):
    """A page of the listing of which it is known what has changed: it is read as ``listed.changed``."""

    listed: Listed

    @classmethod
    def of(cls, page: Page, listed: Listed) -> "ListedPage":
        """Return a page with what is known of it."""
        made = cls(*page)
        made.listed = listed
        return made

    @property
    def to_read(self) -> Page:
        """What is left to be read."""
        return Page(self.header, self.listed.changed)
