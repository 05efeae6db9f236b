"""A lender's own patterns count beside fincon's; a file that cannot be taken is refused in words, and the last views answer."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fincon.errors import RunFailed
from fincon.transforms.payment_patterns import KINDS as OF_ALL
from fincon.warehouse.connection import connect
from tests.warehouse.test_views import publish_rows

KINDS = "SELECT description, kind FROM classified_transactions ORDER BY ALL"


def given() -> dict[str, list[dict[str, object]]]:
    texts = ("Overdraft fee", "Kara liitto ylitys", "Coffee")
    posted = {"account_id": "fca_1", "amount": -5, "status": "posted", "posted_at": "2026-10-01T00:00:00Z"}
    return {"transactions": [{**posted, "transaction_id": text, "description": text} for text in texts]}


def test_patterns_of_the_data_folder_are_added(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "patterns.csv").write_text(
        'kind,language,pattern\noverdraft_fee,fi,"ylitys|it\'s"\n', encoding="utf-8"
    )
    publish_rows(data, given(), datetime.now(UTC))
    with connect(data) as connection:
        assert connection.execute(KINDS).fetchall() == [
            ("Coffee", "money_out"),
            ("Kara liitto ylitys", "overdraft_fee"),
            ("Overdraft fee", "overdraft_fee"),
        ]
        assert ("fi",) in connection.execute("SELECT language FROM payment_patterns").fetchall()


@pytest.mark.parametrize(
    "line", ["tip,en,tip", "loan_payment,en,", "loan_payment,en,(", "loan_payment,en,a,b"]
)
def test_a_line_that_cannot_be_taken_is_named(line: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "patterns.csv").write_text(f"kind,language,pattern\n{line}\n", encoding="utf-8")
    with pytest.raises(RunFailed, match=r"patterns\.csv cannot be taken"):
        publish_rows(data, given(), datetime.now(UTC))


def test_patterns_are_taken_as_long_as_those_of_a_kind_can_be_asked_together(tmp_path: Path) -> None:
    """More are told where they are given, and not by every question that asks by them."""
    data = tmp_path / "data"
    data.mkdir()

    def give(count: int, *kinds: str) -> None:
        lines = (f'{kind},fi,"y{number}.{{0,200}}x"' for kind in kinds for number in range(count))
        (data / "patterns.csv").write_text("\n".join(["kind,language,pattern", *lines]), encoding="utf-8")

    give(40, *OF_ALL)
    publish_rows(data, given(), datetime.now(UTC))
    with connect(data) as connection:
        assert ("Overdraft fee", "overdraft_fee") in connection.execute(KINDS).fetchall()
    give(1_000, "overdraft_fee")
    with pytest.raises(RunFailed, match=r"patterns\.csv cannot be taken: .*too large"):
        publish_rows(data, given(), datetime.now(UTC))
