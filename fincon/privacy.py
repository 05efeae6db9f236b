"""Personal data: which choice a run makes (``--pii``), and who was erased and must not come back.

The identities that were erased are known by keyed hashes alone. The key is random and lives in the data folder. Without
it nobody can tell from a hash who was erased; with it one can only ask whether a given id was.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fincon.errors import UsageError
from fincon.settings import Secret
from fincon.storage.data_folder import DataFolder, sync_names
from fincon.storage.s3 import DataPath, S3Path
from fincon.transforms.redaction import Choice, Privacy, is_address, redact, without_erased_ids

KEY_VARIABLE = "FINCON_PII_KEY"

LONG = 10_000
"""A page of so many bytes is worth another way of searching."""


def choose_policy(asked: Choice | None, last: str, key: Secret | None, *, owners: bool) -> str:
    """Return what ``--pii`` asks for; else what the folder's last run did that made a choice (``last``). As `Privacy.policy_id`.

    Where none did, personal data is hashed if ``owners`` are asked for, and what accounts say of themselves is kept.

    Raises:
        UsageError: data is to be hashed, and the key is missing or is not the last run's.
    """
    before, _, _ = last.partition(":")
    choice = asked or before or ("hash" if owners else "")
    if choice != "hash":
        return choice
    return resolve_policy(last if before == "hash" else choice, key).policy_id


def resolve_policy(mark: str, key: Secret | None) -> Privacy:
    """Return the choice that a mark stands for, with the key; ``hash`` alone stands for whichever key there is.

    Raises:
        UsageError: the key is missing, or is not the one whose fingerprint the mark has.
    """
    choice, _, fingerprint = mark.partition(":")
    if choice != "hash":
        return Privacy("drop" if choice == "drop" else "keep", chosen=bool(choice))
    if key is None:
        raise UsageError(
            f"Names are to be hashed (--pii hash, or the choice of this folder), and {KEY_VARIABLE} is not set.",
            f"Set {KEY_VARIABLE} to a secret of 16 characters or more, the same for every run; or choose --pii drop or keep.",
        )
    privacy = Privacy("hash", key.reveal().encode(), chosen=True)
    if fingerprint and privacy.policy_id != mark:
        raise UsageError(
            f"{KEY_VARIABLE} is not the key that this folder's last run hashed with: people would no longer join.",
            "Use that key. If it is lost, sync once with --pii drop, then with --pii hash and the new key.",
        )
    return privacy


@dataclass(frozen=True)
class Erased:
    """The hashes of identities that must not be kept again. Nothing is asked of it while it is empty."""

    key: bytes = b""
    hashes: frozenset[str] = frozenset()

    def is_erased(self, *identities: str | None) -> bool:
        """Tell whether any of the ids was erased."""
        return bool(self.hashes) and any(i and self.hash(i) in self.hashes for i in identities)

    def hash(self, identity: str) -> str:
        """Return the keyed hash (HMAC-SHA-256, hex) that stands for an id."""
        return hmac.new(self.key, identity.encode(), hashlib.sha256).hexdigest()


def as_kept(body: bytes, stream: str, privacy: Privacy, erased: Erased) -> bytes:
    """Return a page of a stream as it may be written: redacted, without who was erased, and without mentions of them.

    Raises:
        msgspec.DecodeError: ``body`` is not JSON, and something in it may have to go.
    """
    if not erased.hashes:
        is_kept = privacy.choice == "keep" and len(body) > LONG and not _may_let_its_bearer_act(body)
        return body if is_kept else redact(body, stream, privacy)
    return without_erased_ids(redact(body, stream, privacy, erased.is_erased), erased.is_erased)


def _may_let_its_bearer_act(body: bytes) -> bool:
    """Tell of a long page what `redaction.may_let_its_bearer_act` does, in less than half the time, or True without need.

    All places are looked at side by side, in lower case; what becomes like a letter thereby is searched again.
    """
    lower = np.frombuffer(body, np.uint8) | _TO_LOWER
    if b"\\" in body or any(_hits(lower, word).any() for word in _SUSPECT):
        return True
    return any(is_address(body, at) for at in np.flatnonzero(_hits(lower, b'url"')).tolist())


_TO_LOWER = np.uint8(0x20)
_SUSPECT = (b"secr", b'token"', bytes(np.frombuffer(b"btok_", np.uint8) | _TO_LOWER))


def _hits(text: "np.ndarray[Any, Any]", word: bytes) -> "np.ndarray[Any, Any]":
    """Return of each place of a text whether a word stands there."""
    places = len(text) - len(word) + 1
    hits: np.ndarray[Any, Any] = text[:places] == word[0]
    for number, letter in enumerate(word[1:], start=1):
        hits &= text[number : number + places] == letter
    return hits


def erasure_key(data: DataPath) -> bytes:
    """Return the folder's key, made at its first erasure."""
    path = DataFolder(data).erasure_key
    if isinstance(path, S3Path):
        if not path.exists():
            path.put(secrets.token_hex(32).encode(), "create")
    elif not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        sync_names(data)
    return path.read_bytes()


def known_erasures(data: DataPath, records: Iterable[tuple[str, str]]) -> Erased:
    """Return who is erased after ``records`` of (action, hash), oldest first: ``erased`` hides, ``allowed`` lifts it."""
    hashes: set[str] = set()
    for action, identity_hash in records:
        (hashes.add if action == "erased" else hashes.discard)(identity_hash)
    return Erased(erasure_key(data), frozenset(hashes)) if hashes else Erased()
