"""Events → the accounts that they show, each as of its event's time."""

from collections.abc import Sequence

import msgspec

from fincon.transforms.decode import RAW_LIST
from fincon.transforms.page import Page
from fincon.transforms.parsed_objects import ParsedObjects
from fincon.transforms.rejects import object_id, unreadable
from fincon.transforms.stripe_objects import Event

EVENTS_COUNT_AS = 900_000
"""Microseconds within its second at which an event counts as having happened."""

_EVENT = msgspec.json.Decoder(Event)


def read_events(parsed: ParsedObjects, pages: Sequence[Page]) -> None:
    """Read the account of each event, oldest first, as of the event's time.

    Stripe tells that time in whole seconds. An event counts as late in its second, after anything that was listed
    then, and events of one account and second follow each other by a microsecond.
    """
    turns: dict[tuple[str | None, int], int] = {}
    for page in sorted(pages, key=lambda page: -page.header.number):
        for raw in reversed(RAW_LIST.decode(page.body).data):
            try:
                event = _EVENT.decode(raw)
            except msgspec.DecodeError as error:
                parsed.rejects.append(unreadable("event", raw, str(error), page.header.observed_at))
                continue
            second = event.created * 1_000_000 + EVENTS_COUNT_AS
            account_id = object_id(event.data.object)
            turn = turns.get((account_id, second), 0)
            turns[account_id, second] = turn + 1
            parsed.read(parsed.accounts, event.data.object, second + turn)
