"""Say from when the newest page is that anything is known from, and remember it: files of the tables never change."""

from collections.abc import Iterable

import duckdb
import msgspec

from fincon.lake.sightings import asking_sightings
from fincon.lake.tables import Lake
from fincon.lake.version_sql import read_parquet_sql
from fincon.storage.data_folder import UNREADABLE, atomic_write
from fincon.transforms.event_times import COUNT_FROM, SECOND
from fincon.transforms.schemas import OBJECT_TABLES


class PageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """What ``page_times.json`` says: the newest page of which some files hold rows, whatever else there is. It is derived."""

    files: set[str]
    """Below the lake."""
    newest: dict[str, int]
    """Stripe account → time in microseconds."""


NOTHING = PageTimes(files=set(), newest={})


def newest_page_times(lake: Lake) -> dict[str, int]:
    """Return Stripe account → the time (microseconds) of the newest page that anything is known from."""
    files = {
        file.removeprefix(f"{lake.folder}/"): file for table in OBJECT_TABLES for file in lake.files(table)
    }
    known = _remembered(lake)
    if not known.files <= files.keys():  # rows of those that are gone may be, too
        known = NOTHING
    added = files.keys() - known.files
    if added:
        with lake.query() as query:
            of_added = _newest(query, f"FROM {read_parquet_sql(sorted(files[name] for name in added))}")
        known = PageTimes(files=set(files), newest=_later([known.newest, of_added]))
        with atomic_write(lake.data.page_times) as part:
            part.write_bytes(msgspec.json.encode(known))
    with asking_sightings(lake) as query:
        return _later([known.newest, _newest(query, "FROM sightings")])


def _remembered(lake: Lake) -> PageTimes:
    try:
        return msgspec.json.decode(lake.data.page_times.read_bytes(), type=PageTimes)
    except UNREADABLE:
        return NOTHING


def _newest(query: duckdb.DuckDBPyConnection, rows: str) -> dict[str, int]:
    found = query.execute(
        f"SELECT stripe_account, epoch_us(max(observed_at)) {rows}"
        f" WHERE epoch_us(observed_at) % {SECOND} < {COUNT_FROM} GROUP BY ALL"  # others are of events
    ).fetchall()
    return dict(found)


def _later(times: Iterable[dict[str, int]]) -> dict[str, int]:
    """Return each Stripe account's latest of several times."""
    whole: dict[str, int] = {}
    for one in times:
        for account, at in one.items():
            whole[account] = max(at, whole.get(account, at))
    return whole
