"""A page as it is kept: what Stripe answered, and a header that says to which request and when."""

from typing import Literal, NamedTuple

from msgspec import Struct

Stream = Literal["sessions", "accounts", "events"]
"""A session with its accounts, the listing of all accounts, or the events of accounts."""


ERASED = 410
"""The status of a page that was answered but is not kept: its session belongs to someone who was erased."""


class Header(Struct, frozen=True, kw_only=True):
    """What is known of a page beside its body."""

    stream: Stream
    parent: str = ""
    """The session's id for a page of ``sessions``; empty for the listing."""
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
    """The HTTP status: 200; or 404 for a session that is not there; or `ERASED`."""
    observed_at: int
    """Microseconds since the Unix epoch: the second by Stripe's clock (the response's ``Date``), and the page's
    place in its run below that, so that every page of a run has a time of its own."""
    cursor: str | None
    """``starting_after`` of the next page; None on the last."""


class Origin(NamedTuple):
    """What is the same for all rows of a run."""

    run_id: str
    stripe_account: str = ""
    """``acct_…``; empty for the key's own."""


class Page(NamedTuple):
    """A header and the body that it stands for, secrets removed."""

    header: Header
    body: bytes
