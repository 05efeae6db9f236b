"""What holds of every cash flow, whatever was posted: net is in and out, and transfers of a holder are nothing to them."""

# ruff: noqa: S311 - accounts at random, not secrets

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fincon.warehouse.connection import connect
from tests.questions.cash_flows import classify
from tests.questions.links import incidents
from tests.warehouse.test_views import publish_rows

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def test_net_is_in_and_out_transfers_of_a_holder_add_up_to_zero_and_nothing_is_lost(tmp_path: Path) -> None:
    """Few amounts and many accounts, so that what looks like a transfer often is none, or one of several."""
    dice = random.Random(14)
    accounts = [
        {
            "account_id": f"fca_{number}",
            "account_holder_customer_id": f"cus_{number % 7}" if number % 10 else None,
        }
        for number in range(30)
    ]
    transactions = [
        {
            "account_id": dice.choice(accounts)["account_id"],
            "transaction_id": f"fctxn_{number:04}",
            "status": "posted",
        }
        | {"amount": dice.choice([-1, 1]) * dice.choice([1, 5, 500, 70_000, 2**62])}
        | {
            "currency": dice.choice(["usd", "usd", "jpy"]),
            "description": dice.choice(["Pay", "Overdraft fee", "Loan"]),
        }
        | {"posted_at": (BEGIN + timedelta(hours=dice.randrange(24 * 150))).isoformat()}
        for number in range(1_500)
    ]
    publish_rows(tmp_path / "data", {"accounts": accounts, "transactions": transactions}, datetime.now(UTC))
    with connect(tmp_path / "data") as connection:

        def ask(query: str) -> list[tuple[object, ...]]:
            return connection.execute(query).fetchall()

        for months in ("underwriting_months", "underwriting_holder_months"):
            assert ask(f"SELECT count(*) > 50 FROM {months}") == [(True,)]
            assert (
                ask(f"FROM {months} WHERE net <> money_in + money_out OR money_in < 0 OR money_out > 0") == []
            )
        assert (
            ask(
                "SELECT account_holder_id, currency FROM underwriting_holder_months GROUP BY ALL"
                " HAVING sum(transfers_in + transfers_out) <> 0"
            )
            == []
        )
        assert ask("SELECT sum(transfers_in) > 0, sum(unsure_in) > 0 FROM underwriting_months") == [
            (True, True)
        ]
        total = "SELECT account_id, currency, sum({})::DECIMAL(38, 0) FROM {} GROUP BY ALL ORDER BY ALL"
        every = "net + transfers_in + transfers_out + unsure_in + unsure_out"
        assert ask(total.format(every, "underwriting_months")) == ask(total.format("amount", "transactions"))
        paired = ask(
            "SELECT count(*) FROM classified_transactions AS one JOIN classified_transactions AS other"
            " ON one.counterpart_id = other.transaction_id WHERE one.amount <> -other.amount"
            " OR other.counterpart_id <> one.transaction_id OR one.account_id = other.account_id"
            " OR one.account_holder_id IS DISTINCT FROM other.account_holder_id OR one.currency <> other.currency"
            " OR abs(one.day - other.day) > 5"
        )
        assert paired == [(0,)]
        found = set(ask("SELECT transaction_id, kind, counterpart_id FROM classified_transactions"))
    holders = {account["account_id"]: account["account_holder_customer_id"] for account in accounts}
    right = classify(
        t | {"holder": holders[t["account_id"]], "posted_at": datetime.fromisoformat(t["posted_at"])}
        for t in transactions
    )
    assert found == {(t["transaction_id"], t["kind"], t["counterpart_id"]) for t in right}


def test_institutions_have_trouble_on_the_days_on_which_a_walk_through_them_finds_it(tmp_path: Path) -> None:
    """Of few accounts, so that shares are often just what the limits are, and some days are without an attempt."""
    dice = random.Random(20)
    accounts = [
        {"account_id": f"fca_{number}", "institution_name": f"Bank {number % 6}" if number % 37 else None}
        for number in range(42)
    ]
    tried = [
        account
        | {"feature": "balance", "at": BEGIN + timedelta(days=day, hours=dice.randrange(24))}
        | {"status": "failed" if dice.randrange(8) < (1 + number % 3 if day % 9 else 5) else "succeeded"}
        for day in range(60)
        for number, account in enumerate(accounts)
        if dice.randrange(3) and (day + number) % 6
    ]
    refreshes = [
        {"last_attempted_at": row["at"].isoformat(), "observed_at": row["at"].isoformat()}
        | {name: row[name] for name in ("account_id", "feature", "status")}
        for row in tried
    ]
    publish_rows(tmp_path / "data", {"accounts": accounts, "refreshes": refreshes}, datetime.now(UTC))
    names = ("institution_name", "feature", "began_on", "ended_on", "attempts", "failures", "accounts")
    with connect(tmp_path / "data") as connection:
        found = connection.execute(
            "SELECT institution_name, feature, began_at::DATE, ended_on, attempts, failures, accounts"
            " FROM institution_incidents"
        ).fetchall()
    assert len(found) > 10
    assert sorted(found, key=str) == sorted(
        (tuple(row[n] for n in names) for row in incidents(tried)), key=str
    )
