"""What pages were read into, before it becomes columns."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Generic

import msgspec
from msgspec import Raw

from fincon.transforms.decode import Decoders, ObjectDecoder, T, compact, raw_items
from fincon.transforms.page import Header, Watermark
from fincon.transforms.rejects import REPEATED, Reject, deleted_id, object_id, says_more, unreadable

_ID = attrgetter("id")


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

    def cut(self, count: int) -> None:
        """Keep the first ``count`` objects alone."""
        for values in (self.objects, self.extra, self.observed_at):
            del values[count:]


class ParsedObjects:
    """All that was read from pages."""

    def __init__(self, decoders: Decoders, stripe_version: str = "") -> None:
        self.stripe_version = stripe_version
        """The API version that was asked for."""
        self.sessions = Parsed(decoders.sessions)
        self.session_account_ids: list[list[str]] = []
        """Of each session, in order; empty for an account without an id that can be read."""
        self.accounts = Parsed(decoders.accounts)
        self.events: dict[int, tuple[str, list[str]]] = {}
        """Index of an account that an event showed → the event, and the columns of which it says nothing."""
        self.authorizations = Parsed(decoders.authorizations)
        self.authorization_events: list[tuple[str, list[str] | None]] = []
        """Of each authorization, the event that showed it, and the columns of which that says nothing."""
        self.deleted_accounts: list[tuple[str, int]] = []
        """(account, when that was seen in microseconds) of those that Stripe says are no more."""
        self.transactions = Parsed(decoders.transactions)
        self.owners = Parsed(decoders.owners)
        self.owner_accounts: list[str] = []
        """Of each owner, whose account it was asked for."""
        self.ownerless: list[tuple[str, int]] = []
        """(account, when that was seen in microseconds) of those that have no owner."""
        self.watermarks: list[tuple[Watermark, Header]] = []
        """(how far an account is in, the first page of its list, or the refusal in its place)."""
        self.rejects: list[Reject] = []

    def read_list(self, into: Parsed[T], body: bytes, at: int, parent: str | None = None) -> int:
        """Read every object of a list's body, all at one go where none is odd; how many could be read."""
        before = len(into.objects)
        try:
            objects, extra = into.decoder.decode_list(body)
        except msgspec.DecodeError:
            objects = []
        if objects and len({*map(_ID, objects)}) == len(objects):
            into.add(objects, extra, at)
        else:
            self.read_each(into, raw_items(body), at, parent)
        return len(into.objects) - before

    def read_each(
        self, into: Parsed[T], raws: Sequence[Raw], at: int, parent: str | None = None
    ) -> list[str | None]:
        """Read objects one by one, each once; the ids of all, in order, None where there is none to read.

        Of an object that stands there more than once one content counts, whatever the order: what was seen at one moment
        is one version. Other contents are in ``rejects``.
        """
        chosen: dict[str, str] = {}
        ids = [object_id(raw) for raw in raws]
        if len({*ids}) < len(ids):
            for known, raw in zip(ids, raws, strict=True):
                if known is not None:
                    chosen[known] = max(compact(raw), chosen.get(known, ""))
        done: set[str] = set()
        for known, raw in zip(ids, raws, strict=True):
            if known in chosen:
                text = compact(raw)
                if text in done:
                    continue
                done.add(text)
                if text != chosen[known]:
                    kind = into.decoder.object_type
                    self.rejects.append(Reject(kind, known, parent, None, REPEATED, text, at))
                    continue
            self.read(into, raw, at, parent)
        return ids

    def read(self, into: Parsed[T], raw: Raw, at: int, parent: str | None = None) -> T | None:
        """Read one object; None where it cannot be, which is then in ``rejects``."""
        try:
            found, extra = into.decoder.decode(raw)
        except msgspec.DecodeError as error:
            if into.decoder.object_type == "account" and (gone := deleted_id(raw)):
                self.deleted_accounts.append((gone, at))
                if not says_more(raw):
                    return None
            self.rejects.append(unreadable(into.decoder.object_type, raw, str(error), at, parent))
            return None
        into.add([found], [extra], at)
        return found
