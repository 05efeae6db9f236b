"""SQL over versions: which rows are the latest, and which of a run's rows are new. Builds queries, runs none."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

from fincon.transforms.schemas import BALANCES, SEEN, Table

SQL = Path(__file__).resolve().parent.parent / "sql"

NULLABLE_KEYS = frozenset({"object_id", "parent_id", "path", "raw"})


def text(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def parquet(files: Sequence[str]) -> str:
    """The relation of these files."""
    return f"read_parquet([{', '.join(text(file) for file in files)}], union_by_name = true)"


def share(relation: str, table: Table, number: int, of: int) -> str:
    """A part of a relation, by objects: all rows of an object are in the same one of ``of`` shares."""
    if of == 1:
        return relation
    return f"(FROM {relation} WHERE hash({', '.join(table.full_key)}) % {of} = {number})"


def semi_join_objects(relation: str, table: Table, staged: str) -> str:
    """The rows of a relation whose objects are among the ``staged``."""
    keys = f"(SELECT DISTINCT {', '.join(table.full_key)} FROM {staged})"
    return f"(FROM {relation} AS version SEMI JOIN {keys} AS newest ON {same_object(table)})"


def same_object(table: Table, left: str = "version", right: str = "newest") -> str:
    """The join of two rows of one object; a key that cannot be null is compared plainly, and faster."""
    return " AND ".join(
        f"{left}.{k} {'IS NOT DISTINCT FROM' if k in NULLABLE_KEYS else '='} {right}.{k}"
        for k in table.full_key
    )


def latest_sql(table: Table, base: str, tail: str) -> str:
    """The latest version of each object: from ``base``, which has each object once, and ``tail``, in any order.

    Both are relations; an empty one is ``""``.
    """
    if not tail:
        return f"FROM {base}"
    if base:
        template = Template((SQL / "versions" / "latest.sql").read_text(encoding="utf-8"))
        return template.substitute(
            table=table.name, key=", ".join(table.full_key), base=base, tail=tail, same=same_object(table)
        )
    return f"""FROM {tail} AS version
        SEMI JOIN (SELECT {", ".join(table.full_key)}, max(observed_at) AS observed_at FROM {tail} GROUP BY ALL) AS newest
        ON {same_object(table)} AND version.observed_at = newest.observed_at"""


def changed_sql(table: Table, staged: str, known: str) -> str:
    """The rows of ``staged`` that belong to versions which differ from the version before them.

    One that is known already from a little later on (an event read again just before a listing) is left out too.

    ``known`` holds the versions of the same objects to compare with (``""``: none are). The rows of one version are compared
    together, so that a currency that is gone is a change. Contents are compared by 128 bits of two hashes that
    are computed here and now and kept nowhere, so that millions of objects fit into little memory.
    """
    key = ", ".join(table.full_key)
    kept = [c.name for c in table.columns if c.name not in {*table.full_key, *(c.name for c in SEEN)}]
    content = ", ".join(kept) or "true"
    first, second = f"hash({content})", f"hash('other', {content})"
    if table.member:
        first, second = f"(count(*), sum({first}::HUGEINT))", f"sum({second}::HUGEINT)"
    narrow = f"SELECT {key}, observed_at, {first} AS one, {second} AS two"
    group = "GROUP BY ALL" if table.member else ""
    seen = f"SELECT *, true AS staged FROM ({narrow} FROM {staged} {group})"
    if known:
        seen += f" UNION ALL SELECT *, false FROM ({narrow} FROM {known} {group})"
    return f"""
        WITH seen AS ({seen}),
        steps AS (
            SELECT
                *,
                lag(one) OVER order_seen AS one_before, lag(two) OVER order_seen AS two_before,
                lead(one) OVER order_seen AS one_after, lead(two) OVER order_seen AS two_after,
                lead(NOT staged) OVER order_seen AS known_after
            FROM seen WINDOW order_seen AS (PARTITION BY {key} ORDER BY observed_at, staged)
        ),
        changed AS (
            SELECT {key}, observed_at FROM steps
            WHERE staged
              AND (one IS DISTINCT FROM one_before OR two IS DISTINCT FROM two_before)
              AND NOT coalesce(known_after AND one_after = one AND two_after = two, false)
        )
        FROM {staged} AS version
        SEMI JOIN changed AS newest ON {same_object(table)} AND version.observed_at = newest.observed_at"""


def reconcile_sql(staged: str, known: str) -> str:
    """The currencies whose sums differ between what a run saw last of each account and what is known of it now.

    An account of which something newer was known (the run read an old event) is left out.
    """
    return f"""
        WITH seen_last AS ({latest_sql(BALANCES, "", staged)}),
        known AS (FROM ({known}) SEMI JOIN seen_last USING (stripe_account, account_id)),
        newer AS (
            SELECT stripe_account, account_id
            FROM known AS k JOIN seen_last AS s USING (stripe_account, account_id)
            WHERE k.observed_at > s.observed_at
        ),
        seen AS (FROM seen_last ANTI JOIN newer USING (stripe_account, account_id)),
        sums AS (
            SELECT currency, 'seen' AS side, (count(*), sum(current), sum(available), sum(used)) AS sums
            FROM seen GROUP BY currency
            UNION ALL
            SELECT currency, 'known', (count(*), sum(current), sum(available), sum(used))
            FROM known ANTI JOIN newer USING (stripe_account, account_id) GROUP BY currency
        )
        SELECT currency, max(sums) FILTER (side = 'seen') AS seen, max(sums) FILTER (side = 'known') AS known
        FROM sums GROUP BY currency HAVING seen IS DISTINCT FROM known"""
