"""Remember what was told to whom, in ``alerts.json``; the view ``alerts_told`` shows it from the next time that views are made.

It is a file and no Delta table, for alerts hold no lock: they are told while a run goes on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import pyarrow as pa

from fincon.settings import Secret
from fincon.storage.data_folder import UNREADABLE, DataFolder, atomic_write
from fincon.storage.s3 import DataPath

WRITES = 5
"""How often what was told is written, before the command fails: see `write_memory`."""

ALL = ""
"""The receiver that stands for whoever was told by a fincon that did not tell receivers apart."""

Memory = dict[str, dict[str, dict[str, str]]]
"""Alert → hash of a row's key → receiver → when it was told first (ISO 8601)."""


def receiver_name(url: Secret) -> str:
    """Return a name for an address that tells it from others and nothing of it: ``slack-3f2a91bc``.

    The hash is slow, so that nobody finds a password in an address by trying.
    """
    text = url.reveal()
    digest = hashlib.scrypt(text.encode(), salt=b"fincon.alerts", n=2**14, r=8, p=1, dklen=4)
    return f"{text.partition('://')[0].lower()}-{digest.hex()}"


def read_memory(data: DataPath) -> Memory:
    """Return what was told before; nothing where that cannot be read, so that it is told again."""
    try:
        content = DataFolder(data).alerts.read_bytes()
        found = msgspec.json.decode(content, type=dict[str, dict[str, dict[str, str] | str]])
    except UNREADABLE:
        return {}
    return {
        alert: {key: told if isinstance(told, dict) else {ALL: told} for key, told in keys.items()}
        for alert, keys in found.items()
    }


def write_memory(data: DataPath, found: Mapping[str, Sequence[str]], receivers: Sequence[str]) -> None:
    """Remember that the rows ``found`` (alert → keys) are told to ``receivers`` by now.

    What is no more is forgotten, so that it is told when it comes back.
    """
    before, now = read_memory(data), datetime.now(UTC).isoformat(timespec="seconds")
    told = {
        alert: {key: _with(before.get(alert, {}).get(key, {}), receivers, now) for key in keys}
        for alert, keys in found.items()
    }
    for tries_left in reversed(range(WRITES)):
        try:
            with atomic_write(DataFolder(data).alerts) as part:
                part.write_bytes(msgspec.json.encode(told))
        except FileNotFoundError:
            # Alerts hold no lock: another that ends just now has put its own in place, or a bucket's run has begun.
            if not tries_left:
                raise
        else:
            return


def _with(told: dict[str, str], receivers: Sequence[str], now: str) -> dict[str, str]:
    return told if ALL in told else dict.fromkeys(receivers, now) | told


def was_told(memory: Memory, alert: str, key: str, receivers: Sequence[str]) -> bool:
    """Return whether each of the receivers was told of a row; where there is none, whether anybody was."""
    told = memory.get(alert, {}).get(key, {})
    return bool(told) and (ALL in told or all(receiver in told for receiver in receivers))


def told_rows(data: DataPath) -> pa.Table:
    """Return what was told as the rows of ``alerts_told``."""
    rows = [
        {"alert": alert, "key_hash": key, "receiver": receiver, "first_told_at": datetime.fromisoformat(at)}
        for alert, keys in read_memory(data).items()
        for key, told in keys.items()
        for receiver, at in told.items()
    ]
    text = [pa.field(name, pa.string()) for name in ("alert", "key_hash", "receiver")]
    return pa.Table.from_pylist(
        rows, pa.schema([*text, pa.field("first_told_at", pa.timestamp("us", "UTC"))])
    )
