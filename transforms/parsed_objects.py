"""What pages were read into, before it becomes columns."""

from collections.abc import Sequence
from typing import Generic

import msgspec
from msgspec import Raw

from fincon.transforms.decode import RAW_LIST, Decoders, ObjectDecoder, T
from fincon.transforms.page import Watermark
from fincon.transforms.rejects import Reject, unreadable


class Parsed(Generic[T]):
    """Objects of one kind, in parallel lists: index i of each belongs to the same object."""

    def __init__(self, decoder: ObjectDecoder[T]) -> None:
        self.decoder = decoder
        self.objects: list[T] = []
        self.extra: list[str | None] = []
        """The unknown attributes as JSON; None where all are known."""
        self.observed_at: list[int] = []
        """Microseconds."""

    def add(self, objects: Sequence[T], extra: Sequence[str | None], at: int) -> None:
        """Add objects that were seen at the same time."""
        self.objects += objects
        self.extra += extra
        self.observed_at += [at] * len(objects)


class ParsedObjects:
    """All that was read from pages."""

    def __init__(self, decoders: Decoders) -> None:
        self.sessions = Parsed(decoders.sessions)
        self.session_account_ids: list[list[str]] = []
        """Of each session, in order; empty for an account without an id that can be read."""
        self.accounts = Parsed(decoders.accounts)
        self.transactions = Parsed(decoders.transactions)
        self.owners = Parsed(decoders.owners)
        self.owner_accounts: list[str] = []
        """Of each owner, whose account it was asked for."""
        self.watermarks: list[tuple[str, Watermark, int]] = []
        """(account, how far it is in, when that was seen in microseconds)."""
        self.rejects: list[Reject] = []

    def read_list(self, into: Parsed[T], body: bytes, at: int, parent: str | None = None) -> int:
        """Read every object of a list's body, all at one go where none is odd; how many could be read."""
        before = len(into.objects)
        try:
            into.add(*into.decoder.decode_list(body), at)
        except msgspec.DecodeError:
            for raw in RAW_LIST.decode(body).data:
                self.read(into, raw, at, parent)
        return len(into.objects) - before

    def read(self, into: Parsed[T], raw: Raw, at: int, parent: str | None = None) -> T | None:
        """Read one object; None where it cannot be, which is then in ``rejects``."""
        try:
            found, extra = into.decoder.decode(raw)
        except msgspec.DecodeError as error:
            self.rejects.append(unreadable(into.decoder.object_type, raw, str(error), at, parent))
            return None
        into.add([found], [extra], at)
        return found
