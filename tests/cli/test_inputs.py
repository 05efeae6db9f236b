"""A table of what people type, and of what they must read first: command, where, how wide the terminal, what, exit code."""

import gzip
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from fincon.sandbox.server import running
from fincon.sandbox.world import World
from tests.cli.conftest import Call


def packed(content: bytes) -> bytes:
    """The content as gzip has it, of no time: it names a test, which has one name in all processes."""
    return gzip.compress(content, mtime=0)


class Case(NamedTuple):
    """An input and what comes of it."""

    typed: list[str]
    says: str
    """A pattern; `out` and `err` are searched from their beginning to their end."""
    code: int = 0
    width: int | None = None
    """Of the terminal; None = a pipe."""
    stdin: bytes = b""
    env: dict[str, str] | None = None


def sql(query: str, *more: str) -> list[str]:
    return ["sql", query, *more]


AMOUNTS = """SELECT unnest([1250::DECIMAL(38, 4), 1234567.5, 0.0005]) AS a, unnest(['usd', 'jpy', 'kwd']) AS currency"""
BAD_TEXT = "SELECT chr(27) || '[31mred' || chr(155) || '2J' || chr(8238) || chr(7) || chr(8295) AS t"

NESTED = "SELECT MAP {1.5: MAP {DATE '2026-01-01': 'nan'::DOUBLE}} AS m, ['inf'::DOUBLE, NULL] AS l, {'a': 0.10} AS s"

ON_A_LAKE = [
    # -- a table that fits
    Case(sql("SELECT 1 AS one"), r"^one\n  1$", width=80),
    Case(sql("SELECT repeat('x', 300) AS a, 7 AS b"), r"^a {74}\s*b\nx{70,}…  7$", width=80),
    Case(sql("SELECT repeat('x', 300) AS a, 7 AS b"), r"^a {300} b\nx{300}  7$"),
    Case(sql("SELECT 1 AS a, NULL AS b, '' AS c"), r"^a\n1\n… empty: b, c$", width=80),
    Case(sql("SELECT 1 AS a, NULL AS b"), r"^a  b\n1  ·$"),
    Case(sql("SELECT NULL AS a"), r"^a\n·$", width=80),
    Case(sql("SELECT * FROM accounts WHERE false"), r"^account_id .*\n\(no rows\)", width=80),
    Case(sql("FROM accounts"), r"… no room for .*\(--format\s+vertical shows\s+all\)", width=80),
    Case(sql("FROM balances"), r"^account_id +currency .*current_amount", width=80),
    Case(sql("FROM balances"), r"^account_id +currency .*current_amount", width=120),
    Case(sql("FROM balance_totals"), r"^currency +category .*current_amount", width=80),
    Case(sql("SELECT current, current_amount FROM balances ORDER BY ALL LIMIT 1"), r"^current_amount +current\n", width=80),
    Case(sql(AMOUNTS), r"^ +a  currency\n +1,250\.00  usd\n1,234,567\.5  jpy\n +0\.0005  kwd$", width=80),
    Case(sql("SELECT 5::DECIMAL(38,4) AS a, 'jpy' AS currency"), r"^a  currency\n5  jpy$", width=80),
    Case(sql("SELECT 5::DECIMAL(38,4) AS a, 'kwd' AS currency"), r"^ +a  currency\n5\.000  kwd$", width=80),
    Case(sql("SELECT 769299::DECIMAL(38,0) AS sum, 'usd' AS currency"), r"^ +sum  currency\n769,299  usd$", width=80),
    Case(sql("SELECT 5::DECIMAL(38,4) AS a"), r"^ +a\n5\.00$", width=80),
    Case(sql("SELECT -1234567 AS a, 2026 AS y"), r"^ +a +y\n-1,234,567  2026$", width=80),
    Case(sql("SELECT 9223372036854775807::HUGEINT * 10 AS a"), r"^ +a\n92,233,720,368,547,758,070$", width=80),
    Case(sql("SELECT '日本銀行' AS bank, 1 AS n"), r"^bank      n\n日本銀行  1$", width=80),
    Case(sql("SELECT unnest(range(1500)) AS n"), r"\n999\n… more than 1,000 rows: --limit N", width=80),
    Case(sql("SELECT unnest(range(1500)) AS n", "--limit", "2"), r"^n\n0\n1\n… more than 2 rows", width=80),
    Case(sql("SELECT unnest(range(1500)) AS n", "--limit", "1500"), r"1499$", width=80),
    Case(sql("SELECT [1, 2] AS l, {'a': 1} AS s"), r'^l       s\n\[1, 2\]  \{"a": 1\}$', width=80),
    Case(sql("SELECT true AS t, DATE '2026-01-02' AS d"), r"^t     d\ntrue  2026-01-02$", width=80),
    Case(sql("SELECT 'a' || chr(10) || 'b' AS t"), r"^t\na b$", width=80),
    # -- what a bank wrote reaches no terminal as it is
    Case(sql(BAD_TEXT), r"^t\n\\x1b\[31mred\\x9b2J\\u202e\\x07\\u2067$", width=80),
    Case(sql(BAD_TEXT), r"^t\n\\x1b\[31mred\\x9b2J\\u202e\\x07\\u2067$"),
    Case(sql(BAD_TEXT, "--format", "vertical"), r"\\x1b\[31mred\\x9b2J\\u202e\\x07\\u2067$", width=80),
    Case(sql(BAD_TEXT, "--format", "markdown"), r"\| \\x1b\[31mred", width=80),
    Case(sql(BAD_TEXT, "--format", "csv"), r"^t\n\\x1b\[31mred\\x9b2J\\u202e", width=80),
    Case(sql(BAD_TEXT, "--format", "csv"), "^t\n\x1b\\[31mred\x9b2J\u202e\x07\u2067\n$"),
    Case(sql(BAD_TEXT, "--format", "json"), r'\{"t": "\\u001b\[31mred\\u009b2J\\u202e', width=80),
    Case(sql("SELECT chr(27) || '[2J' AS \"a" + "\x1b" + "\""), r"^a\\x1b", width=80),
    Case(sql("SELECT error(chr(27) || '[2Jx')"), r"^fincon: .*\\x1b\[2Jx", 2, width=80),
    # -- formats
    Case(sql("SELECT 1 AS a, NULL AS b", "--format", "vertical"), r"^── row 1 ──\na  1\nb  ·$", width=80),
    Case(sql("SELECT 'x|y' AS a, 1 AS b", "--format", "markdown"), r"^\| a \| b \|\n\| --- \| --: \|\n\| x\\\|y \| 1 \|$"),
    Case(sql("SELECT 1.5 AS a, NULL AS b", "--format", "csv"), r"^a,b\n1\.5,\n$"),
    Case(sql("SELECT 1 AS a UNION ALL SELECT 2 ORDER BY a", "--format", "jsonl"), r'^\{"a": 1\}\n\{"a": 2\}\n$'),
    Case(sql("SELECT 1 AS a", "--format", "json"), r'^\{"a": 1\}\n$'),
    Case(
        sql("SELECT 'inf'::DOUBLE AS a, ['nan'::DOUBLE] AS b", "--format", "json"),
        r'^\{"a": null, "b": \[null\]\}\n2 values for which JSON has no word \(Infinity, NaN\): null\.$',
    ),
    Case(sql("SELECT 1 AS a", "--format", "parquet"), r"^fincon: Parquet is not for a terminal\.\n .*--output", 2, 80),
    Case(sql("SELECT 1 AS a", "--format", "arrow"), r"^fincon: Arrow is not for a terminal\.", 2, 80),
    Case(sql("SELECT 1 AS a", "--format", "xml"), r"Invalid value for '--format'", 2),
    Case(sql("SELECT 1 AS a", "--limit", "0"), r"Invalid value for '--limit'", 2),
    *(
        Case(sql(NESTED, "--format", style), r"2026-01-01.*nan.*inf.*(?<!\d)0\.10(?!\d)", width=width)
        for style in ("table", "vertical", "markdown", "csv")
        for width in (None, 200)
    ),
    Case(sql(NESTED, "--format", "json"), r'^\{"m": \{"1\.5": \{"2026-01-01": null\}\}, "l": \[null, .*2 values'),
    Case(sql("SELECT 1 AS a", "--limit", "1" + "0" * 30), r"Invalid value for '--limit'", 2),
    Case(sql("SELECT 1 AS a", "--limit", "-1"), r"Invalid value for '--limit'", 2),
    # -- files that say what they are
    Case(sql("SELECT 1 AS a", "--output", "a.zip"), r"^fincon: a\.zip: its ending says no format\.\n .*\.parquet", 2),
    Case(sql("SELECT 1 AS a", "--output", "a"), r"^fincon: a: its ending says no format\.", 2),
    Case(sql("SELECT 1 AS a", "--output", "a.csv", "--format", "parquet"), r"^fincon: a\.csv is csv by its name", 2),
    Case(sql("SELECT 1 AS a", "--output", "no/such/a.csv"), r"^fincon: no/such/a\.csv cannot be written: No such", 2),
    Case(sql("SELECT 1 AS a", "--output", "-", "--format", "csv"), r"^a\n1\n$"),
    Case(sql("SELECT 1 AS a", "--output", "/dev/null", "--format", "csv"), r"^1 row → /dev/null$"),
    # -- queries from where they stand
    Case(sql("-- a comment\nSELECT 1 AS a"), r"^a\n1$"),
    Case(sql("--a comment\nSELECT 1 AS a"), r"^a\n1$"),
    Case(sql("/* a comment */ SELECT 1 AS a; -- end"), r"^a\n1$"),
    Case(["sql", "--format=csv", "-- a\nSELECT 1 AS a"], r"^a\n1$"),
    Case(["sql", "-"], r"^a\n1$", stdin=b"SELECT 1 AS a;\n"),
    Case(["sql", "-"], r"^a\n1$", stdin=b"\xef\xbb\xbfSELECT 1 AS a"),
    Case(["sql", "-"], r"^fincon: There is no query\.", 2),
    Case(["sql", "-"], r"^fincon: Standard input is no text in UTF-8", 2, stdin=b"SELECT '\xff'"),
    *(
        Case(["sql", "-", "--format", "csv"], r"^a\né\n$", stdin="SELECT 'é' AS a".encode(encoding))
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig")
    ),
    Case(["sql", "-"], r"^fincon: Standard input is no text in UTF-16.*\n +Save it as UTF-8", 2, stdin=b"\xff\xfeS"),
    Case(["sql", "-"], r"^fincon: Standard input is no text in UTF-8: it holds zero bytes", 2, stdin=b"SELECT 1\0"),
    # -- a plan is a drawing
    Case(sql("EXPLAIN SELECT 1"), r"^╭─.*╮\n│.*│\n", width=80),
    Case(sql("EXPLAIN SELECT 1", "--format", "vertical"), r"^╭─.*╮\n│.*│\n"),
    Case(sql("EXPLAIN SELECT 1", "--format", "csv"), r'^explain_key,explain_value\nphysical_plan,"╭─'),
    Case(["sql", "-f", "-", "--format", "csv"], r"^a\n1$", stdin=b"SELECT 1 AS a"),
    Case(["sql", "-f", "no.sql"], r"^fincon: no\.sql cannot be read: No such file", 2),
    Case(["sql"], r"^fincon: Give one query\.\n .*-f FILE", 2),
    Case(["sql", "SELECT 1", "-f", "x.sql"], r"^fincon: Give one query\.", 2),
    Case(sql(""), r"^fincon: There is no query\.", 2),
    Case(sql("  -- nothing"), r"^fincon: There is no query\.", 2),
    Case(sql("SELECT 1; SELECT 2"), r"^fincon: Only one query that reads", 2),
    Case(sql("DROP VIEW accounts"), r"^fincon: Only one query that reads", 2),
    # -- names
    Case(sql("FROM balance_dayly"), r"^fincon: .*balance_dayly does not exist!\n +Did you mean balance_daily", 2),
    Case(sql("FROM history.acounts"), r"Did you mean history\.accounts", 2),
    Case(sql("FROM History.Acounts"), r"Did you mean history\.accounts", 2),
    Case(sql("FROM balances_asof(now())"), r"Did you mean balances_as_of", 2),
    Case(sql("FROM xyz"), r"SHOW TABLES", 2),
    Case(sql("SELECT count(*) >= 0 AS n FROM Balance_Daily"), r"^n\ntrue$"),
    Case(sql("SELECT count(*) >= 0 AS n FROM HISTORY.accounts"), r"^n\ntrue$"),
    Case(["schema", "balance_dayly"], r"^fincon: There is no view or macro balance_dayly\.\n +Did you mean balance_daily", 2),
    Case(["schema", "history.acounts"], r"Did you mean history\.accounts", 2),
    Case(["schema", "ACCOUNTS"], r"^accounts: One row per"),
    Case(["schema", "main.accounts"], r"^accounts: One row per"),
    Case(["schema", "Balances_As_Of"], r"^balances_as_of\(ts\): One row per"),
    Case(["schema", "low_balance_risk"], r"^low_balance_risk: One row per"),
    Case(["schema", "accounts", "--format", "markdown"], r"^fincon: Markdown is for the whole dictionary", 2),
    # -- what is kept
    Case(["erase"], r"^fincon: Name one account, customer or session\.\n +fincon erase --account fca_1N", 2),
    Case(["erase", "--account", "fca_1", "--session", "fcsess_1"], r"^fincon: Name one account", 2),
    Case(["erase", "--account", "1", "--yes"], r"^fincon: '1' is not the id of an account\.\n +It looks like fca_1N", 2),
    Case(["erase", "--session", "cus_1", "--yes"], r"not the id of a session\.\n +It looks like fcsess_1N", 2),
    Case(["erase", "--customer", "fca_1", "--yes"], r"not the id of a customer\.\n +It looks like cus_9", 2),
    Case(["erase", "--account", "fca_1"], r"^fincon: An erasure asks .* no terminal\.\n +Add --yes", 2),
    Case(["erase", "--account", "fca_1", "--dry-run"], r"^fincon: Nothing here names fca_1\.", 2),
    Case(["compact", "--retention-days", "-1"], r"Invalid value for '--retention-days'", 2),
    Case(["compact", "--retention-days", "1" + "0" * 30], r"Invalid value for '--retention-days'", 2),
    Case(["compact", "--pages-days", "1" + "0" * 30], r"Invalid value for '--pages-days'", 2),
    Case(["compact", "--wait-seconds", "nan"], r"'--wait-seconds': 'nan' is not a number", 2),
    Case(["status", "--runs", "1" + "0" * 30], r"Invalid value for '--runs'", 2),
    Case(["sandbox", "--speed", "nan"], r"'--speed': 'nan' is not a number", 2),
    Case(["sandbox", "--speed", "-1"], r"Invalid value for '--speed'", 2),
    Case(["sandbox", "--accounts", "1" + "0" * 30], r"Invalid value for '--accounts'", 2),
    Case(["sandbox", "--clock", "9999-12-31"], r"--clock '9999-12-31' is not of this age", 2),
    Case(["sandbox", "--clock", "soon"], r"--clock 'soon' is not a time", 2),
    Case(["sandbox", "--session-ids", "no/such/ids"], r"^fincon: no/such/ids cannot be written: No such", 2),
    Case(["compact", "--pages-days", "-1"], r"Invalid value for '--pages-days'", 2),
    Case(["sync", "--max-requests", "0"], r"Invalid value for '--max-requests'", 2),
    Case(["sync", "--wait-seconds", "-1"], r"Invalid value for '--wait-seconds'", 2),
    Case(["status", "--runs", "0"], r"Invalid value for '--runs'", 2),
    Case(["sandbox", "--port", "99999"], r"Invalid value for '--port'", 2),
    Case(["sandbox", "--port", "-1"], r"Invalid value for '--port'", 2),
    Case(["demo", "--accounts", "0"], r"Invalid value for '--accounts'", 2),
    Case(["statsu"], r"No such command 'statsu'\. Did you mean status", 2),
    Case(["xyz"], r"No such command 'xyz'\.$", 2),
    Case(["sql", "SELECT 1", "--fromat", "csv"], r"No such option", 2),
    Case(["report", "--output", "-"], r"^<!doctype html>.*</html>\s*$"),
    Case(["report", "--output", "-"], r"^fincon: A page of HTML is not for a terminal\.\n +Name a file", 2, width=80),
    Case(["rates", "-"], r"^fincon: standard input is no text in UTF-8: it holds zero", 2, stdin=b"day,from,to\0"),
    Case(["report", "--output", "no/such/r.html"], r"^fincon: no/such/r\.html cannot be written: No such", 2),
    # -- nothing wraps within a word
    Case(["check"], r"^ok    \w+: [^\n]+\n(      [^\n]+\n)*ok ", width=80),
    Case(["erase", "--account", "fca_1"], r"and standard\n +input is no terminal", 2, width=60),
    Case(["sync", "--no-such-option"], r"No such option", 2, width=80),
    Case(["status"], r"^Runs, newest first:\n  20", width=80),
    Case(["schema"], r"^sessions +One row per", width=80),
]  # fmt: skip


@pytest.mark.parametrize("case", ON_A_LAKE, ids=lambda case: " ".join(case.typed)[:70])
def test_what_is_typed_on_a_lake(case: Case, call: Call, synced: Path) -> None:
    """The table holds, and a terminal gets no line that is wider than it is."""
    shown = call(*case.typed, cwd=synced, width=case.width, stdin=case.stdin, env=case.env)
    assert re.search(case.says, shown.out + shown.err, re.DOTALL), shown
    assert shown.code == case.code
    assert "This is a bug" not in shown.err
    if case.width:
        assert all(len(line) <= case.width for line in shown.err.splitlines()), shown.err
    if case.width and "vertical" not in case.typed and not {"csv", "json", "jsonl"} & set(case.typed):
        assert all(len(line) <= case.width for line in shown.out.splitlines()), shown.out


KEY = "sk_test_x"
BASE = "http://127.0.0.1:9"

SETTINGS = [
    ({"FINCON_REQUESTS_PER_SECOND": "100000"}, r"FINCON_REQUESTS_PER_SECOND is '100000'; it takes a number above 0 to 10,000"),
    ({"FINCON_REQUESTS_PER_SECOND": "0"}, r"it takes a number above 0"),
    ({"FINCON_REQUESTS_PER_SECOND": "nan"}, r"it takes a number above 0"),
    ({"FINCON_REQUESTS_PER_SECOND": "inf"}, r"it takes a number above 0"),
    ({"FINCON_CONCURRENCY": "1.5"}, r"FINCON_CONCURRENCY is '1\.5'; it takes a whole number from 1 to 1,000"),
    ({"FINCON_CONCURRENCY": "5000"}, r"it takes a whole number from 1 to 1,000"),
    ({"FINCON_MEMORY": "-5"}, r"FINCON_MEMORY is '-5'; it takes a whole number"),
    ({"STRIPE_API_BASE": "https://api.stripe.com/v1"}, r"requests begin with /v1 themselves\.\n +Name the server alone: https://api\.stripe\.com"),
    ({"STRIPE_API_BASE": "https://api.stripe.com/v1/"}, r"requests begin with /v1 themselves"),
    ({"STRIPE_API_BASE": "https://a\nb"}, r"STRIPE_API_BASE is 'https://a\\nb', not an http"),
    ({"STRIPE_API_BASE": "https://a b"}, r"not an http\(s\) address"),
    ({"STRIPE_API_BASE": "https://a:99999"}, r"not an http\(s\) address"),
    ({"STRIPE_API_BASE": "https://me:secretword@a"}, r"STRIPE_API_BASE holds a user name"),
    ({"STRIPE_API_BASE": "https://a/?b=c"}, r"Name the server alone"),
    ({"STRIPE_API_BASE": "localhost:8090"}, r"not an http\(s\) address"),
    ({"STRIPE_ACCOUNT": "me"}, r"STRIPE_ACCOUNT is 'me'\.\n +It looks like acct_"),
    ({"STRIPE_VERSION": "latest"}, r"STRIPE_VERSION is 'latest'\.\n +It looks like 20"),
    ({"FINCON_CA_BUNDLE": "/no/such.pem"}, r"FINCON_CA_BUNDLE is '/no/such\.pem', which cannot be used: No such file"),
    ({"FINCON_CA_BUNDLE": "/etc/hostname"}, r"FINCON_CA_BUNDLE is '/etc/hostname', which cannot be used: it holds no"),
    ({"FINCON_PROXY": "me:secretword@proxy"}, r"FINCON_PROXY is not the address"),
    ({"FINCON_PROXY": "socks5://secretword"}, r"FINCON_PROXY is not the address"),
    ({"FINCON_PROXY": "http://proxy.example.com:3128"}, r"FINCON_PROXY another machine: a key would cross the network"),
    ({"FINCON_PII_KEY": "short"}, r"FINCON_PII_KEY is shorter"),
    *(({"FINCON_DATA": f"a{c}b"}, r"in its path, which Delta Lake cannot name") for c in "%?[]|^\\\t\n\x01"),
]  # fmt: skip


@pytest.mark.parametrize(("env", "says"), SETTINGS, ids=lambda value: str(value)[:60])
def test_a_setting_that_cannot_be_used_is_named_before_anything_is_fetched(
    env: dict[str, str], says: str, call: Call, tmp_path: Path
) -> None:
    """In two lines, without what is secret; nothing is made on disk."""
    shown = call("sync", cwd=tmp_path, env={"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": BASE, **env})
    assert shown.code == 2
    assert re.search(says, shown.err), shown.err
    assert len(shown.err.splitlines()) == 2
    assert "secretword" not in shown.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_keeps_a_server_from_answering_is_told_apart(call: Call, tmp_path: Path) -> None:
    """A port without https, a proxy that is not there, nothing that listens: each in two lines that say what to change."""
    with running(World(accounts=3, sessions=0)) as sandbox:
        for env, says in (
            (
                {"STRIPE_API_BASE": sandbox.url.replace("http:", "https:")},
                r"does not speak https .*\n.*STRIPE_API_BASE",
            ),
            (
                {"STRIPE_API_BASE": sandbox.url, "FINCON_PROXY": "http://127.0.0.1:9"},
                r"proxy .*\n.*FINCON_PROXY",
            ),
            ({"STRIPE_API_BASE": BASE}, r"nothing listens there .*\n.*Nothing answers at http://127"),
        ):
            shown = call("sync", cwd=tmp_path, env={"STRIPE_API_KEY": KEY, **env})
            assert shown.code == 1
            assert re.search(says, shown.err), shown.err
            assert len(shown.err.splitlines()) == 2
            assert "Pool" not in shown.err


TWO = "fcsess_1\nfcsess_2\n"
QUOTED = 'user;session_id\r\n"a;b\r\nc";"fcsess_1"\r\n;fcsess_2\r\n;\r\n'

READ = [
    TWO.encode("utf-16"),
    TWO.encode("utf-16-le"),
    TWO.encode("utf-16-be"),
    TWO.encode("utf-32"),
    b"\xef\xbb\xbf" + TWO.encode() + b"\xef\xbb\xbf",
    TWO.replace("\n", "\r").encode(),
    b'"fcsess_1",\r\n"fcsess_2",\r\n,\r\n',
    "user\tsession_id\nu\tfcsess_1\nu\tfcsess_2\n".encode("utf-16"),
    "user,session_id\nJos\u00e9,fcsess_1\nZo\u00eb,fcsess_2\n".encode("latin-1"),
    packed(TWO.encode()),
    packed(b"fcsess_1\n") + packed(b"fcsess_2\n"),
    packed(b"session_id\nfcsess_1\nfcsess_2\n"),
    b"\xef\xbb\xbfsession_id;user\r\nfcsess_1;u\r\nfcsess_2;v\r\n",
    b"sep=;\r\nUser;Session ID\r\nu;fcsess_1\r\nv;fcsess_2\r\n",
    QUOTED.encode(),
    b"\n\nuser|sessionId\nu|fcsess_1\nv|fcsess_2\n",
    b"session_id,user\nfcsess_1,u\nfcsess_2\n",
    b"id,session_id\n5,fcsess_1\n6,fcsess_2\n",
    b",".join(b"c%d" % n for n in range(2000)) + b",id\n" + b"," * 2000 + b"fcsess_1\n" + b"," * 2000 + b"fcsess_2",
    b'\xef\xbb\xbf[{"id": "fcsess_1"}, {"id": "fcsess_2"}]',
    b'["fcsess_1", "fcsess_2"]',
    b'{"object": "list", "data": [{"id": "fcsess_1"}, {"id": "fcsess_2"}]}',
    b'{"ID": "fcsess_1"}\n\n{"session_id": "fcsess_2", "id": 7}\n',
]  # fmt: skip

REFUSED = [
    (b"fcsess_1\n\nfca_2\n", r"line 3: 'fca_2' is not a session id\.\n +Give one session id"),
    (b"session_id,user\nfcsess_1,u\nTotal,1\n", r"line 3: 'Total' is not"),
    (b"user,session_id\nu,fcsess_1\nu\n", r"line 3: there is no session id"),
    (b"user,session_id\nu,fcsess_1\nu,\n", r"line 3: there is no session id"),
    (b'user,session_id\n"a\nb",fcsess_1\nu,NULL\n', r"line 4: 'NULL' is not"),
    (b'session_id\n="fcsess_1"\n', r"line 2: '=\"fcsess_1\"' is not"),
    (b"fcsess_1,fcsess_2\n", r"line 1: 'fcsess_1,fcsess_2' is not"),
    (b"u,fcsess_1\n", r"line 1: 'u,fcsess_1' is not"),
    (b"session\nfcsess_1\n", r"line 1: 'session' is not a session id\.\n .*a column session_id or id"),
    (b"stripe_account,session_id\nacct_1,fcsess_1\nme,fcsess_2\n", r"line 3: 'me' of fcsess_2 is not a Stripe acc"),
    (b"\xffcsess_1\n", r"line 1: '.csess_1' is not"),
    (b'session_id,name\nfcsess_1,"Joe\nfcsess_2,Ann\n', r"cannot be read in line 2: unexpected end of data"),
    (b'session_id,name\nfcsess_1,"Joe\nfcsess_2,"Ann\n', r"cannot be read in line 2: ',' expected after"),
    (b'"' + b"x" * 200_000, r"cannot be read in line 1: field larger"),
    (b'["fcsess_1", 2]', r"row 2: '2' is not"),
    (b'["fcsess_1",]', r"is no JSON: .*trailing comma"),
    (b"[" * 5_000, r"is no JSON: "),
    (b'[{"id": "fcsess_1"}, {"name": "x"}]', r"has no column session_id or id in row 2, but name"),
    (b'{"id": "fcsess_1"}\n{"id":\n', r"cannot be read in line 2: "),
    (b"[]", r"holds no session id"),
    (b"\xef\xbb\xbf \r\n", r"holds no session id"),
    (b"PK\x03\x04rest", r"is a workbook of Excel.*\n +Save it as CSV"),
    (b"\xd0\xcf\x11\xe0" + b"\0" * 99, r"is a workbook of Excel\.\n +Save it as CSV"),
    (b"BZh91AY", r"is packed with bzip2\.\n +Unpack it"),
    (packed(packed(b"x")), r"is packed twice"),
    (packed(b"fcsess_1\n" * 99)[:30], r"is packed, and cut short or damaged"),
    (packed(b"fcsess_1\n") + b"rest", r"is packed, and cut short or damaged"),
    (b"PAR1rest", r"cannot be read: Parquet"),
    (b"fcsess_1\0\n", r"is no text"),
]  # fmt: skip

FILES = [*((content, r"fcsess_1\n.*fcsess_2\n") for content in READ), *REFUSED]


@pytest.mark.parametrize(("content", "says"), FILES, ids=lambda value: repr(value)[:40])
def test_a_file_of_ids_is_read_or_refused_in_words(
    content: bytes, says: str, call: Call, tmp_path: Path
) -> None:
    """As people have them: from Excel, packed, as a bare list, with rows cut short; by name and on standard input."""
    (tmp_path / "ids").write_bytes(content)
    env = {"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": BASE}
    for name in ("ids", "-"):
        shown = call("sync", "--sessions", name, "--dry-run", cwd=tmp_path, env=env, stdin=content)
        assert re.search(says, shown.out + shown.err), shown
        assert shown.code == (0 if content in READ else 2)
        assert content in READ or len(shown.err.splitlines()) == 2
