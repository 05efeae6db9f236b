"""What the lake says of the runs before: from where the next one goes on, and where it can split a listing."""

from fincon.lake.tables import Lake
from fincon.lake.version_sql import parquet
from fincon.transforms.schemas import ACCOUNTS, OBJECT_TABLES, RUNS


def complete_until(lake: Lake) -> dict[str, int]:
    """Stripe account → up to when (microseconds, Stripe's clock) all that happened to its accounts is in.

    Those are left out of which no run has listed all accounts.
    """
    moments = lake.records(RUNS, "stripe_account", "epoch_us(complete_until)")
    return dict(sorted((whose, at) for whose, at in moments if at is not None))


def last_pii(lake: Lake) -> str:
    """What the last run that made a choice about personal data chose: `transforms.personal.Privacy.mark`; or empty."""
    return next((pii for (pii,) in reversed(lake.records(RUNS, "pii")) if pii), "")


def last_runs(lake: Lake) -> dict[tuple[str, str], str]:
    """(Stripe account, mode) → the last finished run."""
    runs = lake.records(RUNS, "stripe_account", "mode", "run_id")
    return {(whose, mode): run_id for whose, mode, run_id in sorted(runs)}


def newest(lake: Lake) -> int:
    """The newest ``observed_at`` of any version, in microseconds since the Unix epoch; 0 where there is none."""
    files = [file for table in OBJECT_TABLES for file in lake.files(table)]
    if not files:
        return 0
    with lake.query() as query:
        found = query.execute("SELECT epoch_us(max(observed_at)) FROM read_parquet(?)", [files]).fetchone()
    return int(found[0]) if found and found[0] else 0


def accounts_a_page_apart(lake: Lake, stripe_account: str, size: int) -> list[str]:
    """The last account of each page of ``size`` that the Stripe account's listing would have: newest first."""
    now = lake.current(ACCOUNTS)
    if not now.active:
        return []
    known = (
        f"SELECT account_id, any_value(created_at) AS created_at FROM {parquet(now.active)}"
        " WHERE stripe_account = ? GROUP BY account_id"
    )
    placed = (
        f"SELECT account_id, row_number() OVER (ORDER BY created_at DESC, account_id) AS place FROM ({known})"
    )
    with lake.query() as query:
        found = query.execute(
            f"SELECT account_id FROM ({placed}) WHERE place % {size} = 0 ORDER BY place", [stripe_account]
        )
        return [account_id for (account_id,) in found.fetchall()]
