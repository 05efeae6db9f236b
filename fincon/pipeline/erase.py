"""Erase an account, a customer or a session from a lake, and prove it."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from fincon.errors import RunFailed, UsageError
from fincon.lake import erasure as lake_erasure
from fincon.lake.snapshots import latest_files_by_table
from fincon.lake.tables import Lake
from fincon.lake.version_sql import from_template, table_sql
from fincon.landing.run_folder import RunFolder, unfinished_runs
from fincon.pipeline.erasing import Erasure, begun, finish, note, pages_naming, refuse_others, traces
from fincon.pipeline.recovery import recovered_lake
from fincon.privacy import Erased, erasure_key
from fincon.settings import ID_EXAMPLES, IDENTITIES
from fincon.storage.data_folder import DataFolder
from fincon.storage.readers import WAIT_SECONDS
from fincon.storage.s3 import DataPath
from fincon.transforms.identities import is_distinct
from fincon.transforms.schemas import (
    ACCOUNTS,
    ERASURES,
    OBJECT_TABLES,
    RUNS,
    SESSION_ACCOUNTS,
    SESSIONS,
    Table,
)
from fincon.warehouse.views import publish

__all__ = ["allow", "erase", "traces"]

HELD = (
    f"Whoever had the views open was waited for, {WAIT_SECONDS:.0f} seconds long:"
    " their queries fail until they open the views again."
)


def _ignore(_: str) -> None:
    """Say nothing."""


def foretell(data: DataPath, kind: str, identity: str) -> dict[str, int]:
    """Count what `erase` would remove, by table, and pages; nothing is changed.

    Raises:
        UsageError: as `erase`.
    """
    _check(kind, identity)
    before = begun(data)
    if before and before.identities[0] == identity:
        return before.removed
    with Lake(DataFolder(data).lake) as lake:
        _refuse_stripe_account(lake, identity)
        kinds = {identity: kind, **_belonging(lake, kind, identity)}
        _refuse_indistinct(identity, kinds)
        found = Counter({t.name: sum(_lost(lake, t, kinds).values()) for t in OBJECT_TABLES})
    found["pages"] = len(pages_naming(data, list(kinds)))
    named = traces(data, list(kinds))
    if not any(found.values()) and not named:
        raise _nothing_names(identity)
    refuse_others(data, identity, named)
    return dict(+found)


def erase(
    data: DataPath, kind: str, identity: str, tell: Callable[[str], object] = _ignore
) -> dict[str, int]:
    """Remove every trace of an account, a customer or a session; return how many rows and pages, by table.

    A customer goes with their accounts and sessions. The erasure is recorded by keyed hashes, files take the place of those
    that name someone, the views are published anew, and every file is scanned for what should be gone. A later sync leaves
    out what was erased, until `allow`. One that was interrupted is finished by whoever writes next. ``tell`` gets what to
    say of readers whose views are gone.

    Raises:
        UsageError: the id is not of its kind, nothing names it, one that goes with it cannot be told from other words, or
            a file that is not this lake's names it.
        RunFailed: a fetched run waits to be loaded, or a trace is left.
    """
    _check(kind, identity)
    before = begun(data)
    with recovered_lake(data, reads_logs=True) as lake:
        if before and before.identities[0] == identity:
            return before.removed  # it is finished now
        _refuse_stripe_account(lake, identity)
        _drop_unfinished(data, lake)
        kinds = {identity: kind, **_belonging(lake, kind, identity)}
        _refuse_indistinct(identity, kinds)
        lake_erasure.remove_torn_files(lake)
        named = traces(data, list(kinds))
        if not named:
            raise _nothing_names(identity)
        refuse_others(data, identity, named)
        erasure = _planned(data, lake, kinds)
        note(data, erasure)
        if finish(data, lake):
            tell(HELD)
        return erasure.removed


def allow(data: DataPath, kind: str, identity: str) -> None:
    """Let a later sync bring back what was erased: of a customer, what went with them too."""
    _check(kind, identity)
    with recovered_lake(data) as lake:
        hidden = _hidden_with(lake, kind, Erased(erasure_key(data)).hash(identity))
        now = datetime.now(UTC)
        lake.add_records(
            ERASURES,
            [
                {"action": "allowed", "identity_kind": kind, "identity_hash": hash_, "observed_at": now}
                for hash_, kind in hidden.items()
            ],
        )
        publish(data, latest_files_by_table(lake))


def _hidden_with(lake: Lake, kind: str, identity_hash: str) -> dict[str, str]:
    """Return hash → kind of an identity and of all that the erasures of a customer hid with them."""
    hidden = {identity_hash: kind}
    if kind == "customer":
        records = lake.records(ERASURES, "sequence", "action", "identity_hash", "identity_kind")
        erased = [record for record in records if record[1] == "erased" and record[0] is not None]
        together = {sequence for sequence, _, hash_, _ in erased if hash_ == identity_hash}
        hidden |= {hash_: its_kind for sequence, _, hash_, its_kind in erased if sequence in together}
    return hidden


def _planned(data: DataPath, lake: Lake, kinds: dict[str, str]) -> Erasure:
    """Return what must go, and what is recorded of it: a row per table and run, and one per identity that must stay away."""
    identities, hashed, now = list(kinds), Erased(erasure_key(data)).hash, datetime.now(UTC).isoformat()
    first = identities[0]
    records: list[dict[str, Any]] = []
    removed: Counter[str] = Counter()
    for table in OBJECT_TABLES:
        for run_id, count in _lost(lake, table, identities).items():
            removed[table.name] += count
            lost = {"table_name": table.name, "run_id": run_id, "rows_erased": count}
            records.append({"identity_kind": kinds[first], "identity_hash": hashed(first), **lost})
    records += [
        {"identity_kind": kind, "identity_hash": hashed(identity)} for identity, kind in kinds.items()
    ]
    return Erasure(
        identities=identities,
        records=[{"action": "erased", "observed_at": now, **record} for record in records],
        after=lake.last_sequence(ERASURES),
        removed={**removed, "pages": len(pages_naming(data, identities))},
    )


def _lost(lake: Lake, table: Table, identities: Iterable[str]) -> dict[str, int]:
    """Return run → how many of its rows in a table go."""
    return lake_erasure.count_rows(lake, table, list(identities))


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


def _refuse_indistinct(identity: str, kinds: dict[str, str]) -> None:
    """Refuse where an id that goes with another may be any word: what names it could not be told."""
    for belonging, kind in kinds.items():
        if not is_distinct(belonging):
            raise UsageError(
                f"{identity} has the {kind} {belonging!r}, an id that cannot be told from other words.",
                "Stripe makes none like it: ask Stripe to mend it, or begin another data folder. Nothing was changed.",
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


def _belonging(lake: Lake, kind: str, identity: str) -> dict[str, str]:
    """Return id → kind of a customer's accounts and sessions, as any version of those names them.

    An account that has never named a holder is theirs whose session collected it.
    """
    if kind != "customer":
        return {}
    known = {t.name: table_sql(t, lake.files(t)) for t in (ACCOUNTS, SESSIONS, SESSION_ACCOUNTS)}
    with lake.query() as query:
        return dict(query.execute(from_template("belonging", **known), {"id": identity}).fetchall())
