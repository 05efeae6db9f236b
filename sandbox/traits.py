"""What an account's dice decide: one digest per account, its bytes read as named rolls."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from sandbox.model import Account, AccountNumber, Json, StatusNotice
from sandbox.schedule import DAY

UNPACK = Struct("<24H").unpack
CATEGORIES = (
    *(("cash", "checking"),) * 8, *(("cash", "savings"),) * 4, ("cash", "other"),
    *(("credit", "credit_card"),) * 3, ("credit", "mortgage"), ("credit", "line_of_credit"),
    ("investment", "other"), ("other", "other"),
)  # fmt: skip
CURRENCIES = (*("usd",) * 24, "eur", "gbp", "cad", "jpy", "kwd", "bhd", "isk", "eur")
MORE_CURRENCIES = (("eur",), ("eur", "gbp"), ("jpy", "kwd", "isk"), ("cad",))
ALL = ("balances", "ownership", "payment_method", "transactions")
PERMISSIONS = (
    *(ALL,) * 7, *(("balances", "transactions"),) * 3, *(("balances", "payment_method"),) * 2,
    ("balances", "ownership", "transactions"), ("balances",), ("ownership", "payment_method"),
    ("payment_method",),
)  # fmt: skip
NAMES = {"checking": "Checking", "savings": "Savings", "credit_card": "Card", "mortgage": "Home Loan"}
FIRST = ("Jane", "José", "Ada", "Wei", "Zoë", "Omar", "Nia", "Søren")
LAST = ("Smith", "García", "Lovelace", "Zhang", "O'Brien", "Haddad", "Okafor", "Ångström")
COUNTRIES = (("US",), ("US", "CA"), ("GB",), ())
SUBSCRIPTIONS: tuple[tuple[str, ...] | None, ...] = (
    ("transactions",),
    (),
    None,
    (),
    ("transactions",),
    (),
    (),
)
METHODS: tuple[tuple[str, ...], ...] = ((), ("us_bank_account",), ("us_bank_account", "link"), ("link",))
KINDS = ("checking", "savings", "credit_card")


class Rolls(NamedTuple):
    """The dice of an account, 16 bits each, named by what they decide."""

    category: int
    currency: int
    more: int
    base: int
    size: int
    available: int
    shape: int
    name: int
    last4: int
    permissions: int
    subscriptions: int
    methods: int
    numbers: int
    notice: int
    unknown: int
    variant: int
    absent: int
    next_at: int
    odd_value: int
    stale: int
    never: int
    owners: int
    person: int
    kept: int


def live(permissions: tuple[str, ...] | None, rolls: Rolls) -> tuple[str, ...]:
    """Give the permissions that are made use of; some accounts were never refreshed."""
    return permissions if permissions and rolls.never % 25 else ()


def currency(rolls: Rolls) -> str:
    """Give the currency in which an account's transactions are made."""
    return CURRENCIES[rolls.currency % len(CURRENCIES)]


def display_name(subcategory: str, rolls: Rolls) -> str | None:
    """Make up a display name, sometimes none."""
    if rolls.name % 12 == 0:
        return None
    owner = FIRST[rolls.name // 12 % len(FIRST)]
    return f"{owner}'s {NAMES.get(subcategory, 'Account')} {rolls.name % 7 + 1}"


def notice(rolls: Rolls, time: int) -> StatusNotice | None:
    """Make up a notice that the link will end, for one account in twenty."""
    if rolls.notice % 20:
        return None
    month = time // (30 * DAY)
    ends = (month + 1) * 30 * DAY + rolls.notice * 60 if rolls.notice % 3 else None
    cause = ("access_expired", "institution_requirement", "unspecified")[rolls.notice // 20 % 3]
    return StatusNotice("relink_required" if rolls.notice % 40 else "none", cause, ends)


def numbers(rolls: Rolls, time: int) -> tuple[AccountNumber, ...] | None:
    """Make up account numbers: mostly null, else none, one or two."""
    dice = rolls.numbers % 16
    if dice < 11:
        return None if dice < 8 else ()
    expiry = (time // (90 * DAY) + 2) * 90 * DAY if dice % 2 else None
    kind = "tokenized_account_number" if expiry else "account_number"
    first = AccountNumber(expiry, kind, "transactable", ("ach",))
    return (first, AccountNumber(None, "account_number", "deactivated", ())) if dice == 15 else (first,)


def base(rolls: Rolls, category: str) -> int:
    """Give the balance before the first transaction; a few are beyond what a double holds exactly."""
    if rolls.size % 25 == 0:
        return 0
    base = rolls.base * 97 + rolls.size
    if rolls.size % 150 == 1:
        base += 2**53 << rolls.size % 7
    return -base if category == "credit" or rolls.size % 25 == 3 else base


def unknown(account: Account, variant: int) -> Json:
    """Attributes that no reference names, somewhere in an account."""
    choices: list[Json] = [
        {"risk": {"score": variant % 100, "reasons": ["new", None]}},
        {"nickname": "Ünknown"},
    ]
    if account.balance is not None:
        choices.append({"balance": {"investment": {"holdings": {"usd": variant}}}})
    if account.refreshes[0] is not None:
        choices.append({"balance_refresh": {"reason": "mfa_required"}})
    if account.holder is not None:
        choices.append({"account_holder": {"verified": True}, "tags": []})
    if account.notice is not None:
        choices = [{"status_details": {"inactive": {"cause": "unspecified"}}}]
    return choices[variant % len(choices)]


def unknown_of_session(dice: int, has_filters: bool) -> Json:
    """Attributes that are newer than the reference, in one session of ten."""
    if dice % 10:
        return {}
    choices: list[Json] = [{"limits": {"accounts": 1}}, {"manual_entry": {"mode": "automatic"}}]
    if has_filters:
        choices.append({"filters": {"country": "US"}})
    return choices[dice // 10 % len(choices)]
