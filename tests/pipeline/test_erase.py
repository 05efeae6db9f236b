"""Who is erased is gone whatever happens meanwhile, and nobody else is."""

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from fincon.errors import FinconError, UsageError
from fincon.lake.snapshots import renew_snapshots, snapshots_taken
from fincon.lake.tables import Lake
from fincon.pipeline import erasing
from fincon.pipeline.check import failed_checks
from fincon.pipeline.compact import compact
from fincon.pipeline.erase import HELD, allow, erase, foretell, traces
from fincon.pipeline.recovery import finish_what_was_begun
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import publish, run_sync
from tests.conftest import Child, copied, rows, settings_for
from tests.killed import kill_at_change
from tests.scripted_stripe import START, ScriptedStripe, account, serving, session
from tests.typed import typed

DAY = 86_400
TABLES = ("sessions", "session_accounts", "accounts", "balances", "refreshes", "transactions", "owners")


def of(customer: str) -> dict[str, Any]:
    """What makes an object a customer's."""
    return {"account_holder": {"type": "customer", "customer": customer}}


def full(account_id: str, customer: str, **more: Any) -> dict[str, Any]:
    """An account with transactions and owners."""
    refresh = {"last_attempted_at": START - 900, "next_refresh_available_at": START, "status": "succeeded"}
    return account(
        account_id,
        **of(customer),
        ownership=f"fcaown_{account_id}",
        ownership_refresh=refresh,
        transaction_refresh={**refresh, "id": f"fctxnref_{account_id}"},
        permissions=["balances", "ownership", "transactions"],
        subscriptions=["transactions"],
        **more,
    )


def transaction(number: str, account_id: str) -> dict[str, Any]:
    """A booked transaction."""
    return {
        "id": f"fctxn_{number}",
        "object": "financial_connections.transaction",
        "account": account_id,
        "amount": -500,
        "currency": "usd",
        "description": "Rent",
        "livemode": False,
        "status": "posted",
        "status_transitions": {"posted_at": START - 900, "void_at": None},
        "transacted_at": START - 1000,
        "transaction_refresh": f"fctxnref_{account_id}",
        "updated": START - 900,
    }


def owner(number: str, account_id: str) -> dict[str, Any]:
    """An owner with a name."""
    return {
        "id": f"fcaowner_{number}",
        "object": "financial_connections.account_owner",
        "email": f"{number}@example.com",
        "name": f"Name {number}",
        "ownership": f"fcaown_{account_id}",
        "phone": None,
        "raw_address": None,
        "refreshed_at": START - 900,
    }


def scripted() -> ScriptedStripe:
    """Three accounts and a session of cus_1, one of each of cus_12."""
    whose = {"fca_a": "cus_1", "fca_b": "cus_1", "fca_c": "cus_1", "fca_ab": "cus_12"}
    return ScriptedStripe(
        accounts=[full(account_id, customer) for account_id, customer in whose.items()],
        sessions={"fcsess_1": session("fcsess_1", **of("cus_1")), "fcsess_12": session("fcsess_12", **of("cus_12"))},
        session_accounts={"fcsess_1": ["fca_a", "fca_b"], "fcsess_12": ["fca_ab"]},
        transactions={one: [transaction(f"{one}1", one), transaction(f"{one}2", one)] for one in whose},
        owners={one: [owner(one, one)] for one in whose},
    )  # fmt: skip


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    with serving(scripted()) as up:
        yield up


def fetch(stripe: ScriptedStripe, data: Path, *session_ids: str) -> None:
    """A sync of everything, an hour after the one before."""
    stripe.clock += 3600
    ids = session_ids or tuple(stripe.sessions)
    request = SyncRequest(
        session_ids=ids, accounts=True, transactions=True, owners=True, pii="keep", refetch="all"
    )
    assert run_sync(settings_for(stripe.url, data), request).failed_checks == {}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScriptedStripe]:
    """A lake with two syncs between which balances moved, and what Stripe has then."""
    data = tmp_path_factory.mktemp("synced") / "data"
    with serving(scripted()) as stripe:
        fetch(stripe, data)
        for one in stripe.accounts:
            one["balance"] = {**one["balance"], "current": {"usd": 250}}
        fetch(stripe, data)
    return data, stripe


@pytest.fixture
def synced(original: tuple[Path, ScriptedStripe], stripe: ScriptedStripe, data: Path) -> Path:
    """A copy of that lake, with views of its own; Stripe has what it had."""
    lake, then = original
    stripe.clock, stripe.accounts = then.clock, copy.deepcopy(then.accounts)
    return copied(lake, data)


OF_CUS_1 = ["cus_1", "fca_a", "fca_b", "fca_c", "fcsess_1"]


def known(data: Path) -> dict[str, list[str]]:
    """What the lake holds, table by table, every version."""
    return {table: sorted(map(str, rows(data, f"FROM history.{table}"))) for table in TABLES}


def ids(data: Path, table: str, column: str) -> set[str]:
    """Whom a table knows of."""
    return {row[column] for row in rows(data, f"SELECT {column} FROM {table}")}


@pytest.fixture
def expected(synced: Path, tmp_path: Path) -> dict[str, list[str]]:
    """What an erasure of cus_1 leaves that nothing interrupts."""
    backup = tmp_path / "backup"
    shutil.copytree(synced, backup)
    erase(synced, "customer", "cus_1")
    assert failed_checks(synced) == {}
    left = known(synced)
    restore(backup, synced)
    return left


def restore(backup: Path, data: Path) -> None:
    """Put a lake back as it was, where it was."""
    shutil.rmtree(data)
    shutil.copytree(backup, data)


def finished_by(command: str, data: Path) -> None:
    """Do one of what finishes an erasure that was killed."""
    if command == "erase":
        with suppress(UsageError):  # nothing names it, where all but the last step was done
            erase(data, "customer", "cus_1")
    elif command == "compact":
        compact(data, 7, 7)
    else:
        finish_what_was_begun(data)  # as `fincon check` does


@pytest.mark.parametrize("first", [1, 4, 7, 10])
@pytest.mark.first(0, 0)
def test_an_erasure_that_is_killed_anywhere_is_finished_by_what_comes_next(
    synced: Path, tmp_path: Path, expected: dict[str, list[str]], first: int
) -> None:
    """At every twelfth change of a file in turn: nothing is left of cus_1, its accounts and session, and all else is."""
    backup, number = tmp_path / "backup", first
    commands = iter(("erase", "check", "compact") * 40)
    while kill_at_change(number, synced, erase, synced, "customer", "cus_1"):
        begun = (synced / ".erasing").exists()
        if begun:
            assert (synced / ".erasing").stat().st_mode & 0o777 == 0o600
            finished_by(next(commands), synced)
        elif traces(synced, OF_CUS_1):
            finished_by("erase", synced)
        assert traces(synced, OF_CUS_1) == []
        assert not (synced / ".erasing").exists()
        assert known(synced) == expected
        assert failed_checks(synced) == {}
        assert rows(synced, "SELECT count(*) AS n FROM erasures WHERE table_name IS NULL") == [{"n": 5}]
        restore(backup, synced)
        number += 12
    assert number > 12


@pytest.mark.slow
def test_a_sync_after_a_killed_erasure_brings_nobody_back(
    stripe: ScriptedStripe, synced: Path, expected: dict[str, list[str]]
) -> None:
    foretold = foretell(synced, "customer", "cus_1")
    assert kill_at_change(12, synced, erase, synced, "customer", "cus_1")
    assert erasing.begun(synced)
    assert foretell(synced, "customer", "cus_1") == foretold
    for one in stripe.accounts:
        one["balance"] = {**one["balance"], "current": {"usd": 300}}
    fetch(stripe, synced)
    assert traces(synced, OF_CUS_1) == []
    assert rows(synced, "SELECT account_id, current FROM balances") == [
        {"account_id": "fca_ab", "current": 300}
    ]
    assert failed_checks(synced) == {}


@pytest.mark.parametrize("torn", [b"", b"PAR1", b"PAR1 and then no more"])
@pytest.mark.first(1)
def test_a_file_that_a_crash_left_half_written_stands_in_no_erasures_way(synced: Path, torn: bytes) -> None:
    """Of a table that no log names; it is counted as one that may name somebody, and goes."""
    left = synced / "lake" / "accounts" / "part-00000-torn-c000.zstd.parquet"
    left.write_bytes(torn)
    assert foretell(synced, "account", "fca_a")["accounts"] == 1
    assert left.exists()
    erase(synced, "account", "fca_a")
    assert not left.exists()
    assert traces(synced, ["fca_a"]) == []


@pytest.mark.slow
def test_check_finishes_an_erasure_that_was_killed(synced: Path) -> None:
    assert kill_at_change(12, synced, erase, synced, "customer", "cus_1")
    done = typed("--data", str(synced), "check", cwd=synced.parent)
    assert done.code == 0, done.err
    assert traces(synced, OF_CUS_1) == []


ODD = ["fca_.*", "fca_'x", "fca_(", 'fca_"q', "fca_a b", "fca_a.b", "fca_é", "fca_[a-z]+", "fca_a\\d"]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.first(1, 0)
def test_an_odd_id_is_no_pattern(stripe: ScriptedStripe, synced: Path, odd: str) -> None:
    """It goes with its customer, and takes nobody with it."""
    stripe.accounts += [full(odd, "cus_2")]
    fetch(stripe, synced)
    others = ids(synced, "accounts", "account_id") - {odd}
    versions = rows(synced, "FROM history.accounts WHERE account_holder_customer_id <> 'cus_2' ORDER BY ALL")
    erase(synced, "customer", "cus_2")
    assert ids(synced, "accounts", "account_id") == others
    assert rows(synced, "FROM history.accounts ORDER BY ALL") == versions
    assert traces(synced, ["cus_2", odd]) == []
    assert failed_checks(synced) == {}


@pytest.mark.parametrize("odd", ["_.*", "_'x", "_(", "_é [a]", "_a;b--"])
@pytest.mark.first(0, 1)
def test_an_odd_id_is_erased_by_itself(stripe: ScriptedStripe, synced: Path, odd: str) -> None:
    """An account, a session and a customer of an odd id each go when they are named, and take nobody with them."""
    stripe.accounts += [full(f"fca{odd}", f"cus{odd}"), full("fca_x", f"cus{odd}")]
    stripe.sessions[f"fcsess{odd}"] = session(f"fcsess{odd}", **of("cus_12"))
    stripe.session_accounts[f"fcsess{odd}"] = ["fca_ab"]
    fetch(stripe, synced)
    kept = {"fca_a", "fca_b", "fca_c", "fca_ab"}
    for kind, identity, left in (
        ("account", f"fca{odd}", {*kept, "fca_x"}),
        ("session", f"fcsess{odd}", {*kept, "fca_x"}),
        ("customer", f"cus{odd}", kept),
    ):
        erase(synced, kind, identity)
        assert traces(synced, [identity]) == []
        assert ids(synced, "accounts", "account_id") == left
    assert ids(synced, "sessions", "session_id") == {"fcsess_1", "fcsess_12"}
    assert failed_checks(synced) == {}


def test_an_id_that_may_be_any_word_is_refused_before_anything_is_touched(
    stripe: ScriptedStripe, synced: Path
) -> None:
    words = {"_": "cus_2", "active": "cus_3"}
    stripe.accounts += [account(word, **of(customer)) for word, customer in words.items()]
    fetch(stripe, synced)
    before = known(synced)
    for word, customer in words.items():
        with pytest.raises(FinconError, match=f"{customer} has the account '{word}'"):
            erase(synced, "customer", customer)
        assert known(synced) == before
        assert not (synced / ".erasing").exists()


def test_a_longer_id_of_another_customer_stays(synced: Path) -> None:
    """cus_1 beside cus_12, fca_a beside fca_ab; so in a snapshot of the latest state."""
    with Lake(synced / "lake") as lake:
        renew_snapshots(lake, always=True)
        publish(synced, lake)
    assert list((synced / "snapshots").glob("balances-*.parquet"))
    erase(synced, "customer", "cus_1")
    assert traces(synced, OF_CUS_1) == []
    assert ids(synced, "accounts", "account_id") == {"fca_ab"}
    assert traces(synced, ["cus_12"])
    with Lake(synced / "lake") as lake:
        assert all(
            (synced / file).exists() for taken in snapshots_taken(lake).values() for file in taken.base
        )


@pytest.mark.slow
def test_a_customer_that_is_allowed_comes_back_with_all_that_went_with_them(
    stripe: ScriptedStripe, synced: Path
) -> None:
    erase(synced, "account", "fca_c")
    erase(synced, "customer", "cus_1")
    fetch(stripe, synced)
    allow(synced, "customer", "cus_1")
    fetch(stripe, synced)
    assert ids(synced, "accounts", "account_id") == {"fca_a", "fca_b", "fca_ab"}  # fca_c was erased by itself
    assert ids(synced, "sessions", "session_id") == {"fcsess_1", "fcsess_12"}


def noted_in(data: Path, year: int) -> None:
    """Have it that the clock was wrong when the newest rows of ``erasures`` were written."""
    table = DeltaTable(data / "lake" / "erasures")
    newest = max(table.to_pyarrow_table()["sequence"].to_pylist())
    table.update(
        new_values={"observed_at": datetime(year, 1, 1, tzinfo=UTC)}, predicate=f"sequence = {newest}"
    )


@pytest.mark.slow
def test_what_was_said_last_of_an_erasure_counts_whatever_the_clock_said(
    stripe: ScriptedStripe, synced: Path
) -> None:
    """Erased when the clock was far ahead, then allowed; and erased again when it was far behind."""
    erase(synced, "customer", "cus_1")
    noted_in(synced, 2100)
    allow(synced, "customer", "cus_1")
    fetch(stripe, synced)
    assert "fca_a" in ids(synced, "accounts", "account_id")
    erase(synced, "customer", "cus_1")
    noted_in(synced, 1990)
    fetch(stripe, synced)
    assert ids(synced, "accounts", "account_id") == {"fca_ab"}


@pytest.mark.slow
def test_an_unknown_session_of_an_erased_customer_leaves_no_id_behind(
    stripe: ScriptedStripe, synced: Path
) -> None:
    erase(synced, "customer", "cus_1")
    stripe.sessions["fcsess_new"] = session("fcsess_new", **of("cus_1"))
    fetch(stripe, synced)
    assert not [path for path in synced.rglob("*") if "fcsess_new" in path.name]
    assert traces(synced, ["fcsess_new"]) == []


@pytest.mark.slow
def test_a_lake_behind_a_link_is_erased_too(synced: Path, tmp_path: Path) -> None:
    for folder in ("lake", "pages"):
        shutil.move(synced / folder, tmp_path / f"other-disk-{folder}")
        (synced / folder).symlink_to(tmp_path / f"other-disk-{folder}")
    removed = erase(synced, "customer", "cus_1")
    assert removed["accounts"] >= 3
    assert traces(synced, OF_CUS_1) == []
    assert traces(tmp_path, OF_CUS_1[:4]) == []
    assert ids(synced, "accounts", "account_id") == {"fca_ab"}
    assert failed_checks(synced) == {}


def test_what_other_files_of_the_folder_say_is_told_before_anything_is_touched(synced: Path) -> None:
    """A lake within the lake, an export that a person put there: the erasure is refused, and no later run is held up."""
    shutil.copytree(synced, synced / "demo")
    (synced / "notes.csv").write_text("fca_a,hello\n")
    before = known(synced)
    for kind, identity in (("account", "fca_a"), ("customer", "cus_1")):
        with pytest.raises(UsageError, match=rf"{identity} is named in .*demo/.* other") as refused:
            erase(synced, kind, identity)
        assert f"{synced / 'demo'} is a lake of its own" in refused.value.hint
    assert known(synced) == before
    assert not (synced / ".erasing").exists()
    shutil.rmtree(synced / "demo")
    with pytest.raises(UsageError, match=r"fca_a is named in [^ ]*notes\.csv too") as refused:
        erase(synced, "account", "fca_a")
    assert "Remove what fincon did not write" in refused.value.hint
    (synced / "notes.csv").unlink()
    erase(synced, "account", "fca_a")
    assert traces(synced, ["fca_a"]) == []


READER = """
import json, sys
from pathlib import Path
from fincon.warehouse.connection import connect
data, stop, query = sys.argv[1:]
seen, failed = [], []
while True:
    last = Path(stop).exists()
    try:
        with connect(data) as connection:
            seen.append(connection.execute(query).fetchall()[0])
            seen.append(connection.execute(query).fetchall()[0])
    except Exception as error:
        failed.append(str(error))
    if len(seen) == 2:
        print("reading", flush=True)
    if last:
        break
print(json.dumps([seen, failed]))
"""
ONE_MOMENT = (
    "SELECT (SELECT sum(current) FROM balances), (SELECT count(*) FROM accounts), (SELECT count(*) FROM history.balances),"
    " (SELECT count(*) FROM owners), (SELECT count(*) FROM history.transactions)"
)


@pytest.mark.slow
def test_a_reader_beside_erasures_never_fails_and_never_sees_half_of_one(
    synced: Path, tmp_path: Path
) -> None:
    """Whoever opens the views reads the lake as it was before an erasure or after it, though its queries run meanwhile."""
    stop, moments = tmp_path / "stop", [rows(synced, ONE_MOMENT)]
    arguments = [sys.executable, "-c", READER, str(synced), str(stop), ONE_MOMENT]
    with Child(arguments, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as reader:
        assert reader.stdout
        assert reader.stdout.readline() == "reading\n"
        for kind, identity in (("account", "fca_a"), ("session", "fcsess_12"), ("customer", "cus_1")):
            erase(synced, kind, identity)
            moments.append(rows(synced, ONE_MOMENT))
        stop.touch()
        seen, failed = json.loads(reader.stdout.readline())
    assert failed == []
    assert {tuple(one) for one in seen} <= {tuple(row.values()) for [row] in moments}


HOLDER = """
import sys
from fincon.warehouse.connection import connect
with connect(sys.argv[1]) as connection:
    print(connection.execute("SELECT count(*) FROM history.accounts").fetchall(), flush=True)
    sys.stdin.readline()
    try:
        connection.execute("SELECT count(*) FROM history.accounts").fetchall()
    except Exception as error:
        print(error, flush=True)
"""


@pytest.mark.slow
def test_an_erasure_tells_of_a_reader_that_stays(synced: Path) -> None:
    """It is waited for no longer than is said; its views name files that are gone, and nothing wrong is read."""
    arguments = [sys.executable, "-c", HOLDER, str(synced)]
    told: list[str] = []
    with Child(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout
        assert reader.stdout.readline()
        erase(synced, "account", "fca_a", told.append)
        answer, _ = reader.communicate("go on\n")
    assert told == [HELD]
    assert "Error: " in answer
    assert traces(synced, ["fca_a"]) == []


@pytest.mark.slow
def test_an_account_without_a_holder_goes_with_the_customer_whose_session_collected_it(
    stripe: ScriptedStripe, data: Path
) -> None:
    """Not one that another's session collected too."""
    stripe.accounts[1]["account_holder"] = stripe.accounts[2]["account_holder"] = None
    stripe.session_accounts = {"fcsess_1": ["fca_a", "fca_b", "fca_c"], "fcsess_12": ["fca_ab", "fca_c"]}
    fetch(stripe, data)
    erase(data, "customer", "cus_1")
    assert failed_checks(data) == {}
    fetch(stripe, data)
    for table in ("accounts", "balances", "owners", "transactions"):
        assert ids(data, table, "account_id") == {"fca_ab", "fca_c"}


@pytest.mark.slow
def test_what_a_stripe_account_holds_goes_with_it(stripe: ScriptedStripe, data: Path) -> None:
    holder = {"account_holder": {"type": "account", "account": "acct_holder1"}}
    for one in (*stripe.accounts[:3], stripe.sessions["fcsess_1"]):
        one |= holder
    fetch(stripe, data)
    erase(data, "customer", "acct_holder1")
    assert failed_checks(data) == {}
    assert traces(data, ["acct_holder1", "fca_a", "fca_b", "fca_c", "fcsess_1"]) == []
    for table in ("accounts", "balances", "owners", "transactions"):
        assert ids(data, table, "account_id") == {"fca_ab"}


@pytest.mark.slow
def test_nothing_of_an_erased_account_comes_on_the_list_of_another(
    stripe: ScriptedStripe, synced: Path
) -> None:
    """Nor of one that nobody knows: it is rejected."""
    erase(synced, "customer", "cus_1")
    stripe.accounts = [full("fca_ab", "cus_12"), full("fca_new", "cus_12")]
    strange = [transaction("s1", "fca_a"), transaction("s2", "fca_nobody")]
    stripe.transactions["fca_new"] = [transaction("n1", "fca_new"), *strange, transaction("n2", "fca_new")]
    fetch(stripe, synced, "fcsess_12")
    assert failed_checks(synced) == {}
    assert traces(synced, OF_CUS_1) == []
    of_new = rows(synced, "SELECT transaction_id FROM transactions WHERE account_id = 'fca_new' ORDER BY ALL")
    assert [row["transaction_id"] for row in of_new] == ["fctxn_n1", "fctxn_n2"]
    assert ids(synced, "rejects", "object_id") == {"fctxn_s1", "fctxn_s2"}


def test_an_answer_of_another_session_is_not_taken_for_that(stripe: ScriptedStripe, data: Path) -> None:
    stripe.session_accounts["fcsess_1"] = []
    stripe.sessions["fcsess_1"]["id"] = "fcsess_12"
    run_sync(settings_for(stripe.url, data), SyncRequest(session_ids=("fcsess_12", "fcsess_1")))
    assert rows(data, "SELECT session_id, account_id FROM session_accounts") == [
        {"session_id": "fcsess_12", "account_id": "fca_ab"}
    ]
    assert ids(data, "rejects", "object_id") == {"fcsess_1"}


ODD_SHAPES: list[dict[str, Any]] = [
    {"data": [1]},
    {"account_holder": "cus_1"},
    {"account_holder": [{"type": "customer", "customer": {"id": "cus_1", "name": "Jane"}}]},
    {"id": None, "account_holder": "cus_1"},
    {"id": 7},
    {"account_holder": None},
]


def test_who_was_erased_stays_away_in_whatever_shape_stripe_sends_them(
    stripe: ScriptedStripe, synced: Path
) -> None:
    erase(synced, "customer", "cus_1")
    stripe.accounts = [{**stripe.accounts[0], **odd} for odd in ODD_SHAPES] + stripe.accounts[3:]
    fetch(stripe, synced, "fcsess_12")
    assert traces(synced, OF_CUS_1) == []
    assert ids(synced, "accounts", "account_id") == {"fca_ab"}


@pytest.mark.slow
def test_who_only_mentions_an_erased_id_stays_without_the_mention(
    stripe: ScriptedStripe, synced: Path
) -> None:
    """In any text: then, of what comes later, and of what waits."""
    other = stripe.accounts[3]
    other |= {"display_name": "fca_a", "metadata": {"note": "with cus_1, fca_a and cus_12"}}
    other["permissions"] = [*other["permissions"], "of cus_1"]
    for feature in ("ownership_refresh", "transaction_refresh"):
        other[feature] = {**other[feature], "last_attempted_at": START}
    stripe.transactions["fca_ab"][0]["description"] = "To cus_1 cus_1."
    stripe.owners["fca_ab"][0]["raw_address"] = "c/o cus_1"
    stripe.sessions["fcsess_12"]["return_url"] = "https://example.com/back?customer=cus_1&x=1"
    odd = full("fca_a(b", "cus_12")
    stripe.accounts += [odd, {**odd, "id": "fca_odd", "livemode": "fca_a"}]
    fetch(stripe, synced)
    before = {table: len(known(synced)[table]) for table in TABLES}
    lost = erase(synced, "customer", "cus_1")
    for _ in range(2):
        assert failed_checks(synced) == {}
        assert traces(synced, OF_CUS_1) == []
        assert ids(synced, "accounts", "account_id") == {"fca_ab", "fca_a(b"}
        [extra] = rows(synced, "SELECT extra::VARCHAR AS extra FROM accounts WHERE account_id = 'fca_ab'")
        assert json.loads(extra["extra"])["metadata"] == {"note": "with [removed], [removed] and cus_12"}
        assert ids(synced, "transactions", "description") == {"Rent", "To [removed] [removed]."}
        assert ids(synced, "rejects", "object_id") == {"fca_odd"}
        if before:
            assert {table: len(known(synced)[table]) + lost.get(table, 0) for table in TABLES} == before
            before = {}
            fetch(stripe, synced)
