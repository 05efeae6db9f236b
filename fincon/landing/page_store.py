"""Raw pages: each page of a run in a file of its own, so that a run can stop anywhere and go on.

A file is one line (checksum and header) and the body, compressed with zstd. It is there entirely or not at all.
Secrets are taken out, and personal data is redacted, before anything is written. Pages that follow each other by
cursors are a chain: one of a stream that there is once (the listing has one for each of its ranges), else one for
each parent. Which streams there are stands in `transforms.streams`.
"""

import hashlib
import os
import re
import threading
import zlib
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from fincon.errors import CorruptPage, RunFailed
from fincon.privacy import Erased, as_kept
from fincon.storage.data_folder import atomic_write, make_folder, write_whole
from fincon.transforms.event_times import SECOND
from fincon.transforms.identities import names_one_of
from fincon.transforms.listed import Find, compare
from fincon.transforms.page import ERASED, Header, ListedPage, Page
from fincon.transforms.redaction import Privacy, redact
from fincon.transforms.rejects import refusal_code
from fincon.transforms.streams import STREAMS, Stream, stream_named

SUFFIX = ".json.zst"
FIRST = f"-000000{SUFFIX}"
"""How the file of a chain's first page ends."""

HASHED = "="
"""How an id's hash begins in the name of a file."""

LONGEST_ID, FORBIDDEN = 100, {"/", "*", "?", "[", HASHED}
"""What an id may have that stands in the name of a file as it is. Stripe's have none of these."""

MAX_SKEW = timedelta(days=366)
"""How much later than an answer what is known already may be; `extract.server_clock` holds dates to a closer bound."""

APART = 10_000_000
"""By how many microseconds servers' clocks may differ and answers overtake each other without anything being wrong."""

AGAIN = "Run the same command again: it is fetched anew."

_HEADER = msgspec.json.Decoder(Header)
_CODEC = pa.Codec("zstd", compression_level=1)


class Chain(NamedTuple):
    """Whose pages follow each other: a stream's, of one parent or of one range of the listing."""

    stream: str
    parent: str = ""
    part: int = 0

    def file(self, number: int) -> str:
        """Return the name of the file of its page ``number``."""
        return f"{self._beginning}{number:06d}{SUFFIX}"

    @property
    def files(self) -> str:
        """Return the pattern of the files of all its pages."""
        return f"{self._beginning}*{SUFFIX}"

    @property
    def _beginning(self) -> str:
        return f"{self.stream}-{_file_part(self.parent) if self.parent else f'p{self.part:04d}'}-"


def _file_part(parent: str) -> str:
    """Return an id as it stands in the names of files: as it is, or its hash where no file can be named like it."""
    if len(parent) <= LONGEST_ID and parent.isprintable() and not FORBIDDEN & {*parent}:
        return parent
    return HASHED + hashlib.sha256(parent.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _utc(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros // 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _ignore(_: object) -> None:
    """Do nothing."""


class PageStore:
    """The pages of one run, in ``folder``."""

    def __init__(
        self,
        folder: Path,
        *,
        erased: Erased | None = None,
        privacy: Privacy | None = None,
        newest: int = 0,
        on_page_written: Callable[[Page], object] = _ignore,
    ) -> None:
        """Make the folder. ``newest`` is the latest time (microseconds) that any earlier run gave to a page.

        ``erased`` and ``privacy`` say what is left out of pages, and ``on_page_written`` gets each once it is on disk.
        """
        self.folder = folder
        self.erased = erased or Erased()
        self.privacy = privacy or Privacy()
        self.find_unchanged: Find | None = None
        """Tells which accounts of the listing are known as they stand there; None where nobody asks."""
        self._newest = newest
        self._on_page_written = on_page_written
        self._lock = threading.Lock()
        self._latest = 0
        make_folder(folder)

    def next_observed_at(self, date: int) -> int:
        """Return microseconds for a page of the second ``date`` (Unix): later than every page before, of earlier runs too.

        So pages have an order, though they are of one second, or answered by servers whose clocks differ a little.

        Raises:
            RunFailed: an earlier run saw pages of a time so much later that one of the clocks must have been wrong.
        """
        at = date * SECOND
        if self._newest - at > MAX_SKEW // timedelta(microseconds=1):
            raise RunFailed(
                f"Stripe's answers are dated {_utc(at)}, but what this folder knows of the account is of {_utc(self._newest)}.",
                "One of the clocks was wrong. Should it be the earlier one, restore the folder from a backup, or begin another.",
            )
        with self._lock:
            # Stripe's clock has seconds: the order of pages stands below them.
            self._latest = max(at, self._newest + 1, self._latest + 1)
            return self._latest

    def is_known_later(self, date: int, since: int = 0) -> bool:
        """Return whether an earlier run has a page of, or read up to, well after the second ``date`` (Unix).

        ``since`` is in microseconds. One of the clocks was wrong then.
        """
        return max(self._newest, since) > date * SECOND + APART

    @property
    def keeps_all(self) -> bool:
        """Return whether a page on which nothing is secret is kept as it came."""
        return self.privacy.choice == "keep" and not self.erased.hashes

    @property
    def latest(self) -> int:
        """Return the latest time (microseconds) of a page that was written, or read by `catch_up`; 0 where there is none."""
        return self._latest

    def write(self, page: Page) -> Page:
        """Write ``page`` and return it as it is kept: without secrets and who was erased, personal data redacted.

        Raises:
            ValueError: no stream has the name that its header says.
        """
        stream = stream_named(page.header.stream).name  # one that nobody reads would be lost without a word
        kept = Page(page.header, as_kept(page.body, stream, self.privacy, self.erased))
        # While it is in the processor's cache: writing gives way to other threads.
        compared = self._compared(kept)
        write_whole(self._path(page.header), _encode(kept))
        self._on_page_written(compared)
        return kept

    def _compared(self, page: Page) -> Page:
        """Return a page of the listing with what is known of it, where somebody asks."""
        if self.find_unchanged is None or page.header.stream != "accounts" or page.header.status != 200:
            return page
        listed = compare(page.body, self.find_unchanged)
        return ListedPage.of(page, listed) if listed else page

    def page(self, header: Header) -> Page:
        """Read a page that was written, as it was kept.

        Raises:
            CorruptPage: it is not what was written.
        """
        return _decode(self._path(header))

    def chain(self, stream: str, parent: str = "", part: int = 0) -> Iterator[Page]:
        """Yield the pages of one chain in order, up to the first that is missing or damaged."""
        for number in count():
            try:
                page = _decode(self.folder / Chain(stream, parent, part).file(number))
            except CorruptPage:
                return
            with self._lock:
                self._latest = max(self._latest, page.header.observed_at)
            yield page

    def last(self, stream: str, parent: str = "", part: int = 0) -> Header | None:
        """Return what stands at the end of a chain so far; None where it has not begun."""
        header = None
        for header, _ in self.chain(stream, parent, part):  # noqa: B007 - the last one is what is asked for
            pass
        return header

    def drop(self, stream: str, parent: str, *, keep_first: bool = False) -> None:
        """Remove the pages of one chain, its last one first: what is left at any moment is how the chain begins."""
        for path in sorted(self.folder.glob(Chain(stream, parent).files), reverse=True):
            if not (keep_first and path.name.endswith(FIRST)):
                path.unlink()

    def redact(self, privacy: Privacy) -> int:
        """Write the pages anew that ``privacy`` keeps less of, and remove those that are damaged; return how many those are."""
        changed = 0
        for path in self._files():
            try:
                page = _decode(path)
            except CorruptPage:
                path.unlink()
                changed += 1
                continue
            body = redact(page.body, stream_named(page.header.stream).name, privacy)
            if body != page.body:
                with atomic_write(path) as part:
                    part.write_bytes(_encode(Page(page.header, body)))
                changed += 1
        return changed

    def naming(self, identities: list[str]) -> list[Path]:
        """List the page files that name one of the ids anywhere, in their headers too; and those that are damaged, which may."""
        needles = re.compile(names_one_of(identities).encode())
        return [path for path in self._files() if _is_found(needles, path)]

    def started_parents(self, stream: str = "sessions") -> list[str]:
        """List the sessions (or accounts, of their own lists) of which there is at least a first page, in order."""
        found = []
        for file in self._names():
            if file.startswith(f"{stream}-") and file.endswith(FIRST):
                name = file.removeprefix(f"{stream}-").removesuffix(FIRST)
                found.append(_decode(self.folder / file).header.parent if name.startswith(HASHED) else name)
        return sorted(found)

    def parts(self, stream: str = "accounts") -> list[int]:
        """List the ranges of the listing of which there is at least a first page."""
        return [int(name.removeprefix("p")) for name in self.started_parents(stream)]

    def count(self) -> int:
        """Count the pages on disk."""
        return len(self._names())

    def count_requests(self) -> int:
        """Count the requests that brought the pages on disk: one may have brought the owners of many accounts."""
        owners = [_decode(self.folder / chain.file(0)).header for chain in self._chains(STREAMS["owners"])]
        unasked = [stream for stream in STREAMS.values() if not stream.path]
        sent = sum(len(list(self.folder.glob(f"{stream.name}-*{SUFFIX}"))) for stream in unasked)
        return self.count() - sent - len(owners) + len({header.request for header in owners})

    def catch_up(self) -> int:
        """Read what an interrupted run left, so that later pages get later times; return how many pages that is."""
        found = 0
        for path in self._files():
            try:
                self._latest = max(self._latest, _decode(path).header.observed_at)
            except CorruptPage:
                continue  # its chain ends before it, and it is fetched anew
            found += 1
        return found

    def missing_sessions(self) -> list[tuple[str, str]]:
        """List the sessions that Stripe answered 404 to, each with what it said."""
        headers = (page.header for page in self.read_sessions())
        return [(header.parent, header.words) for header in headers if header.status == 404]

    def refused_sessions(self) -> list[str]:
        """List, of each session that Stripe refused, the status and code of its answer."""
        headers = (page.header for page in self.read_sessions())
        return [refusal_code(header) for header in headers if header.status not in (200, 404, ERASED)]

    def read_sessions(self) -> Iterator[Page]:
        """Yield the own page of each session."""
        for parent in self.started_parents():
            yield _decode(self.folder / Chain("sessions", parent).file(0))

    def complete_until(self) -> int | None:
        """Return the time (microseconds) of the first page of the listing or of events: all before it is in this run.

        None where there is none, or one has a much later time than Stripe's clock showed, as an answer before was dated later:
        what happens until then would pass for older than what it shows.
        """
        lists = [stream for stream in STREAMS.values() if stream.tells_of_all]
        first = [
            _decode(self.folder / chain.file(0)).header for stream in lists for chain in self._chains(stream)
        ]
        answers = [header for header in first if header.status == 200]
        if any(0 < header.answered_at < header.observed_at - APART for header in answers):
            return None
        return min((header.observed_at for header in answers), default=None)

    def listed_from(self) -> int | None:
        """Return the time (microseconds) of the first page of the listing, or of the refusal in its place; None without one."""
        first = [_decode(self.folder / chain.file(0)) for chain in self._chains(STREAMS["accounts"])]
        return min((page.header.observed_at for page in first), default=None)

    def read(
        self,
        advance: Callable[[int], object] = _ignore,
        skip: Collection[tuple[int, int]] = (),
        *,
        require_complete: bool = False,
    ) -> Iterator[Page]:
        """Yield every page, stream by stream and chain by chain; ``advance`` gets the count of those done since.

        The pages of the listing in ``skip``, as (part, number), are passed over unread. With ``require_complete``, a
        chain whose last page says that more follow is an error: what it tells would pass for all there is.

        Raises:
            CorruptPage: a page is not what was written, or is missing; running again fetches it anew.
            RunFailed: there are pages of a stream that this version does not know.
        """
        self._check_streams()
        for stream in STREAMS.values():
            yield from self._read(stream, advance, skip, require_complete=require_complete)

    def read_accounts(self, skip: Collection[tuple[int, int]] = ()) -> Iterator[Page]:
        """Yield, as `read` does, the pages alone on which accounts stand."""
        for stream in STREAMS.values():
            if stream.has_accounts:
                yield from self._read(stream, _ignore, skip, require_complete=False)

    def _check_streams(self) -> None:
        # `count` counts every file, so that a run would pass for whole without them.
        unknown = {name.partition("-")[0] for name in self._names()} - STREAMS.keys()
        if unknown:
            raise RunFailed(
                f"The pages in {self.folder} are of {', '.join(sorted(unknown))}, which this version of fincon does not know.",
                "A newer one fetched them: go on with that.",
            )

    def _read(
        self,
        stream: Stream,
        advance: Callable[[int], object],
        skip: Collection[tuple[int, int]],
        *,
        require_complete: bool,
    ) -> Iterator[Page]:
        if stream.name == "events" and self.parts():
            require_complete = False  # they did not reach back far enough, and the listing was walked instead
        for chain in self._chains(stream):
            header: Header | None = None
            for number in count():
                path = self.folder / chain.file(number)
                if not path.exists():
                    break
                header = None  # nothing is known of a page that is passed over
                if stream.name != "accounts" or (chain.part, number) not in skip:
                    page = _decode(path)
                    header = page.header
                    yield page
                advance(1)
            if require_complete and header is not None and header.cursor is not None:
                raise CorruptPage(f"The page {path} is missing.", AGAIN)

    def _chains(self, stream: Stream) -> list[Chain]:
        """List the chains of a stream of which there is at least a first page, in order."""
        if stream.parent:
            return [Chain(stream.name, parent) for parent in self.started_parents(stream.name)]
        return [Chain(stream.name, part=part) for part in self.parts(stream.name)]

    def _files(self) -> list[Path]:
        return [self.folder / name for name in sorted(self._names())]

    def _names(self) -> list[str]:
        # As plain text: pathlib takes ten times as long, and a large run has ten thousand pages.
        return [name for name in os.listdir(self.folder) if name.endswith(SUFFIX)]  # noqa: PTH208 - see above

    def _path(self, header: Header) -> Path:
        return self.folder / Chain(header.stream, header.parent, header.part).file(header.number)


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


def _is_found(needles: re.Pattern[bytes], path: Path) -> bool:
    try:
        return needles.search(_content(path)) is not None
    except OSError:
        return True


def _content(path: Path) -> bytes:
    with pa.input_stream(str(path), compression="zstd") as file:
        return bytes(file.read())
