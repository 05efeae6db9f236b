"""Keep the rows of a first listing in final parts: in the form that the lake has, so that a load adds them as they are.

Nothing is known that they could be compared with. What may show an account again stands in other parts, and is compared.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fincon.lake.added_file import log_of
from fincon.lake.version_sql import NOTHING
from fincon.transforms.accounts import FILLED
from fincon.transforms.page import Page
from fincon.transforms.schemas import ACCOUNTS

FINAL = "f"
"""The letter of the parts that a load adds as they are; what the lake's log says of one stands beside it."""

ROWS_A_GROUP = 10_000
"""Rows of a final part that are read together: few, for whoever reads them holds them all at once."""

LOG = ".json"
"""The ending of what the lake's log says of a final part."""


class SeenAgainError(Exception):
    """An account of a first listing was seen again where only what is seen once is expected."""


class Seen:
    """The accounts of a first listing, by a hash of this process: two of one hash cost a second look at them, or at all.

    Eight bytes an account, and a time a page.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, pa.RunEndEncodedArray, bool]] = []

    @property
    def has_final(self) -> bool:
        """Whether a final part was taken in."""
        return any(is_final for _, _, is_final in self._parts)

    def add(self, accounts: Sequence[pa.Table], *, are_final: bool) -> None:
        """Take in the rows of accounts of a part."""
        import pyarrow.compute as pc  # no small run does: see `added_file.FEW_ROWS`

        rows = pa.concat_tables([ACCOUNTS.empty_staged, *accounts]).combine_chunks()
        ids = np.fromiter(map(hash, rows["account_id"].to_pylist()), np.int64, rows.num_rows)
        times = pc.run_end_encode(rows["observed_at"].cast(pa.int64()).combine_chunks())
        self._parts.append((ids, times, are_final))

    def again(self, last: Sequence[pa.Table]) -> pa.ChunkedArray:
        """Return the ids of those accounts of the ``last`` part that stand in another one, or there twice.

        Raises:
            SeenAgainError: an account stands in two final parts, or elsewhere on an earlier page than in one.
        """
        import pyarrow.compute as pc  # no small run does: see `added_file.FEW_ROWS`

        self.add(last, are_final=False)
        ids = np.concatenate([part for part, _, _ in self._parts])
        ids.sort()
        twice = np.unique(ids[1:][ids[1:] == ids[:-1]])
        moments: dict[int, list[tuple[int, bool]]] = {}
        for part, times, is_final in self._parts:
            places = np.flatnonzero(np.isin(part, twice))
            at = pc.run_end_decode(times).to_numpy()[places]
            for account, time in zip(part[places].tolist(), at.tolist(), strict=True):
                moments.setdefault(account, []).append((time, is_final))
        if any(is_final for seen in moments.values() for _, is_final in sorted(seen)[1:]):
            raise SeenAgainError  # something of the account was seen before it
        rows = pa.concat_tables([ACCOUNTS.empty_staged, *last])
        return rows["account_id"].filter(pa.array(np.isin(self._parts[-1][0], twice)))


def keep_apart(parts: dict[str, list[pa.Table]], again: pa.ChunkedArray, folder: Path, number: str) -> None:
    """Write the rows of all accounts but those seen ``again`` as final parts, and keep the rows of these in ``parts``."""
    import pyarrow.compute as pc  # as above

    kept = {}
    for table in FILLED:
        rows = pa.concat_tables(parts[table.name])
        is_again = pc.is_in(rows["account_id"], again.combine_chunks())
        kept[table.name] = [rows.filter(is_again)]
        parts[table.name] = [rows.filter(pc.invert(is_again))]
    write_final(parts, folder, number)
    parts.update(kept)


def set_ends_aside(pages: Iterable[Page], ends: list[Page]) -> Iterator[Page]:
    """Yield pages that others follow, and put those with which a range ends into ``ends``.

    What stands on these may stand on the next range's first page too.
    """
    for page in pages:
        if page.header.cursor is None:
            ends.append(page)
        else:
            yield page


def says_all(accounts: Iterable[pa.Table]) -> bool:
    """Return whether each row says all of its account, and was on a list: no row closes what is known, or leaves it open."""
    own = [column.name for column in ACCOUNTS.staged]
    return all(rows[name].null_count == rows.num_rows for rows in accounts for name in own)


def write_final(parts: dict[str, list[pa.Table]], folder: Path, number: str) -> None:
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


def final_and_others(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the final parts among some, and the others."""
    final = [file for file in files if re.search(rf"-{FINAL}\d+\.parquet$", file)]
    return final, [file for file in files if file not in final]


def log_of_part(file: str) -> str:
    """Return what the lake's log says of a final part."""
    return Path(file).with_suffix(LOG).read_text(encoding="utf-8")
