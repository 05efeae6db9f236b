"""A Connect platform's connected accounts: each a world of its own, whose seed its id stands for."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from fincon.sandbox.ids import Codec, keyed
from fincon.sandbox.model import Json
from fincon.sandbox.world import World

OLDEST = 1_700_000_000
APART = 3_600
"""Seconds from one connected account to the next."""


@lru_cache(maxsize=64)
def _codec(seed: int) -> Codec:
    return Codec(keyed(seed, "platform"), "acct_", width=16, bits=24)


def connected_ids(world: World) -> list[str]:
    """Give the ids of a platform's connected accounts, newest first."""
    return [_codec(world.seed).encode(number) for number in reversed(range(world.connected))]


def connected_number(world: World, account_id: str) -> int | None:
    """Give the number of a connected account, 0 for the oldest; None if it is not connected."""
    number = _codec(world.seed).decode(account_id)
    return number if number is not None and number < world.connected else None


@lru_cache(maxsize=1024)
def connected_world(world: World, account_id: str) -> World | None:
    """Give the world of a connected account, of the platform's own size and clock; None if it is not connected."""
    number = connected_number(world, account_id)
    if number is None:
        return None
    seed = world.seed if world.alike else keyed(world.seed, f"connected/{number}", 6)
    return replace(world, seed=seed, connected=0)


def account(world: World, number: int) -> Json:
    """Give a connected account as Stripe writes it."""
    account_id = _codec(world.seed).encode(number)
    return {
        "id": account_id,
        "object": "account",
        "business_profile": {"mcc": None, "name": f"Shop {number}", "support_email": None, "url": None},
        "business_type": "company",
        "capabilities": {"transfers": "active"},
        "charges_enabled": True,
        "country": "US",
        "created": OLDEST + number * APART,
        "default_currency": "usd",
        "details_submitted": True,
        "email": f"shop{number}@example.com",
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
    }
