"""Tell which requests a sync would make, how long they would take and what they cost, without making one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fincon.extract.concurrency import AT_ONCE
from fincon.extract.connected_accounts import PATH
from fincon.extract.pagination import PAGE_SIZE
from fincon.extract.rate_limiter import rates
from fincon.extract.sessions import session_path
from fincon.lake.incremental import Session, count_accounts, requests_since, sessions_to_skip
from fincon.lake.tables import Lake
from fincon.pipeline.key_mode import refuse_other_mode
from fincon.pipeline.request import SyncRequest
from fincon.settings import Settings
from fincon.storage.data_folder import DataFolder
from fincon.transforms.streams import STREAMS, stream_of
from fincon.transforms.wording import duration, pluralize

NAMED = 10
"""Sessions that are named one by one, and Stripe accounts; of more only how many they are is said."""

READS_A_MONTH = 10_000
"""Which Stripe allows at the least; 500 for each transaction of the last 30 days where that is more."""


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """Requests of one kind to one endpoint."""

    endpoint: str
    what: str
    count: int = 0
    """How many are sure."""
    until: str = ""
    """What else decides how many there are."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Say what a sync would do."""

    lines: Sequence[str]
    """The requests, then what they take."""
    known_sessions: int
    """How many of the sessions need not be fetched again."""


def dry_run(settings: Settings, request: SyncRequest) -> DryRun:
    """Tell what a sync would do, from the lake's tables alone: its views may name another folder, or be another's.

    Raises:
        UsageError: the folder holds data of the other mode than the key's.
    """
    folder = DataFolder(settings.data)
    known: Mapping[str, int] = {}
    skipped: set[Session] = set()
    spent = 0
    if folder.views.exists():
        with Lake(folder.lake) as lake:
            refuse_other_mode(settings, lake)
            known = count_accounts(lake)
            skipped = set(sessions_to_skip(lake, request.refetch))
            spent = requests_since(lake, datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0))
    asked = request.for_each(
        settings.stripe_account, sorted(filter(None, known)) if request.connected else ()
    )
    foreseen = {
        account: list(
            _foresee(own, [i for i in own.session_ids if (account, i) not in skipped], known.get(account, 0))
        )
        for account, own in asked.items()
    }
    if request.connected:
        listing = Foreseen(
            endpoint="",
            what=f"GET {PATH}?limit=100",
            count=max(1, -(-len(asked) // PAGE_SIZE)),
            until="until the last page; then for each connected account what follows",
        )
        foreseen = {"": [listing, *foreseen.pop("", [])], **foreseen}
    return DryRun(
        lines=[*_requests(foreseen), *_costs(settings, foreseen, spent)],
        known_sessions=sum((a, i) in skipped for a, own in asked.items() for i in own.session_ids),
    )


def _foresee(own: SyncRequest, session_ids: Sequence[str], accounts: int) -> Iterator[Foreseen]:
    """Yield what one Stripe account would be asked, of which so many ``accounts`` are known."""
    path = f"GET {STREAMS['accounts'].path}"
    if len(session_ids) <= NAMED:
        for one in session_ids:
            yield Foreseen(endpoint="sessions", what=f"GET {session_path(one)}", count=1)
    else:
        yield Foreseen(
            endpoint="sessions",
            what=f"GET {session_path('…')}",
            count=len(session_ids),
            until=f"from {session_ids[0]} to {session_ids[-1]}",
        )
    if session_ids:
        yield Foreseen(
            endpoint="accounts",
            what=f"{path}?session=…&limit=100",
            until="for each session with more accounts than its page holds",
        )
    if own.events:
        yield Foreseen(
            endpoint="events",
            what=f"GET {STREAMS['events'].path}?…&limit=100",
            count=1,
            until="until the last page: what changed since the last run",
        )
    elif own.accounts:
        known = f"{pluralize(accounts, 'account')} {'is' if accounts == 1 else 'are'} known"
        yield Foreseen(
            endpoint="accounts",
            what=f"{path}?limit=100",
            count=-(-accounts // PAGE_SIZE) or 1,
            until=known if accounts else "until the last page",
        )
    for stream in map(stream_of, own.features):
        place, query = stream.request("…", ownership="…")
        parameters = "&".join(f"{name}={value}" for name, value in query.items())
        yield Foreseen(
            endpoint=stream.endpoint,
            what=f"GET {place}?{parameters}",
            until=f"for each account whose {stream.name} were refreshed since",
        )
        if stream.feature == "ownership" and own.accounts and not own.events:
            yield Foreseen(
                endpoint="accounts",
                what=f"{path}?expand[]=data.ownership&limit=…",
                until="in their place, where several of them stand on one page of the list",
            )


def _requests(foreseen: Mapping[str, Sequence[Foreseen]]) -> Iterator[str]:
    """Yield a line for each kind of request of each Stripe account; of many Stripe accounts, for all of them together."""
    if len(foreseen) <= NAMED:
        for account, kinds in foreseen.items():
            for kind in kinds:
                yield _line(kind, f" as {account}" if account else "", kind.until)
        return
    together: dict[str, list[Foreseen]] = {}
    for kinds in foreseen.values():
        for kind in kinds:
            named = kind.endpoint == "sessions" and kind.count  # their ids stand in their paths
            together.setdefault(f"GET {session_path('…')}" if named else kind.what, []).append(kind)
    for what, kinds in together.items():
        many = len(kinds) > 1
        until = "" if many and kinds[0].count else kinds[0].until
        of_all = Foreseen(endpoint=kinds[0].endpoint, what=what, count=sum(kind.count for kind in kinds))
        yield _line(of_all, f" of {pluralize(len(foreseen), 'Stripe account')}" if many else "", until)


def _line(kind: Foreseen, of_whom: str, until: str) -> str:
    """Return ``GET /v1/…, 12 times: 1,180 accounts are known``."""
    times = f", {kind.count:,} times" if kind.count > 1 else ""
    return kind.what + of_whom + times + (f"{':' if times else ','} {until}" if until else "")


def _costs(settings: Settings, foreseen: Mapping[str, Sequence[Foreseen]], spent: int) -> Iterator[str]:
    """Yield what the requests take of time and of the month's allocation, at the least."""
    least = sum(kind.count for kinds in foreseen.values() for kind in kinds)
    if not least:
        yield "No request is sure."
        return
    per_second, per_endpoint = rates(settings)
    each = [_seconds(kinds, per_second, per_endpoint) for kinds in foreseen.values()]
    seconds = max(*each, sum(each) / AT_ONCE)
    mode = "live" if settings.livemode else "test"
    yield (
        f"At least {pluralize(least, 'request')}: {duration(seconds)} or more at {per_second:g} a second, "
        f"{per_endpoint:g} on each endpoint ({mode} mode)."
    )
    yield (
        f"{100 * least / READS_A_MONTH:,.4g} % of the {READS_A_MONTH:,} reads a month that Stripe allows at the least; "
        f"{pluralize(spent, 'request was', 'requests were')} made this month."
    )


def _seconds(kinds: Iterable[Foreseen], per_second: float, per_endpoint: float) -> float:
    """Return how long the limits make the requests of one Stripe account last."""
    by_endpoint: dict[str, int] = {}
    for kind in kinds:
        by_endpoint[kind.endpoint] = by_endpoint.get(kind.endpoint, 0) + kind.count
    return max(sum(by_endpoint.values()) / per_second, max(by_endpoint.values(), default=0) / per_endpoint)
