"""Identifiers that look random and yet are arithmetic: a number goes in, the same number comes out."""

from __future__ import annotations

import struct
from functools import cached_property, lru_cache
from hashlib import blake2b, shake_128
from string import ascii_lowercase, ascii_uppercase, digits

ALPHABET = digits + ascii_uppercase + ascii_lowercase
VALUES = {letter: value for value, letter in enumerate(ALPHABET)}
PAIRS = [high + low for high in ALPHABET for low in ALPHABET]  # a larger table would miss the CPU's cache
FOUR, EIGHT = 62**4, 62**8
BELOW = {14: 21, 16: 177, 24: 119}  # 62**width minus this is the largest prime below 62**width
MASK = 2**64 - 1
# Hashes that cost no more than a look-up, each 16 bits: index it with `& NOISE_MASK`.
NOISE_MASK = 4095
NOISE: tuple[int, ...] = struct.unpack("<4096H", shake_128(b"noise").digest(8192))


def mix(number: int) -> int:
    """Spread a number over 64 bits, so that its bits can be used as dice."""
    number = (number * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & MASK
    number = ((number ^ (number >> 32)) * 0xD6E8FEB86659FD93) & MASK
    return number ^ (number >> 32)


def keyed(seed: int, purpose: str, size: int = 8) -> int:
    """Give a constant that belongs to a seed and a purpose, `size` bytes wide."""
    return int.from_bytes(blake2b(f"{seed}/{purpose}".encode(), digest_size=size).digest(), "big")


class Codec:
    """Turns numbers into Stripe-like identifiers, and back.

    A number is multiplied by a secret modulo a prime just below 62**width. Multiplication is
    invertible; and since numbers take up a tiny part of that range, an identifier that was not made
    here comes back as an impossibly large number and is refused. As at Stripe, a `token` of ten letters
    within most identifiers names the platform and is the same in all of them.
    """

    def __init__(
        self, seed: int, prefix: str, width: int = 14, bits: int = 64, *, token: bool = False
    ) -> None:
        self.prefix = prefix
        self.width = width
        self.token = _digits(keyed(seed, "token") % 62**10, 10) if token else ""
        self.limit = 1 << bits
        self.prime = 62**width - BELOW[width]
        self.factor = keyed(seed, prefix, 24) % self.prime
        self.shift = keyed(seed, prefix + "/shift", 24) % self.prime

    @cached_property
    def inverse(self) -> int:
        """The factor's inverse modulo the prime."""
        inverse: int = pow(self.factor, -1, self.prime)
        return inverse

    def encode(self, number: int) -> str:
        """Give the identifier of a number."""
        value = (number * self.factor + self.shift) % self.prime
        if self.width != 14:
            return self.prefix + _digits(value, self.width)
        # The common width, written out: numbers of four digits or two, looked up as pairs.
        high, low = divmod(value, EIGHT)
        a, b, c, d = high // FOUR, high % FOUR, low // FOUR, low % FOUR
        return (
            f"{self.prefix}{PAIRS[a]}{PAIRS[b // 3844]}{PAIRS[b % 3844]}{self.token}"
            f"{PAIRS[c // 3844]}{PAIRS[c % 3844]}{PAIRS[d // 3844]}{PAIRS[d % 3844]}"
        )

    def decode(self, identifier: str) -> int | None:
        """Give the number of an identifier, or None if this seed never made it."""
        body = identifier.removeprefix(self.prefix)
        if self.token:
            body = body[:6] + body[16:]
        if len(body) != self.width or not VALUES.keys() >= set(body):
            return None
        value = 0
        for letter in body:
            value = value * 62 + VALUES[letter]
        number = (value - self.shift) * self.inverse % self.prime
        return number if number < self.limit and self.encode(number) == identifier else None


def _digits(value: int, width: int) -> str:
    """Write a number in base 62; the width is even."""
    text = ""
    for _ in range(width // 2):
        value, pair = divmod(value, 3844)
        text = PAIRS[pair] + text
    return text


class Ids:
    """The codecs of one seed, one per kind of object."""

    def __init__(self, seed: int) -> None:
        self.account = Codec(seed, "fca_", bits=40, token=True)
        self.session = Codec(seed, "fcsess_", bits=40, token=True)
        self.secret = Codec(seed, "fcsess_client_secret_", width=24)
        self.transaction = Codec(seed, "fctxn_", bits=68, token=True)
        self.transaction_refresh = Codec(seed, "fctxnref_", token=True)
        self.owner = Codec(seed, "fcaown_", bits=42, token=True)
        self.authorization = Codec(seed, "fcauth_", bits=48, token=True)
        self.event = Codec(seed, "evt_", width=24, bits=88)
        self.customer = Codec(seed, "cus_", bits=44)
        self.holder_account = Codec(seed, "acct_", width=16, bits=46)

    @staticmethod
    def ownership(account_id: str) -> str:
        """Give the id of an account's ownership: the account's own, with small and capital letters swapped."""
        return "fcaowns_" + account_id[4:].swapcase()


@lru_cache(maxsize=64)
def ids(seed: int) -> Ids:
    """Give the codecs of a seed, made once."""
    return Ids(seed)
