"""Pages become rows: nothing lost, nothing invented, and one bad object spoils no other.

``golden/`` has a folder per case. Its pages are bodies as Stripe would send them: ``page.json`` of the listing;
or ``session.json`` (``session_404.json``: the answer that it is not there), then ``page_1.json``, … with more of
its accounts; or ``transactions.json`` or ``owners.json`` of the account ``fca_1``. ``expected.json`` holds the rows,
table by table; tables without rows and nulls are not written.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fincon.transforms.flatten import flatten
from fincon.transforms.page import Header, Origin, Page, Watermark
from fincon.transforms.schemas import OBJECT_TABLES

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())

START = 1_767_225_600_000_000
"""2026-01-01 in microseconds: when page 0 was seen. Each next page is one microsecond later."""

Json = dict[str, Any]
Rows = dict[str, list[Json]]


WATERMARKS: dict[str, Watermark] = {
    "transactions": Watermark(
        feature="transaction", last_attempted_at=1_234_567_890, status="succeeded", refresh_id="fctxnref_1"
    ),
    "owners": Watermark(
        feature="ownership",
        last_attempted_at=1_234_567_890,
        status="failed",
        ownership_id="fcaowns_1",
        pii="drop",
    ),
}


def page(
    body: bytes, *, parent: str = "", number: int = 0, status: int = 200, stream: str | None = None
) -> Page:
    header = Header(
        stream=stream or ("sessions" if parent else "accounts"),
        watermark=WATERMARKS.get(stream) if stream else None,
        parent=parent,
        number=number,
        offset=0,
        count=0,
        request="/v1/financial_connections/accounts",
        request_id="req_golden",
        status=status,
        observed_at=START + number,
        cursor=None,
    )
    return Page(header, body)


def listing(objects: Iterable[object], **header: Any) -> Page:
    return page(json.dumps({"object": "list", "data": list(objects), "has_more": False}).encode(), **header)


def pages_of(case: str) -> list[Page]:
    folder = GOLDEN / case
    for stream in WATERMARKS:
        if (folder / f"{stream}.json").exists():
            return [page((folder / f"{stream}.json").read_bytes(), parent="fca_1", stream=stream)]
    first = next(path for path in folder.glob("*.json") if path.stem in ("page", "session", "session_404"))
    parent = {"page": "", "session": "fcsess_1", "session_404": "fcsess_2"}[first.stem]
    rest = sorted(folder.glob("page_*.json"))
    return [
        page(first.read_bytes(), parent=parent, status=404 if first.stem == "session_404" else 200),
        *(page(path.read_bytes(), parent=parent, number=int(path.stem[5:])) for path in rest),
    ]


def readable(value: Any) -> Any:
    """Timestamps as ISO strings in UTC; in an object, no nulls."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case dict():
            return {key: readable(inner) for key, inner in value.items() if inner is not None}
        case list():
            return [readable(item) for item in value]
        case _:
            return value


def rows(tables: dict[str, pa.Table]) -> Rows:
    """The rows of each table that has any, without the two columns that every table has.

    Rows that say that there is nothing (no refresh, no account of a session) are left out: see `NOTHING`.
    """
    found = {
        name: readable(table.drop_columns(["stripe_account", "observed_at", "run_id"]).to_pylist())
        for name, table in tables.items()
    }
    said = {name: [row for row in of if set(row) != NOTHING.get(name)] for name, of in found.items()}
    return {name: of for name, of in said.items() if of}


NOTHING = {
    "refreshes": {"account_id", "feature"},
    "session_accounts": {"session_id"},
    "owners": {"account_id"},
    "balances": {"account_id", "balance_type", "as_of"},
}
"""Table → the columns of a row that says that there is nothing; the others are null."""


# -- golden pages


@pytest.mark.parametrize("case", CASES)
def test_golden_pages_give_exactly_the_expected_rows(case: str):
    expected = json.loads((GOLDEN / case / "expected.json").read_text())
    assert rows(flatten(pages_of(case), Origin("run"))) == expected


@pytest.mark.parametrize("case", CASES)
def test_every_table_has_its_schema_even_without_rows(case: str):
    tables = flatten(pages_of(case), Origin("run"))
    assert {name: table.schema for name, table in tables.items()} == {
        t.name: t.staged_schema for t in OBJECT_TABLES
    }
    for table in tables.values():
        table.validate(full=True)


def test_no_pages_give_empty_tables():
    assert rows(flatten([], Origin("run"))) == {}


def test_each_row_says_when_its_page_was_seen_and_by_which_run():
    tables = flatten(pages_of("session_of_three_pages"), Origin("run_7"))
    seen = {row["account_id"]: row["observed_at"] for row in tables["accounts"].to_pylist()}
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert {key: (at - start).microseconds for key, at in seen.items()} == {
        "fca_5": 0,
        "fca_4": 0,
        "fca_3": 1,
        "fca_2": 1,
        "fca_1": 2,
    }
    assert {row["observed_at"] for row in tables["session_accounts"].to_pylist()} == {start}
    assert {value for table in tables.values() for value in table["run_id"].to_pylist()} == {"run_7"}


def test_absent_and_null_are_the_same():
    tables = rows(flatten(pages_of("absent_and_null"), Origin("run")))
    absent, null, nulls_inside, absent_inside = (
        {key: value for key, value in row.items() if key != "account_id"} for row in tables["accounts"]
    )
    assert absent == null
    assert nulls_inside == absent_inside


def test_white_space_between_objects_changes_no_row():
    """A page with unknown attributes, indented or on one line, gives the same ``extra``."""
    body = pages_of("unknown_attributes")[0].body
    packed = b" ".join(line.strip() for line in body.splitlines())
    assert rows(flatten([page(packed)], Origin("run"))) == rows(flatten([page(body)], Origin("run")))


def test_no_secret_of_a_session_lands():
    tables = flatten(pages_of("published_session"), Origin("run"))
    assert b"_secret_" in pages_of("published_session")[0].body
    assert "_secret_" not in str(rows(tables))


# -- one bad object

GOOD: Json = {
    "id": "fca_good",
    "category": "cash",
    "created": 1_700_000_000,
    "institution_name": "StripeBank",
    "livemode": False,
    "status": "active",
    "subcategory": "checking",
    "supported_payment_method_types": [],
    "balance": {"as_of": 1, "current": {"usd": 1}, "type": "cash", "cash": {"available": {"usd": 1}}},
    "balance_refresh": {"last_attempted_at": 1, "status": "succeeded"},
}


def with_value(path: str, value: object) -> Json:
    """`GOOD` with ``value`` at ``path``."""
    account: Json = {**json.loads(json.dumps(GOOD)), "id": "fca_bad"}
    inside = account
    *names, last = path.split(".")
    for name in names:
        inside = inside[name]
    inside[last] = value
    return account


@pytest.mark.parametrize("amount", ["12.50", "12", 12.5, 12.0, True, None, [], 2**63, -(2**63) - 1, 10**30])
@pytest.mark.parametrize("path", ["balance.current.usd", "balance.cash.available.usd"])
def test_what_is_no_64_bit_integer_is_never_taken_for_an_amount(path: str, amount: object):
    bad = with_value(path, amount)
    found = rows(flatten([listing([GOOD, bad, {**GOOD, "id": "fca_last"}])], Origin("run")))
    assert [row["account_id"] for row in found["accounts"]] == ["fca_good", "fca_last"]
    assert {row["account_id"] for table in ("balances", "refreshes") for row in found[table]} == {
        "fca_good",
        "fca_last",
    }
    (reject,) = found["rejects"]
    assert (reject["object_type"], reject["object_id"]) == ("account", "fca_bad")
    assert reject["path"] == "$." + path.replace(".usd", "[...]")
    assert reject["reason"].startswith(("Expected `int`", "Number out of range"))
    assert json.loads(reject["raw"]) == bad


@pytest.mark.parametrize(
    "path",
    [
        "id",
        "created",
        "status",
        "livemode",
        "permissions",
        "account_holder",
        "balance",
        "balance.as_of",
        "balance.current",
        "balance_refresh.last_attempted_at",
        "account_numbers",
        "ownership",
    ],
)
def test_a_value_of_another_type_rejects_its_object_alone_and_names_the_path(path: str):
    bad = with_value(path, 1.5)
    found = rows(flatten([listing([GOOD, bad])], Origin("run")))
    assert [row["account_id"] for row in found["accounts"]] == ["fca_good"]
    (reject,) = found["rejects"]
    assert reject["path"] == f"$.{path}"
    assert reject.get("object_id") == (None if path == "id" else "fca_bad")
    assert json.loads(reject["raw"]) == bad


# -- any accounts

_INT64 = st.integers(-(2**63), 2**63 - 1)
_UNIX = st.integers(-62_135_596_800, 253_402_300_799)
_TEXT = st.text(max_size=6)
_STRINGS = st.lists(_TEXT, max_size=3)
_AMOUNTS = st.dictionaries(
    st.sampled_from(["usd", "eur", "jpy", "kwd", "xyz", "undefined"]), _INT64, max_size=4
)
_EXTRA = st.dictionaries(
    st.sampled_from(["new_a", "new_b", "Id", "é"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | _TEXT,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
        max_leaves=4,
    ),
    max_size=2,
)


@st.composite
def _object(draw: st.DrawFn, required: dict[str, Any], nullable: dict[str, Any]) -> Json:
    """An object whose nullable keys are absent, null or set, with keys that nobody knows, in any order."""
    found = {key: draw(values) for key, values in required.items()}
    for key, values in nullable.items():
        state = draw(st.sampled_from(["absent", "null", "set", "set"]))
        if state != "absent":
            found[key] = draw(values) if state == "set" else None
    found |= draw(st.just({}) | _EXTRA)
    keys = list(found)
    return {key: found[key] for key in (draw(st.permutations(keys)) if len(keys) < 8 else reversed(keys))}


_REFRESH = _object({"last_attempted_at": _UNIX, "status": _TEXT}, {"next_refresh_available_at": _UNIX})
_BALANCE = _object(
    {"as_of": _UNIX, "current": _AMOUNTS, "type": _TEXT},
    {"cash": _object({}, {"available": _AMOUNTS}), "credit": _object({}, {"used": _AMOUNTS})},
)
_EXPANDABLE = _TEXT | st.fixed_dictionaries({"id": _TEXT, "object": _TEXT})
_ACCOUNT = _object(
    {
        "id": st.text("abcdef", min_size=1, max_size=6).map("fca_{}".format),
        "category": _TEXT,
        "created": _UNIX,
        "institution_name": _TEXT,
        "livemode": st.booleans(),
        "status": _TEXT,
        "subcategory": _TEXT,
        "supported_payment_method_types": _STRINGS,
    },
    {
        "account_holder": _object({"type": st.text(min_size=1, max_size=6)}, {"customer": _EXPANDABLE}),
        "balance": _BALANCE,
        "balance_refresh": _REFRESH,
        "display_name": _TEXT,
        "last4": _TEXT,
        "ownership": _EXPANDABLE,
        "ownership_refresh": _REFRESH,
        "permissions": _STRINGS,
        "subscriptions": _STRINGS,
        "transaction_refresh": _REFRESH,
    },
)
_ACCOUNTS = st.lists(_ACCOUNT, max_size=3, unique_by=lambda account: account["id"])
"""A page, on which no account stands twice."""
_BAD = st.sampled_from(
    [None, 7, "fca_text", [], {}, {"id": 7}, {"id": "fca_bad"}, with_value("created", "x")]
)

any_pages = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sent_amounts(accounts: Iterable[Json]) -> Iterator[tuple[str, str, str, int]]:
    """(account, currency, column, amount) of each amount that was sent."""
    for account in accounts:
        balance = account.get("balance") or {}
        maps = {
            "current": balance.get("current"),
            "available": (balance.get("cash") or {}).get("available"),
            "used": (balance.get("credit") or {}).get("used"),
        }
        for column, amounts in maps.items():
            for currency, amount in (amounts or {}).items():
                yield account["id"], currency, column, amount


def landed_amounts(tables: dict[str, pa.Table]) -> Iterator[tuple[str, str, str, int]]:
    for row in tables["balances"].to_pylist():
        for column in ("current", "available", "used"):
            if row[column] is not None and row["currency"] is not None:
                yield row["account_id"], row["currency"], column, row[column]


def seconds(value: datetime | None) -> int | None:
    """Unix seconds, exactly: a float could not tell the microseconds of the year 9999."""
    if value is None:
        return None
    since = value - datetime(1970, 1, 1, tzinfo=UTC)
    assert since.microseconds == 0
    return since.days * 86_400 + since.seconds


@any_pages
@given(_ACCOUNTS)
def test_no_amount_or_currency_is_lost_or_invented(accounts: list[Json]):
    tables = flatten([listing(accounts)], Origin("run"))
    assert Counter(landed_amounts(tables)) == Counter(sent_amounts(accounts))
    for row in tables["balances"].to_pylist():
        assert (row["currency"] is None) == ({row["current"], row["available"], row["used"]} == {None})


@any_pages
@given(_ACCOUNTS)
def test_sums_per_currency_are_equal_to_the_last_unit(accounts: list[Json]):
    sent: Counter[tuple[str, str]] = Counter()
    landed: Counter[tuple[str, str]] = Counter()
    for _, currency, column, amount in sent_amounts(accounts):
        sent[currency, column] += amount
    for _, currency, column, amount in landed_amounts(flatten([listing(accounts)], Origin("run"))):
        landed[currency, column] += amount
    assert landed == sent


@any_pages
@given(_ACCOUNTS)
def test_no_refresh_is_lost_or_invented(accounts: list[Json]):
    sent = [
        (a["id"], feature, r["status"], r["last_attempted_at"], r.get("next_refresh_available_at"))
        for a in accounts
        for feature in ("balance", "ownership", "transaction")
        if (r := a.get(f"{feature}_refresh")) is not None
    ]
    landed = [
        (
            row["account_id"],
            row["feature"],
            row["status"],
            seconds(row["last_attempted_at"]),
            seconds(row["next_refresh_available_at"]),
        )
        for row in flatten([listing(accounts)], Origin("run"))["refreshes"].to_pylist()
        if row["status"] is not None
    ]
    assert Counter(landed) == Counter(sent)


@any_pages
@given(_ACCOUNTS)
def test_an_account_comes_back_from_its_row(accounts: list[Json]):
    landed = flatten([listing(accounts)], Origin("run"))["accounts"].to_pylist()
    assert len(landed) == len(accounts)
    for row, account in zip(landed, accounts, strict=True):
        same = "category subcategory status display_name institution_name last4 livemode permissions subscriptions"
        for name in (*same.split(" "), "supported_payment_method_types"):
            assert row[name] == account.get(name), name
        assert row["account_id"] == account["id"]
        assert seconds(row["created_at"]) == account["created"]
        balance = account.get("balance") or {}
        assert (row["balance_type"], seconds(row["balance_as_of"])) == (
            balance.get("type"),
            balance.get("as_of"),
        )
        holder = account.get("account_holder") or {}
        assert row["account_holder_type"] == holder.get("type")
        for name, value in (("account_holder_customer_id", holder.get("customer")), ("ownership_id", None)):
            sent = account.get("ownership") if name == "ownership_id" else value
            assert row[name] == (sent["id"] if isinstance(sent, dict) else sent)


UNKNOWN = {"new_a", "new_b", "Id", "é"}


def unknown(value: Json) -> Json:
    """What of an account no column holds, nested as it was sent."""
    found = {key: inner for key, inner in value.items() if key in UNKNOWN}
    for key, inner in value.items():
        if key not in UNKNOWN and key not in ("current", "available", "used") and isinstance(inner, dict):
            deeper = unknown(inner) if "object" not in inner else {}
            found |= {key: deeper} if deeper else {}
    return found


@any_pages
@given(_ACCOUNTS)
def test_extra_holds_exactly_the_unknown_attributes(accounts: list[Json]):
    landed = flatten([listing(accounts)], Origin("run"))["accounts"]["extra"].to_pylist()
    assert [json.loads(extra or "{}") for extra in landed] == [unknown(account) for account in accounts]


@any_pages
@given(
    st.lists(
        _ACCOUNT.map(lambda a: (True, a)) | _BAD.map(lambda bad: (False, bad)),
        max_size=5,
        unique_by=lambda marked: marked[1]["id"] if marked[0] else str(marked[1]),
    )
)
def test_every_object_of_a_page_is_in_accounts_or_in_rejects(marked: list[tuple[bool, Any]]):
    tables = flatten([listing(item for _, item in marked)], Origin("run"))
    assert tables["accounts"]["account_id"].to_pylist() == [item["id"] for good, item in marked if good]
    rejected = [json.loads(raw) for raw in tables["rejects"]["raw"].to_pylist()]
    assert rejected == [item for good, item in marked if not good]


@any_pages
@given(_ACCOUNTS, st.lists(_ACCOUNTS, max_size=2))
def test_a_session_names_its_accounts_in_order_over_its_pages(first: list[Json], rest: list[list[Json]]):
    session = {"id": "fcsess_1", "livemode": False, "permissions": []}
    body = {**session, "accounts": {"data": first, "has_more": bool(rest)}}
    more = [listing(accounts, parent="fcsess_1", number=n) for n, accounts in enumerate(rest, 1)]
    tables = flatten([page(json.dumps(body).encode(), parent="fcsess_1"), *more], Origin("run"))
    ids = [account["id"] for accounts in (first, *rest) for account in accounts]
    assert tables["accounts"]["account_id"].to_pylist() == ids
    ids = list(dict.fromkeys(ids))  # pages that overlap, where a cursor was gone, name an account once
    assert tables["sessions"]["account_count"].to_pylist() == [len(ids)]
    assert rows(tables).get("session_accounts", []) == [
        {"session_id": "fcsess_1", "account_id": account_id, "position": position}
        for position, account_id in enumerate(ids)
    ]


@any_pages
@given(st.lists(st.lists(_ACCOUNT | _BAD, max_size=3), max_size=3))
def test_pages_together_give_what_each_gives_alone(pages: list[list[Any]]):
    """So a run may be flattened in pieces of any size, and a session's pages may stand among others."""
    sent = [listing(objects, number=number) for number, objects in enumerate(pages)]
    chains = [pages_of("session_of_three_pages"), *([one] for one in sent), pages_of("session_not_found")]
    run_all = flatten([one for chain in chains for one in chain], Origin("run"))
    alone = [flatten(chain, Origin("run")) for chain in chains]
    for name, table in run_all.items():
        pieces = pa.concat_tables([one[name] for one in alone])
        if name == "refreshes":  # which stand feature by feature
            assert Counter(map(str, table.to_pylist())) == Counter(map(str, pieces.to_pylist()))
            continue
        assert table.equals(pieces)


def test_a_session_that_cannot_be_read_does_not_lose_its_accounts():
    """Its own page is in rejects; every account on it and on the pages after it lands."""
    body = {
        "id": "fcsess_1",
        "livemode": "no",
        "permissions": [],
        "accounts": {"data": [good("fca_1")], "has_more": True},
    }
    chain = [
        page(json.dumps(body).encode(), parent="fcsess_1"),
        listing([good("fca_2")], parent="fcsess_1", number=1),
    ]
    tables = flatten(chain, Origin("run"))
    assert tables["accounts"]["account_id"].to_pylist() == ["fca_1", "fca_2"]
    assert tables["rejects"]["object_id"].to_pylist() == ["fcsess_1"]


def test_an_account_twice_on_a_page_is_one_version_whatever_the_order():
    """What says the same is seen once; of what differs one content counts, and the other is in rejects."""
    one, other = good("fca_1"), {**good("fca_1"), "display_name": "Other"}
    for items in ([one, one], [one, other], [other, one], [one, other, one]):
        tables = flatten([listing(items)], Origin("run"))
        assert tables["accounts"]["display_name"].to_pylist() in ([None], ["Other"])
        kept = flatten([listing([one, other])], Origin("run"))["accounts"]["display_name"].to_pylist()
        assert other not in items or tables["accounts"]["display_name"].to_pylist() == kept
        assert tables["rejects"].num_rows == (1 if other in items else 0)


def good(account_id: str) -> Json:
    """An account with what every account has."""
    return {
        "id": account_id,
        "category": "cash",
        "created": 1,
        "institution_name": "Bank",
        "livemode": False,
        "status": "active",
        "subcategory": "checking",
        "supported_payment_method_types": [],
    }
