"""Events that Stripe sends: what is kept of one, and which of those that came may be loaded without asking Stripe.

A webhook says when its event was, by the second, and nothing of the order of two events of one second. The list of events
does; so two of one account and second are left to it.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from fincon.transforms.event_times import SECOND, EventOf, account_number, is_ahead, own_time
from fincon.transforms.streams import EVENTS_OVERLAP

THIN = "v2.core.event"
"""What a thin event says that it is: it names an account and does not show it."""

_ACCOUNT = "financial_connections.account"


class Webhook(NamedTuple):
    """An event as it is kept until it is loaded."""

    event_id: str
    type: str
    stripe_account: str
    """``acct_…`` where it is of a connected account; else empty."""
    livemode: bool | None
    raw: bytes
    """As it would stand on a page of events; of a thin one its account in the place of what an event shows."""
    is_thin: bool = False
    """Whether it names an account and does not show it."""


class _Related(msgspec.Struct):
    id: str
    type: str = ""


class _Sent(msgspec.Struct):
    id: str
    type: str
    object: str = ""
    account: str | None = None
    context: str | None = None
    livemode: bool | None = None
    related_object: msgspec.Raw = msgspec.Raw(b"null")


class _Thin(msgspec.Struct):
    created: datetime | int
    related_object: _Related


_SENT, _THIN = msgspec.json.Decoder(_Sent), msgspec.json.Decoder(_Thin)


def parse_webhook(body: bytes) -> Webhook:
    """Read the body of a webhook. A thin event that names no account has an empty ``type``: nobody asks for it.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is no event.
    """
    body.decode()  # msgspec looks at no text that it passes over
    sent = _SENT.decode(body)
    if not sent.id or not sent.id.isprintable():
        raise msgspec.ValidationError("An event without an id")
    if not sent.object.startswith("v2."):
        return Webhook(sent.id, sent.type, sent.account or "", sent.livemode, body)
    whose = (sent.context or "").rpartition("/")[2]  # an organization's context is a path
    if bytes(sent.related_object) == b"null":
        return Webhook(sent.id, "", whose, sent.livemode, b"", is_thin=True)
    thin = _THIN.decode(body)
    created, related = thin.created, thin.related_object
    if isinstance(created, datetime):
        created = int((created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp())
    kept = {
        "id": sent.id,
        "object": THIN,
        "type": sent.type,
        "created": created,
        "livemode": sent.livemode,
        "account": whose or None,
        "data": {"object": {"id": related.id, "object": _ACCOUNT}},
    }
    kind = sent.type if related.type == _ACCOUNT or related.id.startswith("fca_") else ""
    return Webhook(sent.id, kind, whose, sent.livemode, msgspec.json.encode(kept), is_thin=True)


class _Object(msgspec.Struct):
    id: str


class _Data(msgspec.Struct):
    object: _Object


class _Kept(msgspec.Struct):
    id: str
    created: int
    data: _Data
    object: str = ""


_KEPT = msgspec.json.Decoder(_Kept)


class Sorted(NamedTuple):
    """What becomes of events that came."""

    fresh: list[tuple[msgspec.Raw, int | None]]
    """Those that may be loaded, each with its time in microseconds; None where it cannot be read so far."""
    accounts: list[str]
    """The accounts that thin events name, which are to be fetched."""
    undecided: set[str]
    """The ids of those that only the list of events can put in order."""


def sort_webhooks(
    events: Iterable[tuple[str, msgspec.Raw]],
    known: Mapping[int, Mapping[str, int]],
    since: int | None,
    now: int,
) -> Sorted:
    """Tell what is to become of ``events`` (id and content) of one Stripe account; what is known already is left out.

    ``known`` is as `EventTimes` takes it. ``since`` is up to when (microseconds) all that happened is in: what was a good
    while before was read, or is not asked for. None where nothing is: then no event can be placed. ``now`` is in microseconds:
    whether an event of later has happened, only the list can tell, for its answer has a date.
    """
    found = Sorted([], [], set())
    placed: dict[tuple[str, int], dict[str, msgspec.Raw]] = {}
    horizon = (since or 0) // SECOND - int(EVENTS_OVERLAP.total_seconds())
    for event_id, raw in events:
        if since is None:
            found.undecided.add(event_id)
            continue
        try:
            event = _KEPT.decode(raw)
        except msgspec.DecodeError:
            found.fresh.append((raw, None))
            continue
        if event.created < horizon:
            continue
        if event.object == THIN:
            found.accounts.append(event.data.object.id)
        elif is_ahead(event.created, now) and event_id not in known.get(
            account_number(event.data.object.id), {}
        ):
            found.undecided.add(event_id)
        else:
            placed.setdefault((event.data.object.id, event.created), {})[event_id] = raw
    for (object_id, created), of_second in placed.items():
        of_object = known.get(account_number(object_id), {})
        unknown = of_second.keys() - of_object.keys()
        others = [one for one, at in of_object.items() if at // SECOND == created]
        if len(unknown) + len(others) > 1:
            found.undecided.update(unknown)
        else:
            found.fresh.extend((of_second[one], own_time(one, created)) for one in unknown)
    found.accounts[:] = dict.fromkeys(found.accounts)
    return found


def with_events(
    known: Mapping[int, Mapping[str, int]], events: Iterable[EventOf], times: Mapping[str, int]
) -> dict[int, dict[str, int]]:
    """Return ``known`` with the times of further events."""
    more = {account: dict(of_account) for account, of_account in known.items()}
    for event in events:
        if event.event_id in times:
            more.setdefault(account_number(event.account_id), {})[event.event_id] = times[event.event_id]
    return more
