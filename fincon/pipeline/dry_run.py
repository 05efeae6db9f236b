"""List the requests that a sync would make, without making one."""

from collections.abc import Iterator, Set
from dataclasses import dataclass

from fincon.extract.connected_accounts import PATH
from fincon.extract.pagination import PAGE_SIZE
from fincon.extract.sessions import session_path
from fincon.lake.incremental import Session, sessions_to_skip
from fincon.lake.tables import Lake
from fincon.pipeline.request import SyncRequest
from fincon.settings import Settings
from fincon.storage.data_folder import DataFolder
from fincon.transforms.streams import STREAMS, stream_of
from fincon.warehouse.status import count_accounts


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Say what a sync would do."""

    requests: Iterator[str]
    """A line for each request, or each kind of them."""
    known_sessions: int
    """How many of the sessions need not be fetched again."""


def dry_run(settings: Settings, request: SyncRequest) -> DryRun:
    """Tell what a sync would do, from the lake alone."""
    known = count_accounts(settings.data)
    connected = sorted(filter(None, known)) if request.connected else ()
    asked = request.for_each(settings.stripe_account, connected)
    with Lake(DataFolder(settings.data).lake) as lake:
        skipped = sessions_to_skip(lake, request.refetch) if known else set()
    return DryRun(
        requests=_lines(request, asked, {account: known.get(account, 0) for account in asked}, skipped),
        known_sessions=sum((a, i) in skipped for a, own in asked.items() for i in own.session_ids),
    )


def _lines(
    request: SyncRequest, asked: dict[str, SyncRequest], accounts: dict[str, int], skipped: Set[Session]
) -> Iterator[str]:
    if request.connected:
        yield f"GET {PATH}?limit=100, until the last page; then for each connected account what follows"
    for account, own in asked.items():
        ids = [one for one in own.session_ids if (account, one) not in skipped]
        yield from _lines_of(own, ids, accounts[account], f" as {account}" if account else "")


def _lines_of(own: SyncRequest, session_ids: list[str], accounts: int, as_whom: str) -> Iterator[str]:
    """Yield the lines of one Stripe account, of which so many ``accounts`` are known."""
    accounts_path = STREAMS["accounts"].path
    for session_id in session_ids:
        yield f"GET {session_path(session_id)}{as_whom}"
    if session_ids:
        yield f"GET {accounts_path}?session=…&limit=100{as_whom}, for each session with more accounts than its page holds"
    if own.events:
        yield f"GET {STREAMS['events'].path}?…&limit=100{as_whom}, until the last page: what changed since the last run"
    elif own.accounts:
        pages = (
            f"about {-(-accounts // PAGE_SIZE):,} times: {accounts:,} accounts are known"
            if accounts
            else "until the last page"
        )
        yield f"GET {accounts_path}?limit=100{as_whom}, {pages}"
    for stream in map(stream_of, own.features):
        path, query = stream.request("…", ownership="…")
        parameters = "&".join(f"{name}={value}" for name, value in query.items())
        yield f"GET {path}?{parameters}{as_whom}, for each account whose {stream.name} were refreshed since"
