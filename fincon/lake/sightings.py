"""What was seen lately and left no row, for it was known already: kept until nothing can come any more that is older.

A version is a row only where it differs from the one before. That loses nothing as long as runs bring what they saw in the
order of its time. Events alone come late: those within their overlap, from before a listing or a session that is in already.
For them the lake remembers when each account was seen, and which event was given which time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from fincon.lake.staging import listed_files, staged_files, staged_sql
from fincon.lake.tables import ROWS_A_BATCH, UNUSABLE, Lake, single_value
from fincon.lake.version_sql import from_template, read_parquet_sql, with_columns_sql
from fincon.storage.data_folder import atomic_write, make_folder
from fincon.transforms.columns import in_schema
from fincon.transforms.event_times import AHEAD_SECONDS
from fincon.transforms.page import Origin
from fincon.transforms.schemas import ACCOUNTS, AUTHORIZATIONS, BALANCES, REFRESHES, TIMESTAMP, Table
from fincon.transforms.streams import EVENTS_OVERLAP

SCHEMA = pa.schema(
    {
        "stripe_account": pa.string(),
        "account": pa.uint64(),  # of the id's MD5, so that the file is small and names nobody
        "observed_at": TIMESTAMP,
        "has_balance": pa.bool_(),
        "event_id": pa.string(),  # null: seen in a listing or a session
        "absent": pa.list_(pa.string()),  # of which columns nothing was said
    }
)

MOST_READ = 200_000
"""So many rows are kept in memory, as they were read or written; more are asked for where they are."""

REMEMBERED = EVENTS_OVERLAP + timedelta(seconds=AHEAD_SECONDS)
"""For how long before what is complete: an event counts as that much earlier at most than it says."""

SHOWN = "(sighting.event_id IS NOT NULL OR sighting.absent IS NULL)"
"""Holds of a sighting that showed the object, rather than that it is gone."""

SEEN = {
    ACCOUNTS.name: SHOWN,
    BALANCES.name: "sighting.has_balance",
    AUTHORIZATIONS.name: SHOWN,
    REFRESHES.name: f"{SHOWN} AND NOT coalesce(list_contains(sighting.absent, touched.feature || '_refresh'), false)",
}
"""Table → which sightings said something of it."""

SIGHTED = {
    ACCOUNTS: ("account_id", "balance_as_of IS NOT NULL"),
    AUTHORIZATIONS: ("authorization_id", "false"),
}
"""Table → its id, and whether a row has a balance."""


def seen_sql(table: Table) -> str:
    """Write the condition under which a ``sighting`` saw the object ``touched`` of a table."""
    if table.name not in SEEN:
        return "false"
    key, _ = SIGHTED.get(table, SIGHTED[ACCOUNTS])
    return f"sighting.account = md5_number_lower(touched.{key}) AND {SEEN[table.name]}"


def known_sql(table: Table) -> str:
    """Write the query for the table ``known``, with the columns of which a row says nothing where that is remembered."""
    if table not in SIGHTED:
        return "SELECT *, NULL AS absent FROM known"
    key, _ = SIGHTED[table]
    return (
        "SELECT known.*, sighting.absent FROM known LEFT JOIN sightings AS sighting"
        f" ON sighting.stripe_account = known.stripe_account AND sighting.account = md5_number_lower(known.{key})"
        " AND sighting.observed_at = known.observed_at"
    )


def load_sightings(lake: Lake, query: duckdb.DuckDBPyConnection) -> None:
    """Make the table ``sightings`` on a connection; it is empty where nothing was seen lately."""
    _name(query, "sightings", find_sightings(lake))


@contextmanager
def asking_sightings(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection with the table ``sightings``; where it is very much, to a DuckDB that ends with it."""
    found = find_sightings(lake)
    with lake.query(_count(found) if isinstance(found, Path) else 0) as query:
        _name(query, "sightings", found)
        yield query


def find_sightings(lake: Lake) -> pa.Table | Path:
    """Return what is remembered; where it is very much, the file that it is in, which can be read."""
    if lake.sightings_read is None:
        path = lake.data.sightings
        # In a bucket each question would take several requests.
        found = path if isinstance(path, Path) and _holds_many(lake, path) else read_sightings(lake)
        if isinstance(found, pa.Table) and found.num_rows > MOST_READ:
            return found
        lake.sightings_read = found
    return lake.sightings_read


def _name(query: duckdb.DuckDBPyConnection, name: str, found: pa.Table | Path) -> None:
    if isinstance(found, Path):
        query.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {_file_sql(found)}")
    else:
        query.register(name, found)


def _file_sql(path: Path) -> str:
    """Write the query of what a file of sightings holds; a column that it is older than is null."""
    return f"SELECT {', '.join(SCHEMA.names)} FROM {with_columns_sql(SCHEMA, [str(path)])}"


def _count(found: pa.Table | Path) -> int:
    return int(pq.read_metadata(found).num_rows if isinstance(found, Path) else found.num_rows)


def _holds_many(lake: Lake, path: Path) -> bool:
    """Return whether a file holds so many rows that they are not kept in memory, and DuckDB can read all that is in it."""
    with suppress(*UNUSABLE):
        rows = _count(path)
        if rows > MOST_READ:
            with lake.query(rows) as query:
                query.execute(f"SELECT max(hash(COLUMNS(*))) FROM ({_file_sql(path)})").fetchall()
            return True
    return False


def read_sightings(lake: Lake) -> pa.Table:
    """Return what is remembered, all of it. Without the file, which is derived, it is nothing."""
    with suppress(FileNotFoundError):
        content = lake.data.sightings.read_bytes()
        with suppress(*UNUSABLE):  # as by a crash of the machine
            return decode_sightings(content)
    return SCHEMA.empty_table()


def decode_sightings(content: bytes) -> pa.Table:
    """Return what a file of sightings holds; a column that it is older than is null."""
    # Part by part, which takes less memory than all at once.
    batches = pq.ParquetFile(pa.BufferReader(content)).iter_batches()
    found = [pa.Table.from_batches([batch]) for batch in batches]
    whole = pa.concat_tables([SCHEMA.empty_table(), *found], promote_options="default")
    return in_schema(whole.select(SCHEMA.names), SCHEMA)


def newest_sighting(query: duckdb.DuckDBPyConnection, whose: str) -> datetime | None:
    """Return when an account of the Stripe accounts ``whose`` (a condition) was last seen; None where none was."""
    found = query.execute(f"SELECT max(observed_at) FROM sightings WHERE {whose}").fetchone()
    return found[0] if found else None


def remember(
    lake: Lake, staging: Path, origins: Sequence[Origin], complete_until: Mapping[str, datetime]
) -> None:
    """Add what runs have staged under ``staging``, and forget what no event can be older than any more.

    ``complete_until`` says up to when each Stripe account's events are in: the next run asks for those from
    `EVENTS_OVERLAP` before. Of an account of which no run has listed all, that is the last time it was seen.
    """
    until = pa.table(
        {"stripe_account": list(complete_until), "until": pa.array(complete_until.values(), TIMESTAMP)},
        schema=pa.schema({"stripe_account": pa.string(), "until": TIMESTAMP}),
    )
    seen = [
        f"SELECT stripe_account, md5_number_lower({key}) AS account, observed_at, {has_balance} AS has_balance, event_id, absent"
        f" FROM {staged_sql(table, files)}"
        for table, (key, has_balance) in SIGHTED.items()
        if (files := staged_files(staging, table, origins))
    ]
    if listed := listed_files(staging, origins):
        seen.append(
            "SELECT stripe_account, md5_number_lower(account_id) AS account, observed_at, has_balance,"
            f" NULL AS event_id, NULL AS absent FROM {read_parquet_sql(listed)} WHERE unchanged"
        )
    if not seen:
        return  # what could be forgotten does no harm, and the next run that saw something does so
    before, new = find_sightings(lake), " UNION ALL ".join(seen)
    count = _count(before)
    with lake.query(count) as query:
        _name(query, "before", before)
        query.register("complete", until)
        times = f"SELECT (SELECT max(observed_at) FROM before) < min(observed_at) FROM ({new})"
        are_all_new = not count or single_value(query, times)
        query.execute(f"CREATE TEMP VIEW sightings AS FROM before UNION ALL {new}")
        # A run that is loaded again brings what is there; to look for that takes memory and time.
        kept = from_template("sightings_kept", distinct="" if are_all_new else "DISTINCT")
        rows = query.sql(kept, params={"overlap": REMEMBERED}).to_arrow_reader(ROWS_A_BATCH)
        write_sightings(lake, rows)
    lake.release_memory_after([*listed_files(staging, origins), *staged_files(staging, ACCOUNTS, origins)])


def forget(lake: Lake, account_ids: Sequence[str]) -> None:
    """Forget when accounts were seen."""
    if not _count(find_sightings(lake)):
        return
    with asking_sightings(lake) as query:
        gone = "SELECT md5_number_lower(unnest($ids::VARCHAR[]))"
        kept = query.sql(f"FROM sightings WHERE account NOT IN ({gone})", params={"ids": list(account_ids)})
        write_sightings(lake, kept.to_arrow_reader(ROWS_A_BATCH))


def write_sightings(lake: Lake, sightings: pa.RecordBatchReader) -> None:
    """Put these in the place of what is remembered."""
    make_folder(lake.snapshots)
    few: list[pa.RecordBatch] | None = []
    with (
        atomic_write(lake.data.sightings) as part,
        pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer,
    ):
        for batch in sightings:
            writer.write_batch(found := in_schema(batch, SCHEMA))
            few = [*few, found] if few is not None and len(few) < MOST_READ // ROWS_A_BATCH else None
    written = lake.data.sightings
    many = written if isinstance(written, Path) else None
    lake.sightings_read = many if few is None else pa.Table.from_batches(few, SCHEMA)


def event_times(lake: Lake, stripe_account: str) -> dict[int, dict[str, int]]:
    """Return account (a number that stands for it) → event → the time (microseconds since the Unix epoch) that it was given."""
    with lake.query() as query:
        load_sightings(lake, query)
        found = query.execute(
            "SELECT account, event_id, epoch_us(observed_at) FROM sightings"
            " WHERE stripe_account = ? AND event_id IS NOT NULL",
            [stripe_account],
        ).fetchall()
    times: dict[int, dict[str, int]] = {}
    for account, event_id, at in found:
        times.setdefault(account, {})[event_id] = at
    return times
