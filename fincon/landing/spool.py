"""Events that Stripe sent and that are not loaded yet: on disk, for good, before Stripe is told that they came.

A file holds the events of one moment as a page of them, redacted as pages are. It is there entirely or not at all, under a
name of its own, so that many may write at a time. Who holds the data folder's lock alone takes events out.
"""

import itertools
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from fincon.errors import RunFailed
from fincon.privacy import Erased, as_kept
from fincon.storage.data_folder import GARBLED, PART, DataFolder, atomic_write, make_folder, sync_names
from fincon.storage.s3 import DataPath
from fincon.transforms.decode import raw_items
from fincon.transforms.identities import without_mentions
from fincon.transforms.list_page import list_body
from fincon.transforms.redaction import Privacy, ids_named, redact
from fincon.transforms.rejects import object_id
from fincon.transforms.streams import STREAMS

WEBHOOKS = STREAMS["webhooks"]

_COUNT = re.compile(r"-(\d+)\.json")


Waiting = dict[str, dict[Path, list[tuple[str, msgspec.Raw]]]]


class _Whose(msgspec.Struct):
    account: str | None = None


class Spool:
    """The events that wait in a data folder."""

    def __init__(self, data: DataPath) -> None:
        self.folder = DataFolder(data).spool
        self._writer = secrets.token_hex(4)
        self._numbers = itertools.count()

    def write(self, events: Sequence[bytes], privacy: Privacy, erased: Erased) -> None:
        """Keep events, without what lets its bearer act and who was erased: once this returns, no crash loses them."""
        self._write(raw_items(as_kept(list_body(events), WEBHOOKS.name, privacy, erased)))

    def _write(self, items: Sequence[msgspec.Raw]) -> None:
        if not items:
            return
        make_folder(self.folder)
        name = f"{time.time_ns():020}-{self._writer}-{next(self._numbers):06}-{len(items)}.json"
        with atomic_write(self.folder / name) as part:
            part.write_bytes(list_body(items))

    def files(self) -> list[Path]:
        """List the files, oldest first."""
        return sorted(self.folder.glob("*.json"))

    def count(self) -> int:
        """Count the events that wait, by the names of the files alone."""
        return sum(int(found[1]) for path in self.files() if (found := _COUNT.search(path.name)))

    def by_account(self) -> Waiting:
        """Return Stripe account (empty stands for the key's own) → file → the events of it there, as (id, content)."""
        found: Waiting = {}
        for path in self.files():
            for event_id, raw in self._read(path):
                found.setdefault(_whose(raw), {}).setdefault(path, []).append((event_id, raw))
        return found

    def _read(self, path: Path) -> list[tuple[str, msgspec.Raw]]:
        """Read the events of a file.

        Raises:
            RunFailed: it is not what was written.
        """
        try:
            return [(object_id(raw) or "", raw) for raw in raw_items(path.read_bytes())]
        except GARBLED as error:
            raise RunFailed(
                f"The events that were received, in {path}, cannot be read: {error}.",
                "Move the file away: what is in it, `fincon events` fetches.",
            ) from error

    def remove(self, done: Mapping[Path, Collection[str]]) -> None:
        """Take out events that are loaded, by file and id. Needs the lock."""
        for path, ids in done.items():
            self._keep(path, lambda event_id, raw, ids=ids: event_id not in ids)  # type: ignore[misc]

    def erase(self, identities: Sequence[str]) -> None:
        """Take out the events of one of the ids, and mentions of it in others. Needs the lock."""
        self._drop_parts()
        for path in self.files():
            self._keep(path, lambda event_id, raw: not {*ids_named(bytes(raw))} & {*identities})
        for path in self.files():
            body = path.read_bytes().decode()
            _replace(path, without_mentions(body, identities).encode())

    def redact(self, privacy: Privacy) -> int:
        """Write anew the files that ``privacy`` keeps less of; return how many those are. Needs the lock."""
        self._drop_parts()
        changed = 0
        for path in self.files():
            changed += _replace(path, redact(path.read_bytes(), WEBHOOKS.name, privacy))
        return changed

    def _drop_parts(self) -> None:
        """Remove files that are not whole: a listener that was killed left them, and one that writes them answers 503 instead."""
        for part in self.folder.glob(f".*{PART}"):
            part.unlink(missing_ok=True)

    def _keep(self, path: Path, is_kept: Callable[[str, msgspec.Raw], bool]) -> None:
        """Leave in a file what is kept: under another name, for its name says how many those are."""
        items = self._read(path)
        kept = [raw for event_id, raw in items if is_kept(event_id, raw)]
        if len(kept) < len(items):
            self._write(kept)  # before the other goes: twice is harmless
            path.unlink()
            sync_names(self.folder)


def _replace(path: Path, body: bytes) -> bool:
    """Put a body in the place of a file's, where it differs; return whether."""
    if body == path.read_bytes():
        return False
    with atomic_write(path) as part:
        part.write_bytes(body)
    return True


def _whose(raw: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(raw, type=_Whose).account or ""
    except GARBLED:
        return ""
