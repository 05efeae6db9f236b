"""The sandbox's own picture of Stripe's objects, before they become JSON. Times are Unix seconds."""

from __future__ import annotations

from typing import Any, NamedTuple

Json = dict[str, Any]
Amounts = dict[str, int]


class Holder(NamedTuple):
    """Whom an account belongs to: `kind` is the attribute that holds the id."""

    kind: str  # customer, account or customer_account
    id: str

    @property
    def type(self) -> str:
        """What Stripe calls the type of this holder: an account that represents a customer is a customer."""
        return "account" if self.kind == "account" else "customer"


class Balance(NamedTuple):
    """A balance, in minor units. `available` and `used` are None where Stripe names none."""

    type: str
    as_of: int
    current: Amounts
    available: Amounts | None
    used: Amounts | None
    shape: int  # how a missing map is written: null, absent, or in a null parent


# The last attempt to refresh a feature: its status, when it was made, when the next may be asked for, and when
# a refresh last succeeded. A plain tuple: there are millions of them.
Refresh = tuple[str, int, int | None, int | None]


class AccountNumber(NamedTuple):
    """One account number that payments can be made with."""

    expected_expiry_date: int | None
    identifier_type: str
    status: str
    supported_networks: tuple[str, ...]


class StatusNotice(NamedTuple):
    """What Stripe says about an active account that will not stay so."""

    action: str
    cause: str
    expected_deactivation_date: int | None


class Account(NamedTuple):
    """A Financial Connections account at one time."""

    number: int
    id: str
    created: int
    holder: Holder | None
    institution_name: str
    display_name: str | None
    last4: str | None
    category: str
    subcategory: str
    status: str
    notice: StatusNotice | None
    permissions: tuple[str, ...] | None
    subscriptions: tuple[str, ...] | None
    payment_methods: tuple[str, ...]
    numbers: tuple[AccountNumber, ...] | None
    ownership: str | None
    balance: Balance | None
    refreshes: tuple[Refresh | None, Refresh | None, Refresh | None]  # balance, ownership, transaction
    refresh_id: str | None  # of the last attempt to refresh the transactions
    unknown: Json  # attributes that no reference names, nested as they stand
    absent: int  # bits: which of the attributes that are null are left out


class Filters(NamedTuple):
    """What a session restricts the accounts to."""

    countries: tuple[str, ...] | None
    account_subcategories: tuple[str, ...] | None


class Settings(NamedTuple):
    """What newer versions tell of a session."""

    country: str | None
    require_payment_method_support: str | None
    limit: int | None
    manual_entry: str | None
    has_token: bool


class Session(NamedTuple):
    """A session at one time; `accounts` are indexes, newest first."""

    number: int
    id: str
    client_secret: str
    holder: Holder | None
    filters: Filters | None
    permissions: tuple[str, ...]
    prefetch: tuple[str, ...] | None
    return_url: str | None
    accounts: list[int]
    unknown: Json
    absent: int
    newer: Settings
    grown: Json


class Owner(NamedTuple):
    """An owner of an account."""

    id: str
    account: str
    ownership: str
    name: str
    email: str | None
    phone: str | None
    raw_address: str | None
    refreshed_at: int
    unknown: Json


class Transaction(NamedTuple):
    """A transaction, as the last refresh that succeeded knows it."""

    id: str
    account: str
    amount: int
    currency: str
    description: str
    status: str
    transacted_at: int
    posted_at: int | None
    void_at: int | None
    updated: int
    refresh: str
    unknown: Json


class Authorization(NamedTuple):
    """The credentials by which the accounts of a session were linked, at one time."""

    id: str
    holder: Holder | None
    institution: str
    institution_name: str
    display_name: str | None
    status: str
    notice: StatusNotice | None


class Event(NamedTuple):
    """A webhook event about an account, or about the authorization that it belongs to."""

    id: str
    type: str
    created: int
    account: int
