"""Decide where the ranges of a list begin and end, so that nothing is left out: the law behind `fincon.extract.accounts`.

Stripe's list is one chain, newest object first, that moves a page per round trip. But any object's id is a cursor, so
several ranges walk it at the same time:

    the list     a b c d e f g h i j k l m n o
    range 0     [a b c d e f)                       begins at the top
    range 1                 [g h i j k)             began after f; f and its first page, g h, are its in hand
    range 2                           [l m n o]     began after k; k and its first page, l m, are its in hand

**A range ends only at an object that another range has in hand**, or at the list's end: whatever stands behind that
object is the other's, which has fetched it and goes on. Range 0 meets f and ends.

    f has vanished when range 1 wants to begin      there is no range 1; range 0 walks on over g h i j
    f vanishes after range 1 has begun              range 0 meets g, which stands on range 1's first page, and ends
    f g h vanish                                    range 0 walks on over i j k …: some is fetched twice, none is left out
    another object is linked                        it stands at the top, above all ranges: the next run lists it

What a range has in hand is the object that it began after and its first page, once that page is on disk; of a range that
ended on its first page, the object that it began after alone: what follows on that page is the other range's. An object
that stands at the top anew (unlinked and linked again) is no place to go on from, see `Range.is_next`.
"""

from dataclasses import dataclass, field

from fincon.transforms.list_page import ListPage
from fincon.transforms.page import Header


@dataclass
class Range:
    """A stretch of the list: it begins after ``start`` (the top if empty), the known object at ``index``."""

    part: int
    start: str
    index: int
    position: int
    """The index of the last known object that it has met."""
    is_lost: bool = False
    """Whether ``start`` had vanished when it wanted to begin: then there is no such range."""
    last: Header | None = None
    """Its last page so far."""
    newest: int = 0
    """When the newest object on its last page was created (Unix seconds); 0 where that is not known."""
    seen: set[str | None] = field(default_factory=set)
    """The cursors with which its pages ended: a page that ends with one of them again repeats an earlier one."""

    @property
    def has_ended(self) -> bool:
        """Tell whether there is nothing more of it to fetch."""
        return self.is_lost or (self.last is not None and self.last.cursor is None)

    def is_next(self, page: ListPage) -> bool:
        """Tell whether a page goes on behind this range's last one: it does not begin with anything newer.

        One that does was asked for after an object that has moved to the top since.
        """
        return not self.newest or not page.ids or page.created[0] <= self.newest

    def advance(self, page: ListPage, header: Header) -> None:
        """Take note of a page that is on disk."""
        self.last = header
        self.newest = max(page.created, default=0)
        self.seen.add(header.cursor)


class InHand:
    """Know at which objects other ranges may end. Whoever asks or adds holds the walk's lock."""

    def __init__(self) -> None:
        self._holder: dict[str, tuple[int, int]] = {}

    def begin(self, walked: Range, page: ListPage, *, ends: bool) -> None:
        """Give a range what it has in hand, when its first page is on disk; ``ends`` where it ended on that page."""
        follows = page.created[0] if page.created else 0
        self._holder.setdefault(walked.start, (walked.part, follows))
        if not ends:
            for object_id, created in zip(page.ids, page.created, strict=True):
                self._holder.setdefault(object_id, (walked.part, created))

    def ends(self, part: int, page: ListPage) -> bool:
        """Tell whether the range ``part`` ends on a page, because another range has an object of it in hand.

        One that is older here than what the other range found behind it had moved to the top in between.
        """
        for object_id, created in zip(page.ids, page.created, strict=True):
            holder, not_before = self._holder.get(object_id, (part, 0))
            if holder != part and created >= not_before:
                return True
        return False
