"""Flatten pages into Parquet parts, some while other pages are still being fetched.

Of a first listing most are final parts (`lake.final_parts`).
"""

import gc
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fincon.lake.final_parts import Seen, keep_apart, says_all, set_ends_aside, write_final
from fincon.lake.version_sql import with_columns_sql
from fincon.storage.memory import give_memory_back
from fincon.transforms.decode import Decoders
from fincon.transforms.flatten import flatten
from fincon.transforms.page import Header, ListedPage, Origin, Page
from fincon.transforms.reconcile import Sums, add_page
from fincon.transforms.schemas import ACCOUNTS, OBJECT_TABLES, TIMESTAMP, Table
from fincon.transforms.streams import STREAMS

PAGES_A_BATCH = 10
"""Pages flattened at a time: few enough for the caches, enough to pay for the arrays."""

BATCHES_A_PART = 15
"""Batches to a staged Parquet part: some 15,000 accounts."""

PARTS_TOGETHER = 5
"""After so many parts what was freed goes back to the system: it lies in small pieces, more with each part."""

QUEUED_PAGES = 40
"""Pages that may wait to be flattened; whoever brings another waits, so that memory stays bounded."""


IsFirst = Callable[[], bool]
"""Tells whether nothing is known of a Stripe account."""

LISTED = "listed"
"""How the parts begin that say which accounts stood on a listing, by what `lake.digests` knows them."""

LISTED_SCHEMA = pa.schema(
    {
        "run_id": pa.string(),
        "stripe_account": pa.string(),
        "account_id": pa.string(),
        "observed_at": TIMESTAMP,
        "first": pa.uint64(),  # of the digest's two halves
        "second": pa.uint64(),
        "has_balance": pa.bool_(),
        "unchanged": pa.bool_(),
    }
)


class Stager:
    """Flattens pages on a thread of its own as they come, and sums them up read in another way.

    Those of streams that are not ``staged_early`` are left to the load. ``is_first`` as `stage` has it.
    """

    def __init__(self, origin: Origin, folder: Path, is_first: IsFirst | None = None) -> None:
        self.staged: set[tuple[int, int]] = set()
        """(part, number) of each page taken."""
        self.sums: Sums = Counter()
        """What is on them: `transforms.reconcile`."""
        self._queue: queue.Queue[Page | None] = queue.Queue(QUEUED_PAGES)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(
            target=self._work, args=(origin, folder, is_first), name="stager", daemon=True
        )
        self._thread.start()

    def take(self, page: Page) -> None:
        """Take a page that is on disk, unless it is left to the load; all are once staging has failed."""
        if STREAMS[page.header.stream].staged_early and self._failure is None:
            self._queue.put(page)
            self.staged.add((page.header.part, page.header.number))

    def close(self) -> bool:
        """Wait for the last page; return False, and have taken none, where one of them cannot be flattened.

        Raises:
            Exception: what the machine refused.
        """
        self._queue.put(None)
        self._thread.join()
        if self._failure is None:
            return True
        if isinstance(self._failure, OSError | MemoryError) or not isinstance(self._failure, Exception):
            raise self._failure
        self.staged.clear()
        self.sums.clear()
        return False

    def _work(self, origin: Origin, folder: Path, is_first: IsFirst | None) -> None:
        pages = iter(self._queue.get, None)
        try:
            stage(self._summed(pages), origin, folder, prefix="s", is_first=is_first)
        except BaseException as error:  # noqa: BLE001 - raised again by close
            self._failure = error
            for _ in (
                pages
            ):  # whoever brings a page must not wait for ever; after the last one there is nothing to take
                pass

    def _summed(self, pages: Iterable[Page]) -> Iterator[Page]:
        for page in pages:
            add_page(self.sums, page)
            yield page


def stage(
    pages: Iterable[Page], origin: Origin, folder: Path, prefix: str = "a", is_first: IsFirst | None = None
) -> None:
    """Flatten a run's pages into Parquet parts in its folder under ``folder``, `BATCHES_A_PART` batches to a part.

    ``prefix``, a letter, sets the parts of two calls apart. ``is_first``, given for pages of a listing alone, is asked once there
    is a whole part: where nothing is known yet that they could be compared with, whole parts are final ones.

    Raises:
        SeenAgainError: an account stands in two final parts, or elsewhere on an earlier page than in one.
    """
    folder = folder / origin.run_id
    folder.mkdir(mode=0o700, exist_ok=True)
    parts: dict[str, list[pa.Table]] = {name: [] for name in (LISTED, *(t.name for t in OBJECT_TABLES))}
    number, decoders, seen = 0, Decoders(), Seen()
    ends: list[Page] = []
    for number, batch in enumerate(batches(set_ends_aside(pages, ends) if is_first else pages), start=1):
        _stage_batch(batch, origin, decoders, parts)
        if number % BATCHES_A_PART == 0:
            if is_first and number == BATCHES_A_PART and not is_first():
                is_first = None
            if is_first:
                are_final = says_all(parts[ACCOUNTS.name])
                seen.add(parts[ACCOUNTS.name], are_final=are_final)
                if are_final:
                    write_final(parts, folder, f"{number:06d}")
            _write_parts(parts, folder, f"{prefix}{number:06d}")
        if number % (PARTS_TOGETHER * BATCHES_A_PART) == 0:
            give_memory_back()
    for batch in batches(ends):
        _stage_batch(batch, origin, decoders, parts)
    if seen.has_final:
        give_memory_back()  # of the pages, before all accounts are looked at together
        last = parts[ACCOUNTS.name]
        again = seen.again(last)
        if last and says_all(last):
            keep_apart(parts, again, folder, f"{number + 1:06d}")
    _write_parts(parts, folder, f"{prefix}{number + 1:06d}")
    if number > 2 * BATCHES_A_PART:
        give_memory_back()  # what comes next, DuckDB, has memory of its own
    else:
        pa.default_memory_pool().release_unused()


def _stage_batch(
    batch: list[Page], origin: Origin, decoders: Decoders, parts: dict[str, list[pa.Table]]
) -> None:
    with _collector_paused():
        flat = flatten(batch, origin, decoders)
    for name, rows in flat.items():
        parts[name].append(rows)
    if pages_listed := [page for page in batch if isinstance(page, ListedPage)]:
        parts[LISTED].append(_listed_rows(pages_listed, origin))


def _listed_rows(pages: Sequence[ListedPage], origin: Origin) -> pa.Table:
    """Return a row for each account on pages of which digests were taken."""
    listed = [page.listed for page in pages]
    halves = np.frombuffer(b"".join([one.digests for one in listed]), np.uint64)
    times = [np.full(len(page.listed.ids), page.header.observed_at) for page in pages]
    columns = [
        *(pa.repeat(one, len(halves) // 2) for one in (origin.run_id, origin.stripe_account)),
        pa.array([account_id for one in listed for account_id in one.ids], pa.string()),
        pa.array(np.concatenate(times), pa.int64()).cast(TIMESTAMP),
        pa.array(halves[0::2]),
        pa.array(halves[1::2]),
        pa.array([has for one in listed for has in one.had_balance], pa.bool_()),
        pa.array([is_known for one in listed for is_known in one.unchanged], pa.bool_()),
    ]
    return pa.Table.from_arrays(columns, schema=LISTED_SCHEMA)


def _write_parts(parts: dict[str, list[pa.Table]], folder: Path, number: str) -> None:
    for name, tables in parts.items():
        rows = pa.concat_tables(tables) if tables else None
        if rows:
            path = folder / f"{name}-{number}.parquet"
            pq.write_table(rows, path, compression="lz4", use_dictionary=False, write_statistics=False)
        tables.clear()


def staged_files(folder: Path, table: Table, origins: Iterable[Origin]) -> list[str]:
    """Return the parts of a table that `stage` wrote for these runs, in order; none when they brought no row of it."""
    return _parts_of(folder, table.name, origins)


def staged_sql(table: Table, files: Sequence[str]) -> str:
    """Write the relation of a table's parts with all columns that staged rows have, though final parts have those of the lake."""
    return with_columns_sql(table.staged_schema, files)


def listed_files(folder: Path, origins: Iterable[Origin]) -> list[str]:
    """Return the parts of `LISTED` that `stage` wrote for these runs, in order."""
    return _parts_of(folder, LISTED, origins)


def _parts_of(folder: Path, name: str, origins: Iterable[Origin]) -> list[str]:
    pattern = f"{name}-[a-z][0-9]*.parquet"
    return [str(path) for origin in origins for path in sorted((folder / origin.run_id).glob(pattern))]


def has_staged(folder: Path, origins: Iterable[Origin]) -> bool:
    """Return whether these runs brought any row."""
    return any(staged_files(folder, table, origins) for table in OBJECT_TABLES)


def batches(pages: Iterable[Page]) -> Iterator[list[Page]]:
    """Yield pages in lots of `PAGES_A_BATCH` or a little more, so that no session is split, nor an account's owners."""
    batch: list[Page] = []
    for page in pages:
        if len(batch) >= PAGES_A_BATCH and not _together(batch[-1].header, page.header):
            yield batch
            batch = []
        batch.append(page)
    if batch:
        yield batch


def _together(before: Header, header: Header) -> bool:
    """Return whether a page goes on with the chain of the one before it, which is flattened in one piece."""
    return STREAMS[header.stream].flatten_whole and header.parent == before.parent


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector, which takes half the time of flattening and finds nothing in it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
