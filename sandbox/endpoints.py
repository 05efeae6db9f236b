"""The endpoints: from a world and a query to what Stripe answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

from fincon.sandbox import connect, objects
from fincon.sandbox.events import PREFIX, TYPES, Key
from fincon.sandbox.evolution import ABSENT, LISTED
from fincon.sandbox.faults import ERRORS
from fincon.sandbox.model import Json, Session
from fincon.sandbox.query import PAGING, ApiError, Query, missing, times
from fincon.sandbox.transactions import SHIFT
from fincon.sandbox.world import World

HOLDERS = ("customer", "account", "customer_account")
EXPANDS = ("account_holder.customer", "account_holder.account", "ownership")
ROOT = "/v1/financial_connections"
MAX_EVENT_TYPES = 20


class Endpoint(NamedTuple):
    """An endpoint: `pattern` names it in counts, `permission` is what a restricted key needs."""

    pattern: str
    permission: str
    params: frozenset[str]
    answer: Callable[[World, Query, str, str], Json]  # by world, query, id, path

    @property
    def regex(self) -> re.Pattern[str]:
        """What a path must look like to be this endpoint's."""
        return re.compile(self.pattern.replace("{id}", "(?P<id>[^/]+)"))


def _list(data: list[Json], more: bool, url: str) -> Json:
    return {"object": "list", "data": data, "has_more": more, "url": url}


def _session(world: World, session_id: str, param: str, status: int) -> Session:
    session = world.session(session_id)
    if session is None:
        raise missing("financial_connections.session", session_id, param, status)
    return session


def _index(world: World, account_id: str, param: str, status: int) -> int:
    """Find an account that can still be read: of one that was deleted nothing but that is left."""
    index = world.account_index(account_id)
    if index is None or world.presence(index) != LISTED:
        raise missing("financial_connections.account", account_id, param, status)
    return index


def get_session(world: World, query: Query, id_: str, path: str) -> Json:
    """Retrieve a session."""
    inner = tuple(f"accounts.data.{name}" for name in EXPANDS)
    expand = query.expand((*EXPANDS[:2], *inner))
    return world.session_json(_session(world, id_, "session", 404), expand)


def get_account(world: World, query: Query, id_: str, path: str) -> Json:
    """Retrieve an account."""
    expand = query.expand(EXPANDS)
    index = world.account_index(id_)
    if index is None or world.presence(index) == ABSENT:
        raise missing("financial_connections.account", id_, "account", 404)
    return world.account_json(index, expand)


class _Newest:
    """The places of all accounts in a list, newest first, without making that list."""

    def __init__(self, world: World) -> None:
        self.world = world

    def get(self, account_id: str) -> int | None:
        index = self.world.account_index(account_id)
        return None if index is None else self.world.account_count - 1 - index


def list_accounts(world: World, query: Query, id_: str, path: str) -> Json:
    """List accounts: all, or those of a session or of a holder."""
    refused = ("ownership",) if world.evolution.refuses_ownership else ()
    expand = query.expand([name for name in EXPANDS if name not in refused], "data.")
    chosen = _chosen(world, query)
    if chosen is None and world.evolution.leaving:
        chosen = world.listed
    what = "financial_connections.account"
    if chosen is None:
        places, more = query.page(_Newest(world), world.account_count, what)
        indexes: Sequence[int] = [world.account_count - 1 - place for place in places]
    else:
        by_id = {world.account_id(index): place for place, index in enumerate(chosen)}
        places, more = query.page(by_id, len(chosen), what)
        indexes = chosen[places.start : places.stop]
    return _list([world.account_json(index, expand) for index in indexes], more, path)


def _chosen(world: World, query: Query) -> list[int] | None:
    """Find the accounts of the session or the holder that the query names; None if it names neither."""
    holders = [kind for kind in HOLDERS if query.get(f"account_holder[{kind}]")]
    session = query.get("session")
    if len(holders) + (session is not None) > 1:
        raise ApiError(400, "You may only specify one of these parameters: account_holder, session.")
    if session is not None:
        return _session(world, session, "session", 400).accounts
    if not holders:
        return None
    name = query.required(f"account_holder[{holders[0]}]")
    found = world.holder_accounts(holders[0], name)
    if found is None:
        raise missing(holders[0], name, f"account_holder[{holders[0]}]")
    return found


def list_owners(world: World, query: Query, id_: str, path: str) -> Json:
    """List the owners of an account."""
    index = _index(world, id_, "account", 404)
    ownership = query.required("ownership")
    if ownership != world.things.ids.ownership(id_):
        raise missing("financial_connections.account_ownership", ownership, "ownership")
    owners = world.owners(index)
    places, more = query.page(
        {owner.id: place for place, owner in enumerate(owners)},
        len(owners),
        "financial_connections.account_owner",
    )
    return _list([objects.owner(owners[place]) for place in places], more, path)


def list_transactions(world: World, query: Query, id_: str, path: str) -> Json:
    """List the transactions of an account."""
    index = _index(world, query.required("account"), "account", 400)
    refused = world.refusal(index)
    if refused:
        status, error = ERRORS[refused]
        raise ApiError(status, **error)
    first, last = query.times("transacted_at")
    since = -1
    after = query.get("transaction_refresh[after]")
    if after is not None:
        number = world.things.ids.transaction_refresh.decode(after)
        if number is None or number >> 20 != index:
            raise missing("financial_connections.transaction_refresh", after, "transaction_refresh[after]")
        since = (number & (1 << 20) - 1) + 1
    found = [
        one
        for one in world.transactions(index)
        if first <= one.transacted_at <= last and one.updated >= since * 86_400
    ]
    by_id = {one.id: place for place, one in enumerate(found)}
    places, more = query.page(by_id, len(found), "financial_connections.transaction")
    return _list([objects.transaction(found[place]) for place in places], more, path)


def get_transaction(world: World, query: Query, id_: str, path: str) -> Json:
    """Retrieve a transaction."""
    query.expand(())
    number = world.things.ids.transaction.decode(id_)
    index = None if number is None else (number >> SHIFT) // 4
    if index is not None and index < world.account_count and world.presence(index) == LISTED:
        for one in world.transactions(index):
            if one.id == id_:
                return objects.transaction(one)
    raise missing("financial_connections.transaction", id_, "transaction", 404)


def get_event(world: World, query: Query, id_: str, path: str) -> Json:
    """Retrieve an event."""
    query.expand(())
    key = world.events.key(id_)
    if key is None:
        raise missing("event", id_, "id", 404)
    return world.event_json(key)


def list_events(world: World, query: Query, id_: str, path: str) -> Json:
    """List the events of the last thirty days."""
    limit, types = query.limit(), _types(query)
    first, last = query.times("created")
    after, before = query.cursors()
    events, cursor = world.events, None
    if after or before:
        cursor = events.key(after or before or "")
        if cursor is None:
            raise missing("event", after or before or "", "starting_after" if after else "ending_before")
    first = max(first, cursor.time) if cursor and before else first
    last = min(last, cursor.time) if cursor and after else last
    walk = events.walk(first, last, types, newest_first=before is None)
    beyond = (key for key in walk if cursor is None or (key < cursor if after else key > cursor))
    keys: list[Key] = list(islice(beyond, limit + 1))
    page = keys[:limit] if before is None else keys[:limit][::-1]
    return _list([world.event_json(key) for key in page], len(keys) > limit, path)


def list_connected(world: World, query: Query, id_: str, path: str) -> Json:
    """List the connected accounts of a platform."""
    first, last = query.times("created")
    numbers = [
        number
        for number in reversed(range(world.connected))
        if first <= connect.OLDEST + number * connect.APART <= last
    ]
    data = [connect.account(world, number) for number in numbers]
    places, more = query.page({one["id"]: place for place, one in enumerate(data)}, len(data), "account")
    return _list(data[places.start : places.stop], more, path)


def _types(query: Query) -> list[int]:
    """Find which types of events are asked for; types that never happen here are let through."""
    names = query.lists.get("types", [])
    if len(names) > MAX_EVENT_TYPES or (names and query.get("type")):
        raise ApiError(400, "You may pass up to 20 types, and not `type` as well.", param="types")
    one = query.get("type")
    if one:
        names = [one]
    if not names:
        return list(range(len(TYPES)))
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    return [
        number
        for number, name in enumerate(TYPES)
        if PREFIX + name in names or (prefixes and (PREFIX + name).startswith(prefixes))
    ]


def _params(*names: str) -> frozenset[str]:
    return frozenset((*PAGING, *names))


OWNERS = Endpoint(
    f"{ROOT}/accounts/{{id}}/owners", "financial_connections.owners", _params("ownership"), list_owners
)
ENDPOINTS = (
    Endpoint(f"{ROOT}/sessions/{{id}}", "financial_connections.sessions", frozenset({"expand"}), get_session),
    Endpoint(
        f"{ROOT}/accounts",
        "financial_connections.accounts",
        _params("session", *(f"account_holder[{kind}]" for kind in HOLDERS)),
        list_accounts,
    ),
    Endpoint(f"{ROOT}/accounts/{{id}}", "financial_connections.accounts", frozenset({"expand"}), get_account),
    OWNERS,
    Endpoint(
        f"{ROOT}/transactions",
        "financial_connections.transactions",
        _params("account", "transaction_refresh[after]", *times("transacted_at")),
        list_transactions,
    ),
    Endpoint(
        f"{ROOT}/transactions/{{id}}",
        "financial_connections.transactions",
        frozenset({"expand"}),
        get_transaction,
    ),
    Endpoint("/v1/accounts", "accounts_kyc_basic", _params(*times("created")), list_connected),
    Endpoint("/v1/events", "events", _params("type", "types", *times("created")), list_events),
    Endpoint("/v1/events/{id}", "events", frozenset({"expand"}), get_event),
)
REGEXES = [(endpoint.regex, endpoint) for endpoint in ENDPOINTS]


def match(path: str) -> tuple[Endpoint, str] | None:
    """Give the endpoint of a path, and the id in it ("" if there is none)."""
    for regex, endpoint in REGEXES:
        found = regex.fullmatch(path)
        if found:
            return endpoint, found.groupdict().get("id", "")
    return None
