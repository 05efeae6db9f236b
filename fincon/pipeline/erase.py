"""Erase an account, a customer or a session from a lake, and prove it."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fincon.errors import RunFailed, UsageError
from fincon.lake import erasure as lake_erasure
from fincon.lake.incremental import closed_sessions, write_closed_sessions
from fincon.lake.snapshots import latest_files_by_table
from fincon.lake.tables import Lake
from fincon.lake.version_sql import table_sql
from fincon.landing.page_store import PageStore
from fincon.landing.run_folder import RunFolder, refuse_half_loaded, unfinished_runs
from fincon.pipeline.recovery import recovered_lake
from fincon.privacy import Erased, erasure_key
from fincon.settings import ID_EXAMPLES, IDENTITIES
from fincon.storage.data_folder import DataFolder, open_duckdb
from fincon.storage.s3 import DataPath, S3Path
from fincon.transforms.schemas import ERASURES, OBJECT_TABLES, RUNS
from fincon.warehouse.views import publish


def foretell(data: DataPath, kind: str, identity: str) -> dict[str, int]:
    """Count what `erase` would remove, by table, and pages; nothing is changed.

    Raises:
        UsageError: the id is not of its kind, or nothing names it.
    """
    _check(kind, identity)
    with Lake(DataFolder(data).lake) as lake:
        _refuse_stripe_account(lake, identity)
        identities = [identity, *_belonging(lake, kind, identity)]
        found = {t.name: lake_erasure.count_rows(lake, t, identities) for t in OBJECT_TABLES}
    found["pages"] = len(_pages_naming(data, identities))
    if not any(found.values()) and not traces(data, identities):
        raise _nothing_names(identity)
    return {name: count for name, count in found.items() if count}


def erase(data: DataPath, kind: str, identity: str) -> dict[str, int]:
    """Remove every trace of an account, a customer or a session; return how many rows and pages, by table.

    A customer goes with their accounts and sessions. Files are rewritten or removed, the views published anew,
    the erasure recorded by a keyed hash, and every file scanned for what should be gone. A later sync leaves
    out what was erased, until `allow`.

    Raises:
        UsageError: the id is not of its kind, or nothing names it.
        RunFailed: a fetched run waits to be loaded, or a trace is left.
    """
    _check(kind, identity)
    with recovered_lake(data) as lake:
        _refuse_stripe_account(lake, identity)
        _drop_unfinished(data, lake)
        identities = [identity, *_belonging(lake, kind, identity)]
        if not traces(data, identities):
            raise _nothing_names(identity)
        removed: dict[str, int] = {}
        records = []
        for table in OBJECT_TABLES:
            for run_id, count in lake_erasure.erase(lake, table, identities).items():
                removed[table.name] = removed.get(table.name, 0) + count
                records.append({"table_name": table.name, "run_id": run_id, "rows_erased": count})
        closed = closed_sessions(lake.data)
        write_closed_sessions(lake.data, {session for session in closed if session[1] not in identities})
        pages = _pages_naming(data, identities)
        for page in pages:  # they are copies of what the tables hold
            page.unlink()
        removed["pages"] = len(pages)
        _record(data, lake, kind, identities, records)
        publish(data, latest_files_by_table(lake))
        if left := traces(data, identities):
            raise RunFailed(f"Traces are left in {', '.join(left)}.", "Run the same command again.")
        return removed


def allow(data: DataPath, kind: str, identity: str) -> None:
    """Let a later sync bring back what was erased."""
    _check(kind, identity)
    with recovered_lake(data) as lake:
        refuse_half_loaded(data)
        lake.add_records(ERASURES, [_entry(data, "allowed", kind, identity, {})])
        publish(data, latest_files_by_table(lake))


def traces(data: DataPath, identities: list[str]) -> list[str]:
    """Find the files under ``data`` that still name one of the ids: pages and Parquet unpacked, all else byte by byte."""
    found = {str(path) for path in _pages_naming(data, identities)}
    pattern = rf"\b({'|'.join(identities)})\b"  # not where it begins a longer id; between other bytes than text anywhere
    in_text, anywhere = (re.compile(p.encode()) for p in (pattern, "|".join(identities)))
    with open_duckdb(data) as query:
        for path in _files(data):
            if path.suffix == ".parquet":
                text = "SELECT count(*) FROM read_parquet(?, hive_partitioning = false) AS t WHERE regexp_matches(t::VARCHAR, ?)"
                if (query.execute(text, [str(path), pattern]).fetchone() or (0,))[0]:
                    found.add(str(path))
            elif (in_text if path.suffix == ".json" else anywhere).search(path.read_bytes()):
                found.add(str(path))
    return sorted(found)


def _files(data: DataPath) -> Iterator[DataPath]:
    """Yield every file of the data folder, and of the work folder where that is another."""
    if isinstance(data, S3Path):
        yield from data.rglob("*")
    yield from (path for path in DataFolder(data).work.rglob("*") if path.is_file())


def _nothing_names(identity: str) -> UsageError:
    return UsageError(
        f"Nothing here names {identity}.", "Check the id and the folder (--data). Nothing was changed."
    )


def _check(kind: str, identity: str) -> None:
    if not IDENTITIES[kind].fullmatch(identity):
        raise UsageError(
            f"{identity!r} is not the id of {'an' if kind == 'account' else 'a'} {kind}.",
            f"It looks like {ID_EXAMPLES[kind]}.",
        )


def _refuse_stripe_account(lake: Lake, identity: str) -> None:
    """Refuse a Stripe account that is synced, which stands in every row and run of its own: holders alone are erased."""
    if any(identity == asked for (asked,) in lake.records(RUNS, "stripe_account")):
        raise UsageError(
            f"{identity} is a Stripe account that is synced here, not an account holder.",
            "Name its customers one by one, or keep it in a data folder of its own. Nothing was changed.",
        )


def _drop_unfinished(data: DataPath, lake: Lake) -> None:
    """Remove pages of interrupted runs, which are fetched again; those of a fetched one must be loaded first."""
    for run in unfinished_runs(data, lake.run_ids()):
        folder = RunFolder(data, run.run_id)
        if folder.fetch_counts() is not None:
            raise RunFailed(
                f"Run {run.run_id} is fetched but not loaded.", "Run `fincon sync` first, then erase."
            )
        folder.remove()


def _belonging(lake: Lake, kind: str, identity: str) -> list[str]:
    """Return the ids of a customer's accounts and sessions, as any version of those names them."""
    if kind != "customer":
        return []
    found: list[str] = []
    for table in OBJECT_TABLES:
        files = lake.files(table)
        if files and table.name in ("accounts", "sessions"):
            with lake.query() as query:
                rows = query.execute(
                    f"SELECT DISTINCT {table.key[0]} FROM {table_sql(table, files)} WHERE $id IN"  # noqa: S608 - our own names
                    " (account_holder_customer_id, account_holder_customer_account_id)",
                    {"id": identity},
                ).fetchall()
            found += [row[0] for row in rows]
    return found


def _pages_naming(data: DataPath, identities: list[str]) -> list[Path]:
    return [p for folder in DataFolder(data).pages.glob("*") for p in PageStore(folder).naming(identities)]


def _record(
    data: DataPath, lake: Lake, kind: str, identities: list[str], records: Iterable[dict[str, Any]]
) -> None:
    """Record the erasure: a row of ``erasures`` per table and run, and one per identity that must stay away."""
    rows = [_entry(data, "erased", kind, identities[0], record) for record in records]
    rows += [_entry(data, "erased", _kind(identity), identity, {}) for identity in identities]
    lake.add_records(ERASURES, rows)


def _kind(identity: str) -> str:
    return next(kind for kind, pattern in IDENTITIES.items() if pattern.fullmatch(identity))


def _entry(data: DataPath, action: str, kind: str, identity: str, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "action": action,
        "identity_kind": kind,
        "identity_hash": Erased(erasure_key(data)).hash(identity),
        "observed_at": datetime.now(UTC),
        **record,
    }
