"""Flatten pages into Parquet parts, some while other pages are still being fetched.

Of a first listing, of which nothing is known that its rows could be compared with, most parts are `FINAL`: in the form that the
lake has, so that a load adds them as they are. What may show an account again stands in other parts, and is compared.
"""

import gc
import queue
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fincon.lake.added_file import log_of
from fincon.lake.version_sql import NOTHING, nothing_sql, read_parquet_sql
from fincon.storage.memory import give_memory_back
from fincon.transforms.decode import Decoders
from fincon.transforms.flatten import flatten
from fincon.transforms.page import Header, ListedPage, Origin, Page
from fincon.transforms.reconcile import Sums, add_page
from fincon.transforms.schemas import ACCOUNTS, BALANCES, OBJECT_TABLES, REFRESHES, TIMESTAMP, Table
from fincon.transforms.streams import STREAMS

PAGES_A_BATCH = 10
"""Pages flattened at a time: few enough for the caches, enough to pay for the arrays."""

BATCHES_A_PART = 20
"""Batches to a staged Parquet part: some 20,000 accounts."""

ROWS_A_GROUP = 61_440
"""Rows of a final part that are read together."""

LOG = ".json"
"""The ending of what the lake's log says of a final part."""

PARTS_TOGETHER = 5
"""After so many parts what was freed goes back to the system: it lies in small pieces, more with each part."""

QUEUED_PAGES = 40
"""Pages that may wait to be flattened; whoever brings another waits, so that memory stays bounded."""


FINAL = "f"
"""The letter of the parts that a load adds as they are; what the lake's log says of one stands beside it."""

FILLED = (ACCOUNTS, BALANCES, REFRESHES)
"""The tables that accounts fill: only of these are there final parts."""

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
    is a whole part: where nothing is known yet that they could be compared with, whole parts are `FINAL`.

    Raises:
        SeenAgainError: an account stands in two final parts, or elsewhere on an earlier page than in one.
    """
    folder = folder / origin.run_id
    folder.mkdir(mode=0o700, exist_ok=True)
    parts: dict[str, list[pa.Table]] = {name: [] for name in (LISTED, *(t.name for t in OBJECT_TABLES))}
    number, decoders, seen = 0, Decoders(), _Seen()
    ends: list[Page] = []
    for number, batch in enumerate(batches(_until_the_end(pages, ends) if is_first else pages), start=1):
        _stage_batch(batch, origin, decoders, parts)
        if number % BATCHES_A_PART == 0:
            if is_first and number == BATCHES_A_PART and not is_first():
                is_first = None
            if is_first:
                seen.add(parts[ACCOUNTS.name], are_final=_says_all(parts[ACCOUNTS.name]))
                if seen.ends_final:
                    _write_final(parts, folder, f"{number:06d}")
            _write_parts(parts, folder, f"{prefix}{number:06d}")
        if number % (PARTS_TOGETHER * BATCHES_A_PART) == 0:
            give_memory_back()
    for batch in batches(ends):
        _stage_batch(batch, origin, decoders, parts)
    if seen.has_final:
        give_memory_back()  # of the pages, before all accounts are looked at together
        last = parts[ACCOUNTS.name]
        again = seen.again(last)
        if last and _says_all(last):
            _keep_apart(parts, again, folder, f"{number + 1:06d}")
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


class SeenAgainError(Exception):
    """An account of a first listing was seen again where only what is seen once is expected."""


class _Seen:
    """The accounts of a first listing, by a hash of this process: two of one hash cost a second look at them, or at all.

    Eight bytes an account, and a time a page.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, pa.RunEndEncodedArray, bool]] = []

    @property
    def has_final(self) -> bool:
        """Whether a final part was taken in."""
        return any(is_final for _, _, is_final in self._parts)

    @property
    def ends_final(self) -> bool:
        """Whether what was taken in last was a final part."""
        return self._parts[-1][2]

    def add(self, accounts: Sequence[pa.Table], *, are_final: bool) -> None:
        """Take in the rows of accounts of a part."""
        rows = pa.concat_tables([ACCOUNTS.empty_staged, *accounts]).combine_chunks()
        ids = np.fromiter(map(hash, rows["account_id"].to_pylist()), np.int64, rows.num_rows)
        times = pc.run_end_encode(rows["observed_at"].cast(pa.int64()).combine_chunks())
        self._parts.append((ids, times, are_final))

    def again(self, last: Sequence[pa.Table]) -> pa.ChunkedArray:
        """Return the ids of those accounts of the ``last`` part that stand in another one, or there twice.

        Raises:
            SeenAgainError: an account stands in two final parts, or elsewhere on an earlier page than in one.
        """
        self.add(last, are_final=False)
        ids = np.concatenate([part for part, _, _ in self._parts])
        ids.sort()
        twice = np.unique(ids[1:][ids[1:] == ids[:-1]])
        first: dict[int, list[tuple[int, bool]]] = {}
        for part, times, is_final in self._parts:
            places = np.flatnonzero(np.isin(part, twice))
            at = pc.run_end_decode(times).to_numpy()[places]
            for account, time in zip(part[places].tolist(), at.tolist(), strict=True):
                first.setdefault(account, []).append((time, is_final))
        if any(is_final for seen in first.values() for _, is_final in sorted(seen)[1:]):
            raise SeenAgainError  # something of the account was seen before it
        rows = pa.concat_tables([ACCOUNTS.empty_staged, *last])
        return rows["account_id"].filter(pa.array(np.isin(self._parts[-1][0], twice)))


def _keep_apart(parts: dict[str, list[pa.Table]], again: pa.ChunkedArray, folder: Path, number: str) -> None:
    """Write the rows of all accounts but those seen ``again`` as final parts, and keep the rows of these in ``parts``."""
    kept = {}
    for table in FILLED:
        rows = pa.concat_tables(parts[table.name])
        is_again = pc.is_in(rows["account_id"], again.combine_chunks())
        kept[table.name] = [rows.filter(is_again)]
        parts[table.name] = [rows.filter(pc.invert(is_again))]
    _write_final(parts, folder, number)
    parts.update(kept)


def _until_the_end(pages: Iterable[Page], ends: list[Page]) -> Iterator[Page]:
    """Yield pages that others follow, and put those with which a range ends into ``ends``.

    What stands on these may stand on the next range's first page too.
    """
    for page in pages:
        if page.header.cursor is None:
            ends.append(page)
        else:
            yield page


def _says_all(accounts: Iterable[pa.Table]) -> bool:
    """Return whether each row says all of its account, and was on a list: no row closes what is known, or leaves it open."""
    own = [column.name for column in ACCOUNTS.staged]
    return all(rows[name].null_count == rows.num_rows for rows in accounts for name in own)


def _write_final(parts: dict[str, list[pa.Table]], folder: Path, number: str) -> None:
    """Write the rows of the tables that accounts fill as the lake has them, and what its log says of them."""
    for table in FILLED:
        rows = pa.concat_tables(parts[table.name]).select(table.schema.names)
        if table.name in NOTHING:  # as the first version of an object, that there is nothing is none
            rows = rows.filter(rows[NOTHING[table.name]].is_valid())
        parts[table.name].clear()
        if rows:
            path = folder / f"{table.name}-{FINAL}{number}.parquet"
            pq.write_table(rows, path, compression="zstd", compression_level=1, row_group_size=ROWS_A_GROUP)
            path.with_suffix(LOG).write_text(log_of(rows), encoding="utf-8")


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
    return f"({nothing_sql(table.staged_schema)} UNION ALL BY NAME FROM {read_parquet_sql(files)})"


def final_and_others(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the final parts among some, and the others."""
    final = [file for file in files if re.search(rf"-{FINAL}\d+\.parquet$", file)]
    return final, [file for file in files if file not in final]


def log_of_part(file: str) -> str:
    """Return what the lake's log says of a final part."""
    return Path(file).with_suffix(LOG).read_text(encoding="utf-8")


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
