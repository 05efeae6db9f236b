"""Session ids from a query of one's own database; a clone of a work folder is another writer."""

import shutil
from pathlib import Path

import duckdb
import pytest

from fincon.errors import UsageError
from fincon.pipeline.id_files import ask_session_ids
from fincon.storage.lease import _work_id
from fincon.storage.s3 import Bucket, S3Path
from tests.cli.conftest import Call


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "app.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE TABLE links AS SELECT 'fcsess_' || i AS session, i FROM range(3) t(i)")
    return file


def test_a_query_answers_session_ids_and_their_stripe_accounts(database: Path) -> None:
    found = ask_session_ids("SELECT session AS session_id FROM links ORDER BY i", database)
    assert found.plain == ("fcsess_0", "fcsess_1", "fcsess_2")
    of = ask_session_ids(
        "SELECT session AS id, 'acct_' || i AS stripe_account FROM links WHERE i > 0", database
    )
    assert of.of == {"acct_1": ("fcsess_1",), "acct_2": ("fcsess_2",)}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT nothing FROM links", "cannot be asked"),
        ("DROP TABLE links", "cannot be asked"),
        ("SELECT 'fcsess_1' AS id; DROP TABLE links", "cannot be asked: Only one query that reads"),
        ("COPY (SELECT 1) TO 'made.csv'", "cannot be asked: Only one query that reads"),
        ("SELECT 'STRIPE_API_KEY=sk_live_1' AS id", "row 1: what stands there is not a session id"),
        ("SELECT i AS id FROM links", "row 1: '0' is not a session id"),
        ("SELECT session FROM links", "has no column session_id or id"),
        ("SELECT session AS id FROM links WHERE i > 9", "holds no session id"),
    ],
)
def test_an_answer_without_ids_is_refused(database: Path, query: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ask_session_ids(query, database)
    assert not Path("made.csv").exists()


def test_a_file_and_a_query_at_once_are_wrong_usage(database: Path, call: Call) -> None:
    both = call("sync", "--sessions", "ids.txt", "--sessions-sql", "SELECT 1")
    alone = call("sync", "--from", str(database))
    assert (both.code, alone.code) == (2, 2)


def test_a_clone_of_a_work_folder_is_not_taken_for_the_folder(tmp_path: Path) -> None:
    """So it does not take over a lease that the other's process still holds."""
    first = S3Path(Bucket("lakes", tmp_path / "work"), "one")
    (tmp_path / "work").mkdir()
    own = _work_id(first)
    assert _work_id(first) == own
    shutil.copytree(tmp_path / "work", tmp_path / "clone")
    assert _work_id(S3Path(Bucket("lakes", tmp_path / "clone"), "one")) != own
