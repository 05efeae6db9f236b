"""A stricter choice about personal data reaches back when it is asked to."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fincon.errors import UsageError
from fincon.pipeline.check import failed_checks
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.rewrite_privacy import rewrite
from fincon.pipeline.sync import run_sync
from fincon.settings import Secret
from fincon.transforms.redaction import Choice
from tests.at_rest import files_holding
from tests.conftest import rows, settings_for
from tests.killed import kill_at_change
from tests.pipeline.test_erase import full, owner, restore
from tests.scripted_stripe import ScriptedStripe, account, serving
from tests.typed import typed

KEY = "0123456789abcdef0123"
CLEAR = ("Ada Lovelace", "ada@example.com", "Ada's Everyday", "Ada's grown", "Ada's reject")


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    """An account of a person who is named in each place where that may be."""
    one = full("fca_a", "cus_1") | {"display_name": "Ada's Everyday", "grown": {"by": "Ada's grown"}}
    odd = account("fca_odd") | {"balance": "no balance", "display_name": "Ada's reject"}
    who = owner("a", "fca_a") | {"name": "Ada Lovelace", "email": "ada@example.com"}
    with serving(ScriptedStripe(accounts=[one, odd], owners={"fca_a": [who]})) as up:
        yield up


def fetch(stripe: ScriptedStripe, data: Path, pii: Choice) -> SyncResult:
    """A sync of accounts and owners, an hour later."""
    stripe.clock += 3600
    settings = settings_for(stripe.url, data, FINCON_PII_KEY=KEY)
    return run_sync(settings, SyncRequest(accounts=True, owners=True, pii=pii))


def holding(data: Path, texts: tuple[str, ...]) -> list[str]:
    """The files that hold any of the texts, unpacked."""
    return [f"{path}: {text}" for path, text in files_holding(data, texts)]


@pytest.mark.parametrize("choice", ["hash", "drop"])
@pytest.mark.first(1)
def test_nothing_that_was_kept_is_left_in_clear(stripe: ScriptedStripe, data: Path, choice: Choice) -> None:
    assert not fetch(stripe, data, "keep").left_in_clear
    assert {text for text in CLEAR if holding(data, (text,))} == set(CLEAR)
    assert fetch(stripe, data, choice).left_in_clear
    assert not fetch(stripe, data, choice).left_in_clear
    rewrite(data, Secret(KEY))
    assert holding(data, CLEAR) == []
    assert failed_checks(data) == {}
    names = {row["name"] for row in rows(data, "SELECT name FROM history.owners WHERE name IS NOT NULL")}
    assert len(names) == (1 if choice == "hash" else 0)  # the same person, in history and now
    before = rows(data, "FROM history.accounts ORDER BY ALL")
    assert rewrite(data, Secret(KEY)) == 0
    assert rows(data, "FROM history.accounts ORDER BY ALL") == before
    assert fetch(stripe, data, choice).failed_checks == {}


def rewrite_all(data: Path) -> int:
    """Rewrite with the key of these tests, in a process that may be killed."""
    return rewrite(data, Secret(KEY))


def said(data: Path) -> dict[str, list[str]]:
    """What the lake says, table by table, every version."""
    return {
        table: sorted(map(str, rows(data, f"FROM history.{table}")))
        for table in ("accounts", "balances", "owners")
    } | {"rejects": sorted(str(row["raw"]) for row in rows(data, "FROM rejects"))}


@pytest.mark.parametrize(
    "first", [1, pytest.param(5, marks=pytest.mark.minutes), pytest.param(9, marks=pytest.mark.minutes)]
)
@pytest.mark.slow
def test_a_rewrite_that_is_killed_anywhere_is_finished_by_the_next(
    stripe: ScriptedStripe, data: Path, tmp_path: Path, first: int
) -> None:
    """At every twelfth change of a file in turn: a sync may come between, and after the next rewrite all is as it should be."""
    fetch(stripe, data, "keep")
    fetch(stripe, data, "hash")
    backup, number = tmp_path / "backup", first
    shutil.copytree(data, backup)
    rewrite_all(data)
    expected = said(data)
    restore(backup, data)
    while kill_at_change(number, data, rewrite_all, data):
        assert failed_checks(data) == {}
        if number % 24 == first:
            assert fetch(stripe, data, "hash").failed_checks == {}
        rewrite_all(data)
        assert holding(data, CLEAR) == []
        assert failed_checks(data) == {}
        assert said(data) == expected
        assert not [path for path in data.rglob("*") if path.name.endswith(".part")]
        restore(backup, data)
        number += 12
    assert number > 24


def test_a_file_that_a_crash_left_half_written_stands_in_no_rewrites_way(
    stripe: ScriptedStripe, data: Path
) -> None:
    fetch(stripe, data, "keep")
    fetch(stripe, data, "drop")
    torn = data / "lake" / "accounts" / "part-00000-torn-c000.zstd.parquet"
    torn.write_bytes(b"PAR1 and then no more")
    rewrite_all(data)
    assert not torn.exists()


def test_where_all_is_kept_there_is_nothing_to_rewrite(stripe: ScriptedStripe, data: Path) -> None:
    fetch(stripe, data, "keep")
    with pytest.raises(UsageError, match="nothing to rewrite"):
        rewrite(data, None)
    done = typed("--data", str(data), "privacy", cwd=data.parent)
    assert done.code == 2
