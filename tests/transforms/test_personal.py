"""Personal data is kept, hashed or dropped before it reaches the disk, and stays as it was chosen."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fincon.errors import UsageError
from fincon.pipeline.request import SyncRequest, SyncResult
from fincon.pipeline.sync import run_sync
from fincon.sandbox.server import Sandbox, running
from fincon.sandbox.world import World
from fincon.transforms.redaction import Privacy, redact
from tests.conftest import START, rows, settings_for
from tests.test_secrets_at_rest import contents

KEY = "a-key-that-stays-the-same"
WORLD = World(seed=2, clock=START, accounts=12, sessions=4)
OWNERS = SyncRequest(owners=True)
HASH = Privacy("hash", KEY.encode(), chosen=True)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running(WORLD) as it:
        yield it


def run(sandbox: Sandbox, data: Path, order: SyncRequest, key: str = KEY) -> SyncResult:
    return run_sync(settings_for(sandbox.url, data, FINCON_PII_KEY=key), order)


def personal_data(world: World) -> set[bytes]:
    """Every name, email address, phone number and address of the world's owners, and every name of an account."""
    owners, accounts = world.owners_truth(), world.truth()["accounts"]
    found = {row[name] for row in owners for name in ("name", "email", "phone", "raw_address")}
    found |= {row["display_name"] for row in accounts}
    return {text.encode() for text in found - {None}}


def where(folder: Path, texts: set[bytes]) -> list[str]:
    """The files under a folder that hold one of the texts, packed or not."""
    return sorted(
        f"{path.relative_to(folder)}: {text!r}"
        for path in folder.rglob("*")
        if path.is_file()
        for content in contents(path)
        for text in texts
        if text in content
    )


@pytest.mark.parametrize("choice", ["hash", "drop"])
@pytest.mark.first(1)
def test_no_file_holds_personal_data_that_is_hashed_or_dropped(
    sandbox: Sandbox, data: Path, choice: Any
) -> None:
    run(
        sandbox,
        data,
        SyncRequest(session_ids=tuple(WORLD.session_ids()), owners=True, transactions=True, pii=choice),
    )
    assert where(data, personal_data(WORLD)) == []
    columns = "name, email, phone, raw_address"
    values = {v for row in rows(data, f"SELECT {columns} FROM owners") for v in row.values()}
    values |= {v for row in rows(data, "SELECT display_name, last4 FROM accounts") for v in row.values()}
    assert {v for v in values if v and not v.startswith("pii_")} == set()
    assert (values == {None}) == (choice == "drop")


def test_kept_data_is_found_where_it_should_be(sandbox: Sandbox, data: Path) -> None:
    """The search above finds what is there."""
    run(sandbox, data, replace(OWNERS, pii="keep"))
    assert {line.split("/")[0] for line in where(data, personal_data(WORLD))} == {"lake", "pages"}


def test_equal_people_still_join_across_runs_and_folders(sandbox: Sandbox, tmp_path: Path) -> None:
    found = []
    for folder in ("one", "other"):
        run(sandbox, tmp_path / folder, OWNERS)
        found.append({r["owner_id"]: r["name"] for r in rows(tmp_path / folder, "FROM owners")})
    assert found[0] == found[1]
    plain = {row["owner_id"]: row["name"] for row in WORLD.owners_truth()}
    assert len(set(found[0].values())) == len(set(plain.values()))


def test_a_folder_stays_with_its_choice_and_its_key(sandbox: Sandbox, data: Path) -> None:
    """A run that says nothing never brings plain names back."""
    plain = run(sandbox, data, SyncRequest(), key="")
    assert plain.run["pii"] is None
    assert where(data, personal_data(WORLD))
    run(sandbox, data, OWNERS)
    names = "SELECT display_name FROM accounts WHERE display_name NOT LIKE 'pii_%'"
    assert rows(data, names) == []
    assert run(sandbox, data, SyncRequest()).run["rows_added"] == 0
    for key, said in (("", "is not set"), ("another-key-than-before", "is not the key")):
        with pytest.raises(UsageError, match=said):
            run(sandbox, data, SyncRequest(), key=key)
    again = run(sandbox, data, replace(OWNERS, pii="keep"), key="")
    assert rows(data, "SELECT count(*) AS n FROM owners WHERE name LIKE 'pii_%'") == [{"n": 0}]
    assert again.run["pii"] == "keep"
    versions = "SELECT count(DISTINCT valid_from) AS n FROM history.owners GROUP BY account_id"
    assert {row["n"] for row in rows(data, versions)} == {2}, "another choice is another version"


def test_an_interrupted_run_is_not_gone_on_with_under_another_choice(sandbox: Sandbox, data: Path) -> None:
    with pytest.raises(Exception, match="as --max-requests allows"):
        run(sandbox, data, replace(OWNERS, pii="keep", max_requests=1))
    outcome = run(sandbox, data, replace(OWNERS, pii="drop"))
    assert outcome.resumed_pages == 0
    assert rows(data, "SELECT count(name) AS n FROM owners") == [{"n": 0}]


def page(*objects: object) -> bytes:
    return json.dumps({"object": "list", "data": objects, "has_more": False}).encode()


@pytest.mark.quick
def test_what_nobody_knows_of_an_owner_is_personal() -> None:
    """An attribute that Stripe adds tomorrow, and one of another type, are hashed too; and not what is none."""
    owner = {"id": "fcaown_1", "ownership": "fcaowns_1", "refreshed_at": 5, "name": 17, "born": {"in": 1980}}
    treated = json.loads(redact(page(owner), "owners", HASH))["data"][0]
    assert {name for name, value in treated.items() if str(value).startswith("pii_")} == {"name", "born"}
    assert {name: treated[name] for name in ("id", "ownership", "refreshed_at")} == {
        name: owner[name] for name in ("id", "ownership", "refreshed_at")
    }


@pytest.mark.quick
@pytest.mark.parametrize(
    "spelt",
    [
        '{"last4":"4242"}',
        '{"l\\u0061st4":"4242"}',
        '{"last4":1,"last4":"4242"}',
        '{"deep":[{"last4":"4242"}]}',
    ],
)
def test_a_name_spelt_in_any_way_is_found(spelt: str) -> None:
    for stream in ("sessions", "accounts", "events"):
        assert b"4242" not in redact(spelt.encode(), stream, HASH)


@pytest.mark.quick
def test_numbers_and_all_else_stay_digit_for_digit() -> None:
    """A page of which all is known and nothing is personal stays byte for byte; numbers do beside what is redacted."""
    body = b'{"data": [{"last4":null,"created" : 12345678901234567890.10,"id":"last4"}], "has_more": false }'
    assert redact(body, "accounts", HASH) == body
    changed = redact(body.replace(b":null", b':"4242"'), "accounts", HASH)
    assert b"4242" not in changed
    assert b"12345678901234567890.10" in changed


@pytest.mark.quick
def test_case_and_spaces_do_not_set_equal_people_apart() -> None:
    one, other, third = (
        json.loads(redact(page({"id": "1", "name": name}), "owners", HASH))["data"][0]["name"]
        for name in ("Jane  Smith ", "JANE SMITH", "Jane Smyth")
    )
    assert one == other != third


@pytest.mark.quick
def test_owners_without_an_address_do_not_join_by_it() -> None:
    blank = {
        "id": "fcaown_1",
        "ownership": "fcaowns_1",
        "email": "",
        "raw_address": " \u00a0 ",
        "phone": None,
    }
    treated = json.loads(redact(page(blank), "owners", HASH))["data"][0]
    assert [treated[name] for name in ("email", "raw_address", "phone")] == [None, None, None]


@pytest.mark.quick
def test_the_key_is_never_shown() -> None:
    assert KEY not in repr(HASH) + HASH.policy_id
