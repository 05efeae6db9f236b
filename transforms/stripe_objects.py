"""What Stripe sends: one msgspec Struct per object of the Financial Connections reference.

A field is required where the reference says that it is always there, and optional where it says nullable; a
null and an absent key are the same. Enumerations are open, so they are ``str``. The Structs forbid unknown
attributes, so that an object with one is noticed and `transforms.decode` can keep what it carries.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Minor = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""An amount in the currency's minor unit, as Stripe's API reference defines it; it fits a BIGINT."""

Unix = Annotated[int, Meta(ge=-62_135_596_800, le=253_402_300_799)]
"""Seconds since the Unix epoch, UTC; between the years 1 and 9999, which every reader can show."""

Amounts = dict[str, Minor]
"""Lower-case ISO currency code → amount in that currency's minor unit."""


class Known(Struct, forbid_unknown_fields=True, gc=False):
    """An object all of whose attributes are known; another attribute is an error that `decode` resolves."""


class Expanded(Struct, gc=False):
    """An object that stands where its id would, because ``expand[]`` asked for it. Only its id is read."""

    id: str
    object: Any = None


class AccountHolder(Known):
    """``account_holder``: whose account it is."""

    type: str
    account: str | Expanded | None = None
    customer: str | Expanded | None = None
    customer_account: str | Expanded | None = None


class Cash(Known):
    """``balance.cash``: set when ``balance.type`` is ``cash``."""

    available: Amounts | None = None


class Credit(Known):
    """``balance.credit``: set when ``balance.type`` is ``credit``."""

    used: Amounts | None = None


class Balance(Known):
    """``balance``: what the institution said at ``as_of``. The three maps may name different currencies."""

    as_of: Unix
    current: Amounts
    type: str
    cash: Cash | None = None
    credit: Credit | None = None


class Refresh(Known):
    """``balance_refresh``, ``ownership_refresh``, ``transaction_refresh``: the last attempt and its outcome."""

    last_attempted_at: Unix
    status: str
    next_refresh_available_at: Unix | None = None
    id: str | None = None


class AccountNumber(Known):
    """An item of ``account_numbers`` (newer than the reference)."""

    identifier_type: str | None = None
    status: str | None = None
    supported_networks: list[str] | None = None
    expected_expiry_date: Unix | None = None


class ActiveDetails(Known):
    """``status_details.active``: what threatens an active account, and what to do about it."""

    action: str | None = None
    cause: str | None = None
    expected_deactivation_date: Unix | None = None


class StatusDetails(Known):
    """``status_details`` (newer than the reference)."""

    active: ActiveDetails | None = None


class Account(Known):
    """A ``financial_connections.account``."""

    id: str
    category: str
    created: Unix
    institution_name: str
    livemode: bool
    status: str
    subcategory: str
    supported_payment_method_types: list[str]
    object: str = "financial_connections.account"
    account_holder: AccountHolder | None = None
    account_numbers: list[AccountNumber] | None = None
    balance: Balance | None = None
    balance_refresh: Refresh | None = None
    display_name: str | None = None
    last4: str | None = None
    ownership: str | Expanded | None = None
    ownership_refresh: Refresh | None = None
    permissions: list[str] | None = None
    status_details: StatusDetails | None = None
    subscriptions: list[str] | None = None
    transaction_refresh: Refresh | None = None


class Filters(Known):
    """``session.filters``: which kinds of accounts the session may collect."""

    account_subcategories: list[str] | None = None
    countries: list[str] | None = None
    """Until 2026-10-28.endive, which has ``country`` in its place."""
    country: str | None = None
    require_payment_method_support: str | None = None


class Limits(Known):
    """``session.limits``: how much the session may collect."""

    accounts: int | None = None


class ManualEntry(Known):
    """``session.manual_entry``: whether account numbers may be typed in."""

    mode: str | None = None


class RawList(Struct, gc=False):
    """A list object whose items are not decoded yet. Its ``url`` is not followed: see docs/decisions.md."""

    data: list[msgspec.Raw]
    has_more: bool


class SessionAccounts(Known):
    """``session.accounts``: the first of its accounts, not decoded yet. ``account_count`` counts them all itself."""

    data: list[Annotated[msgspec.Raw, Account]]
    has_more: bool
    object: str = "list"
    total_count: int | None = None
    url: str | None = None


class Session(Known):
    """A ``financial_connections.session``. Its accounts stay undecoded: a bad one does not spoil it."""

    id: str
    accounts: SessionAccounts
    livemode: bool
    permissions: list[str]
    object: str = "financial_connections.session"
    account_holder: AccountHolder | None = None
    client_secret: Any = None
    filters: Filters | None = None
    limits: Limits | None = None
    manual_entry: ManualEntry | None = None
    prefetch: list[str] | None = None
    return_url: str | None = None


class StatusTransitions(Known):
    """``transaction.status_transitions``: when it was booked, or cancelled."""

    posted_at: Unix | None = None
    void_at: Unix | None = None


class Transaction(Known):
    """A ``financial_connections.transaction``."""

    id: str
    account: str
    amount: Minor
    currency: str
    description: str
    livemode: bool
    status: str
    transacted_at: Unix
    transaction_refresh: str
    updated: Unix
    object: str = "financial_connections.transaction"
    status_transitions: StatusTransitions | None = None


class Owner(Known):
    """A ``financial_connections.account_owner``. Without personal data (``--pii drop``) it has no name."""

    id: str
    ownership: str
    object: str = "financial_connections.account_owner"
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    raw_address: str | None = None
    refreshed_at: Unix | None = None


_NOT_READ = msgspec.Raw(b"")


class InactiveAuthorization(Known):
    """``authorization.status_details.inactive``: what to do about one that has ended."""

    action: str | None = None
    cause: str | None = None


class AuthorizationDetails(Known):
    """``authorization.status_details``: what threatens an active one, or what became of one that has ended."""

    active: ActiveDetails | None = None
    inactive: InactiveAuthorization | None = None


class Authorization(Known):
    """A ``financial_connections.authorization``: a holder's consent at an institution. Only events show it."""

    id: str
    institution_name: str
    livemode: bool
    status: str
    object: str = "financial_connections.authorization"
    account_holder: AccountHolder | None = None
    display_name: str | None = None
    institution: str | None = None
    status_details: AuthorizationDetails | None = None


class EventData(Struct, gc=False):
    """``event.data``: the account, or the authorization, as it was; not decoded yet."""

    object: Annotated[msgspec.Raw, Account | Authorization]
    previous_attributes: Annotated[msgspec.Raw, Account] = _NOT_READ


class EventRequest(Struct, gc=False):
    """``event.request``: what caused it; the platform's own ``idempotency_key`` may say anything."""

    id: str | None = None


class Event(Struct, gc=False):
    """An ``event`` of an account or an authorization. When it was, of what, and in which version it is rendered is read.

    The rest is known to be of no person.
    """

    id: str
    created: Unix
    data: EventData
    api_version: str | None = None
    account: Annotated[msgspec.Raw, str] = _NOT_READ
    context: Annotated[msgspec.Raw, str] = _NOT_READ
    livemode: Annotated[msgspec.Raw, bool] = _NOT_READ
    object: Annotated[msgspec.Raw, str] = _NOT_READ
    pending_webhooks: Annotated[msgspec.Raw, int] = _NOT_READ
    request: Annotated[msgspec.Raw, EventRequest] = _NOT_READ
    type: Annotated[msgspec.Raw, str] = _NOT_READ
