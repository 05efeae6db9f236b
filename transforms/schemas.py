"""What we keep: the tables, column by column. Schemas, comments, dictionary and drift tests come from here."""

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")
STRINGS = pa.list_(pa.string())
JSON = pa.string()
"""Stored as text in Parquet; the views give it DuckDB's JSON type."""

ACCOUNT_NUMBERS = pa.list_(
    pa.struct(
        {
            "expected_expiry_date": TIMESTAMP,
            "identifier_type": pa.string(),
            "status": pa.string(),
            "supported_networks": STRINGS,
        }
    )
)
STATUS_DETAILS = pa.struct(
    {
        "active": pa.struct(
            {"action": pa.string(), "cause": pa.string(), "expected_deactivation_date": TIMESTAMP}
        )
    }
)

AUTHORIZATION_DETAILS = pa.struct(
    {
        **{field.name: field.type for field in STATUS_DETAILS},
        "inactive": pa.struct({"action": pa.string(), "cause": pa.string()}),
    }
)


@dataclass(frozen=True)
class Column:
    """A column: its Arrow type, what it means (with the unit), and the Stripe attribute it comes from."""

    name: str
    type: pa.DataType
    meaning: str
    source: str = ""
    json: bool = False
    personal: bool = False
    """Whether ``--pii`` decides what becomes of it."""


@dataclass(frozen=True)
class Table:
    """A table of versions. ``key`` names the object within its Stripe account; ``group_key`` orders the rows of one version.

    Two versions of an object differ when any of their other columns does, ``observed_at`` and ``run_id``
    aside. A table without a key is an append-only log.
    """

    name: str
    meaning: str
    key: tuple[str, ...]
    group_key: tuple[str, ...]
    own_columns: tuple[Column, ...]
    staged: tuple[Column, ...] = ()
    """Columns that only the staged rows of a run have, for the lake to work out what they say."""

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The table's own columns, then those that say where and when a row comes from."""
        names = {c.name for c in self.own_columns}
        origin = (STRIPE_ACCOUNT, *SEEN) if self.key else SEEN
        return self.own_columns + tuple(c for c in origin if c.name not in names)

    @cached_property
    def full_key(self) -> tuple[str, ...]:
        """The key, of whichever Stripe account; empty for a log."""
        return (STRIPE_ACCOUNT.name, *self.key) if self.key else ()

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema; each field's metadata holds its meaning and source."""
        return pa.schema(
            pa.field(c.name, c.type, metadata={"meaning": c.meaning, "source": c.source})
            for c in self.columns
        )

    @cached_property
    def staged_schema(self) -> pa.Schema:
        """The Arrow schema of a run's rows before they are loaded."""
        return pa.schema([*self.schema, *(pa.field(c.name, c.type) for c in self.staged)])

    @cached_property
    def empty_staged(self) -> pa.Table:
        """No rows of a run."""
        return self.staged_schema.empty_table()

    @cached_property
    def empty(self) -> pa.Table:
        """No rows of it."""
        return self.schema.empty_table()


STRIPE_ACCOUNT = Column(
    "stripe_account",
    pa.string(),
    "The Stripe account that was asked (`acct_…`, the `Stripe-Account` header); empty = the key's own.",
)

SEEN = (
    Column("observed_at", TIMESTAMP, "When Stripe answered with this version, by Stripe's clock (UTC)."),
    Column("run_id", pa.string(), "The run that brought this version."),
)

OF_EVENTS = (
    Column("absent", STRINGS, "Columns of which the row says nothing; null = it says all of it."),
    Column("event_id", pa.string(), "The event that showed it; null = a list did."),
)
"""What staged rows say that may come from an event."""


def _holder(of: str) -> tuple[Column, ...]:
    text = pa.string()
    holder = f"{of}.account_holder"
    return (
        Column("account_holder_type", text, "`customer`, `account`, …", f"{holder}.type"),
        Column(
            "account_holder_account_id", text, "The Stripe account, if that holds it.", f"{holder}.account"
        ),
        Column("account_holder_customer_id", text, "The customer, if that holds it.", f"{holder}.customer"),
        Column(
            "account_holder_customer_account_id",
            text,
            "The account that stands for a customer, if that holds it.",
            f"{holder}.customer_account",
        ),
    )


SESSIONS = Table(
    "sessions",
    "One row per version of a session.",
    ("session_id",),
    (),
    (
        Column("session_id", pa.string(), "The session (`fcsess_…`).", "session.id"),
        *_holder("session"),
        Column(
            "filter_account_subcategories",
            STRINGS,
            "Subcategories of accounts that the session could collect; null = any.",
            "session.filters.account_subcategories",
        ),
        Column(
            "filter_countries",
            STRINGS,
            "Countries of accounts that the session could collect; null = any. Since API 2026-10-28 Stripe tells one.",
            "session.filters.countries",
        ),
        Column(
            "filter_require_payment_method_support",
            pa.string(),
            "Whether accounts had to support payment methods: `all`, `at_least_one`, `none`, …; null = not said.",
            "session.filters.require_payment_method_support",
        ),
        Column(
            "limit_accounts",
            pa.int64(),
            "How many accounts the session could collect; null = not said.",
            "session.limits.accounts",
        ),
        Column(
            "manual_entry_mode",
            pa.string(),
            "Whether account numbers could be typed in: `automatic`, `disabled`, …; null = not said.",
            "session.manual_entry.mode",
        ),
        Column("permissions", STRINGS, "Permissions asked for.", "session.permissions"),
        Column("prefetch", STRINGS, "Data asked for as soon as an account is linked.", "session.prefetch"),
        Column("return_url", pa.string(), "Where a webview returns to.", "session.return_url"),
        Column("livemode", pa.bool_(), "True in live mode, false in test mode.", "session.livemode"),
        Column(
            "account_count", pa.int64(), "How many accounts it collected, on all pages.", "session.accounts"
        ),
        Column("extra", JSON, "Attributes this version of fincon does not know, nested as sent.", json=True),
    ),
)

SESSION_ACCOUNTS = Table(
    "session_accounts",
    "One row per account that a session collected, for each version of that list.",
    ("session_id",),
    ("position",),
    (
        Column("session_id", pa.string(), "The session.", "session.id"),
        Column("account_id", pa.string(), "The account.", "session.accounts.data"),
        Column("position", pa.int64(), "Place in the session's list, newest first; 0 is the first."),
    ),
)

ACCOUNTS = Table(
    "accounts",
    "One row per version of a linked account.",
    ("account_id",),
    (),
    (
        Column("account_id", pa.string(), "The account (`fca_…`).", "account.id"),
        *_holder("account"),
        Column("category", pa.string(), "`cash`, `credit`, `investment`, `other`, …", "account.category"),
        Column(
            "subcategory",
            pa.string(),
            "`checking`, `savings`, `credit_card`, `line_of_credit`, `mortgage`, `other`, …",
            "account.subcategory",
        ),
        Column("status", pa.string(), "The link: `active`, `inactive`, `disconnected`, …", "account.status"),
        Column(
            "display_name",
            pa.string(),
            "The account's name for people; treated as `--pii` says.",
            "account.display_name",
            personal=True,
        ),
        Column("institution_name", pa.string(), "Who holds the account.", "account.institution_name"),
        Column(
            "last4",
            pa.string(),
            "Last four digits of the account number; treated as `--pii` says.",
            "account.last4",
            personal=True,
        ),
        Column("livemode", pa.bool_(), "True in live mode, false in test mode.", "account.livemode"),
        Column("created_at", TIMESTAMP, "When it was linked (UTC).", "account.created"),
        Column("ownership_id", pa.string(), "The latest ownership (`fcaowns_…`).", "account.ownership"),
        Column("permissions", STRINGS, "Permissions granted; null = not said.", "account.permissions"),
        Column("subscriptions", STRINGS, "Data that refreshes by itself.", "account.subscriptions"),
        Column(
            "supported_payment_method_types",
            STRINGS,
            "Payment methods that can be made from it.",
            "account.supported_payment_method_types",
        ),
        Column(
            "account_numbers",
            ACCOUNT_NUMBERS,
            "What is known of its account numbers: kind, status, networks, expiry; never the number.",
            "account.account_numbers",
        ),
        Column(
            "status_details",
            STATUS_DETAILS,
            "For an active account at risk: cause, what to do, and until when.",
            "account.status_details",
        ),
        Column(
            "balance_type",
            pa.string(),
            "`cash`, `credit`, …; null = no balance known.",
            "account.balance.type",
        ),
        Column(
            "balance_as_of",
            TIMESTAMP,
            "When the institution computed the balance (UTC).",
            "account.balance.as_of",
        ),
        Column(
            "absent_since",
            TIMESTAMP,
            "Since when Stripe's whole list does not show it, or its Stripe account has revoked access (UTC); null = listed.",
        ),
        Column("extra", JSON, "Attributes this version of fincon does not know, nested as sent.", json=True),
    ),
    OF_EVENTS,
)

AUTHORIZATIONS = Table(
    "authorizations",
    "One row per version of an authorization, a holder's consent at an institution, as Stripe's events tell it.",
    ("authorization_id",),
    (),
    (
        Column("authorization_id", pa.string(), "The authorization (`fcauth_…`).", "authorization.id"),
        *_holder("authorization"),
        Column(
            "institution",
            pa.string(),
            "Who it is with (`fcinst_…`); null = not said.",
            "authorization.institution",
        ),
        Column("institution_name", pa.string(), "Who it is with, by name.", "authorization.institution_name"),
        Column(
            "display_name",
            pa.string(),
            "Its name for people; treated as `--pii` says.",
            "authorization.display_name",
            personal=True,
        ),
        Column("status", pa.string(), "`active`, `inactive`, …", "authorization.status"),
        Column(
            "status_details",
            AUTHORIZATION_DETAILS,
            "For one that will end: cause, what to do, and until when. For one that has ended: what to do.",
            "authorization.status_details",
        ),
        Column("livemode", pa.bool_(), "True in live mode, false in test mode.", "authorization.livemode"),
        Column("extra", JSON, "Attributes this version of fincon does not know, nested as sent.", json=True),
    ),
    OF_EVENTS,
)

BALANCES = Table(
    "balances",
    "One row per version of an account's balance and currency; the currencies of a version stand together.",
    ("account_id",),
    ("currency",),
    (
        Column("account_id", pa.string(), "The account.", "account.id"),
        Column("currency", pa.string(), "ISO code in lower case, as Stripe names it.", "account.balance"),
        Column("balance_type", pa.string(), "`cash`, `credit`, …", "account.balance.type"),
        Column("as_of", TIMESTAMP, "When the institution computed it (UTC).", "account.balance.as_of"),
        Column(
            "current",
            pa.int64(),
            "Before pending transactions, in minor units; negative = owed by the holder.",
            "account.balance.current",
        ),
        Column(
            "available",
            pa.int64(),
            "Cash that can be used now, in minor units; negative = owed by the holder.",
            "account.balance.cash.available",
        ),
        Column(
            "used",
            pa.int64(),
            "Credit in use, in minor units; negative = owed by the holder.",
            "account.balance.credit.used",
        ),
    ),
)

FEATURES = ("balance", "ownership", "transaction")

REFRESHES = Table(
    "refreshes",
    "One row per version of the last attempt to refresh a feature of an account.",
    ("account_id", "feature"),
    (),
    (
        Column("account_id", pa.string(), "The account.", "account.id"),
        Column("feature", pa.string(), "`balance`, `ownership` or `transaction`."),
        Column(
            "status", pa.string(), "`succeeded`, `failed`, `pending`, …", "account.{feature}_refresh.status"
        ),
        Column(
            "last_attempted_at",
            TIMESTAMP,
            "When the last attempt began (UTC).",
            "account.{feature}_refresh.last_attempted_at",
        ),
        Column(
            "next_refresh_available_at",
            TIMESTAMP,
            "From when the next attempt is allowed (UTC); null while one is pending.",
            "account.{feature}_refresh.next_refresh_available_at",
        ),
        Column(
            "refresh_id",
            pa.string(),
            "Of a transaction refresh (`fctxnref_…`).",
            "account.transaction_refresh.id",
        ),
    ),
)

TRANSACTIONS = Table(
    "transactions",
    "One row per version of a transaction of a linked account: pending, then posted or void.",
    ("transaction_id",),
    (),
    (
        Column("transaction_id", pa.string(), "The transaction (`fctxn_…`).", "transaction.id"),
        Column("account_id", pa.string(), "The account.", "transaction.account"),
        Column(
            "amount",
            pa.int64(),
            "In minor units; positive = to the account holder, negative = from it.",
            "transaction.amount",
        ),
        Column(
            "currency", pa.string(), "ISO code in lower case, as Stripe names it.", "transaction.currency"
        ),
        Column("description", pa.string(), "The institution's text.", "transaction.description"),
        Column("status", pa.string(), "`pending`, `posted`, `void`, …", "transaction.status"),
        Column("transacted_at", TIMESTAMP, "When it was made (UTC).", "transaction.transacted_at"),
        Column(
            "posted_at",
            TIMESTAMP,
            "When it was booked (UTC); null = not yet.",
            "transaction.status_transitions.posted_at",
        ),
        Column(
            "void_at",
            TIMESTAMP,
            "When it was cancelled (UTC); null = it was not.",
            "transaction.status_transitions.void_at",
        ),
        Column("updated_at", TIMESTAMP, "When Stripe last changed it (UTC).", "transaction.updated"),
        Column(
            "transaction_refresh_id",
            pa.string(),
            "The refresh that brought or last changed it (`fctxnref_…`).",
            "transaction.transaction_refresh",
        ),
        Column("livemode", pa.bool_(), "True in live mode, false in test mode.", "transaction.livemode"),
        Column("extra", JSON, "Attributes this version of fincon does not know, nested as sent.", json=True),
    ),
)

_PERSONAL = "Personal data: as `--pii` says plain, as a keyed hash (`pii_…`), or null."

OWNERS = Table(
    "owners",
    "One row per owner of an account, for each version of its owners; the owners of a version stand together.",
    ("account_id",),
    ("owner_id",),
    (
        Column("owner_id", pa.string(), "The owner (`fcaown_…`), of this account alone.", "owner.id"),
        Column("account_id", pa.string(), "The account."),
        Column("ownership_id", pa.string(), "The ownership that named them.", "owner.ownership"),
        Column("name", pa.string(), f"Full name. {_PERSONAL}", "owner.name", personal=True),
        Column("email", pa.string(), f"Email address. {_PERSONAL}", "owner.email", personal=True),
        Column("phone", pa.string(), f"Phone number. {_PERSONAL}", "owner.phone", personal=True),
        Column(
            "raw_address", pa.string(), f"Postal address. {_PERSONAL}", "owner.raw_address", personal=True
        ),
        Column("refreshed_at", TIMESTAMP, "When the institution told them (UTC).", "owner.refreshed_at"),
        Column("extra", JSON, "Attributes this version of fincon does not know, nested as sent.", json=True),
    ),
)

WATERMARKS = Table(
    "watermarks",
    "How far an account's transactions and owners are in: one row per version, account and feature.",
    ("account_id", "feature"),
    (),
    (
        Column("account_id", pa.string(), "The account."),
        Column("feature", pa.string(), "`transaction` or `ownership`."),
        Column("last_attempted_at", TIMESTAMP, "The last attempt to refresh it when they were read (UTC)."),
        Column("status", pa.string(), "Of that attempt, then."),
        Column(
            "refresh_id",
            pa.string(),
            "The last transaction refresh known to have succeeded then: the next run asks for what came after it.",
        ),
        Column("ownership_id", pa.string(), "The ownership whose owners were asked for."),
        Column("pii", pa.string(), "What became of the owners' personal data, as in `runs`."),
        Column(
            "refused_at",
            TIMESTAMP,
            "When Stripe refused them (UTC): they are in as far as before, and are asked for again after a day, or once"
            " they were refreshed; null = they were read.",
        ),
        Column(
            "refusal", pa.string(), "The status of that answer, and Stripe's code; `rejects` has its words."
        ),
    ),
)

SEQUENCE = Column(
    "sequence",
    pa.int64(),
    "In which order the rows of this table were written, whatever the clocks said; null = before there was such a column.",
)

RUNS = Table(
    "runs",
    "One row per finished run.",
    (),
    (),
    (
        Column("run_id", pa.string(), "The run."),
        Column(
            "mode",
            pa.string(),
            "What was fetched: `sessions`, `accounts` (the listing), `events`, `transactions`, `owners`, joined by `+`.",
        ),
        Column("status", pa.string(), "`succeeded`."),
        Column("started_at", TIMESTAMP, "When it began, by this machine's clock (UTC)."),
        Column("finished_at", TIMESTAMP, "When its tables were in, by this machine's clock (UTC)."),
        Column("requests", pa.int64(), "Requests sent, retries included."),
        Column("retries", pa.int64(), "Requests that were sent again."),
        Column("throttled", pa.int64(), "Answers 429."),
        Column("pages", pa.int64(), "Pages kept."),
        Column("sessions_seen", pa.int64(), "Sessions read."),
        Column("accounts_seen", pa.int64(), "Different accounts read."),
        Column("rows_added", pa.int64(), "Rows added to all other tables: what was new or had changed."),
        Column("rejected", pa.int64(), "Objects that could not be read."),
        Column("stripe_version", pa.string(), "The `Stripe-Version` sent."),
        Column(
            "livemode", pa.bool_(), "Whether the key was of live mode; null = an older fincon did not say."
        ),
        STRIPE_ACCOUNT,
        Column("fincon_version", pa.string(), "The version of fincon."),
        Column(
            "complete_until",
            TIMESTAMP,
            "By Stripe's clock (UTC), what happened to any account before this is in; null = not every account was asked for.",
        ),
        Column("requests_by_endpoint", JSON, "Requests sent, per endpoint.", json=True),
        Column(
            "pii",
            pa.string(),
            "What became of personal data: `keep`, `drop`, or `hash:` and the key's fingerprint; null = never chosen, and kept.",
        ),
        SEQUENCE,
    ),
)

REJECTS = Table(
    "rejects",
    "One row per object that could not be read, and why.",
    ("object_type", "object_id", "parent_id", "path", "reason", "raw"),
    (),
    (
        Column(
            "object_type",
            pa.string(),
            "`session`, `account`, `event`, `authorization`, `transaction` or `owner`.",
        ),
        Column("object_id", pa.string(), "Its id, if that could be read."),
        Column("parent_id", pa.string(), "Of a transaction or an owner: the account that was asked for."),
        Column("path", pa.string(), "The field at fault (`$.balance.current[...]`)."),
        Column("reason", pa.string(), "What is wrong with it, or what Stripe said in its place."),
        Column("raw", JSON, "The object as sent, without secrets.", json=True),
    ),
)

ATTEMPTS = Table(
    "attempts",
    "One row per attempt at a run, whatever became of it; of an attempt that failed before it knew its runs, one.",
    (),
    (),
    (
        Column("attempt_id", pa.string(), "The attempt: of several Stripe accounts, of all of them."),
        Column("mode", pa.string(), "What was asked for, as in `runs`."),
        Column(
            "status",
            pa.string(),
            "`succeeded`; `failed`; `interrupted`, where the next run goes on: it was stopped, killed, or had no request left;"
            " or `skipped`: another run held the data folder.",
        ),
        Column("started_at", TIMESTAMP, "When it began, by this machine's clock (UTC)."),
        Column("ended_at", TIMESTAMP, "When it ended; of one that was killed, when it last asked (UTC)."),
        Column(
            "requests",
            pa.int64(),
            "Requests that this attempt sent; `runs` has those of all of a run's attempts.",
        ),
        Column("retries", pa.int64(), "Of these, sent again."),
        Column("throttled", pa.int64(), "Answers 429."),
        Column("requests_by_endpoint", JSON, "Requests that this attempt sent, per endpoint.", json=True),
        Column("error", pa.string(), "What went wrong, without ids; null = nothing."),
        Column("request_id", pa.string(), "The `Request-Id` of the answer at fault, for Stripe's support."),
        Column("hint", pa.string(), "What to do about it."),
        STRIPE_ACCOUNT,
        Column("fincon_version", pa.string(), "The version of fincon."),
        Column("run_id", pa.string(), "The run; null = it had not come so far."),
        Column("observed_at", TIMESTAMP, "When this row was written, by this machine's clock (UTC)."),
        SEQUENCE,
    ),
)

ERASURES = Table(
    "erasures",
    "What was erased, without saying whom: one row per erasure, table and run that lost rows.",
    (),
    (),
    (
        Column(
            "action",
            pa.string(),
            "`erased`; `allowed` where a later sync may bring it back; or `superseded`: an event came late, and versions"
            " after it that say the same are none any more.",
        ),
        Column(
            "identity_kind", pa.string(), "`account`, `customer`, `session`; or `run` of what was superseded."
        ),
        Column(
            "identity_hash",
            pa.string(),
            "HMAC-SHA-256 of the id, with a key that stays in the data folder; or the run that brought the event.",
        ),
        Column("table_name", pa.string(), "The table that lost rows; null where nothing was there to erase."),
        Column(
            "rows_erased",
            pa.int64(),
            "How many rows it lost; fewer than none are back, of a load that was cut short.",
        ),
        Column("run_id", pa.string(), "The run that had brought those rows."),
        Column("observed_at", TIMESTAMP, "When it was erased, by this machine's clock (UTC)."),
        SEQUENCE,
    ),
)

OBJECT_TABLES = (
    SESSIONS,
    SESSION_ACCOUNTS,
    ACCOUNTS,
    BALANCES,
    REFRESHES,
    TRANSACTIONS,
    OWNERS,
    WATERMARKS,
    AUTHORIZATIONS,
    REJECTS,
)
"""What a run fills from pages; `RUNS` is written last, when they are in."""

PERSONAL = frozenset(column.source for table in OBJECT_TABLES for column in table.columns if column.personal)
"""The attributes that are personal; so is each one that fincon does not know."""

LOGS = (RUNS, ATTEMPTS, ERASURES)
"""Tables to which rows are only added; they have no versions."""

TABLES = (*OBJECT_TABLES, *LOGS)

NOT_KEPT = {
    "session.object": "the table's name says it",
    "account.object": "the table's name says it",
    "transaction.object": "the table's name says it",
    "owner.object": "the table's name says it",
    "session.client_secret": "whoever holds it can drive the session",
    "session.accounts.object": "list plumbing",
    "session.accounts.has_more": "list plumbing",
    "session.accounts.url": "list plumbing",
}
"""Attributes of the reference that land in no column, each with the reason."""
