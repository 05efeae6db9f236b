"""Which sessions need not be fetched again.

A session is **settled** once it was fetched a day or more after it was first seen: linking is a matter of minutes, and
whoever links again does so in a new session. Until then it is open, and every sync fetches it.
"""

from collections.abc import Iterable, Mapping, Set
from datetime import timedelta
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from fincon.lake.tables import Lake
from fincon.lake.version_sql import read_parquet_sql
from fincon.landing.page_store import PageStore
from fincon.storage.data_folder import DataFolder, atomic_write, make
from fincon.transforms.schemas import SESSIONS

Refetch = Literal["never", "open", "all"]
"""``--sessions-refetch``: of the sessions that are known already, fetch none, those not settled, or all again."""

OPEN_FOR = timedelta(days=1)
SETTLED = pa.schema({"stripe_account": pa.string(), "session_id": pa.string()})

Session = tuple[str, str]
"""The Stripe account (empty: the key's own) and the id: another Stripe account may have a session of the same id."""


def sessions_to_skip(lake: Lake, refetch: Refetch) -> Set[Session]:
    """The sessions that are known already and need not be fetched again."""
    if refetch == "all":
        return set()
    return settled(lake.data) if refetch == "open" else _first_seen(lake).keys()


def settled(data: DataFolder) -> set[Session]:
    """The settled sessions. Without the file all are open: more requests, nothing wrong."""
    path = data.settled_sessions
    if not path.exists():
        return set()
    table = pq.read_table(pa.BufferReader(path.read_bytes()))
    return set(zip(*(table[name].to_pylist() for name in SETTLED.names), strict=True))


def note_settled(lake: Lake, page_stores: Mapping[str, Iterable[PageStore]]) -> None:
    """Keep which sessions of finished runs, given by their Stripe accounts, are settled now."""
    seen = {
        (stripe_account, page.header.parent): page.header.observed_at
        for stripe_account, of_account in page_stores.items()
        for page_store in of_account
        for page in page_store.read_sessions()
    }
    if not seen:
        return
    first = _first_seen(lake)
    day = OPEN_FOR // timedelta(microseconds=1)
    now = {session for session, at in seen.items() if at - first.get(session, at) >= day}
    keep(lake.data, settled(lake.data) | now)


def keep(data: DataFolder, sessions: set[Session]) -> None:
    """Write the settled sessions."""
    accounts, ids = zip(*sorted(sessions), strict=True) if sessions else ((), ())
    table = pa.table({"stripe_account": list(accounts), "session_id": list(ids)}, schema=SETTLED)
    make(data.snapshots)
    with atomic_write(data.settled_sessions) as part:
        pq.write_table(table, part, compression="zstd")


def _first_seen(lake: Lake) -> dict[Session, int]:
    """Session → when its first version was seen, in microseconds since the Unix epoch."""
    files = lake.files(SESSIONS)
    if not files:
        return {}
    first = f"SELECT stripe_account, session_id, epoch_us(min(observed_at)) FROM {read_parquet_sql(files)} GROUP BY ALL"
    with lake.query() as query:
        return {(account, session): at for account, session, at in query.execute(first).fetchall()}
