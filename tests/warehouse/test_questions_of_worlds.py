"""Each question is answered as plain Python answers it over the sandbox's own state: `python -m tests.questions`, in short."""

import pytest

from tests.questions import QUESTIONS, differences


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.first(0, 1)
def test_the_views_say_what_the_world_says(seed: int) -> None:
    """Of a world that moves on, and of one that stands still."""
    assert list(differences(seed)) == []


def test_the_questions_about_money_are_all_compared() -> None:
    assert QUESTIONS.keys() >= {
        *("account_balances", "account_holders", "balance_change", "balance_daily", "balance_totals"),
        *("balance_vs_transactions", "cash_flow_daily", "duplicate_accounts", "holder_totals"),
        *("low_balance_risk", "recurring_transactions", "running_balance", "transaction_monthly"),
        *("balance_backcast", "classified_transactions", "debit_risk", "income_streams"),
        *("underwriting_balances", "underwriting_months", "underwriting_summary"),
        *("underwriting_holder_balances", "underwriting_holder_months", "underwriting_holder_summary"),
    }
