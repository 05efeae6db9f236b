"""What is in the views adds up to what is on the raw pages, to the unit; a difference is noticed before it counts."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fincon.errors import RunFailed
from fincon.lake.staging import stage
from fincon.lake.tables import Lake
from fincon.landing.page_store import PageStore
from fincon.pipeline.check import agree_with_pages, pages_disagree
from fincon.sandbox.server import Sandbox
from fincon.transforms.page import Header, Origin, Page
from fincon.transforms.reconcile import differences, sums_of_pages, sums_of_rejects
from tests.conftest import sync
from tests.typed import typed


def spool_of(data: Path) -> PageStore:
    """The pages of the only run."""
    (folder,) = (data / "pages").glob("*")
    return PageStore(folder)


def one_unit_more(page: Page) -> Page:
    """The page with its first amount in dollars raised by one cent."""
    body = re.sub(rb'"usd": (\d+)', lambda found: b'"usd": %d' % (int(found[1]) + 1), page.body, count=1)
    assert body != page.body
    return Page(page.header, body)


@pytest.mark.quick
def test_a_cent_too_much_in_the_rows_ends_the_run_before_anything_is_loaded(
    sandbox: Sandbox, data: Path, tmp_path: Path
) -> None:
    sync(sandbox.url, data, sandbox.world.session_ids())
    page_store = spool_of(data)
    *rest, last = page_store.read()
    stage([*rest, last], Origin("run"), tmp_path)
    with Lake(data / "lake") as lake:
        agree_with_pages(lake, sums_of_pages(page_store.read_accounts()), Origin("run"), tmp_path)
        stage([*rest, one_unit_more(last)], Origin("run"), tmp_path)
        with pytest.raises(RunFailed, match=r"in usd adds up to \d+ on its pages and to \d+ in the rows"):
            agree_with_pages(lake, sums_of_pages(page_store.read_accounts()), Origin("run"), tmp_path)


@pytest.mark.quick
def test_the_check_compares_the_views_with_the_pages_of_the_last_run(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    sync(sandbox.url, data)
    assert pages_disagree(data) == []
    page_store = spool_of(data)
    page_store.write(one_unit_more(next(iter(page_store.read()))))
    failed = typed("check", cwd=tmp_path)
    assert failed.code == 1
    assert "FAIL  pages_agree" in failed.out
    assert "usd" in failed.out.partition("pages_agree")[2]
    for path in page_store.folder.glob("*"):
        path.unlink()
    page_store.folder.rmdir()
    pruned = typed("check", cwd=tmp_path)
    assert pruned.code == 0
    assert "the last run are pruned" in pruned.out


@pytest.mark.quick
def test_a_rejected_account_is_in_neither_sum_and_a_currency_that_went_missing_is_told() -> None:
    good = (
        b'{"id": "fca_1", "balance": {"current": {"usd": -5, "jpy": 7}, "cash": {"available": {"usd": 1}}}}'
    )
    bad = b'{"id": "fca_2", "balance": {"current": {"usd": 9, "eur": "12"}}}'
    header = Header(
        stream="accounts", number=0, offset=0, count=2, request="", request_id="", status=200, observed_at=0, cursor=None
    )  # fmt: skip
    pages = sums_of_pages([Page(header, b'{"data": [%b, %b, 12]}' % (good, bad))])
    rejects = sums_of_rejects([("account", bad.decode()), ("account", "12"), ("session", good.decode())])
    rows = Counter(
        {
            ("usd", "rows"): 1,
            ("usd", "current"): -5,
            ("usd", "available"): 1,
            ("jpy", "rows"): 1,
            ("jpy", "current"): 7,
        }
    )
    assert differences(pages, rejects, rows) == []
    del rows["jpy", "rows"], rows["jpy", "current"]
    assert differences(pages, rejects, rows) == [("jpy", "current", 7, 0), ("jpy", "rows", 1, 0)]


@pytest.mark.quick
@pytest.mark.parametrize("stream", ["accounts", "events"])
def test_an_unknown_attribute_of_a_list_named_like_that_of_a_session_hides_no_account(stream: Any) -> None:
    """Only a session holds its accounts under ``accounts``; a fuzz found that a list was taken for one."""
    account = b'{"id": "fca_1", "balance": {"current": {"usd": -5}}}'
    item = account if stream == "accounts" else b'{"created": 1, "data": {"object": %b}}' % account
    header = Header(
        stream=stream, number=0, offset=0, count=1, request="", request_id="", status=200, observed_at=0, cursor=None
    )  # fmt: skip
    page = Page(header, b'{"data": [%b], "has_more": false, "accounts": {"data": []}}' % item)
    assert sums_of_pages([page]) == {("usd", "rows"): 1, ("usd", "current"): -5}
