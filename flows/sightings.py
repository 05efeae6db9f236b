"""Which sessions need not be fetched again.

A session is **settled** once it was fetched a day or more after it was first seen: linking is a matter of minutes, and
whoever links again does so in a new session. Until then it is open, and every sync fetches it.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from flows.lake import Lake
from flows.pages import Spool
from flows.versions import parquet
from transforms.schemas import SESSIONS

Refetch = Literal["never", "open", "all"]
"""``--sessions-refetch``: of the sessions that are known already, fetch none, those not settled, or all again."""

OPEN_FOR = timedelta(days=1)
SETTLED_FILE = "settled.parquet"
SETTLED = pa.schema({"session_id": pa.string()})


def to_fetch(snapshots: Path, lake: Lake, session_ids: Sequence[str], refetch: Refetch) -> list[str]:
    """Of ``session_ids``, in their order, those to fetch."""
    if refetch == "all" or not session_ids:
        return list(session_ids)
    known = settled(snapshots) if refetch == "open" else set(_first_seen(lake))
    return [session_id for session_id in session_ids if session_id not in known]


def settled(snapshots: Path) -> set[str]:
    """The settled sessions. Without the file all are open: more requests, nothing wrong."""
    path = snapshots / SETTLED_FILE
    return set(pq.read_table(path)["session_id"].to_pylist()) if path.exists() else set()


def note_settled(lake: Lake, spool: Spool) -> None:
    """Keep which sessions of a finished run are settled now."""
    seen = {page.header.parent: page.header.observed_at for page in spool.read_sessions()}
    if not seen:
        return
    first = _first_seen(lake)
    day = OPEN_FOR // timedelta(microseconds=1)
    now = {session_id for session_id, at in seen.items() if at - first.get(session_id, at) >= day}
    keep(lake.snapshots, settled(lake.snapshots) | now)


def keep(snapshots: Path, session_ids: set[str]) -> None:
    """Write the settled sessions."""
    snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = snapshots / f".{SETTLED_FILE}"
    pq.write_table(pa.table({"session_id": sorted(session_ids)}, schema=SETTLED), part, compression="zstd")
    part.replace(snapshots / SETTLED_FILE)


def _first_seen(lake: Lake) -> dict[str, int]:
    """Session → when its first version was seen, in microseconds since the Unix epoch."""
    files = lake.files(SESSIONS)
    if not files:
        return {}
    first = f"SELECT session_id, epoch_us(min(observed_at)) FROM {parquet(files)} GROUP BY session_id"  # noqa: S608 - our own files
    with lake.query() as query:
        return dict(query.execute(first).fetchall())
