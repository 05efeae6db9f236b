"""``fincon.duckdb``: views over the lake's Parquet files, made anew after each run and swapped in whole.

The file holds no data. Its views name their Parquet files one by one, so a reader sees the lake as it was when
the file was made, whatever happens meanwhile.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from fincon.errors import RunFailed, UsageError, reason_of
from fincon.lake.version_sql import SQL, latest_sql, same_object, text
from fincon.settings import data_folder
from fincon.storage.data_folder import DataFolder, atomic_write, local_copy, querying
from fincon.storage.s3 import DataPath
from fincon.transforms.money import THREE_DECIMAL, ZERO_DECIMAL
from fincon.transforms.schemas import (
    BALANCES,
    LOGS,
    OBJECT_TABLES,
    SEEN,
    TABLES,
    TRANSACTIONS,
    Column,
    Table,
)

AGAIN = "`fincon compact` or the next `fincon sync` makes the views anew."
READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)

VALID = (
    Column("valid_from", SEEN[0].type, "From when this version was the latest known (UTC)."),
    Column("valid_to", SEEN[0].type, "Until when; null = it still is."),
)
"""What ``history`` adds to each table."""

AMOUNTS = {
    table.name: {
        name: Column(
            major, pa.decimal128(38, 4), f"`{name}` in major units; null where the currency is not known."
        )
        for name, major in columns
    }
    for table, columns in (
        (BALANCES, [(name, f"{name}_amount") for name in ("current", "available", "used")]),
        (TRANSACTIONS, [("amount", "major_amount")]),
    )
}
"""Table → column in minor units → the column in major units that every view of it adds."""


class Files(Protocol):
    """Where a table is: ``active`` is all of it; its latest state is in ``base``, each object once, and ``tail``."""

    @property
    def base(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def tail(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def active(self) -> Sequence[str]: ...  # noqa: D102


def publish(data: DataPath, files: Mapping[str, Files]) -> DataPath:
    """Make ``fincon.duckdb`` in ``data`` over ``files`` (table → where its rows are) and swap it in.

    Raises:
        RunFailed: the file could not be written.
    """
    target = DataFolder(data).views
    views = list(statements(files))
    made_of = hashlib.sha256("\n".join([version("fincon"), *views]).encode()).hexdigest()
    try:
        with atomic_write(target) as part, querying(data, threads=1) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            if _attached_copy(connection, target, part, made_of):
                views = []
            else:
                connection.execute(f"ATTACH {text(str(part))} AS warehouse (STORAGE_VERSION 'v1.2.0')")
            connection.execute("USE warehouse; BEGIN; CREATE SCHEMA IF NOT EXISTS lake")
            for statement in [*named_files(data, files, made_of), *views]:
                connection.execute(statement)
            connection.execute("COMMIT; USE memory; DETACH warehouse")
    except (duckdb.Error, OSError) as error:
        raise RunFailed(
            f"The views could not be published in {target}: {reason_of(error)}", "The last ones still answer."
        ) from error
    return target


def _attached_copy(connection: duckdb.DuckDBPyConnection, target: DataPath, part: Path, made_of: str) -> bool:
    """Whether the last file has the same views: then ``part`` is a copy of it, attached as ``warehouse``.

    To make 16 questions over three layers of views and to comment on 450 columns takes several times as long as the rest.
    """
    if not target.exists():
        return False
    try:
        part.write_bytes(target.read_bytes())
        connection.execute(f"ATTACH {text(str(part))} AS warehouse")
        if connection.execute("SELECT warehouse.main.made_of()").fetchall() == [(made_of,)]:
            return True
    except duckdb.Error:
        pass  # it is damaged, or of a fincon that did not say: it is made anew
    connection.execute("DETACH DATABASE IF EXISTS warehouse")
    part.unlink()
    return False


def connect(data: str | DataPath | None = None) -> duckdb.DuckDBPyConnection:
    """A connection to the views as they are now, for notebooks: ``connect().sql("FROM accounts").df()``.

    Read-only and never in the way of a run. It goes on seeing the same state; connect again to see a newer one.

    Raises:
        UsageError: nothing has been synced into ``data`` (by default ``FINCON_DATA``, or ``./data``).
    """
    folder = data_folder(data)
    path = DataFolder(folder).views
    if not path.exists():
        raise UsageError(
            f"There is no {path}.",
            "Run `fincon sync` or `fincon demo` first, or name the folder with --data.",
        )
    # Attached, not opened: DuckDB shares one instance among all who open the same path in a process, and
    # that would go on showing the file as it was when the first of them opened it.
    connection = querying(folder)
    try:
        with local_copy(path) as file:
            connection.execute(
                f"SET TimeZone = 'UTC'; ATTACH {text(str(file))} AS fincon (READ_ONLY); USE fincon"
            )
        published_in = connection.execute("SELECT published_in()").fetchall()[0][0]
    except duckdb.Error as error:
        connection.close()
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}", AGAIN) from error
    if published_in != str(folder):
        connection.close()
        raise UsageError(f"{path} was made for {published_in}: the folder was moved or copied.", AGAIN)
    return connection


def checks() -> Iterator[tuple[str, str, str]]:
    """(name, promise, query) of each file in ``sql/checks``; a row that the query returns is a failure."""
    for path in sorted((SQL / "checks").glob("*.sql")):
        query = path.read_text(encoding="utf-8")
        yield path.stem, query.split("\n", 1)[0].removeprefix("-- "), query


def run_checks(data: DataPath, bounds: str = "") -> list[tuple[str, str, int]]:
    """(name, promise, how many rows it found wrong) of each check, after the SQL of ``bounds`` (SET memory_limit …)."""
    with connect(data) as connection:
        if bounds:
            connection.execute(bounds)
        return [
            (name, promise, len(connection.execute(query).fetchall())) for name, promise, query in checks()
        ]


def named_files(data: DataPath, files: Mapping[str, Files], made_of: str) -> Iterator[str]:
    """The SQL of the macros that differ from one run to the next: above all, which files each view of ``lake`` reads."""
    macros = {
        "main.published_in": (text(str(data)), "The data folder for which this file was made."),
        "main.made_of": (text(made_of), "What the views of this file were made of: a hash of their SQL."),
    }
    for table in TABLES:
        for view, paths in _parts(table, files[table.name]).items():
            listed = "[" + ", ".join(map(text, paths)) + "]"
            macros[f"lake.{view}_files"] = (listed, f"The Parquet files that lake.{view} reads.")
    for name, (value, meaning) in macros.items():
        yield f"CREATE OR REPLACE MACRO {name}() AS {value}"
        yield f"COMMENT ON MACRO {name} IS {text(meaning)}"


def _parts(table: Table, files: Files) -> dict[str, Sequence[str]]:
    """View of ``lake`` → its files: all of a table, and where there are any, its snapshot and what came since."""
    if not table.key:
        return {table.name: files.active}
    parts = {f"{table.name}_base": files.base, f"{table.name}_tail": files.tail}
    return {table.name: files.active, **{view: paths for view, paths in parts.items() if paths}}


def statements(files: Mapping[str, Files]) -> Iterator[str]:
    """The SQL that makes the views, in order. It names no file: see `named_files`."""
    yield "CREATE SCHEMA history"
    yield _minor_unit_digits()
    yield _major_units()
    for macro, meaning in MONEY_MACROS.items():
        yield f"COMMENT ON MACRO {macro} IS {text(meaning)}"
    for table in TABLES:
        yield _lake_view(table, table.name, filled=bool(files[table.name].active))
        yield from _comments(f"lake.{table.name}", table, "Its Parquet files, as they are.", ())
    for table in OBJECT_TABLES:
        for kind in ("history", "as_of"):
            template = Template((SQL / "versions" / f"{kind}.sql").read_text(encoding="utf-8"))
            yield template.substitute(
                table=table.name, key=", ".join(table.full_key), same=same_object(table)
            )
        yield from _latest(table, files[table.name])
        yield from _comments(f"history.{table.name}", table, "Every version.", VALID)
        yield from _comments(f"main.{table.name}", table, "The latest version of each.", ())
        meaning = f"{table.meaning} What was known at ts; a date or a time without a zone is UTC."
        yield f"COMMENT ON MACRO TABLE main.{table.name}_as_of IS {text(meaning)}"
    for table in LOGS:
        for schema in ("history", "main"):
            yield f"CREATE VIEW {schema}.{table.name} AS FROM lake.{table.name}"
            yield from _comments(f"{schema}.{table.name}", table, "", ())
    for path in sorted((SQL / "questions").glob("*.sql")):
        yield path.read_text(encoding="utf-8")


def _latest(table: Table, files: Files) -> Iterator[str]:
    """The view of the latest state, over the views of the snapshot and of what came since."""
    names = []
    for part, paths in (("base", files.base), ("tail", files.tail)):
        view = f"{table.name}_{part}"
        about = "Its snapshot of the latest state." if part == "base" else "What came since its snapshot."
        if paths:
            yield _lake_view(table, view, filled=True)
            yield from _comments(f"lake.{view}", table, about, ())
        names.append(f"lake.{view}" if paths else "")
    query = latest_sql(table, *names) if any(names) else f"FROM lake.{table.name}"
    yield f"CREATE VIEW main.{table.name} AS {query}"


def _lake_view(table: Table, view: str, *, filled: bool) -> str:
    """Some of the table's files as one view, with DuckDB's types and amounts in major units."""
    columns = [f"{c.name}::JSON AS {c.name}" if c.json else c.name for c in table.columns]
    columns += [_amount(minor, major.name) for minor, major in AMOUNTS.get(table.name, {}).items()]
    files = f"read_parquet(lake.{view}_files(), union_by_name = true)"
    source = files if filled else f"(SELECT {_nulls(table)} WHERE false)"
    return f"CREATE VIEW lake.{view} AS SELECT {', '.join(columns)} FROM {source}"


MONEY_MACROS = {
    "minor_unit_digits": "Decimals of a currency's major unit, as Stripe counts them; null for what is no currency code.",
    "major_units": "An amount in minor units, or a sum of such, in its currency's major unit; exact.",
}


def _minor_unit_digits() -> str:
    """By patterns: of an IN, DuckDB makes joins that it carries out even where nobody asks for the amount."""

    def any_of(currencies: frozenset[str]) -> str:
        return text(f"(?i)({'|'.join(sorted(currencies))})")

    return f"""CREATE MACRO minor_unit_digits(currency) AS CASE
        WHEN NOT regexp_full_match(currency, '[a-zA-Z]{{3}}') THEN NULL
        WHEN regexp_full_match(currency, {any_of(ZERO_DECIMAL)}) THEN 0
        WHEN regexp_full_match(currency, {any_of(THREE_DECIMAL)}) THEN 3
        ELSE 2 END"""


def _major_units() -> str:
    """For sums: the same multiplication, in a width that holds them."""
    return """CREATE MACRO major_units(minor, currency) AS (minor::DECIMAL(30, 0) * CASE minor_unit_digits(currency)
        WHEN 0 THEN 1::DECIMAL(4, 3)
        WHEN 2 THEN 0.01::DECIMAL(4, 3)
        WHEN 3 THEN 0.001::DECIMAL(4, 3)
        END)::DECIMAL(38, 4)"""


def _amount(name: str, major: str) -> str:
    """A multiplication of decimals, which is exact; a division would go through DOUBLE."""
    wide = f"{name}::DECIMAL(19, 0)"
    return f"""(CASE minor_unit_digits(currency)
        WHEN 0 THEN {wide}::DECIMAL(38, 4)
        WHEN 2 THEN ({wide} * 0.01::DECIMAL(3, 2))::DECIMAL(38, 4)
        WHEN 3 THEN ({wide} * 0.001::DECIMAL(4, 3))::DECIMAL(38, 4)
        END) AS {major}"""


def _comments(view: str, table: Table, about: str, more: tuple[Column, ...]) -> Iterator[str]:
    yield f"COMMENT ON VIEW {view} IS {text(f'{table.meaning} {about}'.strip())}"
    amounts = AMOUNTS.get(table.name, {}).values()
    for column in (*table.columns, *amounts, *more):
        yield f"COMMENT ON COLUMN {view}.{column.name} IS {text(column.meaning)}"


def _nulls(table: Table) -> str:
    """A null of each column's type."""
    return ", ".join(f"NULL::{_types()[table.name, c.name]} AS {c.name}" for c in table.columns)


@cache
def _types() -> dict[tuple[str, str], str]:
    """(table, column) → DuckDB's type, which DuckDB itself derives from the Arrow schema."""
    with duckdb.connect() as connection:
        return {
            (table.name, column.name): str(kind)
            for table in TABLES
            for column, kind in zip(
                table.columns, connection.from_arrow(table.schema.empty_table()).types, strict=True
            )
        }


@contextmanager
def ask(query: str, data: str | DataPath | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection on which ``query`` can be asked: one that reads (SELECT, FROM, DESCRIBE, SUMMARIZE, EXPLAIN).

    Raises:
        UsageError: the query is no such thing, or DuckDB cannot answer it; the message is DuckDB's.
    """
    with connect(data) as connection:
        try:
            parsed = connection.extract_statements(query)
            if len(parsed) != 1 or parsed[0].type not in READING:
                raise UsageError(
                    "Only one query that reads is asked at a time.", "Begin with SELECT or FROM."
                )
            yield connection
        except duckdb.Error as error:
            said = reason_of(error) if str(error).startswith("Traceback") else error
            raise UsageError(
                f"DuckDB: {said}", '`fincon sql "SHOW TABLES"` lists what can be asked.'
            ) from error


def count_accounts(data: DataPath) -> dict[str, int]:
    """Stripe account → how many linked accounts of it are known; empty before the first run."""
    if not DataFolder(data).views.exists():
        return {}
    with connect(data) as connection:
        query = "SELECT stripe_account, count(*) FROM accounts GROUP BY ALL"
        return dict(connection.execute(query).fetchall())


def summary(connection: duckdb.DuckDBPyConnection, runs: int) -> dict[str, Any]:
    """Last runs, size and freshness of each table and Stripe account, and the newest rejects, as plain values."""

    def rows(query: str, *values: object) -> list[dict[str, Any]]:
        cursor = connection.execute(query, list(values))
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    tables = {}
    for table in OBJECT_TABLES:
        sizes = rows(
            f"SELECT (SELECT count(*) FROM main.{table.name}) AS rows, count(*) AS versions, "
            f"strftime(max(observed_at), '%Y-%m-%d %H:%M:%SZ') AS newest FROM history.{table.name}"
        )
        tables[table.name] = sizes[0]
    return {
        "runs": rows(
            "SELECT * REPLACE (strftime(started_at, '%Y-%m-%d %H:%M:%S') AS started_at, "
            "strftime(finished_at, '%Y-%m-%d %H:%M:%S') AS finished_at, "
            "strftime(observed_at, '%Y-%m-%d %H:%M:%S') AS observed_at) FROM runs ORDER BY runs.finished_at DESC LIMIT ?",
            runs,
        ),
        "requests_this_month": {
            row["endpoint"]: row["requests"]
            for row in rows(
                "SELECT endpoint, sum((requests_by_endpoint->>endpoint)::BIGINT)::BIGINT AS requests FROM ("
                "SELECT requests_by_endpoint, unnest(json_keys(requests_by_endpoint)) AS endpoint FROM runs"
                " WHERE date_trunc('month', finished_at) = date_trunc('month', now())) GROUP BY ALL ORDER BY ALL"
            )
        },
        "stripe_accounts": rows(
            "SELECT stripe_account, count(*) AS runs, strftime(max(finished_at), '%Y-%m-%d %H:%M:%SZ') AS last_run, "
            "coalesce(any_value(known.accounts), 0) AS accounts FROM runs LEFT JOIN "
            "(SELECT stripe_account, count(*) AS accounts FROM accounts GROUP BY ALL) AS known USING (stripe_account) "
            "GROUP BY ALL ORDER BY max(finished_at), stripe_account"
        ),
        "tables": tables,
        "rejects": rows(
            "SELECT object_type, object_id, path, reason, observed_at::VARCHAR AS observed_at FROM rejects "
            "ORDER BY rejects.observed_at DESC LIMIT 1000"
        ),
    }
