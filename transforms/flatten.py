"""Pages → rows of every table that a run fills, as Arrow tables."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import pyarrow as pa

from fincon.transforms.accounts import account_tables, read_accounts
from fincon.transforms.authorizations import authorization_tables
from fincon.transforms.columns import Columns, columns, to_arrow
from fincon.transforms.decode import Decoders
from fincon.transforms.events import read_events
from fincon.transforms.features import feature_tables, read_owners, read_transactions
from fincon.transforms.page import Origin, Page
from fincon.transforms.parsed_objects import ParsedObjects
from fincon.transforms.rejects import Reject
from fincon.transforms.schemas import OBJECT_TABLES, REJECTS
from fincon.transforms.sessions import read_sessions, session_tables
from fincon.transforms.streams import stream_named

READERS: dict[str, Callable[[ParsedObjects, Sequence[Page]], None]] = {
    "sessions": read_sessions,
    "accounts": read_accounts,
    "events": read_events,
    "webhooks": read_events,
    "single_accounts": read_accounts,
    "transactions": read_transactions,
    "owners": read_owners,
}
"""What reads the pages of each stream that stand together."""


def flatten(pages: Iterable[Page], origin: Origin, decoders: Decoders | None = None) -> dict[str, pa.Table]:
    """The rows of ``pages``: one Arrow table for each of `OBJECT_TABLES`, by name.

    The pages of a chain must stand together where the stream is flattened whole; of others they may be any part. What
    cannot be read lands in ``rejects``; nothing is dropped. ``decoders``, given again for the pages that follow, spare
    them what was learned of unknown attributes.

    Raises:
        ValueError: a page is of a stream that fincon does not know.
    """
    parsed = ParsedObjects(decoders or Decoders(), origin.stripe_version)
    for (stream, _), chain in groupby(pages, key=lambda page: (page.header.stream, page.header.parent)):
        READERS[stream_named(stream).name](parsed, list(chain))
    found = {**session_tables(parsed), **account_tables(parsed), **feature_tables(parsed)}
    found |= authorization_tables(parsed)
    found[REJECTS.name] = _reject_columns(parsed.rejects)
    return {table.name: to_arrow(table, found[table.name], origin) for table in OBJECT_TABLES}


def _reject_columns(rejects: Sequence[Reject]) -> Columns:
    return columns(Reject._fields, rejects)
