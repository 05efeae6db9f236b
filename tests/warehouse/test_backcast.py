"""A balance reckoned back is the balance that was, whatever was posted when; and where it cannot be known there is none."""

# ruff: noqa: S311 - ledgers, not secrets

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from fincon.warehouse.connection import connect
from tests.warehouse.test_views import publish_rows

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ACCOUNTS, DAYS = 40, 60


def test_a_backcast_is_the_ledger_at_each_days_end_and_meets_every_known_balance(tmp_path: Path) -> None:
    """Of ledgers at random, some with a transaction that the institution never tells: no such stretch is reckoned."""
    dice = random.Random(20)
    balances, transactions, truth, broken = [], [], {}, set()
    for number in range(ACCOUNTS):
        account = f"fca_{number}"
        hours = sorted(dice.choices(range(DAYS * 24), k=dice.randrange(2, 60)))
        ledger = [(BEGIN + timedelta(hours=hour), dice.randrange(-90_000, 90_000)) for hour in hours]
        times = sorted(
            {BEGIN + timedelta(hours=dice.randrange(DAYS * 24)) for _ in range(dice.randrange(1, 6))}
        )
        for at in times:
            current = sum(amount for posted, amount in ledger if posted <= at)
            balances.append(
                {"account_id": account, "currency": "usd", "as_of": at.isoformat(), "current": current}
            )
        told = list(enumerate(ledger))
        if number % 3 == 0:
            missing = dice.randrange(len(told))
            del told[missing]
            broken |= {(account, at) for at in times if ledger[missing][0] <= at}
        transactions += [
            {"account_id": account, "transaction_id": f"{account}_{n}", "currency": "usd", "amount": amount}
            | {"status": "posted", "posted_at": posted.isoformat()}
            for n, (posted, amount) in told
        ]
        for day in range(DAYS):
            end = BEGIN + timedelta(days=day + 1)
            truth[account, (end - timedelta(days=1)).date()] = sum(a for posted, a in ledger if posted < end)
    read = [
        {"account_id": f"fca_{number}", "feature": "transaction", "status": "succeeded"}
        | {"last_attempted_at": "2026-06-01T00:00:00Z"}
        for number in range(ACCOUNTS)
    ]
    given = {"balances": balances, "transactions": transactions, "watermarks": read}
    publish_rows(tmp_path / "data", given, datetime.now(UTC))
    with connect(tmp_path / "data") as connection:
        rows = connection.execute(
            "SELECT account_id, day, balance, reckoned_from, is_met FROM balance_backcast WHERE basis = 'backcast'"
        ).fetchall()
        unmet = connection.execute("SELECT count(*) FROM balance_backcast WHERE unexplained <> 0").fetchall()
    checked = [row for row in rows if row[4] or (row[0], row[3]) not in broken]
    wrong = [row for row in checked if row[2] != truth[row[0], row[1]]]
    assert wrong == []
    assert len(checked) > 500
    assert unmet > [(3,)]


@pytest.mark.parametrize("amount", ["12.5", "12.50::DOUBLE"])
@pytest.mark.parametrize("query", ["debit_risk({}, 'usd')", "underwriting_balances({})"])
def test_a_debit_or_threshold_in_major_units_is_refused_for_it_would_be_another_amount(
    query: str, amount: str, tmp_path: Path
) -> None:
    given = {
        "accounts": [{"account_id": "fca_1"}],
        "balances": [
            {"account_id": "fca_1", "currency": "usd", "current": 1, "as_of": "2026-11-01T00:00:00Z"},
        ],
    }
    publish_rows(tmp_path / "data", given, datetime.now(UTC))
    with connect(tmp_path / "data") as connection, pytest.raises(duckdb.Error, match="whole minor units"):
        connection.execute(f"FROM {query.format(amount)}")
