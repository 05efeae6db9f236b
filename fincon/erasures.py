"""Forgetting: which identities were erased, known by keyed hashes alone, and what must not come back.

The key is random and lives in the data folder. Without it nobody can tell from a hash who was erased; with it one can
only ask whether a given id was.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from fincon.storage.data_folder import DataFolder
from fincon.storage.s3 import DataPath, S3Path


@dataclass(frozen=True)
class Erased:
    """The hashes of identities that must not be kept again. Nothing is asked of it while it is empty."""

    key: bytes = b""
    hashes: frozenset[str] = frozenset()

    def is_erased(self, *identities: str | None) -> bool:
        """Whether any of the ids was erased."""
        return bool(self.hashes) and any(i and self.hash(i) in self.hashes for i in identities)

    def hash(self, identity: str) -> str:
        """The keyed hash (HMAC-SHA-256, hex) that stands for an id."""
        return hmac.new(self.key, identity.encode(), hashlib.sha256).hexdigest()


def erasure_key(data: DataPath) -> bytes:
    """The folder's key, made at its first erasure."""
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
    return path.read_bytes()


def known_erasures(data: DataPath, records: Iterable[tuple[str, str]]) -> Erased:
    """What stays hidden after ``records`` of (action, hash), oldest first: ``erased`` hides, ``allowed`` lifts it."""
    hashes: set[str] = set()
    for action, identity_hash in records:
        (hashes.add if action == "erased" else hashes.discard)(identity_hash)
    return Erased(erasure_key(data), frozenset(hashes)) if hashes else Erased()
