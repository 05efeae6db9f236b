"""Currencies and their minor units, as Stripe transmits them.

Source: Stripe's documentation on currencies. It differs from ISO 4217 for MGA (no decimals), ISK and UGX
(sent in hundredths, though neither has any), so a table of ISO exponents would give wrong amounts.
"""

from decimal import Decimal

ZERO_DECIMAL = frozenset(
    "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split()  # noqa: SIM905 - a list reads worse
)
THREE_DECIMAL = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])


def minor_unit_digits(currency: str) -> int | None:
    """Decimals of the major unit that Stripe's integers count; None for what is no currency code."""
    if len(currency) != 3 or not currency.isascii() or not currency.isalpha():
        return None
    if currency.lower() in ZERO_DECIMAL:
        return 0
    return 3 if currency.lower() in THREE_DECIMAL else 2


def major(amount: int | None, currency: str) -> Decimal | None:
    """``amount`` minor units in the major unit, exactly; None when either is not known."""
    digits = minor_unit_digits(currency)
    return None if amount is None or digits is None else Decimal(amount).scaleb(-digits)


def format_amount(value: Decimal, currency: str = "") -> str:
    """Return an amount with thousands apart and the currency's decimals, two if it is unknown; more where it has more."""
    digits = minor_unit_digits(currency)
    whole, _, decimals = f"{value:,f}".partition(".")
    decimals = decimals.rstrip("0").ljust(2 if digits is None else digits, "0")
    return f"{whole}.{decimals}" if decimals else whole
