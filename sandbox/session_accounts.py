"""Which session collected which accounts, and for whom: arithmetic on a repeating cycle of session sizes.

Sessions are numbered from the base time: 0 is the first one after it, -1 the last one before it.
Accounts likewise, as `index - accounts`. So the newest sessions hold the newest accounts, whatever the
sizes of the world.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from fincon.sandbox.ids import keyed, mix

# How many sessions of a cycle collect how many accounts: {accounts: sessions}. 120 sessions, 400 accounts.
SIZES = {0: 33, 1: 20, 2: 25, 3: 27, 4: 8, 10: 2, 11: 1, 14: 1, 22: 1, 30: 1, 120: 1}
RELINK_DISTANCE = 3
CYCLES_PER_SHARED_HOLDER = 3
HOLDER_ZERO = 1 << 40


class Cycle(NamedTuple):
    """One seed's order of session sizes, with the look-ups that follow from it."""

    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    position_of: tuple[int, ...]  # account within the cycle -> session within the cycle
    relinks: frozenset[int]  # sessions that collect two accounts of an earlier session again
    shared: tuple[int, ...]  # sessions whose holder comes back, cycle after cycle


@lru_cache(maxsize=64)
def cycle(seed: int) -> Cycle:
    """Give the cycle of a seed. It ends with a session that collected something."""
    sizes = [size for size, times in SIZES.items() for _ in range(times)]
    order = sorted(range(len(sizes)), key=lambda place: keyed(seed, f"cycle/{place}"))
    shuffled = [sizes[place] for place in order]
    last = max(place for place, size in enumerate(shuffled) if size == 3)
    shuffled[last], shuffled[-1] = shuffled[-1], shuffled[last]
    relinks: set[int] = set()
    taken: set[int] = set()
    for place in range(RELINK_DISTANCE, len(shuffled)):
        source = place - RELINK_DISTANCE
        if len(relinks) < 6 and 2 <= shuffled[source] <= 4 and shuffled[place] <= 4 and source not in relinks:
            relinks.add(place)
            taken |= {place, source}
    shared = [place for place, size in enumerate(shuffled) if 3 <= size <= 4 and place not in taken]
    return Cycle(
        sizes=tuple(shuffled),
        starts=tuple(accumulate(shuffled, initial=0)),
        position_of=tuple(place for place, size in enumerate(shuffled) for _ in range(size)),
        relinks=frozenset(relinks),
        shared=tuple(shared[:4]),
    )


class Membership:
    """Sessions, their accounts and their holders, for a world of given sizes."""

    def __init__(self, seed: int, accounts: int, sessions: int) -> None:
        self.accounts = accounts
        self.sessions = sessions
        self.cycle = cycle(seed)
        self.length = len(self.cycle.sizes)
        self.total = self.cycle.starts[-1]
        self.salt = keyed(seed, "membership")

    def start(self, session: int) -> int:
        """Give the index of a session's first account; negative where the world has none."""
        turn, place = divmod(session, self.length)
        return self.accounts + turn * self.total + self.cycle.starts[place]

    def session_of(self, account: int) -> int:
        """Give the session which first collected an account."""
        turn, rest = divmod(account - self.accounts, self.total)
        return turn * self.length + self.cycle.position_of[rest]

    def session_count(self, account_count: int) -> int:
        """How many sessions there are once there are so many accounts."""
        return max(0, self.session_of(account_count - 1) + self.sessions + 1) if account_count else 0

    def accounts_of(self, session: int, account_count: int) -> list[int]:
        """Give the accounts of a session, newest first: its own, then those it relinks."""
        own = self._own(session, account_count)
        if session % self.length in self.cycle.relinks:
            own += self._own(session - RELINK_DISTANCE, account_count)[-2:]
        return own

    def _own(self, session: int, account_count: int) -> list[int]:
        first = max(0, self.start(session))
        last = min(account_count, self.start(session + 1))
        return list(range(last - 1, first - 1, -1))

    def holder_of(self, session: int) -> tuple[str, int] | None:
        """Give the holder of a session's accounts: its kind and number; None for the few that have none."""
        turn, place = divmod(session, self.length)
        if place in self.cycle.shared:
            return "customer", 2 * (turn // CYCLES_PER_SHARED_HOLDER + HOLDER_ZERO) + 1
        if place in self.cycle.relinks:
            session -= RELINK_DISTANCE
        dice = mix(session ^ self.salt) % 100
        number = 2 * (session + HOLDER_ZERO)
        if dice < 78:
            return "customer", number
        if dice < 88:
            return "account", number
        return ("customer_account", number) if dice < 97 else None

    def holder_accounts(self, kind: str, number: int, account_count: int) -> list[int]:
        """Every account of a holder, newest first."""
        base, is_shared = divmod(number, 2)
        base -= HOLDER_ZERO
        if is_shared:
            turns = range(base * CYCLES_PER_SHARED_HOLDER, (base + 1) * CYCLES_PER_SHARED_HOLDER)
            sessions = [turn * self.length + place for turn in turns for place in self.cycle.shared]
        else:
            sessions = [base, base + RELINK_DISTANCE]
        found = [session for session in sessions if self.holder_of(session) == (kind, number)]
        indexes = [index for session in found for index in self._own(session, account_count)]
        return sorted(indexes, reverse=True)
