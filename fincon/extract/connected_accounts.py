"""The connected accounts of a Connect platform, from its own list of them. Nothing of it is kept but the ids."""

from fincon.errors import CursorNotFound, StripeError
from fincon.extract.client import Params, StripeClient
from fincon.extract.pagination import CURSORS_TRIED, PAGE_SIZE, parse_list_page
from fincon.transforms.stripe_objects import ListPage

PATH = "/v1/accounts"


def connected_accounts(stripe: StripeClient) -> list[str]:
    """The ids (``acct_…``) of all connected accounts, newest first.

    Raises:
        StripeError: a request failed for good, or the list does not end.
    """
    page = _after(stripe, "", set())
    found = dict.fromkeys(page.ids)
    cursors: set[str | None] = set()
    while page.has_more:
        cursors.add(page.ids[-1])
        page = _after_any(stripe, page.ids[-CURSORS_TRIED:], cursors)
        found |= dict.fromkeys(page.ids)
    return list(found)


def _after_any(stripe: StripeClient, ids: list[str], cursors: set[str | None]) -> ListPage:
    """The page after the last of ``ids`` that is still connected."""
    for cursor in reversed(ids):
        try:
            return _after(stripe, cursor, cursors)
        except CursorNotFound:
            continue
    raise StripeError(
        f"The list of connected accounts cannot go on: Stripe knows none of the {len(ids)} before the next page.",
        "Run the same command again.",
    )


def _after(stripe: StripeClient, cursor: str, cursors: set[str | None]) -> ListPage:
    params: Params = {"limit": PAGE_SIZE, **({"starting_after": cursor} if cursor else {})}
    return stripe.get(
        "connected accounts", PATH, lambda body: parse_list_page(body, cursors=cursors), params
    )[1]
