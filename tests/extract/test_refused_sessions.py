"""One session that Stripe refuses does not stop the rest: it is set aside, told, and asked for again by the next run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fincon.errors import PermissionDenied, RetriesExhausted, RunFailed
from fincon.pipeline.request import SyncResult
from tests.conftest import environ, rows
from tests.extract.test_refused import DAY, HOUR, NO_PERMISSION, refusal, run
from tests.scripted_stripe import Answer, Query, ScriptedStripe, account, serving, session
from tests.typed import typed

IDS = tuple(f"fcsess_Case{number:02d}" for number in range(30))
DENIED = refusal(403, "more_permissions_required", NO_PERMISSION)


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    """Thirty sessions, each of which collected the same twelve accounts, more than its own page holds."""
    accounts = [account(f"fca_{number:02d}") for number in range(12)]
    stripe = ScriptedStripe(accounts=accounts, sessions={one: session(one) for one in IDS})
    stripe.session_accounts = {one: [a["id"] for a in accounts] for one in IDS}
    with serving(stripe) as it:
        yield it


def sync(stripe: ScriptedStripe, data: Path, after: int = HOUR, ids: tuple[str, ...] = IDS) -> SyncResult:
    return run(stripe, data, after, transactions=False, owners=False, session_ids=ids)


def refuse(stripe: ScriptedStripe, answer: Answer, *ids: str, rest: bool = False) -> None:
    """Refuse sessions from now on; or the ``rest`` of their accounts, after their own page."""

    def intercept(path: str, query: Query) -> Answer | None:
        asked = query.get("session", [""])[0] if rest else path.rpartition("/sessions/")[2]
        return answer if asked in ids else None

    stripe.intercept = intercept


def collected(data: Path) -> dict[str, int]:
    """Session → how many accounts it collected, by the lake."""
    found = rows(
        data,
        "SELECT session_id, count(l.account_id) AS n FROM sessions LEFT JOIN session_accounts l USING (session_id) GROUP BY ALL",
    )
    return {row["session_id"]: row["n"] for row in found}


def asked(stripe: ScriptedStripe) -> set[str]:
    """The sessions that the last run asked for."""
    return {
        request.rpartition("/sessions/")[2] for request in stripe.requests if "/sessions/" in request
    } & set(IDS)


@pytest.mark.parametrize("rest", [False, True], ids=["its own page", "the rest of it"])
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (refusal(400, words="It cannot be read at the moment."), "400"),
        (refusal(403, "account_closed", "It may not be read."), "403 account_closed"),
        (DENIED, "403 more_permissions_required"),
        (refusal(500, words="An unknown error occurred."), "500"),
        (Answer(b"<html>", 503, headers={"Stripe-Should-Retry": "false"}), "503"),
        (Answer({"object": "account"}), "502"),
    ],
    ids=["400", "403", "permission", "500", "html", "no list"],
)
@pytest.mark.first(0, 4)
def test_a_session_that_is_refused_is_set_aside_and_the_others_are_in(
    stripe: ScriptedStripe, data: Path, answer: Answer, told: str, rest: bool
) -> None:
    """With Stripe's code and words in rejects; never half of it; the next run asks again, and then it is in."""
    refuse(stripe, answer, IDS[2], rest=rest)
    result = sync(stripe, data)
    assert collected(data) == dict.fromkeys({*IDS} - {IDS[2]}, 12)
    assert len(rows(data, "FROM balances")) == 12
    [found] = rows(data, "SELECT object_type, object_id, reason, raw FROM rejects")
    assert (found["object_type"], found["object_id"], found["raw"]) == ("session", IDS[2], None)
    assert ("not what its API promises" if told == "502" else told) in found["reason"]
    if isinstance(answer.body, dict) and "error" in answer.body:
        assert answer.body["error"]["message"] in found["reason"]
    assert result.set_aside == [("sessions", told, 1)]
    result.raise_for_failures(strict=False)
    with pytest.raises(RunFailed, match="1 object was rejected"):
        result.raise_for_failures(strict=True)
    stripe.intercept = lambda path, query: None
    result = sync(stripe, data)
    assert (collected(data), result.set_aside) == (dict.fromkeys(IDS, 12), [])


def test_a_session_known_for_days_is_asked_for_again_after_a_refusal_and_stays_as_it_was(
    stripe: ScriptedStripe, data: Path
) -> None:
    """A session is closed by what was read of it a day later, not by an answer that it cannot be read."""
    sync(stripe, data)
    refuse(stripe, refusal(500), IDS[2])
    sync(stripe, data, after=2 * DAY)
    assert collected(data) == dict.fromkeys(IDS, 12)
    stripe.intercept = lambda path, query: None
    sync(stripe, data)
    assert asked(stripe) == {IDS[2]}


@pytest.mark.quick
def test_a_session_that_is_gone_is_told_as_one_that_stripe_does_not_know(
    stripe: ScriptedStripe, data: Path
) -> None:
    """410 too: on disk that status stands for who was erased, of whom nothing is told."""
    refuse(stripe, refusal(410, words="It is gone."), IDS[2])
    assert sync(stripe, data).unknown_sessions == {IDS[2]: "It is gone."}
    assert [row["object_id"] for row in rows(data, "FROM rejects")] == [IDS[2]]


@pytest.mark.parametrize(
    ("answer", "error"),
    [(DENIED, PermissionDenied), (refusal(503, words="Down."), RetriesExhausted)],
    ids=["permission", "503"],
)
def test_ten_refused_alike_end_the_sessions_with_the_reason_and_all_else_is_in(
    stripe: ScriptedStripe, data: Path, answer: Answer, error: type[Exception]
) -> None:
    """Nothing is noted of them, so that all are asked for again."""
    words = answer.body["error"]["message"]
    refuse(stripe, answer, *IDS[1:])
    result = sync(stripe, data)
    with pytest.raises(error, match="10 sessions one after another") as caught:
        result.raise_for_failures(strict=False)
    assert words in str(caught.value)
    assert "All else that was fetched is in" in getattr(caught.value, "hint", "")
    assert set(collected(data)) <= {IDS[0]}
    assert len(rows(data, "FROM balances")) == 12
    assert rows(data, "FROM rejects") == []
    stripe.intercept = lambda path, query: None
    sync(stripe, data).raise_for_failures(strict=True)
    assert asked(stripe) == set(IDS)
    assert collected(data) == dict.fromkeys(IDS, 12)


def test_a_key_that_may_not_read_sessions_is_told_so_however_few_there_are(
    stripe: ScriptedStripe, data: Path
) -> None:
    refuse(stripe, DENIED, *IDS)
    with pytest.raises(PermissionDenied, match=NO_PERMISSION):
        sync(stripe, data, ids=IDS[:2]).raise_for_failures(strict=False)
    assert rows(data, "FROM rejects") == []


def test_the_command_tells_of_a_refused_session_and_ends_well(stripe: ScriptedStripe, tmp_path: Path) -> None:
    refuse(stripe, refusal(403, "account_closed", "It may not be read."), IDS[0])
    (tmp_path / "ids.txt").write_text("\n".join(IDS[:2]))
    done = typed("sync", "--sessions", "ids.txt", cwd=tmp_path, env=environ(stripe.url))
    assert done.code == 0, done.err
    assert "Stripe refused 1 session (403 account_closed), set aside till the next sync" in done.err
