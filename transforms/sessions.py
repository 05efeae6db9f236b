"""A session's pages → rows of sessions, of the accounts each collected, and of those accounts."""

from collections.abc import Sequence

import msgspec

from fincon.transforms.columns import Columns, columns, holder_columns
from fincon.transforms.decode import OBJECT, raw_items
from fincon.transforms.list_page import SESSION_LIST
from fincon.transforms.odd_json import is_marked
from fincon.transforms.page import ERASED, Page
from fincon.transforms.parsed_objects import ParsedObjects
from fincon.transforms.rejects import refused
from fincon.transforms.schemas import SESSION_ACCOUNTS, SESSIONS
from fincon.transforms.stripe_objects import Filters

_NO_FILTERS = Filters()


def read_sessions(parsed: ParsedObjects, chain: Sequence[Page]) -> None:
    """Read a session's own page, then the rest of its accounts; or the answer that it is not there."""
    first, *rest = chain
    at = first.header.observed_at
    if first.header.status == ERASED:
        return
    if first.header.status != 200:
        parsed.rejects.append(refused("session", first.header))
        return
    own = _without_accounts(first.body) if is_marked(first.body) else first.body
    session = parsed.read(parsed.sessions, msgspec.Raw(own), at)
    ids = [account_id for page in [first, *rest] for account_id in _read_accounts(parsed, page)]
    if session:
        parsed.session_account_ids.append(_each_once(ids))


def _without_accounts(body: bytes) -> bytes:
    """Return a session whose list of accounts is empty: what is odd about one of them is not so about the session."""
    try:
        session = OBJECT.decode(body)
        accounts = {**OBJECT.decode(session["accounts"]), "data": []}
    except (msgspec.DecodeError, KeyError):
        return body  # it cannot be read for another reason too
    return msgspec.json.encode({**session, "accounts": accounts})


def _read_accounts(parsed: ParsedObjects, page: Page) -> list[str | None]:
    """Read the accounts of any page of a session's chain, the list that it is or the one inside a session; their ids."""
    try:
        own = page.header.number == 0
        raws = SESSION_LIST.decode(page.body).accounts.data if own else raw_items(page.body)
    except msgspec.DecodeError:
        return []  # a session without a list of accounts: all there is of it is in rejects
    return parsed.read_each(parsed.accounts, raws, page.header.observed_at)


def _each_once(ids: Sequence[str | None]) -> list[str]:
    """The ids in order, one that came twice (a cursor was gone) at its first place; the unreadable as ``""``."""
    first_place = {account_id: place for place, account_id in reversed([*enumerate(ids)])}
    return [i or "" for place, i in enumerate(ids) if not i or first_place[i] == place]


def _places(ids: Sequence[str]) -> list[tuple[int, str] | tuple[None, None]]:
    """List (position, account); of a session without an account nothing twice, which says so: it may have had some."""
    return [(position, account_id) for position, account_id in enumerate(ids) if account_id] or [(None, None)]


def _countries(filters: Filters) -> list[str] | None:
    """The countries in whichever of two forms they came; both stand together, should both be there."""
    named = filters.countries or []
    if filters.country is not None:
        return [*named, *({filters.country} - {*named})]
    return filters.countries


def session_tables(parsed: ParsedObjects) -> dict[str, Columns]:
    """The columns of ``sessions`` and ``session_accounts``."""
    sessions = parsed.sessions.objects
    filters = [s.filters or _NO_FILTERS for s in sessions]
    links: list[tuple[str, str | None, int | None, int]] = [
        (session.id, account_id, position, at)
        for session, ids, at in zip(
            sessions, parsed.session_account_ids, parsed.sessions.observed_at, strict=True
        )
        for position, account_id in _places(ids)
    ]
    return {
        SESSIONS.name: {
            "session_id": [s.id for s in sessions],
            **holder_columns(s.account_holder for s in sessions),
            "filter_account_subcategories": [f.account_subcategories for f in filters],
            "filter_countries": [_countries(f) for f in filters],
            "filter_require_payment_method_support": [f.require_payment_method_support for f in filters],
            "limit_accounts": [s.limits and s.limits.accounts for s in sessions],
            "manual_entry_mode": [s.manual_entry and s.manual_entry.mode for s in sessions],
            "permissions": [s.permissions for s in sessions],
            "prefetch": [s.prefetch for s in sessions],
            "return_url": [s.return_url for s in sessions],
            "livemode": [s.livemode for s in sessions],
            "account_count": [len(ids) for ids in parsed.session_account_ids],
            "extra": parsed.sessions.extra,
            "observed_at": parsed.sessions.observed_at,
        },
        SESSION_ACCOUNTS.name: columns(("session_id", "account_id", "position", "observed_at"), links),
    }
