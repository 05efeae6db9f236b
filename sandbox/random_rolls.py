"""Every account's dice: one digest of its index, whose bytes are read as named rolls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from fincon.sandbox.ids import keyed

UNPACK = Struct("<30H4B").unpack
HUGE = 1 << 16  # a roll that 16 bits never give: this account's balance is beyond what a double holds
HUGE_EVERY = 500  # accounts, of which one has such a balance
HUGE_BEFORE = 8  # and the first of them is among so many, so that a small world has one


class Rolls(NamedTuple):
    """The dice of an account, named by what they decide: 16 bits each, the last four 8."""

    created: int
    breaks: int
    institution: int
    balance: int
    ownership: int
    transaction: int
    salary: int
    rent: int
    spending: int
    hold: int
    category: int
    currency: int
    more: int
    base: int
    size: int
    available: int
    shape: int
    name: int
    last4: int
    permissions: int
    subscriptions: int
    numbers: int
    notice: int
    unknown: int
    variant: int
    absent: int
    odd_value: int
    never: int
    person: int
    change: int
    methods: int
    next_at: int
    owners: int
    kept: int


# What `Rolls._make` does, without its check of the length.
ROLLS: Callable[[tuple[int, ...]], Rolls] = partial(tuple.__new__, Rolls)


class Dice:
    """The dice of all accounts of a seed."""

    def __init__(self, seed: int) -> None:
        self.key = keyed(seed, "accounts", 16).to_bytes(16, "big")
        self.huge = keyed(seed, "huge") % HUGE_BEFORE

    def roll(self, index: int) -> Rolls:
        """Give an account's dice."""
        rolls = ROLLS(UNPACK(blake2b(self.key + index.to_bytes(8, "big")).digest()))
        return _huge(rolls) if index % HUGE_EVERY == self.huge else rolls

    def one(self, index: int, place: int) -> int:
        """Give one of an account's dice of 16 bits, by its place in `Rolls`, as it fell: none is loaded."""
        digest = blake2b(self.key + index.to_bytes(8, "big")).digest()
        return digest[2 * place] | digest[2 * place + 1] << 8


def _huge(rolls: Rolls) -> Rolls:
    """Load the dice, so that the account has a huge balance in one currency and all may see it."""
    return rolls._replace(
        hold=1, category=0, currency=HUGE, more=5, available=2, permissions=2, odd_value=2, never=1,
        breaks=9, kept=0,
    )  # fmt: skip
