"""Know the accounts of a listing that are as they were: by digests of what Stripe sent, for their rows are in the lake.

A digest stands for an account whose latest versions, of each table in `FILLED`, are what those bytes give. Whatever else
writes one of these tables, an erasure or another machine, makes all digests void: they are of the tables as they were, file
by file. A load takes away those of the accounts that it touches, and a whole listing brings its own. Without the file, which
is derived, every account is read; so where it cannot be read or written, it is removed.
"""

import hashlib
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fincon.lake.staging import LISTED_SCHEMA, listed_files, staged_files
from fincon.lake.tables import ROWS_A_BATCH, UNUSABLE, Lake
from fincon.lake.version_sql import (
    ACCOUNTS_A_PART,
    ROWS_A_PARTITION,
    from_template,
    no_rows_sql,
    nothing_sql,
    read_parquet_sql,
    sql_literals,
)
from fincon.settings import fincon_version
from fincon.storage.data_folder import atomic_write
from fincon.transforms.accounts import FILLED
from fincon.transforms.columns import in_schema
from fincon.transforms.listed import Find
from fincon.transforms.page import Origin
from fincon.transforms.schemas import ACCOUNTS

LOG = logging.getLogger("fincon")

READING = 1
"""Raised where accounts are made into other rows than before, though the tables have the same columns."""

SCHEMA = pa.schema(
    {
        "stripe_account": pa.string(),
        "account": pa.uint64(),  # DuckDB's hash of the id, a fiftieth of the time of an MD5
        "first": pa.uint64(),  # of the digest's two halves
        "second": pa.uint64(),
        "has_balance": pa.bool_(),
    }
)

STATE, STRIPE_VERSION = b"state", b"stripe_version"
"""In the file's metadata: of what tables the digests are (`state_of`), and how the accounts were asked for."""

MOST_TOUCHED = 20_000
"""So many accounts may be taken away before the file is not worth going on with."""


class Since(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the digests of a file since it was written: so a load need not write them all."""

    base: str
    """The state that the file is of."""
    state: str
    """The one that is meant now."""
    touched: list[tuple[str, int]]
    """(Stripe account, account) of those whose digests do not hold any more."""


class _Known(NamedTuple):
    since: Since
    sql: str
    """The relation of the digests that hold, for a connection with the table ``touched_since``."""


def state_of(lake: Lake) -> str:
    """Return what stands for the tables as they are, and for how accounts are made into their rows."""
    files = sorted(file for table in FILLED for file in lake.files(table))
    columns = [str(table.schema) for table in FILLED]
    whole = "\n".join((fincon_version(), str(READING), duckdb.__version__, *columns, *files))
    return hashlib.sha256(whole.encode()).hexdigest()


def find_unchanged(lake: Lake, origin: Origin) -> Find:
    """Return what tells which accounts on a run's listing are known as they stand there.

    The digests are read when it is first asked: what is asked of the lake before the first page does not need its memory beside.
    """
    reading = threading.Lock()

    @cache
    def own() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            return _own(lake, origin)
        except UNUSABLE as error:
            _give_up(lake, error)
            return np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.bool_)

    def find(digests: bytes) -> tuple[list[bool], list[bool]]:
        with reading:
            first, second, has_balance = own()
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
    try:
        known, now = _known(lake, before, origins[0].stripe_version), state_of(lake)
        listed, accounts = listed_files(staging, origins), staged_files(staging, ACCOUNTS, origins)
        if listed:
            _write(lake, known, (now, is_late), (listed, accounts), origins[0].stripe_version)
        elif known and now != before:
            _note(lake, known, now, accounts)
    except UNUSABLE as error:
        _give_up(lake, error)


def move(lake: Lake, before: str) -> None:
    """Have the digests of a state stand for the tables as they are now: the same rows in other files."""
    try:
        base = _base(lake)
        since = base and _since(lake, base)
        if since and since.state == before != state_of(lake):
            _write_since(lake, msgspec.structs.replace(since, state=state_of(lake)))
    except UNUSABLE as error:
        _give_up(lake, error)


def forget(lake: Lake) -> None:
    """Remove all digests."""
    for path in (lake.data.digests, lake.data.digests_since):
        path.unlink(missing_ok=True)


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


def _own(lake: Lake, origin: Origin) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the halves of a Stripe account's digests, ordered by the first, and which of its accounts have a balance."""
    known = _known(lake, state_of(lake), origin.stripe_version)
    rows = pq.read_metadata(lake.data.digests).num_rows if known else 0
    with lake.query(rows) as query:
        _register(query, known)
        own = query.execute(
            f"SELECT first, second, has_balance FROM {_sql_of(known)} WHERE stripe_account = ?",
            [origin.stripe_account],
        ).fetchnumpy()
    first, second, has_balance = (np.asarray(own[name]) for name in ("first", "second", "has_balance"))
    order = np.argsort(first)  # DuckDB takes twenty times the memory for it
    return first[order], second[order], has_balance[order]


def _write(
    lake: Lake,
    known: _Known | None,
    of: tuple[str, bool],
    staged: tuple[Sequence[str], Sequence[str]],
    stripe_version: str,
) -> None:
    """Write the digests anew, part by part: of the state and lateness ``of`` and the ``staged`` listings and accounts."""
    (now, is_late), (listed, accounts) = of, staged
    with lake.query() as query:
        _register(query, known)
        if known and known.since.state == now and _all_are_known(query, known, listed):
            return
        counts = f"SELECT count(*) FROM (SELECT 1 FROM {_sql_of(known)} UNION ALL SELECT 1 FROM {_listed_sql(listed)})"
        [(rows,)] = query.execute(counts).fetchall()
        parts = 1 + rows // ROWS_A_PARTITION
        said = {STATE: now, STRIPE_VERSION: stripe_version}
        with (
            atomic_write(lake.data.digests) as file,
            pq.ParquetWriter(file, SCHEMA.with_metadata(said), compression="none") as writer,
        ):
            for part in range(parts):
                found = from_template(
                    "digests",
                    known=_sql_of(known),
                    touched=read_parquet_sql(accounts) if accounts else f"({no_rows_sql(ACCOUNTS)})",
                    listed=_listed_sql(listed),
                    are_of_now=str(not is_late).lower(),
                    parts=str(parts),
                    part=str(part),
                )
                for batch in query.sql(found).to_arrow_reader(ROWS_A_BATCH):
                    writer.write_batch(in_schema(batch, SCHEMA))
    lake.data.digests_since.unlink(missing_ok=True)
    lake.release_memory_after(listed)


def _all_are_known(query: duckdb.DuckDBPyConnection, known: _Known, listed: Sequence[str]) -> bool:
    """Return whether listings have shown all accounts that are known of their Stripe accounts, and no other."""
    of, are_known, shown = query.execute(
        f"SELECT list(DISTINCT stripe_account), bool_and(unchanged), count(*) FROM {read_parquet_sql(listed)}"
    ).fetchall()[0]
    if not are_known:
        return False
    parts = 1 + shown // ACCOUNTS_A_PART
    seen = f"SELECT stripe_account, hash(account_id) AS account FROM {read_parquet_sql(listed)}"
    unseen = (
        f"SELECT 1 FROM {known.sql} ANTI JOIN (FROM ({seen}) WHERE account % {parts} = {part})"
        f" USING (stripe_account, account)"
        f" WHERE account % {parts} = {part} AND stripe_account IN ({sql_literals(of)}) LIMIT 1"
        for part in range(parts)
    )
    return not any(query.execute(one).fetchall() for one in unseen)


def _note(lake: Lake, known: _Known, now: str, accounts: Sequence[str]) -> None:
    """Note beside the digests which of them do not hold any more, as their accounts were touched."""
    touched = list(known.since.touched)
    if accounts:
        with lake.query() as query:
            of = f"SELECT DISTINCT stripe_account, hash(account_id) FROM {read_parquet_sql(accounts)}"
            touched += query.execute(of).fetchall()
    if len(touched) > MOST_TOUCHED:
        forget(lake)
    else:
        _write_since(lake, Since(base=known.since.base, state=now, touched=touched))


def _known(lake: Lake, state: str, stripe_version: str) -> _Known | None:
    """Return the digests that are of a state of the tables. Those that are of another are removed, whoever they are of."""
    base = _base(lake)
    if base is None:
        return None
    since = _since(lake, base)
    said = pq.read_metadata(lake.data.digests).metadata
    if since.state != state or said.get(STRIPE_VERSION) != stripe_version.encode():
        forget(lake)
        return None
    file = read_parquet_sql([str(lake.data.digests)])
    return _Known(since, f"(FROM {file} ANTI JOIN touched_since USING (stripe_account, account))")


def _base(lake: Lake) -> str | None:
    try:
        return str((pq.read_metadata(lake.data.digests).metadata or {}).get(STATE, b""), "utf-8")
    except FileNotFoundError:
        return None


def _since(lake: Lake, base: str) -> Since:
    try:
        found = msgspec.json.decode(lake.data.digests_since.read_bytes(), type=Since)
    except FileNotFoundError:
        found = None
    # One of another file was left by whoever was stopped between the two.
    return found if found and found.base == base else Since(base=base, state=base, touched=[])


def _write_since(lake: Lake, since: Since) -> None:
    with atomic_write(lake.data.digests_since) as part:
        part.write_bytes(msgspec.json.encode(since))


def _give_up(lake: Lake, error: Exception) -> None:
    LOG.info("the digests of accounts are removed, and every account is read: %s", type(error).__name__)
    with suppress(OSError):  # they are of tables as they never are again
        forget(lake)


def _register(query: duckdb.DuckDBPyConnection, known: _Known | None) -> None:
    touched = known.since.touched if known else []
    columns = zip(*touched, strict=True) if touched else ((), ())
    kinds = (SCHEMA.field(name).type for name in ("stripe_account", "account"))
    arrays = [pa.array(list(values), kind) for values, kind in zip(columns, kinds, strict=True)]
    query.register("touched_since", pa.table(arrays, names=["stripe_account", "account"]))


def _sql_of(known: _Known | None) -> str:
    return known.sql if known else f"({nothing_sql(SCHEMA)})"


def _listed_sql(files: Sequence[str]) -> str:
    return read_parquet_sql(files) if files else f"({nothing_sql(LISTED_SCHEMA)})"
