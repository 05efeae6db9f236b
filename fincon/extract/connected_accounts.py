"""List the connected accounts of a Connect platform. Nothing of Stripe's list of them is kept but the ids."""

from fincon.extract.client import StripeClient
from fincon.extract.pagination import ListEndpoint, iterate_pages

PATH = "/v1/accounts"


def connected_accounts(stripe: StripeClient) -> list[str]:
    """Return the ids (``acct_…``) of all connected accounts, newest first.

    Raises:
        StripeError: a request failed for good, or the list does not end.
    """
    listed = ListEndpoint("connected accounts", PATH)
    return list(dict.fromkeys(i for page in iterate_pages(stripe, listed) for i in page.ids))
