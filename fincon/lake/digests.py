"""Know the accounts of a listing that are as they were: by digests of what Stripe sent, for their rows are in the lake.

A digest stands for an account whose latest versions, of each table in `FILLED`, are what those bytes give. Whatever else
writes one of these tables, an erasure or another machine, makes all digests void: they are of the tables as they were, file
by file. A load takes away those of the accounts that it touches, and a whole listing brings its own. Without the file, which
is derived, every account is read.
"""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fincon.lake.staging import listed_files, staged_files
from fincon.lake.tables import Lake
from fincon.lake.version_sql import from_template, no_rows_sql, read_parquet_sql
from fincon.storage.data_folder import atomic_write
from fincon.transforms.page import Origin
from fincon.transforms.plain_page import Find
from fincon.transforms.schemas import ACCOUNTS, BALANCES, REFRESHES

FILLED = (ACCOUNTS, BALANCES, REFRESHES)
"""The tables that accounts fill."""

SCHEMA = pa.schema(
    {
        "stripe_account": pa.string(),
        "account": pa.uint64(),  # DuckDB's hash of the id, a fiftieth of the time of an MD5
        "first": pa.uint64(),
        "second": pa.uint64(),
        "has_balance": pa.bool_(),
    }
)

_NOBODY = (
    "(SELECT '' AS stripe_account, '' AS account_id, now() AS observed_at, 0::UBIGINT AS first, 0::UBIGINT AS second,"
    " false AS has_balance, false AS unchanged WHERE false)"
)
"""Stands for `staging.LISTED_SCHEMA` where no run has taken digests."""

STATE = b"state"
"""Of what the digests are, in the file's metadata: `state_of`."""


def state_of(lake: Lake, stripe_version: str) -> str:
    """Return what stands for the tables as they are, and for how accounts are asked for and read."""
    files = sorted(file for table in FILLED for file in lake.files(table))
    whole = "\n".join((version("fincon"), duckdb.__version__, stripe_version, *files))
    return hashlib.sha256(whole.encode()).hexdigest()


def find_known(lake: Lake, origin: Origin) -> Find:
    """Return what tells which accounts on a run's listing are known as they stand there."""
    table = _read(lake, state_of(lake, origin.stripe_version))
    own = table.filter(pc.equal(table["stripe_account"], origin.stripe_account))
    first, second, has_balance = (own[name].to_numpy() for name in ("first", "second", "has_balance"))
    order = np.argsort(first)
    first, second, has_balance = first[order], second[order], has_balance[order]

    def find(digests: bytes) -> tuple[list[bool], list[bool]]:
        asked = _numbers(digests)
        if not len(first):
            return [False] * len(asked), [False] * len(asked)
        at = np.searchsorted(first, asked[:, 0]).clip(max=len(first) - 1)
        known = (first[at] == asked[:, 0]) & (second[at] == asked[:, 1])
        return known.tolist(), has_balance[at].tolist()

    return find


def renew(lake: Lake, before: str, staging: Path, origins: Sequence[Origin], *, is_late: bool) -> None:
    """Take away the digests of what runs have touched, and add those of their listings.

    ``before`` is the state (`state_of`) that they were loaded into. Where they brought something that is older than what was
    known (``is_late``), their listings do not tell how the accounts are now.
    """
    listed = listed_files(staging, origins)
    now = state_of(lake, origins[0].stripe_version)
    if now == before and not listed:
        return
    known = _read(lake, before)
    with lake.query() as query:
        if now == before and _all_are_known(query, known, listed):
            return
        query.register("known", known)
        accounts = staged_files(staging, ACCOUNTS, origins)
        found = query.sql(
            from_template(
                "digests",
                touched=read_parquet_sql(accounts) if accounts else f"({no_rows_sql(ACCOUNTS)})",
                listed=_listed_sql(listed),
                are_of_now=str(not is_late).lower(),
            )
        ).to_arrow_table()
    lake.digests_read = now, found.cast(SCHEMA).replace_schema_metadata({STATE: now.encode()})
    with atomic_write(lake.data.digests) as part:
        pq.write_table(lake.digests_read[1], part, compression="none")
    lake.release_memory_after(listed)


def _all_are_known(query: duckdb.DuckDBPyConnection, known: pa.Table, listed: Sequence[str]) -> bool:
    """Return whether listings have shown all accounts that are known of their Stripe accounts, once each, and no other."""
    of, are_known, shown = query.execute(
        f"SELECT list(DISTINCT stripe_account), bool_and(unchanged), count(*) FROM {read_parquet_sql(listed)}"
    ).fetchall()[0]
    own = pc.sum(pc.is_in(known["stripe_account"], pa.array(of, pa.string()))).as_py() or 0
    return bool(are_known) and shown == own


def forget(lake: Lake) -> None:
    """Remove all digests."""
    lake.digests_read = None
    lake.data.digests.unlink(missing_ok=True)


def unchanged_sql(staging: Path, origins: Sequence[Origin]) -> str:
    """Write the relation of the accounts that these runs have listed and not staged, as they are known already."""
    return f"(FROM {_listed_sql(listed_files(staging, origins))} WHERE unchanged)"


def contradicts(lake: Lake, staging: Path, origin: Origin) -> bool:
    """Return whether a run has staged an account that it has listed as known, too: it may not be what it was any more."""
    accounts, listed = staged_files(staging, ACCOUNTS, [origin]), listed_files(staging, [origin])
    if not accounts or not listed:
        return False
    twice = (
        f"FROM {unchanged_sql(staging, [origin])} SEMI JOIN {read_parquet_sql(accounts)} USING (account_id)"
    )
    with lake.query() as query:
        return query.execute(f"SELECT 1 {twice} LIMIT 1").fetchone() is not None


def _listed_sql(files: Sequence[str]) -> str:
    return read_parquet_sql(files) if files else _NOBODY


def _read(lake: Lake, state: str) -> pa.Table:
    """Return the digests that are of a state of the tables; none where the file's are of another."""
    if lake.digests_read is None:
        try:
            found = pq.ParquetFile(lake.data.digests).read()
            lake.digests_read = (found.schema.metadata or {}).get(STATE, b"").decode(), found.cast(SCHEMA)
        except (FileNotFoundError, pa.ArrowInvalid, ValueError):  # cut short, or of another fincon
            lake.digests_read = "", SCHEMA.empty_table()
    is_of, digests = lake.digests_read
    return digests if is_of == state else SCHEMA.empty_table()


def _numbers(digests: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)
