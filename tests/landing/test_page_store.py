"""Raw pages on disk: every stream of the table is stored, counted and read back, whole or not at all."""

from pathlib import Path

import pytest

from fincon.errors import CorruptPage, RunFailed
from fincon.landing.page_store import PageStore
from fincon.transforms import streams
from fincon.transforms.page import Header, Page
from fincon.transforms.streams import STREAMS, Stream

AUTHORIZATIONS = Stream(
    name="authorizations",
    object_type="authorization",
    path="/v1/financial_connections/authorizations",
    query={"account": "{parent}"},
    endpoint="authorizations",
    parent="account",
)


def page(stream: str, parent: str = "", number: int = 0, cursor: str | None = None) -> Page:
    """A page of nothing, as its header says."""
    header = Header(
        stream=stream,
        parent=parent,
        number=number,
        offset=0,
        count=0,
        request=f"/v1/{stream}",
        request_id="req_1",
        status=200,
        observed_at=number + 1,
        cursor=cursor,
    )
    return Page(header, b'{"object":"list","data":[],"has_more":false}')


@pytest.fixture
def pages(tmp_path: Path) -> PageStore:
    return PageStore(tmp_path / "run")


@pytest.fixture
def one_more_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of streams with one more, as a coming version has it."""
    monkeypatch.setitem(streams.STREAMS, AUTHORIZATIONS.name, AUTHORIZATIONS)


def test_pages_come_back_stream_by_stream_and_chain_by_chain_in_order(pages: PageStore) -> None:
    written = [
        page("owners", "fca_1"),
        page("accounts", cursor="fca_1"),
        page("accounts", number=1),
        page("events"),
        page("transactions", "fca_2"),
        page("transactions", "fca_1"),
        page("sessions", "fcsess_1"),
    ]
    for one in written:
        assert pages.write(one) == one
    assert list(pages.read()) == [written[i] for i in (6, 1, 2, 3, 5, 4, 0)]
    assert list(pages.read_accounts()) == [written[i] for i in (6, 1, 2, 3)]
    assert pages.count() == len(written)


@pytest.mark.usefixtures("one_more_stream")
def test_a_stream_that_is_added_to_the_table_is_stored_counted_and_read_and_must_be_complete(
    pages: PageStore,
) -> None:
    first, second = page("authorizations", "fca_1", cursor="auth_1"), page("authorizations", "fca_1", 1)
    pages.write(first)
    with pytest.raises(CorruptPage, match="authorizations-fca_1-000001"):
        list(pages.read(require_complete=True))
    pages.write(second)
    assert list(pages.read(require_complete=True)) == [first, second]
    assert (pages.count(), pages.catch_up(), pages.started_parents("authorizations")) == (2, 2, ["fca_1"])


def test_pages_of_a_stream_that_is_not_known_are_refused_not_left_out(
    pages: PageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that a newer fincon fetched would else be loaded without them, and count as whole."""
    with monkeypatch.context() as newer:
        newer.setitem(streams.STREAMS, AUTHORIZATIONS.name, AUTHORIZATIONS)
        pages.write(page("authorizations", "fca_1"))
    with pytest.raises(RunFailed, match="are of authorizations") as refused:
        list(pages.read())
    assert refused.value.hint
    with pytest.raises(ValueError, match="authorizations"):
        pages.write(page("authorizations", "fca_2"))


def test_whoever_is_told_of_pages_is_told_of_each_once_it_is_on_disk(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    pages = PageStore(
        tmp_path, on_page_written=lambda kept: seen.append((kept.header.request_id, pages.count()))
    )
    pages.write(page("accounts", cursor="fca_1"))
    pages.write(page("accounts", number=1))
    assert seen == [("req_1", 1), ("req_1", 2)]


def test_a_page_that_is_not_what_was_written_ends_its_chain_and_is_an_error_to_who_must_have_it(
    pages: PageStore,
) -> None:
    pages.write(page("accounts", cursor="fca_1"))
    pages.write(page("accounts", number=1))
    last = pages.folder / "accounts-p0000-000001.json.zst"
    last.write_bytes(last.read_bytes()[:-8])
    assert [header.number for header, _ in pages.chain("accounts")] == [0]
    with pytest.raises(CorruptPage, match="000001"):
        list(pages.read())


def test_events_beside_a_listing_may_break_off_and_alone_must_not(pages: PageStore) -> None:
    pages.write(page("events", cursor="evt_1"))
    with pytest.raises(CorruptPage, match="events"):
        list(pages.read(require_complete=True))
    pages.write(page("accounts"))
    assert len(list(pages.read(require_complete=True))) == 2


@pytest.mark.parametrize("stream", STREAMS)
def test_the_name_of_a_stream_is_told_from_the_rest_of_a_files_name(stream: str) -> None:
    assert "-" not in stream
