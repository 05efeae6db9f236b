"""Events → the accounts that they show, each as of its event's time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from fincon.transforms.decode import raw_items
from fincon.transforms.event_times import own_time
from fincon.transforms.page import Page
from fincon.transforms.parsed_objects import ParsedObjects
from fincon.transforms.rejects import unreadable
from fincon.transforms.schemas import ACCOUNTS
from fincon.transforms.stripe_objects import Event

_EVENT = msgspec.json.Decoder(Event)

_ATTRIBUTES = {
    c.name: c.source.split(".")[1:] for c in ACCOUNTS.own_columns if c.source.startswith("account.")
}
"""Column of accounts → the path of its attribute."""

_REFRESHES = {"balance_refresh": ["balance_refresh"], "ownership_refresh": ["ownership_refresh"],
              "transaction_refresh": ["transaction_refresh"]}  # fmt: skip


def read_events(parsed: ParsedObjects, pages: Sequence[Page]) -> None:
    """Read the account of each event, as of the event's time.

    Stripe renders an event in the version that it names, whatever version was asked for. An attribute that another version
    leaves away says nothing of its value. And no event says whether its account is still listed.
    """
    for header, body in pages:
        for raw in raw_items(body):
            try:
                event = _EVENT.decode(raw)
            except msgspec.DecodeError as error:
                parsed.rejects.append(unreadable("event", raw, str(error), header.observed_at))
                continue
            at = header.event_times.get(event.id) or own_time(event.id, event.created)
            if parsed.read(parsed.accounts, event.data.object, at):
                silent = ["absent_since"]
                if event.api_version != parsed.stripe_version:
                    silent += _left_away(msgspec.json.decode(event.data.object))
                    silent += [] if parsed.accounts.extra[-1] else ["extra"]
                parsed.events[len(parsed.accounts.objects) - 1] = (event.id, silent)


def accounts_of_events(body: bytes) -> Iterator[msgspec.Raw]:
    """Yield the account, as it was sent, of each event on a page that has one."""
    for raw in raw_items(body):
        try:
            yield _EVENT.decode(raw).data.object
        except msgspec.DecodeError:
            continue  # it lands in rejects


def _left_away(account: Mapping[str, Any]) -> list[str]:
    """List the columns, and the refreshes, whose attribute is not there: nor null, which would say something."""
    return [name for name, path in {**_ATTRIBUTES, **_REFRESHES}.items() if _is_left_away(account, path)]


def _is_left_away(found: Any, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(found, dict):
            return False
        if name not in found:
            return True
        found = found[name]
    return False
