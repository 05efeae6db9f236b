"""Read what the lake says of the runs before: from where the next one goes on, and what it need not fetch again.

A session is **closed** once it was fetched a day or more after it was first seen: linking is a matter of minutes, and
whoever links again does so in a new session. Until then it is open, and every sync fetches it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Literal, overload

import pyarrow as pa
import pyarrow.parquet as pq

from fincon.lake.snapshots import latest_files
from fincon.lake.staging import batches
from fincon.lake.tables import ROWS_A_BATCH, Lake
from fincon.lake.version_sql import from_template, sql_literals, table_sql
from fincon.landing.page_store import PageStore
from fincon.storage.data_folder import DataFolder, atomic_write, make_folder
from fincon.transforms.flatten import flatten
from fincon.transforms.page import DueAccount, Origin, Page, Watermark
from fincon.transforms.schemas import ACCOUNTS, REFRESHES, RUNS, SESSIONS, WATERMARKS, Table
from fincon.transforms.streams import STREAMS, Feature, stream_of

Refetch = Literal["never", "open", "all"]
"""``--sessions-refetch``: of the sessions that are known already, fetch none, those still open, or all again."""

Session = tuple[str, str]
"""The Stripe account (empty: the key's own) and the id: another Stripe account may have a session of the same id."""

OPEN_FOR = timedelta(days=1)

REFUSED_FOR = timedelta(days=1)
"""How long an account that Stripe refused is left alone, unless it is refreshed before."""

CLOSED_SCHEMA = pa.schema({"stripe_account": pa.string(), "session_id": pa.string()})

COMPLETE = {stream.name for stream in STREAMS.values() if stream.tells_of_all}
"""What of a run's mode means that it asks for all that happened."""

NEEDED = {
    REFRESHES: ("account_id", "feature", "status", "last_attempted_at", "refresh_id", "observed_at"),
    ACCOUNTS: ("account_id", "ownership_id", "observed_at"),
}
"""The columns of a run's own pages from which `due_accounts` tells which accounts were refreshed since."""


def complete_until(lake: Lake) -> dict[str, int]:
    """Return Stripe account → up to when (microseconds, Stripe's clock) all that happened to its accounts is in.

    Those are left out of which no run has listed all accounts, or the last that was to do so could not tell.
    """
    found: dict[str, int] = {}
    for whose, mode, at in lake.records(RUNS, "stripe_account", "mode", "epoch_us(complete_until)"):
        if at is not None:
            found[whose] = at  # the last says it: a clock that was wrong may have said more before
        elif not COMPLETE.isdisjoint((mode or "").split("+")):
            found.pop(whose, None)
    return found


def last_pii(lake: Lake) -> str:
    """Return what the last run that chose about personal data chose: `transforms.redaction.Privacy.policy_id`; or empty."""
    return next((pii for (pii,) in reversed(lake.records(RUNS, "pii")) if pii), "")


def last_runs(lake: Lake) -> dict[tuple[str, str], str]:
    """Return (Stripe account, mode) → the last finished run."""
    runs = lake.records(RUNS, "stripe_account", "mode", "run_id")
    return {(whose, mode): run_id for whose, mode, run_id in sorted(runs, key=itemgetter(2))}


def finished_runs(lake: Lake) -> dict[str, list[str]]:
    """Return Stripe account → its finished runs."""
    found: dict[str, list[str]] = {}
    for whose, run_id in lake.records(RUNS, "stripe_account", "run_id"):
        found.setdefault(whose, []).append(run_id)
    return found


def requests_since(lake: Lake, moment: datetime) -> int:
    """Return how many requests the runs made that were finished since."""
    return sum(made for made, at in lake.records(RUNS, "requests", "finished_at") if at >= moment)


def count_accounts(lake: Lake) -> dict[str, int]:
    """Return Stripe account → how many linked accounts of it are known."""
    now = latest_files(lake, ACCOUNTS)
    if not now.all:
        return {}
    with lake.query() as query:
        counted = f"SELECT stripe_account, count(*) FROM ({now.sql(ACCOUNTS)}) GROUP BY ALL"
        return dict(query.execute(counted).fetchall())


def accounts_a_page_apart(lake: Lake, stripe_account: str, size: int) -> list[str]:
    """Return the last account of each page of ``size`` that the Stripe account's listing would have: newest first."""
    now = latest_files(lake, ACCOUNTS)
    if not now.all:
        return []
    columns, own = "SELECT account_id, created_at FROM", "WHERE stripe_account = ?"
    since = (
        f"SELECT account_id, any_value(created_at) AS created_at FROM {table_sql(ACCOUNTS, now.since)}"
        f" {own} GROUP BY account_id"
    )
    # Of the snapshot, which has each account once, nothing has to be held to tell which are the same.
    known = (
        f"{columns} {table_sql(ACCOUNTS, now.snapshot)} ANTI JOIN since USING (account_id) {own}"
        f" UNION ALL {columns} since"
    )
    placed = (
        f"SELECT account_id, row_number() OVER (ORDER BY created_at DESC, account_id) AS place FROM ({known})"
    )
    rows = lake.count_table_rows(ACCOUNTS, now.all)
    with lake.query(rows) as query:
        found = query.execute(
            f"WITH since AS ({since}) SELECT account_id FROM ({placed}) WHERE place % {size} = 0 ORDER BY place",
            [stripe_account, stripe_account],
        )
        return [account_id for (account_id,) in found.fetchall()]


def read_refreshes(pages: Iterable[Page], origin: Origin) -> Mapping[Table, pa.Table]:
    """Flatten a run's pages of accounts to the columns that are `NEEDED`."""
    found = {table: [table.schema.empty_table().select(columns)] for table, columns in NEEDED.items()}
    for batch in batches(pages):
        flat = flatten(batch, origin)
        for table, columns in NEEDED.items():
            found[table].append(flat[table.name].select(columns))
    return {table: pa.concat_tables(parts) for table, parts in found.items()}


@dataclass(frozen=True, kw_only=True)
class DueQuery:
    """Ask which accounts of a Stripe account are due."""

    stripe_account: str
    feature: Feature
    pii: str
    """The run's choice about personal data, `transforms.redaction.Privacy.policy_id`."""
    now: int
    """By Stripe's clock, in microseconds."""


class DueAccounts(Sequence[DueAccount]):
    """Accounts that are due, by their ids, as columns: as objects they would take a gigabyte where there are two million."""

    def __init__(self, asked: DueQuery, rows: pa.Table) -> None:
        """``rows`` has the columns that ``sql/templates/due.sql`` selects, in any order."""
        import pyarrow.compute as pc  # a run that asks for no transactions does without

        self._asked, self._rows = asked, rows
        # The rows stay where they are, or each would be there twice.
        self._places = pc.sort_indices(rows["account_id"])

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def __iter__(self) -> Iterator[DueAccount]:
        for start in range(0, len(self), 1_000):
            yield from map(self._account, self._rows.take(self._places.slice(start, 1_000)).to_pylist())

    @overload
    def __getitem__(self, index: int) -> DueAccount: ...
    @overload
    def __getitem__(self, index: slice) -> "DueAccounts": ...
    def __getitem__(self, index: int | slice) -> "DueAccount | DueAccounts":
        if isinstance(index, slice):
            places = self._places.take(pa.array(range(len(self))[index], pa.int64()))
            return DueAccounts(self._asked, self._rows.take(places))
        return self._account(self._rows.take(self._places.slice(range(len(self))[index], 1)).to_pylist()[0])

    def without(self, is_erased: Callable[[str], bool]) -> "DueAccounts":
        """Return those that are not erased."""
        kept = pa.array([not is_erased(one) for one in self.account_ids.to_pylist()], pa.bool_())
        return DueAccounts(self._asked, self._rows.filter(kept))

    @property
    def account_ids(self) -> pa.ChunkedArray:
        """The ids of all, in any order."""
        return self._rows["account_id"]

    def _account(self, row: Mapping[str, Any]) -> DueAccount:
        is_of_owners = self._asked.feature == "ownership"
        mark = Watermark(
            feature=self._asked.feature,
            last_attempted_at=row["last_attempted_at"],
            status=row["status"],
            refresh_id=row["refresh_id"],
            ownership_id=row["ownership_id"],
            pii=self._asked.pii if is_of_owners else "",
        )
        return DueAccount(row["account_id"], row["after"] or "", mark, row["refused_before"])


def due_accounts(lake: Lake, asked: DueQuery, refreshes: Mapping[Table, pa.Table]) -> DueAccounts:
    """List the accounts whose feature was refreshed since its rows were read, by the lake and this run's pages.

    An account was refreshed since where another attempt was made than the last one when its rows were read, whatever
    became of it: of the attempts between two runs only the last can be seen, and one before it may have succeeded.
    Owners are due as well where the choice about personal data is another than the one they were read under; and so is,
    after a day, what Stripe refused. ``refreshes`` is what `read_refreshes` made of this run's pages.
    """
    pii = asked.pii if asked.feature == "ownership" else ""
    params = {
        "stripe_account": asked.stripe_account,
        "pii": pii,
        "refused_until": utc(asked.now) - REFUSED_FOR,
    }
    # Of many Stripe accounts one at a time: however little there is, each takes a third of the memory.
    with lake.asking_much, lake.query() as query:
        for table, rows in refreshes.items():
            query.register(f"seen_{table.name}", rows)
        known = {}
        for table in (REFRESHES, ACCOUNTS, WATERMARKS):
            query.register(f"no_{table.name}", table.schema.empty_table())
            now = latest_files(lake, table)
            known[table.name] = now.sql(table) if now.all else f"FROM no_{table.name}"
        if asked.feature != "ownership":  # nobody asks for ownerships, which all accounts would be read for
            query.register("seen_accounts", ACCOUNTS.schema.empty_table())
            known[ACCOUNTS.name] = f"FROM no_{ACCOUNTS.name}"
        due = query.sql(from_template("due", **known, feature=asked.feature), params=params)
        found = due.to_arrow_reader(ROWS_A_BATCH).read_all()
    return DueAccounts(asked, found)  # which sorts them in less memory than the query would


def readable_account(lake: Lake, asked: DueQuery, due: DueAccounts) -> DueAccount | None:
    """Return the account whose feature was read last, of those that are not ``due``; None where there is none."""
    now = latest_files(lake, WATERMARKS)
    if not now.all:
        return None
    with lake.query() as query:
        query.register("due", pa.table({"account_id": due.account_ids}))
        found = query.execute(
            "SELECT account_id, epoch_us(last_attempted_at) // 1000000, status, ownership_id"
            f" FROM ({now.sql(WATERMARKS)}) ANTI JOIN due USING (account_id)"
            " WHERE stripe_account = ? AND feature = ? AND refused_at IS NULL"
            " ORDER BY observed_at DESC, account_id LIMIT 1",
            [asked.stripe_account, asked.feature],
        ).fetchone()
    if found is None:
        return None
    account_id, attempted, status, ownership_id = found
    mark = Watermark(
        feature=asked.feature, last_attempted_at=attempted, status=status, ownership_id=ownership_id
    )
    return DueAccount(account_id, "", mark)


def accounts_set_aside(lake: Lake, run_ids: Sequence[str]) -> list[tuple[str, str, int]]:
    """List (stream, status and code, how many accounts) of what Stripe refused in these runs."""
    files = lake.files(WATERMARKS)
    if not files:
        return []
    with lake.query() as query:
        found = query.execute(
            f"SELECT feature, refusal, count(*) FROM {table_sql(WATERMARKS, files)}"
            f" WHERE refused_at IS NOT NULL AND run_id IN ({sql_literals(run_ids)}) GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    return [(stream_of(feature).name, refusal, count) for feature, refusal, count in found]


def sessions_to_skip(lake: Lake, refetch: Refetch) -> Set[Session]:
    """Return the sessions that are known already and need not be fetched again."""
    if refetch == "all":
        return set()
    return closed_sessions(lake.data) if refetch == "open" else _first_observed(lake).keys()


def closed_sessions(data: DataFolder) -> set[Session]:
    """Read the closed sessions. Without their file, or where it cannot be read, all are open: more requests, nothing wrong."""
    path = data.settled_sessions
    if not path.exists():
        return set()
    try:
        table = pq.read_table(pa.BufferReader(path.read_bytes()))
    except pa.ArrowInvalid:
        return set()
    if not set(CLOSED_SCHEMA.names) <= set(table.column_names):
        return set()  # it is from before a row said of which Stripe account it is
    return set(zip(*(table[name].to_pylist() for name in CLOSED_SCHEMA.names), strict=True))


def close_sessions(lake: Lake, page_stores: Mapping[str, Iterable[PageStore]]) -> None:
    """Add the sessions that are closed now to those on file, of finished runs by their Stripe accounts."""
    observed = {
        (stripe_account, page.header.parent): page.header.observed_at
        for stripe_account, of_account in page_stores.items()
        for page_store in of_account
        for page in page_store.read_sessions()
        if page.header.status in (200, 404)  # one that was refused is asked for again
    }
    if not observed:
        return
    first = _first_observed(lake)
    micros = OPEN_FOR // timedelta(microseconds=1)
    closed = {session for session, at in observed.items() if at - first.get(session, at) >= micros}
    write_closed_sessions(lake.data, closed_sessions(lake.data) | closed)


def write_closed_sessions(data: DataFolder, sessions: set[Session]) -> None:
    """Write the closed sessions, in place of those on file."""
    accounts, ids = zip(*sorted(sessions), strict=True) if sessions else ((), ())
    table = pa.table({"stripe_account": list(accounts), "session_id": list(ids)}, schema=CLOSED_SCHEMA)
    make_folder(data.snapshots)
    with atomic_write(data.settled_sessions) as part:
        pq.write_table(table, part, compression="zstd")


def _first_observed(lake: Lake) -> dict[Session, int]:
    """Return session → when its first version was observed, in microseconds since the Unix epoch."""
    files = lake.files(SESSIONS)
    if not files:
        return {}
    first = f"SELECT stripe_account, session_id, epoch_us(min(observed_at)) FROM {table_sql(SESSIONS, files)} GROUP BY ALL"
    with lake.query() as query:
        return {(account, session): at for account, session, at in query.execute(first).fetchall()}


def utc(micros: int) -> datetime:
    """Return a time that is given in microseconds since the Unix epoch."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
