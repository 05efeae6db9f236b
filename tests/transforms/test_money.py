"""Amounts are exact, in the minor units that Stripe sends rather than those of ISO 4217."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fincon.transforms.money import major, minor_unit_digits

NO_DECIMALS = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".lower().split()
THREE_DECIMALS = "BHD JOD KWD OMR TND".lower().split()
TWO_DECIMALS = "USD EUR GBP CHF CAD AUD MXN INR HUF TWD ISK UGX".lower().split()
"""ISK and UGX among them: Stripe sends them in hundredths, though neither has any."""

DIGITS = {
    **dict.fromkeys(NO_DECIMALS, 0),
    **dict.fromkeys(THREE_DECIMALS, 3),
    **dict.fromkeys(TWO_DECIMALS, 2),
}
INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(("currency", "digits"), DIGITS.items())
def test_each_currency_has_the_digits_that_stripe_documents(currency: str, digits: int):
    assert minor_unit_digits(currency) == digits


@pytest.mark.parametrize("currency", ["", "us", "usdc", "undefined", "u1d", "1.5", "us ", "€€€", "ｕｓｄ"])  # noqa: RUF001
def test_what_is_no_currency_code_has_no_digits_and_no_major_amount(currency: str):
    assert minor_unit_digits(currency) is None
    assert major(100, currency) is None


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (1234, "usd", "12.34"),
        (-5, "usd", "-0.05"),
        (0, "usd", "0.00"),
        (1234, "jpy", "1234"),
        (1234, "mga", "1234"),
        (1234, "isk", "12.34"),
        (500, "ugx", "5.00"),
        (1234, "kwd", "1.234"),
        (2**53 + 1, "usd", "90071992547409.93"),
        (2**63 - 1, "kwd", "9223372036854775.807"),
        (-(2**63), "jpy", "-9223372036854775808"),
    ],
)
def test_a_major_amount_is_the_integer_with_its_point_set(amount: int, currency: str, shown: str):
    assert str(major(amount, currency)) == shown


def test_an_unknown_amount_stays_unknown():
    assert major(None, "usd") is None


@given(INT64, st.sampled_from(sorted(DIGITS)))
def test_major_times_the_unit_is_the_amount_again(amount: int, currency: str):
    found = major(amount, currency)
    assert isinstance(found, Decimal)
    assert found * 10 ** DIGITS[currency] == amount


@given(st.lists(INT64, max_size=20), st.sampled_from(sorted(DIGITS)))
def test_majors_add_up_to_the_major_of_the_sum(amounts: list[int], currency: str):
    """Sums of major amounts are exact too: no amount carries an error that could add up."""
    total = sum((major(amount, currency) or Decimal(0) for amount in amounts), Decimal(0))
    assert total == major(sum(amounts), currency)
