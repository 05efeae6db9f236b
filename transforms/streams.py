"""The lists that Stripe serves and fincon reads: one record each, in the order in which their pages are read.

Paging, the page store, staging, flattening and the command line read this table; `transforms.flatten` has a reader for
each of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

Feature = Literal["transaction", "ownership"]
"""A feature whose refresh, when it moves on, makes an account's list due."""

_PREFIX = "/v1/financial_connections"

EVENTS_OVERLAP = timedelta(minutes=5)
"""How far before the last run events are asked for again: one may appear late. What is known already adds no row."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A list, how it is asked for, and what its pages are to the rest of the program."""

    name: str
    """As page headers, page files and ``runs.mode`` say it."""
    object_type: str
    """What its items are called in ``rejects``."""
    path: str
    """With ``{parent}`` where the id of the object goes to which the list belongs; empty where Stripe sends it unasked."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameters, in which ``{parent}``, ``{after}`` (a refresh) and ``{ownership}`` may stand."""
    endpoint: str
    """The rate limit that its requests count against, and the name they are counted by."""
    parent: Literal["", "session", "account"] = ""
    """Of what there is one such list each; empty where there is one alone."""
    flatten_whole: bool = False
    """Whether all pages of a chain are flattened together, because they make one version of one object."""
    staged_early: bool = False
    """Whether its pages are flattened while others are still fetched; they may then be in any order."""
    feature: Feature | None = None
    """The refresh that makes it due; None where each run asks for it."""
    has_accounts: bool = False
    """Whether accounts stand on its pages: their balances are then summed up to be compared with the rows."""

    @property
    def tells_of_all(self) -> bool:
        """Whether it says, up to when it is asked for, what happened to every account."""
        return self.has_accounts and bool(self.path) and not self.parent

    def request(
        self, parent: str = "", *, after: str = "", ownership: str = ""
    ) -> tuple[str, dict[str, str]]:
        """Its path and parameters for ``parent``; parameters that come out empty are left away."""
        values = {"parent": parent, "after": after, "ownership": ownership}
        query = {name: template.format_map(values) for name, template in self.query.items()}
        return self.path.format_map(values), {name: value for name, value in query.items() if value}


STREAMS = {
    stream.name: stream
    for stream in (
        Stream(
            # Further pages of a session's accounts are the list of accounts, with the parameter ``session``.
            name="sessions",
            object_type="session",
            path=f"{_PREFIX}/sessions/{{parent}}",
            endpoint="sessions",
            parent="session",
            flatten_whole=True,
            has_accounts=True,
        ),
        Stream(
            name="accounts",
            object_type="account",
            path=f"{_PREFIX}/accounts",
            endpoint="accounts",
            staged_early=True,
            has_accounts=True,
        ),
        Stream(name="events", object_type="event", path="/v1/events", endpoint="events", has_accounts=True),
        # Events that Stripe sent: nobody asked for them, and they do not say whether others came before.
        Stream(name="webhooks", object_type="event", path="", endpoint="", has_accounts=True),
        Stream(
            # An account that an event shows in a shape that cannot be read. Its page is kept as a list of one.
            name="single_accounts",
            object_type="account",
            path=f"{_PREFIX}/accounts/{{parent}}",
            endpoint="accounts",
            parent="account",
            has_accounts=True,
        ),
        Stream(
            name="transactions",
            object_type="transaction",
            path=f"{_PREFIX}/transactions",
            query={"account": "{parent}", "transaction_refresh[after]": "{after}"},
            endpoint="transactions",
            parent="account",
            feature="transaction",
        ),
        Stream(
            name="owners",
            object_type="owner",
            path=f"{_PREFIX}/accounts/{{parent}}/owners",
            query={"ownership": "{ownership}"},
            endpoint="owners",
            parent="account",
            flatten_whole=True,
            feature="ownership",
        ),
    )
}
"""Every stream, by name."""


def stream_named(name: str) -> Stream:
    """The stream that a page header names.

    Raises:
        ValueError: there is none of that name; a newer version of fincon may know it.
    """
    try:
        return STREAMS[name]
    except KeyError:
        known = ", ".join(STREAMS)
        raise ValueError(f"fincon knows no stream {name!r}; it knows {known}") from None


def stream_of(feature: Feature) -> Stream:
    """The stream that a refresh of ``feature`` makes due."""
    return next(stream for stream in STREAMS.values() if stream.feature == feature)
