"""What is asked of transactions and owners is answered as plain Python would, to the unit."""

import json
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fincon.lake.append import record_runs
from fincon.lake.snapshots import latest_files_by_table
from fincon.lake.tables import Lake
from fincon.lake.version_sql import SQL
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.server import running
from fincon.sandbox.world import World
from fincon.transforms.page import Header, Page, Watermark
from fincon.transforms.redaction import Choice, Privacy, redact
from fincon.warehouse.connection import connect
from fincon.warehouse.views import publish
from tests.benchmarks.pages import load_pages
from tests.conftest import START, Row, rows, settings_for

WORLD = World(seed=5, clock=START, accounts=40, sessions=12)
LATER = WORLD.at(START + timedelta(days=12))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of three syncs: the second three days after the first, the third when what came late is known."""
    folder = tmp_path_factory.mktemp("questions") / "data"
    with running(WORLD) as sandbox:
        for world in (WORLD, WORLD.at(START + timedelta(days=3)), LATER):
            sandbox.set_clock(world.clock)
            run_sync(settings_for(sandbox.url, folder), SyncRequest(transactions=True))
    return folder


def posted(world: World = LATER) -> list[Row]:
    return [row for row in world.transactions_truth() if row["status"] == "posted"]


def test_a_month_is_the_sum_of_what_was_posted_in_it(data: Path) -> None:
    expected: dict[tuple[str, str, date], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in posted():
        sums = expected[row["account_id"], row["currency"], row["posted_at"].date().replace(day=1)]
        sums[0] += 1
        sums[1 if row["amount"] > 0 else 2] += row["amount"]
    found = rows(data, "FROM transaction_monthly")
    assert {
        (r["account_id"], r["currency"], r["month"]): [r["transactions"], r["money_in"], r["money_out"]]
        for r in found
    } == expected
    assert all(r["net"] == r["money_in"] + r["money_out"] for r in found)
    assert all(r["net_amount"] * 100 == r["net"] for r in found if r["currency"] == "usd")


def test_the_months_of_a_reader_elsewhere_are_the_same(data: Path) -> None:
    from fincon.warehouse.connection import connect

    with connect(data) as views:
        here = views.sql("FROM transaction_monthly ORDER BY ALL").fetchall()
        views.execute("SET TimeZone = 'America/Los_Angeles'")
        assert views.sql("FROM transaction_monthly ORDER BY ALL").fetchall() == here


@pytest.mark.slow
def test_what_is_asked_of_one_account_is_what_all_say_of_it_and_what_is_known_now_what_will_be(
    data: Path,
) -> None:
    """However a filter is handed down, and from the snapshot or from all versions."""
    with connect(data) as views:
        asked = views.execute(
            "SELECT table_name FROM duckdb_columns() WHERE schema_name = 'main' AND column_name = 'account_id'"
            " AND table_name IN (SELECT unnest($1)) ORDER BY ALL",
            [[path.stem for path in (SQL / "questions").glob("*.sql")]],
        ).fetchall()
        accounts = views.execute(
            "SELECT account_id FROM transactions SEMI JOIN balances USING (account_id)"
            " GROUP BY ALL ORDER BY count(*) DESC, account_id LIMIT 2"
        ).fetchall()
        answered = 0
        for (name,) in asked:
            cursor = views.execute(f"FROM {name}")
            column = [of for of, *_ in cursor.description].index("account_id")
            whole = cursor.fetchall()
            for (account,) in accounts:
                of_it = views.execute(f"FROM {name} WHERE account_id = $1", [account]).fetchall()
                assert Counter(of_it) == Counter(row for row in whole if row[column] == account), name
                answered += len(of_it)
        assert answered > 1_000
        for name in ("balance_backcast", "classified_transactions", "underwriting_summary"):
            now, then = (
                views.execute(f"FROM {name}_as_of('{ts}')").fetchall() for ts in ("infinity", "2999-01-01")
            )
            assert Counter(now) == Counter(then), name


def test_days_have_no_gap_if_asked_and_add_up_to_the_months(data: Path) -> None:
    days = rows(data, "FROM cash_flow_daily(true) ORDER BY account_id, currency, day")
    posted_on = [row for row in days if row["transactions"]]
    assert rows(data, "FROM cash_flow_daily ORDER BY account_id, currency, day") == posted_on != days
    by_account: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in days:
        by_account[row["account_id"], row["currency"]].append(row)
    for one in by_account.values():
        assert [r["day"] for r in one] == [one[0]["day"] + timedelta(days=n) for n in range(len(one))]
        assert one[-1]["running_net"] == sum(r["net"] for r in one)
    monthly = rows(data, "SELECT account_id, currency, sum(net) AS net FROM transaction_monthly GROUP BY ALL")
    assert {key: one[-1]["running_net"] for key, one in by_account.items()} == {
        (r["account_id"], r["currency"]): r["net"] for r in monthly
    }


def test_wages_and_rent_are_found_with_their_period_amount_and_next_day(data: Path) -> None:
    known: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in LATER.transactions_truth():
        if row["description"] in ("Payroll", "Rent"):
            known[row["account_id"], row["description"]].append(row)
    found = {
        (r["account_id"], r["description"]): r
        for r in rows(data, "FROM recurring_transactions WHERE description IN ('Payroll', 'Rent')")
    }
    whole = 0
    for key, payments in known.items():
        at = sorted(row["transacted_at"] for row in payments)
        period = 14 if key[1] == "Payroll" else 30
        if len(at) < 3 or at[-1] - at[0] != timedelta(days=period) * (len(at) - 1):
            continue  # one of them is not known yet
        whole += 1
        row = found[key]
        assert (row["period_days"], row["occurrences"]) == (period, len(at))
        assert {row["typical"], row["lowest"], row["highest"]} == {payments[0]["amount"]}
        assert row["next_expected_on"] == at[-1].date() + timedelta(days=period)
        assert row["is_income"] == (key[1] == "Payroll")
    assert whole > 10


def test_the_change_of_a_balance_agrees_with_what_was_posted_wherever_it_is_said_to_be_complete(
    data: Path,
) -> None:
    """In every currency; and what is posted is what the world says, to the unit, complete or not."""
    found = rows(data, "FROM balance_vs_transactions")
    for row in found:
        assert row["posted"] == sum(
            t["amount"]
            for t in posted()
            if (t["account_id"], t["currency"]) == (row["account_id"], row["currency"])
            and row["from_as_of"] < t["posted_at"] <= row["to_as_of"]
        )
        assert row["unexplained"] == row["change"] - row["posted"]
    complete = [row for row in found if row["is_complete"]]
    assert not [row for row in complete if row["unexplained"]]
    assert len([row for row in complete if row["posted"]]) > 5
    assert len({row["currency"] for row in complete}) > 3


def owners_page(account: str, *owners: dict[str, Any], choice: Choice) -> Page:
    privacy = Privacy(choice, b"k" * 16, chosen=True)
    header = Header(
        stream="owners",
        parent=account,
        number=0,
        offset=0,
        count=len(owners),
        request="/",
        request_id="req_1",
        status=200,
        observed_at=1,
        cursor=None,
        watermark=Watermark(
            feature="ownership", last_attempted_at=1, status="succeeded", pii=privacy.policy_id
        ),
    )
    body = json.dumps({"object": "list", "has_more": False, "data": owners}).encode()
    return Page(header, redact(body, "owners", privacy))


def listing(*accounts: str) -> Page:
    first = WORLD.account_json(0)
    data = [{**first, "id": account, "account_holder": None} for account in accounts]
    body = json.dumps({"object": "list", "has_more": False, "data": data}).encode()
    stream: str = "accounts"
    return Page(
        Header(
            stream=stream, number=0, offset=0, count=len(data), request="/", request_id="", status=200,
            observed_at=1, cursor=None,
        ),
        body,
    )  # fmt: skip


@pytest.mark.parametrize("choice", ["keep", "hash", "drop"])
def test_accounts_of_the_same_person_are_found_whether_owners_were_kept_or_hashed(
    tmp_path: Path, choice: Choice
) -> None:
    jane = {"name": "Jane Smith", "email": "jane@example.com", "phone": "+1 555", "raw_address": "1 Main St"}
    same = {"name": "JANE  SMITH", "email": None, "phone": None, "raw_address": "1 main st"}
    namesake = {
        "name": "Jane Smith",
        "email": "other@example.com",
        "phone": "+1 556",
        "raw_address": "2 Main St",
    }
    mail = {"name": "J. S.", "email": "Jane@example.com", "phone": None, "raw_address": None}
    people = dict(zip(("fca_1", "fca_2", "fca_3", "fca_4"), (jane, same, namesake, mail), strict=True))
    pages = [listing(*people)]
    for account, person in people.items():
        owner = {"id": f"fcaown_{account}", "ownership": "fcaowns_1", **person}
        pages.append(owners_page(account, owner, choice=choice))
    with Lake(tmp_path / "lake") as lake:
        load_pages(lake, pages, "run")
        now = datetime.now(UTC)
        row = {"run_id": "run", "mode": "", "status": "succeeded", "started_at": now, "finished_at": now}
        record_runs(lake, [row])
        publish(tmp_path, latest_files_by_table(lake))
    found = rows(tmp_path, "SELECT matched_on, account_ids, accounts FROM shared_owners ORDER BY ALL")
    expected = [
        {"matched_on": "email", "account_ids": ["fca_1", "fca_4"], "accounts": 2},
        {"matched_on": "name and address", "account_ids": ["fca_1", "fca_2"], "accounts": 2},
    ]
    assert found == ([] if choice == "drop" else expected)


def test_no_amount_is_a_float_and_every_column_says_what_it_is(data: Path) -> None:
    views = (
        "('transaction_monthly', 'cash_flow_daily', 'recurring_transactions', 'balance_vs_transactions',"
        " 'shared_owners', 'transactions', 'owners', 'watermarks')"
    )
    columns = rows(
        data,
        "SELECT table_name, column_name, data_type, comment FROM duckdb_columns()"
        f" WHERE schema_name = 'main' AND table_name IN {views}",
    )
    assert len({row["table_name"] for row in columns}) == 8
    assert [row for row in columns if row["data_type"] in ("DOUBLE", "FLOAT")] == []
    assert [row for row in columns if not row["comment"]] == []
