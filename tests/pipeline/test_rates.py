"""``fincon rates``: what it takes, what it refuses, and that the views reckon with it, whatever else is done to the lake."""

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from fincon.errors import UsageError
from fincon.pipeline.compact import compact
from fincon.pipeline.erase import erase
from fincon.pipeline.rates import Pair, read_rates, store_rates, stored_rates
from fincon.sandbox.server import Sandbox
from fincon.warehouse.connection import connect
from tests.conftest import rows, sync
from tests.lakes import COMMITS, place
from tests.typed import typed

HEADER = "day,from,to,rate\n"
ASKED = (
    "SELECT to_currency(100, 'eur', 'usd', '2026-11-05') AS n, rate_day('eur', 'usd', '2026-11-05') AS day"
)


def reckoned(data: Path) -> tuple[Decimal | None, date | None]:
    """What 100 cents of a euro are on 2026-11-05, and by the rate of which day."""
    found = rows(data, ASKED)[0]
    return found["n"], found["day"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-11-02,eur,usd,1,08\n", "line 2: it has 5 values, and 4 were expected"),
        ("2026-11-02,eur,usd\n", "line 2: it has 3 values, and 4 were expected"),
        ("02.11.2026,eur,usd,1.1\n", "line 2: day is '02.11.2026', and a day like 2026-11-02 was expected"),
        ("2026-02-30,eur,usd,1.1\n", "line 2: day is '2026-02-30', and a day like 2026-11-02 was expected"),
        ("\n2026-11-02,euro,usd,1.1\n", "line 3: from is 'euro', and a currency's three letters were expected"),
        ("2026-11-02,eur,,1.1\n", "line 2: to is '', and a currency's three letters were expected"),
        ("2026-11-02,eur,EUR,1\n", "line 2: from and to are both eur"),
        ("2026-11-02,eur,usd,0.000\n", "line 2: rate is 0, and a number above it was expected"),
        ("2026-11-02,eur,usd,-1.1\n", "line 2: rate is '-1.1', and a number like 1.0834 was expected"),
        ("2026-11-02,eur,usd,1e3\n", "line 2: rate is '1e3'"),
        ("2026-11-02,eur,usd,nan\n", "line 2: rate is 'nan'"),
        ("2026-11-02,eur,usd,\N{ARABIC-INDIC DIGIT ONE}\n", "line 2: rate is"),
        ("2026-11-02,eur,usd,1.0000000000001\n", "of 7 digits and 12 decimals at most"),
        ("2026-11-02,eur,usd,12345678\n", "of 7 digits and 12 decimals at most"),
        ("2026-11-02,eur,usd,1.1\n2026-11-02,EUR,usd,1.2\n", "line 3: line 2 gives 1.1 for the same day and currencies"),
        ("2026-11-02,eur,usd,\n" * 7, "12 decimals at most; and 2 more lines"),
        ("", "holds no rate"),
    ],
)  # fmt: skip
def test_a_file_with_a_bad_line_is_refused_by_the_lines_number_and_what_was_expected(
    text: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(HEADER + text, encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        read_rates(str(file))
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{file}")
    assert "Nothing was stored" in refused.value.hint


@pytest.mark.parametrize("header", ["date,from,to,rate", "day,from,to", "2026-11-02,eur,usd,1.1"])
def test_a_file_without_the_four_columns_is_refused(header: str, tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text(header)
    with pytest.raises(UsageError, match=r"line 1: .* day, from, to, rate were expected"):
        read_rates(str(tmp_path / "rates.csv"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_is_no_text_or_not_there_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content:
        (tmp_path / "rates.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"rates\.csv"):
        read_rates(str(tmp_path / "rates.csv"))


@pytest.mark.parametrize("by", [",", ";", "\t"])
def test_columns_stand_in_any_order_divided_as_spreadsheets_do(by: str, tmp_path: Path) -> None:
    lines = ["\ufeffRate,To,From,Day", '"1.0834", usd ,EUR,2026-11-02', "", "1.0834,usd,eur,2026-11-02"]
    (tmp_path / "rates.csv").write_bytes("\r\n".join(lines).replace(",", by).encode())
    assert read_rates(str(tmp_path / "rates.csv")) == {
        Pair(date(2026, 11, 2), "eur", "usd"): Decimal("1.0834")
    }


@pytest.mark.slow
def test_rates_are_added_or_replace_all_and_outlive_syncs_compaction_and_erasure(
    sandbox: Sandbox, data: Path, tmp_path: Path
) -> None:
    sync(sandbox.url, data)
    assert reckoned(data) == (None, None)
    file = tmp_path / "rates.csv"

    def give(*lines: str, options: tuple[str, ...] = ()) -> str:
        file.write_text(HEADER + "\n".join(lines))
        done = typed("rates", str(file), *options, "--data", str(data), cwd=tmp_path)
        assert done.code == 0, done.err
        return str(done.out)

    assert give("2026-11-01,eur,usd,1.1", "2026-11-02,eur,usd,1.2") == "2 rates taken in; 2 in all\n"
    before = connect(data)
    assert give("2026-11-02,eur,usd,1.3", "2026-11-03,usd,gbp,0.8") == (
        "2 rates taken in, 1 of them in the place of others; 3 in all\n"
    )
    told = (Decimal(130), date(2026, 11, 2))
    assert reckoned(data) == told
    assert before.execute(ASKED).fetchall() == [(Decimal(120), date(2026, 11, 2))], (
        "a reader sees what it saw"
    )
    sandbox.advance(timedelta(days=1))
    sync(sandbox.url, data)
    assert reckoned(data) == told
    compact(data, 0, 0)
    assert reckoned(data) == told
    account = rows(data, "SELECT account_id FROM accounts LIMIT 1")[0]["account_id"]
    erase(data, "account", account)
    assert reckoned(data) == told
    (data / "fincon.duckdb").unlink()  # it is derived; the next run makes it anew
    sync(sandbox.url, data)
    assert reckoned(data) == told
    shown = typed("sql", "SELECT sum(current) AS n FROM holder_totals", "--data", str(data), cwd=tmp_path)
    assert shown.code == 0, shown.err

    file.write_text(HEADER + "2026-11-01,eur,usd,none")
    refused = typed("rates", str(file), "--replace", "--data", str(data), cwd=tmp_path)
    assert (refused.code, "line 2: rate is 'none'" in refused.err) == (2, True)
    assert reckoned(data) == told
    assert give("2026-11-01,usd,eur,0.5", options=("--replace",)) == "1 rate taken in; 1 in all\n"
    assert reckoned(data) == (Decimal(200), date(2026, 11, 1))


@pytest.mark.parametrize("commit", COMMITS[:2])
def test_a_lake_of_an_older_fincon_takes_rates_in_and_reckons(commit: str, tmp_path: Path) -> None:
    data = place(commit, tmp_path)
    assert reckoned(data) == (None, None)
    given = {Pair(date(2026, 11, 1), "eur", "usd"): Decimal("1.1")}
    assert store_rates(data, given, replace=False) == (1, 0, 1)
    assert stored_rates(data) == given
    assert reckoned(data) == (Decimal(110), date(2026, 11, 1))


def test_rates_want_a_lake(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text(HEADER + "2026-11-01,eur,usd,1.1")
    done = typed("rates", "rates.csv", cwd=tmp_path)
    assert (done.code, "There is no lake" in done.err) == (2, True)
