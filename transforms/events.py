"""Events → the accounts and authorizations that they show, each as of its event's time."""

from collections.abc import Iterator, Sequence

import msgspec

from fincon.transforms.decode import OBJECT, first_byte, raw_items
from fincon.transforms.event_times import is_ahead, own_time
from fincon.transforms.page import Page
from fincon.transforms.parsed_objects import ParsedObjects
from fincon.transforms.rejects import unreadable
from fincon.transforms.schemas import ACCOUNTS, AUTHORIZATIONS, Table
from fincon.transforms.stripe_objects import Event

_EVENT = msgspec.json.Decoder(Event)

PREFIX = "financial_connections."


class _Created(msgspec.Struct):
    id: str
    created: int


class _Kind(msgspec.Struct):
    object: str = ""


_CREATED = msgspec.json.Decoder(_Created)


def _paths(table: Table, root: str) -> dict[str, list[str]]:
    return {c.name: c.source.split(".")[1:] for c in table.own_columns if c.source.startswith(f"{root}.")}


_REFRESHES = {"balance_refresh": ["balance_refresh"], "ownership_refresh": ["ownership_refresh"],
              "transaction_refresh": ["transaction_refresh"]}  # fmt: skip

_ATTRIBUTES = {
    "account": {**_paths(ACCOUNTS, "account"), **_REFRESHES},
    "authorization": _paths(AUTHORIZATIONS, "authorization"),
}
"""Kind of object → its columns, and the refreshes, each with the path of the attribute."""


AHEAD = "It says that it happened later than it was told of - at `$.created`"
"""Why an event is rejected that would outlast whatever is seen until then."""


def read_events(parsed: ParsedObjects, pages: Sequence[Page]) -> None:
    """Read the object of each event, as of the event's time.

    Stripe renders an event in the version that it names, whatever version was asked for. An attribute that another version
    leaves away says nothing of its value. And no event says whether its account is still listed.
    """
    for header, body in pages:
        for raw in raw_items(body):
            try:
                event = _EVENT.decode(raw)
                kind = kind_of(event)
            except msgspec.DecodeError as error:
                parsed.rejects.append(unreadable("event", raw, str(error), header.observed_at))
                continue
            if is_ahead(event.created, header.answered_at):
                parsed.rejects.append(unreadable("event", raw, AHEAD, header.observed_at))
                continue
            at = header.event_times.get(event.id) or own_time(event.id, event.created)
            if kind == "account" and parsed.read(parsed.accounts, event.data.object, at):
                silent = ["absent_since", *_left_away(event, kind, parsed.accounts.extra[-1], parsed)]
                parsed.events[len(parsed.accounts.objects) - 1] = (event.id, silent)
            elif kind == "authorization" and parsed.read(parsed.authorizations, event.data.object, at):
                silent = _left_away(event, kind, parsed.authorizations.extra[-1], parsed)
                parsed.authorization_events.append((event.id, silent or None))


def accounts_of_events(body: bytes) -> Iterator[tuple[Event, msgspec.Raw]]:
    """Yield each event on a page that has an account, and that as it was sent."""
    for raw in raw_items(body):
        try:
            event = _EVENT.decode(raw)
            if kind_of(event) == "account":
                yield event, event.data.object
        except msgspec.DecodeError:
            continue  # it lands in rejects


def created_accounts_of_events(body: bytes) -> list[tuple[int, str]]:
    """Return (created, id) of the accounts that a page of events shows, where both can be read."""
    found = []
    for _, raw in accounts_of_events(body):
        try:
            account = _CREATED.decode(raw)
        except msgspec.DecodeError:
            continue
        found.append((account.created, account.id))
    return found


def kind_of(event: Event) -> str:
    """Return what an event's object is, as the object says it, or else the event's type: a key of `_ATTRIBUTES`.

    Raises:
        msgspec.ValidationError: it is something else; an object that resembles an account is none for that.
    """
    said = msgspec.json.decode(event.data.object, type=_Kind).object
    said = said or bytes(event.type).decode().strip('"').rpartition(".")[0]
    kind = said.removeprefix(PREFIX) or "account"
    if kind not in _ATTRIBUTES:
        raise msgspec.ValidationError(f"An event of what fincon does not read: {said!r} - at `$.data.object`")
    return kind


def _left_away(event: Event, kind: str, extra: str | None, parsed: ParsedObjects) -> list[str]:
    """List the columns, and the refreshes, whose attribute is not there: nor null, which would say something."""
    if event.api_version == parsed.stripe_version:
        return []
    away = [name for name, path in _ATTRIBUTES[kind].items() if _is_left_away(event.data.object, path)]
    return away if extra else [*away, "extra"]


def _is_left_away(raw: msgspec.Raw, path: Sequence[str]) -> bool:
    for name in path:
        if first_byte(raw) != b"{":
            return False
        attributes = OBJECT.decode(raw)  # no value is read: a number may be beyond what can be
        if name not in attributes:
            return True
        raw = attributes[name]
    return False
