"""Accounts that Stripe's whole list does not show any more, or that are refused all together: an observation too."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fincon.lake.digests import unchanged_sql
from fincon.lake.snapshots import latest_files
from fincon.lake.staging import staged_files
from fincon.lake.tables import Lake, single_value
from fincon.lake.version_sql import ACCOUNTS_A_PART, from_template, no_rows_sql, read_parquet_sql
from fincon.transforms.accounts import OF_THOSE_LISTED
from fincon.transforms.event_times import COUNT_FROM, SECOND
from fincon.transforms.page import Origin
from fincon.transforms.schemas import ACCOUNTS, REJECTS


def stage_absent(lake: Lake, staging: Path, origin: Origin, listed_from: datetime) -> None:
    """Stage a row for each account of the Stripe account that is known as listed, and that a whole listing did not show.

    It says since when: the listing's end, at the earliest its beginning ``listed_from``, and nothing else of the account. An
    account that could not be read was shown.
    """
    now = latest_files(lake, ACCOUNTS)
    if not now.all:
        return
    accounts, rejects = (staged_files(staging, table, [origin]) for table in (ACCOUNTS, REJECTS))
    staged = read_parquet_sql(accounts) if accounts else f"({no_rows_sql(ACCOUNTS)})"
    columns = "SELECT account_id, observed_at FROM"
    listed = f"({columns} {staged} UNION ALL {columns} {unchanged_sql(staging, [origin])})"
    shown = f"SELECT account_id FROM {listed}"
    if rejects:
        # Only of one that stood there is there a raw object: one that was asked for by its id may be refused because it is gone.
        shown += f" UNION ALL SELECT object_id FROM {read_parquet_sql(rejects)} WHERE object_type = 'account' AND raw IS NOT NULL"
    with lake.query() as query:
        parts = 1 + lake.count_rows([*now.snapshot, *now.since]) // ACCOUNTS_A_PART
        ended = single_value(
            query,
            f"SELECT max(observed_at) FROM {listed} WHERE epoch_us(observed_at) % {SECOND} < {COUNT_FROM}",
        )
        of_run = {
            "stripe_account": origin.stripe_account,
            "run_id": origin.run_id,
            "ended": max(filter(None, (ended, listed_from))),
            "silent": list(OF_THOSE_LISTED),
        }
        absent = pa.concat_tables(
            query.sql(
                from_template(
                    "absent", known=now.sql(ACCOUNTS), shown=f"FROM ({shown}) WHERE account_id IS NOT NULL",
                    parts=str(parts), part=str(part),
                ),
                params=of_run,
            ).to_arrow_table()
            for part in range(parts)
        )  # fmt: skip
    if absent.num_rows:
        folder = staging / origin.run_id
        folder.mkdir(mode=0o700, exist_ok=True)
        rows = pa.concat_tables([ACCOUNTS.empty_staged, absent], promote_options="permissive")
        pq.write_table(rows.cast(ACCOUNTS.staged_schema), folder / f"{ACCOUNTS.name}-z000001.parquet")


def knows_listed(lake: Lake, stripe_account: str) -> bool:
    """Return whether accounts of a Stripe account are known as listed."""
    now = latest_files(lake, ACCOUNTS)
    if not now.all:
        return False
    with lake.query() as query:
        listed = f"FROM ({now.sql(ACCOUNTS)}) WHERE stripe_account = ? AND absent_since IS NULL LIMIT 1"
        return query.execute(f"SELECT 1 {listed}", [stripe_account]).fetchone() is not None
