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
import pyarrow.parquet as pq

from fincon.lake.staging import listed_files, staged_files
from fincon.lake.tables import ROWS_A_BATCH, Lake
from fincon.lake.version_sql import (
    ROWS_A_PARTITION,
    from_template,
    no_rows_sql,
    read_parquet_sql,
    sql_literals,
)
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
        "first": pa.uint64(),  # of the digest's two halves
        "second": pa.uint64(),
        "has_balance": pa.bool_(),
    }
)

STATE = b"state"
"""Of what the digests are, in the file's metadata: `state_of`."""

_NO_DIGESTS = (
    "(SELECT '' AS stripe_account, 0::UBIGINT AS account, 0::UBIGINT AS first, 0::UBIGINT AS second,"
    " false AS has_balance WHERE false)"
)
_NOBODY = (
    "(SELECT '' AS stripe_account, '' AS account_id, now() AS observed_at, 0::UBIGINT AS first, 0::UBIGINT AS second,"
    " false AS has_balance, false AS unchanged WHERE false)"
)
"""Stands for `staging.LISTED_SCHEMA` where no run has taken digests."""


def state_of(lake: Lake, stripe_version: str) -> str:
    """Return what stands for the tables as they are, and for how accounts are asked for and read."""
    files = sorted(file for table in FILLED for file in lake.files(table))
    whole = "\n".join((version("fincon"), duckdb.__version__, stripe_version, *files))
    return hashlib.sha256(whole.encode()).hexdigest()


def find_known(lake: Lake, origin: Origin) -> Find:
    """Return what tells which accounts on a run's listing are known as they stand there."""
    with lake.query() as query:
        own = query.execute(
            f"SELECT first, second, has_balance FROM {_known_sql(lake, state_of(lake, origin.stripe_version))}"
            " WHERE stripe_account = ? ORDER BY first",
            [origin.stripe_account],
        ).fetchnumpy()
    first, second, has_balance = (np.asarray(own[name]) for name in ("first", "second", "has_balance"))

    def find(digests: bytes) -> tuple[list[bool], list[bool]]:
        asked = np.frombuffer(digests, np.uint64).reshape(-1, 2)
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
    known, accounts = _known_sql(lake, before), staged_files(staging, ACCOUNTS, origins)
    with lake.query() as query:
        if now == before and _all_are_known(query, known, listed):
            return
        counts = f"SELECT count(*) FROM (SELECT 1 FROM {known} UNION ALL SELECT 1 FROM {_listed_sql(listed)})"
        [(rows,)] = query.execute(counts).fetchall()
        parts = 1 + rows // ROWS_A_PARTITION
        with (
            atomic_write(lake.data.digests) as file,
            pq.ParquetWriter(file, SCHEMA.with_metadata({STATE: now}), compression="none") as writer,
        ):
            for part in range(parts):
                found = from_template(
                    "digests",
                    known=known,
                    touched=read_parquet_sql(accounts) if accounts else f"({no_rows_sql(ACCOUNTS)})",
                    listed=_listed_sql(listed),
                    are_of_now=str(not is_late).lower(),
                    parts=str(parts),
                    part=str(part),
                )
                for batch in query.sql(found).to_arrow_reader(ROWS_A_BATCH):
                    writer.write_batch(batch.cast(SCHEMA))
    lake.release_memory_after(listed)


def _all_are_known(query: duckdb.DuckDBPyConnection, known: str, listed: Sequence[str]) -> bool:
    """Return whether listings have shown all accounts that are known of their Stripe accounts, once each, and no other."""
    of, are_known, shown = query.execute(
        f"SELECT list(DISTINCT stripe_account), bool_and(unchanged), count(*) FROM {read_parquet_sql(listed)}"
    ).fetchall()[0]
    own = f"SELECT count(*) FROM {known} WHERE stripe_account IN ({sql_literals(of)})"
    return bool(are_known) and query.execute(own).fetchall() == [(shown,)]


def forget(lake: Lake) -> None:
    """Remove all digests."""
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


def _known_sql(lake: Lake, state: str) -> str:
    """Write the relation of the digests that are of a state of the tables: of none where the file's are of another."""
    path = lake.data.digests
    try:
        said = (pq.read_metadata(path).metadata or {}).get(STATE)
    except (FileNotFoundError, pa.ArrowInvalid):  # cut short, as by a crash of the machine
        said = None
    return read_parquet_sql([str(path)]) if said == state.encode() else _NO_DIGESTS
