"""What a sync is asked for, what came of it, and who runs its steps and shows them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, Protocol, TypeVar

from fincon.errors import FinconError, UsageError
from fincon.lake.closed_sessions import Refetch
from fincon.transforms.personal import Choice

P = ParamSpec("P")
R = TypeVar("R")


class StepRunner(Protocol):
    """How a step is run: called as it is, or as a Prefect task of that name."""

    def __call__(self, name: str, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``do`` and return what it returns."""


class Progress(Protocol):
    """Who is told how far a run is."""

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """A stage begins, of ``total`` objects if that is known; the answer is told of each lot done."""


def call_directly(name: str, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The `StepRunner` that is nothing but a call."""
    return do(*args, **kwargs)


class NoProgress:
    """The `Progress` that tells nobody."""

    def stage(self, name: str, total: int | None) -> Callable[[int], object]:
        """Nothing is told."""
        return lambda count: None


@dataclass(frozen=True)
class SyncRequest:
    """What a run is asked for."""

    session_ids: tuple[str, ...] = ()
    accounts: bool = True
    """List every account."""
    events: bool = False
    """Read the events since the last run instead of the listing, which is walked only where they do not reach."""
    refetch: Refetch = "open"
    restart: bool = False
    max_requests: int | None = None
    stripe_accounts: tuple[str, ...] = ()
    """The Stripe accounts to ask; none: that of the settings, unless others are named below."""
    connected: bool = False
    """Ask every connected account of the platform as well."""
    sessions_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Sessions by the Stripe account that they belong to; ``session_ids`` belong to the one that is asked."""
    transactions: bool = False
    """Read the transactions of the accounts whose transaction refresh moved on."""
    owners: bool = False
    """Read the owners of the accounts whose ownership moved on."""
    pii: Choice | None = None
    """What becomes of personal data; None = as before (`fincon.privacy.choose`)."""

    def for_each(self, own: str, connected: Sequence[str] = ()) -> "dict[str, SyncRequest]":
        """Stripe account → what is asked of it. ``own`` is asked where none is named.

        Raises:
            UsageError: there are several, and nothing says to which of them a session belongs.
        """
        accounts = dict.fromkeys([*self.stripe_accounts, *connected, *self.sessions_of])
        if not accounts and not self.connected:
            accounts = {own: None}
        if self.session_ids and (self.connected or len(accounts) > 1):
            raise UsageError(
                "Several Stripe accounts are asked, and the sessions do not say to which of them they belong.",
                "Give a CSV, Parquet or JSON file with a column stripe_account beside session_id.",
            )
        each = {
            account: replace(
                self,
                session_ids=self.sessions_of.get(account, self.session_ids),
                stripe_accounts=(),
                connected=False,
                sessions_of={},
            )
            for account in accounts
        }
        return {account: request for account, request in each.items() if request.mode}

    @property
    def mode(self) -> str:
        """As the table ``runs`` says it."""
        asked = {
            "sessions": bool(self.session_ids),
            "events": self.events,
            "accounts": self.accounts and not self.events,
            "transactions": self.transactions,
            "owners": self.owners,
        }
        return "+".join(name for name, wanted in asked.items() if wanted)


COUNTS = (
    "requests", "retries", "throttled", "pages", "sessions_seen", "accounts_seen", "rows_added", "rejected",
)  # fmt: skip
"""Columns of ``runs`` that add up over Stripe accounts."""


@dataclass(frozen=True)
class SyncResult:
    """What a sync did: a row of ``runs`` for each Stripe account, sessions unknown to Stripe, and what went wrong."""

    runs: tuple[dict[str, Any], ...]
    unknown_sessions: tuple[str, ...] = ()
    failed_checks: dict[str, int] = field(default_factory=dict)
    resumed_pages: int = 0
    failures: dict[str, FinconError] = field(default_factory=dict)
    """Stripe account → why it is not in; the others are."""

    @property
    def run(self) -> dict[str, Any]:
        """The row of ``runs``; of several Stripe accounts, the first one's with their counts added up."""
        return self.runs[0] | {name: sum(row[name] for row in self.runs) for name in COUNTS}
