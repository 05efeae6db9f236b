"""Say what a sync is asked for, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fincon.errors import FinconError, RunFailed, StripeError, UsageError
from fincon.lake.incremental import Refetch
from fincon.pipeline.failures import failed_accounts
from fincon.transforms.redaction import Choice
from fincon.transforms.streams import Feature, stream_of
from fincon.transforms.wording import pluralize

COUNTS = (
    "requests", "retries", "throttled", "pages", "sessions_seen", "accounts_seen", "rows_added", "rejected",
)  # fmt: skip
"""Columns of ``runs`` that add up over Stripe accounts."""


@dataclass(frozen=True, kw_only=True)
class SyncRequest:
    """Ask for a sync."""

    session_ids: tuple[str, ...] = ()
    """Sessions of the one Stripe account that is asked."""
    accounts: bool = True
    """List every account."""
    events: bool = False
    """Read the events since the last run instead; where they do not reach back so far, the accounts are listed."""
    received: bool = False
    """Bring in the events that Stripe sent; they are of the Stripe accounts that they name, whoever else is named."""
    refetch: Refetch = "open"
    restart: bool = False
    """Leave interrupted runs be, and begin a new one."""
    max_requests: int | None = None
    stripe_accounts: tuple[str, ...] = ()
    """The Stripe accounts to ask; where none is named anywhere, that of the settings."""
    connected: bool = False
    """Ask every connected account of the platform as well."""
    sessions_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Sessions by the Stripe account that they belong to."""
    transactions: bool = False
    """Read the transactions of the accounts whose transactions were refreshed since."""
    owners: bool = False
    """Read the owners of the accounts whose ownership was refreshed since."""
    strict: bool = False
    """Fail where an object was rejected."""
    wait_seconds: float = 0
    """While another run holds the data folder, wait so long at most."""
    pii: Choice | None = None
    """What becomes of personal data; None = as before (`fincon.privacy.choose`)."""

    def for_each(self, own: str, connected: Sequence[str] = ()) -> "dict[str, SyncRequest]":
        """Return Stripe account → what is asked of it; of ``own`` where no account is named.

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
    def features(self) -> list[Feature]:
        """List the features whose streams are asked for."""
        asked: dict[Feature, bool] = {"transaction": self.transactions, "ownership": self.owners}
        return [feature for feature, wanted in asked.items() if wanted]

    @property
    def is_listing_alone(self) -> bool:
        """Tell whether the list of accounts is all that will show any."""
        return self.accounts and not (self.events or self.received or self.session_ids)

    @property
    def mode(self) -> str:
        """Name what is fetched, as the table ``runs`` does: ``sessions+accounts``, say; empty for nothing."""
        asked = {
            "sessions": bool(self.session_ids),
            "webhooks": self.received,
            "events": self.events,
            "accounts": self.accounts and not self.events,
            **{stream_of(feature).name: True for feature in self.features},
        }
        return "+".join(name for name, wanted in asked.items() if wanted)


def name_set_aside(stream: str, count: int) -> str:
    """Name what is set aside of a stream, as `SyncResult.set_aside` counts it."""
    if stream == "sessions":
        return pluralize(count, "session")
    return f"the {stream} of {pluralize(count, 'account')}"


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """Say what a sync did, and what went wrong."""

    runs: tuple[dict[str, Any], ...]
    """The row of ``runs`` of each Stripe account that is in."""
    loaded_first: tuple[dict[str, Any], ...] = ()
    """The row of ``runs`` of each run that an earlier sync had fetched, and that was loaded before anything was asked."""
    unknown_sessions: dict[str, str] = field(default_factory=dict)
    """Session that Stripe does not know → its words."""
    set_aside: Sequence[tuple[str, str, int]] = ()
    """(Stream, Stripe's status and code, how many) of the sessions, and the accounts' transactions or owners, set aside."""
    failed_checks: dict[str, int] = field(default_factory=dict)
    """Check → how many rows it found."""
    resumed_pages: int = 0
    """Pages that an interrupted run had left on disk."""
    failures: dict[str, FinconError] = field(default_factory=dict)
    """Stripe account → why it is not in; the others are."""
    refused: dict[str, tuple[StripeError, ...]] = field(default_factory=dict)
    """Stripe account → why sessions, transactions or owners of it were given up; else it is in."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Stage → how long it took."""
    left_in_clear: bool = False
    """Whether it chose to keep less of personal data than what is in the folder from before."""

    @property
    def run(self) -> dict[str, Any]:
        """Return the row of ``runs``; of several Stripe accounts, the first one's with their counts added up."""
        return self.runs[0] | {name: sum(row[name] for row in self.runs) for name in COUNTS}

    def raise_for_failures(self, *, strict: bool) -> None:
        """Fail where the numbers cannot be trusted or are not all there.

        Raises:
            FinconError: as `failure` says.
        """
        if error := self.failure(strict=strict):
            raise error

    def failure(self, *, strict: bool) -> FinconError | None:
        """Return a `RunFailed` where a check failed, a Stripe account is not in or, with ``strict``, an object was rejected.

        A `StripeError` where Stripe refused sessions, transactions or owners altogether; a `BudgetExhausted` where a Stripe
        account is not in, for there was no request left; None where all is well.
        """
        run = self.run
        if self.failed_checks:
            names = ", ".join(
                f"{name} ({pluralize(rows, 'row')})" for name, rows in self.failed_checks.items()
            )
            return RunFailed(
                f"Run {run['run_id']}: checks failed: {names}.", "`fincon check` shows the rows."
            )
        if self.failures or self.refused:
            return failed_accounts(self.failures, self.refused)
        if strict and run["rejected"]:
            return RunFailed(
                f"Run {run['run_id']}: {pluralize(run['rejected'], 'object was', 'objects were')} rejected (--strict).",
                '`fincon sql "FROM rejects"` says which and why.',
            )
        return None
