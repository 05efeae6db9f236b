"""How Stripe and its accounts move on, as far as a world is told to: `World()` itself does none of it.

Everything is a pure function of an account's index and the time, as the rest of the world is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fincon.sandbox.ids import mix
from fincon.sandbox.model import Json
from fincon.sandbox.timeline import BASE, DAY

OLD, DAHLIA, ENDIVE = "2022-11-15", "2026-06-24.dahlia", "2026-10-28.endive"

SINCE = {
    "institution_name": "2021-06-01",  # required today: who renders before it cannot be read
    "subscriptions": "2023-08-16",
    "account_numbers": "2025-10-29",
    "status_details": "2025-10-29",
}
"""From which version on an account has an attribute. The dates are made up: no reference tells them."""

WITHIN = 20 * DAY
"""What ends, ends for the first time within so long after the base time."""

LISTED, DELETED, ABSENT = "listed", "deleted", "absent"


def is_endive(version: str) -> bool:
    """Whether a version renders sessions as endive does."""
    return version[:10] >= ENDIVE[:10]


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """What moves on; each is off unless it is set."""

    default_version: str = ENDIVE
    """The Stripe account's own version: of its events, and of answers to requests that name none."""
    every_event: bool = False
    """Whether all fourteen types of events are sent, and `refreshed_*` on failure too."""
    leaving: int = 0
    """Of 100 accounts, how many the list loses: for good, for days, or with a time as `"deleted": true`."""
    ending: int = 0
    """Of 100 refreshes, how many become null."""
    grows_at: datetime | None = None
    """From when on every object has an attribute that no reference names."""
    bank_account_tokens: bool = False
    """Whether sessions have `bank_account_token`, under the versions that know it."""
    refuses_unreadable: bool = False
    """Whether transactions of an account that is inactive, or was never refreshed, are refused with Stripe's codes."""
    refuses_ownership: bool = False
    """Whether the list of accounts refuses `expand[]=data.ownership`."""
    inline_owners: int = 10
    """How many owners an expanded ownership shows; the rest are on further pages."""

    def presence(self, index: int, created: int, time: int) -> str:
        """Tell whether an account is in lists at a time, is shown there as deleted, or is in none."""
        dice = mix(index ^ 0x1EA5E)
        since = time - self._first(dice, created)
        if dice % 100 >= self.leaving or since < 0:
            return LISTED
        kind = dice >> 8 & 3
        if kind == 0:
            return ABSENT
        if kind == 1:
            return DELETED
        if kind == 2:
            return ABSENT if since % (9 * DAY) < 3 * DAY else LISTED
        return DELETED if since < 2 * DAY else ABSENT

    def ended(self, index: int, feature: str, created: int) -> int | None:
        """Tell when a refresh of an account becomes null; None if it never does."""
        dice = mix(index * 3 + len(feature) ^ 0xE4DED)
        return self._first(dice, created) if dice % 100 < self.ending else None

    @staticmethod
    def _first(dice: int, created: int) -> int:
        return max(BASE + (dice >> 16) % WITHIN, created + DAY)

    def grown(self, number: int, time: int) -> Json:
        """Give what no reference names about an object, at a time."""
        if self.grows_at is None or time < self.grows_at.timestamp():
            return {}
        return {"enrichment": {"rank": number % 7, "labels": ["grown", None]}}


STANDING_STILL = Evolution()
