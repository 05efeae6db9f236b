"""Find accounts at which a first listing can be divided: those that Stripe's events of the last thirty days name.

Events name accounts of any age, for whatever was refreshed has one, and say when each was created; so three requests, on
a limit of their own, give places all over a list of which nothing is known yet. Nothing rests on them: an account that is
gone begins no range (`fincon.extract.ranges`), and where no event can be read the list is walked as one chain.
"""

from collections.abc import Sequence
from itertools import chain

from fincon.errors import InvalidKey, StripeError
from fincon.extract.client import LOG, Params, StripeClient
from fincon.extract.events import EVENTS, TYPES
from fincon.extract.pagination import ListEndpoint, fetch_page
from fincon.transforms.events import created_accounts_of_events
from fincon.transforms.list_page import ListPage

DAY = 86_400
NO_TIME = 2**40
"""What says that it was created so late (Unix seconds) says nothing."""

WINDOWS = (0, 10 * DAY, 20 * DAY)
"""How many seconds ago the newest event of each request may be: so that a busy hour does not name the same accounts thrice."""


def named_by_events(stripe: StripeClient, until: int) -> list[tuple[int, str]]:
    """Return (created, id) of the accounts on the newest page of events until ``until`` (Unix seconds).

    Empty where the page cannot be read, whatever the reason.

    Raises:
        InvalidKey: Stripe does not take the key; nothing else can be asked either.
    """
    query: Params = {"types[]": TYPES, "created[lte]": until}
    try:
        answer, _ = fetch_page(stripe, ListEndpoint(EVENTS.endpoint, EVENTS.path, query))
    except InvalidKey:
        raise
    except StripeError as error:
        LOG.info("the first listing is one chain: no event names accounts at which to divide it (%s)", error)
        return []
    return created_accounts_of_events(answer.body)


def places_of(named: Sequence[tuple[int, str]], pages: Sequence[ListPage]) -> list[float]:
    """Return behind how many pages of a list accounts stand, and then how many pages there are.

    ``named`` are (created, id), newest first. It goes by when they were created, at the pace of the first ``pages``; where that
    makes fewer than to judge by how many of them stand on those, by that.
    """
    if not named:
        return [0.0]
    ids = set(chain.from_iterable(page.ids for page in pages))
    on_pages = sum(account_id in ids for _, account_id in named)
    fewest = len(named) * len(pages) / max(on_pages, len(pages))
    created = [[at for at in page.created if 0 < at < NO_TIME] for page in pages]
    dated = [times for times in created if times]
    newest, oldest = max(map(max, dated), default=0), min(map(min, dated), default=0)
    if oldest in (newest, 0) or named[-1][0] >= newest:  # made in one second, as by an import
        return [fewest * number / len(named) for number in range(len(named) + 1)]
    # One that says that it is of before 1970, or of later than now, is at an end of the list.
    places = [len(dated) * (newest - min(max(at, 0), newest)) / (newest - oldest) for at, _ in named]
    places.append(places[-1] * (1 + 1 / len(named)))
    scale = max(1.0, fewest / places[-1])
    return [place * scale for place in places]
