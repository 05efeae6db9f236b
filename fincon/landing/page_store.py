"""The spool: each page of a run in a file of its own, so that a run can stop anywhere and go on.

A file is one line (checksum and header) and the body, compressed with zstd. It is written aside, fsynced and
renamed, so it is there entirely or not at all. Secrets are taken out, and personal data treated, before anything is
written.
"""

import os
import re
import threading
import zlib
from collections.abc import Callable, Collection, Iterator
from itertools import count
from pathlib import Path

import msgspec
import pyarrow as pa

from fincon.erasures import Erased
from fincon.errors import CorruptPage
from fincon.storage.data_folder import PART
from fincon.transforms.erased import without_hidden
from fincon.transforms.page import Header, Page
from fincon.transforms.personal import Privacy, without_personal
from fincon.transforms.redaction import without_secrets
from fincon.transforms.streams import STREAMS

SUFFIX = ".json.zst"
AGAIN = "Run the same command again: it is fetched anew."

_HEADER = msgspec.json.Decoder(Header)
_CODEC = pa.Codec("zstd", compression_level=1)


class PageStore:
    """The pages of one run, in ``folder``."""

    def __init__(
        self, folder: Path, erased: Erased | None = None, newest: int = 0, privacy: Privacy | None = None
    ) -> None:
        """``newest`` is the latest time (microseconds) that any earlier run gave to a page."""
        self.folder = folder
        self._newest = newest
        self.kept: Callable[[Page], object] = lambda page: None
        """Told of each page once it is on disk."""
        self.erased = erased or Erased()
        self.privacy = privacy or Privacy()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._latest = 0

    def stamp(self, date: int) -> int:
        """Microseconds for a page of the second ``date``: later than every page before, so pages have an order.

        The pages of an earlier run count too where they are of the same second.
        """
        with self._lock:
            first = date * 1_000_000
            if first <= self._newest < first + 1_000_000:
                first = self._newest + 1
            self._latest = max(first, self._latest + 1)
            return self._latest

    def write(self, page: Page) -> Page:
        """Keep ``page`` for good and return it as it was kept: without secrets, without who was erased, and with
        personal data as was chosen.
        """  # noqa: D205 - one sentence, over two lines
        body = without_personal(without_secrets(page.body), page.header.stream, self.privacy)
        if self.erased.hashes and page.header.status == 200:
            body = without_hidden(body, self.erased.is_erased)
        kept = Page(page.header, body)
        path = self._path(page.header)
        part = path.with_suffix(f".{threading.get_ident()}{PART}")
        with part.open("wb") as file:
            file.write(_encode(kept))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        self.kept(kept)
        return kept

    def page(self, header: Header) -> Page:
        """A page that was written, as it was kept.

        Raises:
            CorruptPage: it is not what was written.
        """
        return _decode(self._path(header))

    def chain(self, stream: str, parent: str = "", part: int = 0) -> Iterator[Page]:
        """The whole pages of one chain in order, up to the first that is missing or damaged."""
        for number in count():
            path = self._name(stream, parent, part, number)
            if not path.exists():
                return
            try:
                page = _decode(path)
            except CorruptPage:
                return
            with self._lock:
                self._latest = max(self._latest, page.header.observed_at)
            yield page

    def last(self, stream: str, parent: str = "", part: int = 0) -> Header | None:
        """What stands at the end of a chain so far; None where it has not begun."""
        header = None
        for header, _ in self.chain(stream, parent, part):  # noqa: B007 - the last one is what is asked for
            pass
        return header

    def drop(self, stream: str, parent: str) -> None:
        """Remove the pages of one chain."""
        for path in self.folder.glob(f"{stream}-{parent}-*{SUFFIX}"):
            path.unlink()

    def naming(self, identities: list[str]) -> list[Path]:
        """The page files that name one of the ids anywhere, header and file name included."""
        needles = re.compile(b"|".join(re.escape(identity.encode()) for identity in identities))
        return [
            path
            for path in sorted(self.folder.glob(f"*{SUFFIX}"))
            if needles.search(path.name.encode()) or needles.search(_content(path))
        ]

    def parents(self, stream: str = "sessions") -> list[str]:
        """The sessions (or accounts, of their details) of which there is at least a first page, in order."""
        names = (path.name for path in self.folder.glob(f"{stream}-*-000000{SUFFIX}"))
        return sorted(name.removeprefix(f"{stream}-").removesuffix(f"-000000{SUFFIX}") for name in names)

    def count(self) -> int:
        """How many pages are on disk."""
        return sum(1 for _ in self.folder.glob(f"*{SUFFIX}"))

    def catch_up(self) -> int:
        """Read what an interrupted run left, so that later pages get later times; how many pages that is."""
        found = 0
        for path in self.folder.glob(f"*{SUFFIX}"):
            try:
                self._latest = max(self._latest, _decode(path).header.observed_at)
            except CorruptPage:
                continue  # its chain ends before it, and it is fetched anew
            found += 1
        return found

    def missing_sessions(self) -> tuple[str, ...]:
        """The sessions that Stripe answered 404 to."""
        return tuple(
            parent
            for parent in self.parents()
            if _decode(self._name("sessions", parent, 0, 0)).header.status == 404
        )

    def read_sessions(self) -> Iterator[Page]:
        """The own page of each session."""
        for parent in self.parents():
            yield _decode(self._name("sessions", parent, 0, 0))

    def complete_until(self) -> int | None:
        """The time (microseconds) of the first page of the listing or of events: all before it is in this run."""
        lists = [stream.name for stream in STREAMS.values() if not stream.parent]
        first = [
            page for stream in lists for part in [0, *self.parts()] if (page := self._first(stream, part))
        ]
        return min((page.header.observed_at for page in first), default=None)

    def _first(self, stream: str, part: int) -> Page | None:
        path = self._name(stream, "", part, 0)
        return _decode(path) if path.exists() else None

    def parts(self) -> list[int]:
        """The ranges of the listing of which there is at least a first page."""
        names = sorted(path.name for path in self.folder.glob(f"accounts-p*-000000{SUFFIX}"))
        return [int(name.split("-")[1][1:]) for name in names]

    def read(
        self,
        told: Callable[[int], object] = lambda count: None,
        without: Collection[tuple[int, int]] = (),
        *,
        whole: bool = False,
    ) -> Iterator[Page]:
        """Every page: session by session, the listing, events, then the details of each account. ``told`` hears of each.

        The pages of the listing in ``without``, as (part, number), are passed over unread. With ``whole``, a chain
        whose last page says that more follow is an error: what it tells would pass for all there is.

        Raises:
            CorruptPage: a page is not what was written, or is missing; running again fetches it anew.
        """
        yield from self._accounts(told, without, whole=whole)
        for stream in STREAMS.values():
            if not stream.has_accounts:
                for parent in self.parents(stream.name):
                    yield from self._chain(stream.name, parent, told, whole=whole)

    def read_accounts(
        self,
        told: Callable[[int], object] = lambda count: None,
        without: Collection[tuple[int, int]] = (),
    ) -> Iterator[Page]:
        """As `read`, the pages alone on which accounts stand."""
        yield from self._accounts(told, without, whole=False)

    def _accounts(
        self, told: Callable[[int], object], without: Collection[tuple[int, int]], *, whole: bool
    ) -> Iterator[Page]:
        for parent in self.parents():
            yield from self._chain("sessions", parent, told, whole=whole)
        parts = self.parts()
        for part in parts:
            yield from self._chain("accounts", "", told, part, without, whole=whole)
        # Beside a listing, events may break off: they did not reach back far enough.
        yield from self._chain("events", "", told, whole=whole and not parts)

    def _chain(
        self,
        stream: str,
        parent: str,
        told: Callable[[int], object],
        part: int = 0,
        without: Collection[tuple[int, int]] = (),
        *,
        whole: bool,
    ) -> Iterator[Page]:
        last: Header | None = None
        for number in count():
            path = self._name(stream, parent, part, number)
            if not path.exists():
                break
            last = None  # nothing is known of a page that is passed over
            if (part, number) not in without:
                page = _decode(path)
                last = page.header
                yield page
            told(1)
        if whole and last is not None and last.cursor is not None:
            raise CorruptPage(f"The page {path} is missing.", AGAIN)

    def _path(self, header: Header) -> Path:
        return self._name(header.stream, header.parent, header.part, header.number)

    def _name(self, stream: str, parent: str, part: int, number: int) -> Path:
        chain = f"{stream}-{parent or f'p{part:04d}'}"
        return self.folder / f"{chain}-{number:06d}{SUFFIX}"


def _encode(page: Page) -> bytes:
    header = msgspec.json.encode(page.header)
    content = header + b"\n" + page.body
    return bytes(_CODEC.compress(b"%08x " % zlib.crc32(content) + content, asbytes=True))


def _decode(path: Path) -> Page:
    try:
        data = _content(path)
        checksum, content = data[:8], data[9:]
        if int(checksum, 16) != zlib.crc32(content):
            raise CorruptPage(f"The page {path} is damaged: its checksum is wrong.", AGAIN)
        header, _, body = content.partition(b"\n")
        return Page(_HEADER.decode(header), body)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise CorruptPage(f"The page {path} is damaged: {error}", AGAIN) from error


def _content(path: Path) -> bytes:
    with pa.input_stream(str(path), compression="zstd") as file:
        return bytes(file.read())
