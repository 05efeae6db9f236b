"""Find accounts at which a first listing can be divided: those that Stripe's events of the last thirty days name.

Events name accounts of any age, for whatever was refreshed has one, and say when each was created; so three requests, on
a limit of their own, give places all over a list of which nothing is known yet. Nothing rests on them: an account that is
gone begins no range (`fincon.extract.ranges`), and where no event can be read the list is walked as one chain.
"""

from fincon.errors import InvalidKey, StripeError
from fincon.extract.client import LOG, Params, StripeClient
from fincon.extract.events import EVENTS, TYPES
from fincon.extract.pagination import ListEndpoint, fetch_page
from fincon.transforms.events import created_accounts_of_events

DAY = 86_400
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
