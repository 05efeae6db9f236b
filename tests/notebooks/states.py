"""Lakes in which a page shows what it is made of: nothing, three accounts, many currencies, the longest amounts and names."""

from collections.abc import Callable
from typing import Any

Rows = dict[str, list[Any]]

CURRENCIES = (
    *("usd", "eur", "gbp", "jpy", "kwd", "cad", "aud", "chf", "sek", "nok"),
    *("dkk", "pln", "czk", "huf", "inr", "idr", "krw", "brl", "mxn", "zar"),
)


def _account(number: int, **more: Any) -> dict[str, Any]:
    return {
        "account_id": f"fca_1Tz{number:021d}",
        "status": "active",
        "livemode": False,
        "permissions": ["balances", "transactions"],
        "category": "cash",
        "institution_name": f"Bank {number % 7}",
        "account_holder_type": "customer",
        "account_holder_customer_id": f"cus_{number % 20:014d}",
        "balance_as_of": "now-2h",
        "observed_at": "now-9d",
        **more,
    }


def _balance(number: int, currency: str, current: int, seen: str = "now-1h", **more: Any) -> dict[str, Any]:
    return {
        "account_id": f"fca_1Tz{number:021d}",
        "currency": currency,
        "current": current,
        "available": current,
        "as_of": seen,
        "observed_at": seen,
        **more,
    }


def few() -> Rows:
    """Three accounts and a week."""
    accounts = [_account(1), _account(2, status="inactive"), _account(3, category="credit")]
    balances = [_balance(1, "usd", 60, "now-8d"), _balance(1, "usd", 61), _balance(3, "usd", -5000)]
    refreshes = [{"account_id": accounts[0]["account_id"], "feature": "balance", "status": "succeeded"}]
    return {"accounts": accounts, "balances": balances, "refreshes": refreshes}


def many_currencies() -> Rows:
    """Accounts in twenty currencies, some that rose, with transactions of three months."""
    accounts = [
        _account(n, category=("cash", "credit", "investment", "other")[n % 4])
        for n in range(len(CURRENCIES) * 4)
    ]
    balances, transactions = [], []
    for n, account in enumerate(accounts):
        currency = CURRENCIES[n % len(CURRENCIES)]
        amount = (n + 1) ** 4 * (-1 if account["category"] == "credit" else 1)
        balances += [_balance(n, currency, amount - 7 * n, "now-8d"), _balance(n, currency, amount)]
        transactions += [
            {
                "account_id": account["account_id"],
                "transaction_id": f"fctxn_{n}_{month}",
                "status": "posted",
                "currency": currency,
                "amount": 1000 * (month + n) * (-1 if n % 3 == 0 else 1),
                "description": "Payroll",
                "posted_at": f"now-{30 * month}d",
                "transacted_at": f"now-{30 * month}d",
            }
            for month in range(1, 4)
        ]
    return {"accounts": accounts, "balances": balances, "transactions": transactions}


def longest() -> Rows:
    """Amounts of nineteen digits in a currency of two decimals, names of a hundred characters, none of it in one word."""
    name = (
        "Sparkasse der Gemeinden an der Oberen Donau und im Hegau, Zweigniederlassung Villingen-Schwenningen"
    )
    accounts = [_account(n, institution_name=f"{name} {n}", status="inactive") for n in range(3)]
    accounts += [_account(n, institution_name=f"{name} {n}") for n in range(3, 30)]
    balances = [
        _balance(n, currency, amount)
        for n in range(30)
        for currency, amount in (("usd", 9_223_372_036_854_775_807), ("idr", -9_223_372_036_854_775_807))
    ]
    refreshes = [
        {"account_id": account["account_id"], "feature": feature, "status": "succeeded"}
        for account in accounts
        for feature in ("balance", "ownership", "transaction")
    ]
    return {"accounts": accounts, "balances": balances, "refreshes": refreshes}


STATES: dict[str, Callable[[], Rows]] = {
    "empty": dict,
    "few": few,
    "many_currencies": many_currencies,
    "longest": longest,
}
