"""What an account's dice decide, and what changes about it now and then without any event."""

from __future__ import annotations

from fincon.sandbox.model import Account, AccountNumber, Json, Settings, StatusNotice
from fincon.sandbox.random_rolls import HUGE, Rolls
from fincon.sandbox.timeline import DAY

CATEGORIES = (
    *(("cash", "checking"),) * 8, *(("cash", "savings"),) * 4, ("cash", "other"),
    *(("credit", "credit_card"),) * 3, ("credit", "mortgage"), ("credit", "line_of_credit"),
    ("investment", "other"), ("other", "other"),
)  # fmt: skip
CURRENCIES = (*("usd",) * 24, "eur", "gbp", "cad", "jpy", "kwd", "bhd", "isk", "eur")
MORE_CURRENCIES = (("eur",), ("eur", "gbp"), ("jpy", "kwd", "isk"), ("cad",))
ALL = ("balances", "ownership", "payment_method", "transactions")
ASKED: tuple[tuple[str, ...], ...] = (
    *(ALL,) * 7, *(("balances", "transactions"),) * 3, *(("balances", "payment_method"),) * 2,
    ("balances", "ownership", "transactions"), ("balances",), ("ownership", "payment_method"),
    ("payment_method",),
)  # fmt: skip
Granted = tuple[tuple[str, ...] | None, tuple[str, ...] | None]  # at first, and after a change


def changing(permissions: tuple[str, ...]) -> Granted:
    """Give permissions with what becomes of them: the one no refresh depends on is granted, or taken back."""
    return permissions, tuple(sorted({*permissions} ^ {"payment_method"}))


PERMISSIONS = tuple(changing(permissions) for permissions in ASKED)
RARELY: tuple[Granted, ...] = ((None, None), changing(()), changing(ALL))
NAMES = {"checking": "Checking", "savings": "Savings", "credit_card": "Card", "mortgage": "Home Loan"}
FIRST = ("Jane", "José", "Ada", "Wei", "Zoë", "Omar", "Nia", "Søren")
LAST = ("Smith", "García", "Lovelace", "Zhang", "O'Brien", "Haddad", "Okafor", "Ångström")
COUNTRIES = (("US",), ("US", "CA"), ("GB",), ())
SUBSCRIBED = ("transactions",)
# Eight subscriptions, then what each becomes after a change.
SUBSCRIPTIONS: tuple[tuple[str, ...] | None, ...] = (
    SUBSCRIBED, (), None, (), SUBSCRIBED, (), None, (),
    (), SUBSCRIBED, SUBSCRIBED, SUBSCRIBED, (), SUBSCRIBED, SUBSCRIBED, SUBSCRIBED,
)  # fmt: skip
METHODS: tuple[tuple[str, ...], ...] = ((), ("us_bank_account",), ("us_bank_account", "link"), ("link",))
KINDS = ("checking", "savings", "credit_card")
TITLES = {
    kind: tuple(f"{owner}'s {NAMES.get(kind, 'Account')} {place}" for place in range(1, 8) for owner in FIRST)
    for kind in (*NAMES, "other")
}
ENDINGS = tuple(f"{number:04}" for number in range(10_000))

# An account changes every so often: its name, its notice, its subscriptions, its permissions take turns.
TURN = 120 * DAY
POSTPONED_AFTER, POSTPONED_BY = 30 * DAY, 10 * DAY
EXPIRY_TOLD_AFTER = 60 * DAY  # within a turn; account numbers expire a while after its end


def currency(rolls: Rolls) -> str:
    """Give the currency in which an account's transactions are made."""
    return "idr" if rolls.currency == HUGE else CURRENCIES[rolls.currency & 31]


def turns(rolls: Rolls, created: int, time: int) -> tuple[int, int]:
    """Give the number of an account's turn at a time, and when that turn began."""
    age = time - created + rolls.change * (TURN >> 16)
    return age // TURN + (rolls.change & 3), time - age % TURN


def display_name(subcategory: str, rolls: Rolls, turn: int) -> str | None:
    """Make up a display name, sometimes none; another every fourth turn."""
    dice = rolls.name + (turn >> 2) * 13
    if dice % 12 == 0:
        return None
    titles = TITLES.get(subcategory) or TITLES["other"]
    return titles[dice // 12 % len(titles)]


def notice(rolls: Rolls, turn: int, begun: int) -> StatusNotice | None:
    """Make up a notice that the link will end, for one account in four when it is the notice's turn."""
    dice = rolls.notice + turn * 0x9E37
    if dice & 12:
        return None
    ends = begun + TURN + (dice & 0x3FFF) * 60 if dice & 0x300 else None
    cause = ("access_expired", "institution_requirement", "unspecified")[(dice >> 4) % 3]
    return StatusNotice("relink_required" if dice & 0x40 else "none", cause, ends)


def postponed(notice: StatusNotice | None, begun: int, time: int) -> StatusNotice | None:
    """Give a notice with the date that it has at a time: a month after it came, the end is put off."""
    if notice is None or notice.expected_deactivation_date is None or time < begun + POSTPONED_AFTER:
        return notice
    later = notice.expected_deactivation_date + POSTPONED_BY
    return notice._replace(expected_deactivation_date=later)


def numbers(rolls: Rolls, begun: int) -> tuple[AccountNumber, ...] | None:
    """Make up account numbers: none, one or two."""
    dice = rolls.numbers & 15
    if dice < 11:
        return ()
    expiry = begun + TURN + 90 * DAY if dice & 1 else None
    kind = "tokenized_account_number" if expiry else "account_number"
    first = AccountNumber(expiry, kind, "transactable", ("ach",))
    return (first, AccountNumber(None, "account_number", "deactivated", ())) if dice == 15 else (first,)


CREDIT_USED = 10_000_000
"""What a card or a loan owes at the least when it is linked, so that payments do not soon turn it into a credit."""


def base(rolls: Rolls, category: str) -> int:
    """Give the balance before the first transaction."""
    base = rolls.base * 97 + rolls.size
    if rolls.currency == HUGE:
        return base + (2**53 << rolls.size % 7)
    if rolls.size % 25 == 0:
        return 0
    if category == "credit":
        return -base - CREDIT_USED
    return -base if rolls.size % 25 == 3 else base


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


def settings_of_session(dice: int, country: str | None, *, has_tokens: bool) -> Settings:
    """Give what newer versions tell of a session."""
    mode = (None, "automatic", "disabled", "automatic")[dice >> 2 & 3]
    return Settings(
        country=country,
        require_payment_method_support=(None, "all", "at_least_one", "none")[dice >> 4 & 3],
        limit=(None, None, 1, 3)[dice & 3],
        manual_entry=mode,
        has_token=has_tokens and mode == "automatic",
    )


def unknown_of_session(dice: int, has_filters: bool) -> Json:
    """Attributes that Stripe has in preview, in one session of ten."""
    if dice % 10:
        return {}
    choices: list[Json] = [{"status": "completed", "status_details": {"completed": {}}}, {"ui_mode": "modal"}]
    if has_filters:
        choices.append({"filters": {"institution": "fcinst_1"}})
    return choices[dice // 10 % len(choices)]
