"""Publish ``fincon.duckdb``: views over the lake's Parquet files, made anew after each run and swapped in whole.

The file holds no data but the rates that a person gave, and hashes of what was told. Its views name their Parquet files
one by one, so a reader sees the lake as it was when the file was made, whatever happens meanwhile.
"""

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

from fincon.errors import RunFailed, Stopped, reason_of
from fincon.lake.version_sql import (
    PARQUET_OPTIONS,
    SQL,
    LatestFiles,
    blank_sql,
    from_template,
    latest_sql,
    no_rows_sql,
    read_parquet_sql,
    same_object,
    sql_literal,
    sql_literals,
)
from fincon.settings import fincon_version
from fincon.storage.data_folder import DataFolder, atomic_write, open_duckdb
from fincon.storage.memory import give_memory_back
from fincon.storage.s3 import DataPath
from fincon.transforms.money import THREE_DECIMAL, ZERO_DECIMAL
from fincon.transforms.payment_patterns import KINDS, OURS, Pattern, combined
from fincon.transforms.schemas import (
    ACCOUNTS,
    BALANCES,
    LOGS,
    OBJECT_TABLES,
    SEEN,
    SESSIONS,
    TABLES,
    TRANSACTIONS,
    Column,
    Table,
)
from fincon.warehouse.alert_memory import told_rows
from fincon.warehouse.patterns import own_patterns
from fincon.warehouse.read_only import ReadOnlyConnection
from fincon.warehouse.stand_ins import over_stand_ins

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

HOLDER = Column(
    "account_holder_id",
    pa.string(),
    "Whose it is (`cus_…` or `acct_…`): the one of the holder's ids that is set; null = no holder.",
)
HOLDER_SQL = (
    "coalesce(account_holder_customer_id, account_holder_account_id, account_holder_customer_account_id)"
)
"""What every view of sessions and accounts adds."""


QUESTIONS = "questions"
"""What is made of a file of views first, and the same over whatever files: all else can be made anew above it."""

Parts = Mapping[str, Sequence[str]]
"""Of what a file of views is made beside the questions: name → its SQL, which takes the place of what was there of it."""


def publish(data: DataPath, files: Mapping[str, LatestFiles]) -> DataPath:
    """Make ``fincon.duckdb`` in ``data`` over ``files`` (table → where its rows are) and swap it in.

    What the last one has of the same SQL is not made again.

    Raises:
        RunFailed: the file could not be written.
    """
    target = DataFolder(data).views
    own = own_patterns(data)
    try:
        parts = {**_tables(files), **_given(_rates_filled(data), own)}
        with atomic_write(target) as part, open_duckdb(data, threads=1) as connection:
            _drop_wal(part)
            connection.execute("SET TimeZone = 'UTC'")
            if not _attached_copy(connection, target, part):
                part.write_bytes(_over_no_rows(_shape_of(files)))
                connection.execute(f"ATTACH {sql_literal(str(part))} AS warehouse")
            connection.execute("USE warehouse; BEGIN")
            _bring_to(connection, parts, files)
            for statement in (*named_files(data, files), _made_by_sql()):
                connection.execute(statement)
            connection.register("told", told_rows(data))
            connection.execute("DELETE FROM lake.alerts_told; INSERT INTO lake.alerts_told BY NAME FROM told")
            connection.execute("COMMIT; USE memory; DETACH warehouse")
            _drop_wal(target)
    except (duckdb.Error, OSError) as error:
        raise RunFailed(
            f"The views could not be published in {target}: {reason_of(error)}",
            "The last ones still answer. Mend it, then run the same command again.",
        ) from error
    return target


def _bring_to(connection: duckdb.DuckDBPyConnection, parts: Parts, files: Mapping[str, LatestFiles]) -> None:
    """Make those of the ``parts`` that the file in use has otherwise; views over one file without rows.

    Over those that they will read it would take longer: DuckDB reads the footer of each when it binds a view.
    """
    there, now = _made_of(connection), {name: _hash(parts[name]) for name in parts}
    changed = [name for name in parts if there.get(name) != now[name]]
    if not changed:
        return
    with TemporaryDirectory(prefix="fincon-") as folder:
        nothing = sql_literal(f"{folder}/nothing.parquet")
        connection.execute(f"COPY (SELECT NULL::VARCHAR AS run_id WHERE false) TO {nothing}")
        for view, paths in _views_of(files):
            if paths:
                connection.execute(f"CREATE OR REPLACE MACRO lake.{view}_files() AS [{nothing}]")
        for name in changed:
            for statement in parts[name]:
                connection.execute(statement)
    connection.execute(_made_of_sql({**there, **now}))


Shape = tuple[tuple[str, bool, bool, bool], ...]
"""Of each table, whether it has a snapshot, something since, and anything at all: its views are the same, whatever files."""


def _shape_of(files: Mapping[str, LatestFiles]) -> Shape:
    found = ((table.name, files[table.name]) for table in TABLES)
    return tuple((name, bool(of.snapshot), bool(of.since), bool(of.all)) for name, of in found)


def _over_no_rows(shape: Shape) -> bytes:
    """Return a database file with all views, those of tables that have files over one without rows."""
    with _MAKING:  # who comes while they are made waits for them
        return _made_over_no_rows(shape)


@lru_cache(maxsize=16)
def _made_over_no_rows(shape: Shape) -> bytes:
    files = {name: LatestFiles(*([name] * is_there for is_there in there)) for name, *there in shape}
    _over_no_files()
    _MADE[1:] = [_file_made(lambda connection: _bring_to(connection, _tables(files), files), _MADE[-1])]
    return _MADE[-1]


@contextmanager
def made_meanwhile(filled: Collection[Table] = ()) -> Iterator[None]:
    """Make, on another thread, the views that are the same over whatever files; where the block fails nobody waits for them.

    Then those of a lake in which one load has ``filled`` these tables, if it is known beforehand which it will.
    """
    failed = threading.Event()
    empty, one = LatestFiles([], [], []), LatestFiles([], ["since"], ["all"])
    files = {table.name: one if table in filled else empty for table in TABLES}

    def make() -> None:
        with suppress(duckdb.Error, OSError, Stopped):  # whoever publishes tries again, and says why not
            _over_no_files(failed.is_set)
            if filled and not failed.is_set():
                _over_no_rows(_shape_of(files))
        give_memory_back()  # to pages, which take as much

    threading.Thread(target=make, name="views").start()
    try:
        yield
    except BaseException:
        failed.set()
        raise


def _over_no_files(is_over: Callable[[], bool] = lambda: False) -> bytes:
    """Return a database file with the views that are the same over whatever files.

    To make 50 questions over three layers of views takes longer than the rest of a small run: a process that has several lakes
    does it once, and who comes meanwhile waits for that.

    Raises:
        Stopped: it ``is_over`` before all are made; none is kept.
    """

    def make(connection: duckdb.DuckDBPyConnection) -> None:
        for statement in ("CREATE SCHEMA lake", *_questions(), _made_of_sql(_of_questions())):
            if is_over():
                raise Stopped
            connection.execute(statement)

    with _MAKING:
        if not _MADE:
            _MADE.append(_file_made(make))
        return _MADE[0]


_MAKING = threading.RLock()
_MADE: list[bytes] = []
"""The file of `_over_no_files`; and the last one with all views, of which the next one has most."""


def _file_made(make: Callable[[duckdb.DuckDBPyConnection], None], of: bytes = b"") -> bytes:
    """Return a database file, or what becomes ``of`` one, once ``make`` has made what is in it."""
    with TemporaryDirectory() as folder, duckdb.connect(config={"threads": 1}) as connection:
        file = Path(folder, "views.duckdb")
        if of:
            file.write_bytes(of)
        connection.execute(f"ATTACH {sql_literal(str(file))} AS warehouse (STORAGE_VERSION 'v1.2.0')")
        # Nothing is asked that there would be something to make faster of.
        connection.execute("SET TimeZone = 'UTC'; USE warehouse; BEGIN; PRAGMA disable_optimizer")
        make(connection)
        connection.execute("COMMIT; USE memory; DETACH warehouse")
        return file.read_bytes()


def _drop_wal(file: DataPath) -> None:
    """Remove what a writer that was killed left beside a file: DuckDB would replay it over the one that comes in its place."""
    if isinstance(file, Path):  # a bucket has no such thing
        file.with_name(f"{file.name}.wal").unlink(missing_ok=True)


def _rates_filled(data: DataPath) -> list[str]:
    """Return the SQL that fills the table of rates, with a comment that differs where they do; none where there are none."""
    rates = DataFolder(data).rates
    if not rates.exists():
        return []
    content = hashlib.sha256(rates.read_bytes()).hexdigest()
    return [f"-- {content}\nINSERT INTO lake.rates BY NAME FROM {read_parquet_sql([str(rates)])}"]


def _given(rates: Sequence[str] = (), own: Sequence[Pattern] = ()) -> Parts:
    """Return what users give, with what stands there without."""
    return {"rates": ["DELETE FROM lake.rates", *rates], "patterns": [_patterns_sql([*OURS, *own])]}


def _hash(statements: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(statements).encode()).hexdigest()


@cache
def _of_questions() -> dict[str, str]:
    """Return of what the file of `_over_no_files` is made: part → a hash of its SQL."""
    given = {name: _hash(statements) for name, statements in _given().items()}
    return {QUESTIONS: _hash([fincon_version(), *_questions()]), **given}


def _made_of_sql(hashes: Mapping[str, str]) -> str:
    made_of = ", ".join(f"{sql_literal(name)}: {sql_literal(found)}" for name, found in hashes.items())
    return _macro(
        "main.made_of", f"MAP {{{made_of}}}", "Of what this file was made: part → a hash of its SQL."
    )


def _made_of(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return of what the file that is attached was made; nothing of one that an older fincon made."""
    found = connection.execute("SELECT warehouse.main.made_of()").fetchall()[0][0]
    return found if isinstance(found, dict) else {}


def _macro(name: str, value: str, meaning: str) -> str:
    return f"CREATE OR REPLACE MACRO {name}() AS {value}; COMMENT ON MACRO {name} IS {sql_literal(meaning)}"


@cache
def made_by() -> str:
    """Return a hash of all views that this fincon makes, over whatever files: one that makes others has another."""
    anything = LatestFiles(["snapshot"], ["since"], ["all"])
    tables = _tables({table.name: anything for table in TABLES})
    return _hash([*_questions(), *chain.from_iterable(tables.values())])


def _made_by_sql() -> str:
    return _macro(
        "main.made_by", sql_literal(made_by()), "Which fincon made this file: a hash of all views it makes."
    )


def _attached_copy(connection: duckdb.DuckDBPyConnection, target: DataPath, part: Path) -> bool:
    """Return whether the last file has the same questions: then ``part`` is a copy of it, attached as ``warehouse``."""
    try:
        part.write_bytes(target.read_bytes())
        connection.execute(f"ATTACH {sql_literal(str(part))} AS warehouse")
        if _made_of(connection).get(QUESTIONS) == _of_questions()[QUESTIONS]:
            return True
    except FileNotFoundError:
        return False
    except duckdb.Error:
        pass  # it is damaged, or of a fincon that did not say: it is made anew
    connection.execute("DETACH DATABASE IF EXISTS warehouse")
    part.unlink()
    return False


def named_files(data: DataPath | str, files: Mapping[str, LatestFiles]) -> Iterator[str]:
    """Yield the SQL of the macros that say for where the views are, and above all which files each view of ``lake`` reads."""
    yield _macro("main.published_in", sql_literal(str(data)), "The data folder for which this file was made.")
    every = {view: f"[{sql_literals(paths)}]" for view, paths in _views_of(files)}
    for view, paths in every.items():
        yield _macro(f"lake.{view}_files", paths, f"The Parquet files that lake.{view} reads.")
    pairs = ", ".join(f"{sql_literal(view)}: {paths}" for view, paths in every.items())
    yield _macro("lake.files_by_view", f"MAP {{{pairs}}}", "View of lake → the Parquet files that it reads.")


def _views_of(files: Mapping[str, LatestFiles]) -> Iterator[tuple[str, list[str]]]:
    """Yield each view of ``lake`` with its files."""
    for table in TABLES:
        yield from _files_by_view(table, files[table.name]).items()


def _files_by_view(table: Table, files: LatestFiles) -> dict[str, list[str]]:
    """Return view of ``lake`` → its files: all of a table, and where there are any, its snapshot and what came since."""
    if not table.key:
        return {table.name: files.all}
    parts = {f"{table.name}_base": files.snapshot, f"{table.name}_tail": files.since}
    return {table.name: files.all, **{view: paths for view, paths in parts.items() if paths}}


def published_files(connection: duckdb.DuckDBPyConnection | ReadOnlyConnection) -> dict[str, LatestFiles]:
    """Return the name of each table with the files that published views read: none of a table that they do not know.

    Raises:
        duckdb.Error: they are of a fincon that did not name files in macros.
    """
    try:
        found = connection.execute("SELECT lake.files_by_view()").fetchall()[0][0]
    except duckdb.CatalogException:  # they are of a fincon that named them one by one
        found = _files_named(connection)
    return {
        t.name: LatestFiles(*(found.get(f"{t.name}{part}", []) for part in ("_base", "_tail", "")))
        for t in TABLES
    }


def _files_named(connection: duckdb.DuckDBPyConnection | ReadOnlyConnection) -> dict[str, list[str]]:
    """Return view of ``lake`` → its files, by the macro of each."""
    rows = connection.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE schema_name = 'lake'"
    ).fetchall()
    return {
        name.removesuffix("_files"): connection.execute(f"SELECT lake.{name}()").fetchall()[0][0]
        for (name,) in rows
        if name.endswith("_files")
    }


@cache
def _questions() -> tuple[str, ...]:
    """Return the SQL of what is the same over whatever files: history and questions. What they read is not there yet.

    DuckDB binds a view through all that it stands on, down to the files, for each view and macro over it: questions are made
    over tables that stand in for what they read, and that make room for the views over the files.
    """
    return tuple(_yield_questions())


def _yield_questions() -> Iterator[str]:
    yield "CREATE SCHEMA history"
    yield from_template(
        "money",
        zero_decimal="|".join(sorted(ZERO_DECIMAL)),
        three_decimal="|".join(sorted(THREE_DECIMAL)),
    )
    yield from_template("rates")
    yield from_template("alerts_told")
    yield from_template("payees")
    yield _patterns_sql(OURS)
    for table in TABLES:
        yield f"CREATE TABLE lake.{table.name} AS {_rows_sql(table)}; CREATE TABLE main.{table.name} AS FROM lake.{table.name}"
    for table in OBJECT_TABLES:
        key, same = ", ".join(table.full_key), same_object(table)
        blank = f"({blank_sql(table)})"
        yield from_template("history", table=table.name, key=key, blank=blank)
        yield from_template("as_of", table=table.name, key=key, same_object=same, blank=blank)
        yield from _comments(f"history.{table.name}", table, "Every version.", VALID)
        meaning = f"{table.meaning} What was known at ts; a date or a time without a zone is UTC."
        yield f"COMMENT ON MACRO TABLE main.{table.name}_as_of IS {sql_literal(meaning)}"
    for table in LOGS:
        yield f"CREATE VIEW history.{table.name} AS FROM lake.{table.name}"
        yield from _comments(f"history.{table.name}", table)
    paths = sorted((SQL / "questions").glob("*.sql"))
    yield from over_stand_ins(path.read_text(encoding="utf-8") for path in paths)
    for table in TABLES:
        yield f"DROP TABLE main.{table.name}; DROP TABLE lake.{table.name}"


def _tables(files: Mapping[str, LatestFiles]) -> Parts:
    """Return the views of each table: as it is in ``lake``, and of its latest state in ``main``."""
    return {table.name: list(_table(table, files[table.name])) for table in TABLES}


def _table(table: Table, files: LatestFiles) -> Iterator[str]:
    """Yield the SQL of a table's views and of their comments."""
    yield _lake_view(table, table.name, filled=bool(files.all))
    if table in OBJECT_TABLES:
        yield from _latest(table, files)
    else:
        yield f"CREATE OR REPLACE VIEW main.{table.name} AS FROM lake.{table.name}"
    yield from _comments(f"lake.{table.name}", table, "Its Parquet files, as they are.")
    about = "The latest version of each." if table in OBJECT_TABLES else ""
    yield from _comments(f"main.{table.name}", table, about)


def _latest(table: Table, files: LatestFiles) -> Iterator[str]:
    """Yield the SQL of the view of the latest state, over views of the snapshot and of what came since."""
    parts = {
        f"lake.{table.name}_base": (files.snapshot, "Its snapshot of the latest state."),
        f"lake.{table.name}_tail": (files.since, "What came since its snapshot."),
    }
    for view, (paths, about) in parts.items():
        if paths:
            yield _lake_view(table, view.removeprefix("lake."), filled=True)
            yield from _comments(view, table, about)
    snapshot, since = (view if paths else "" for view, (paths, _) in parts.items())
    query = latest_sql(table, snapshot, since) if snapshot or since else f"FROM lake.{table.name}"
    yield f"CREATE OR REPLACE VIEW main.{table.name} AS FROM ({query}) WHERE NOT ({blank_sql(table)})"
    for view, (paths, _) in parts.items():
        if not paths:
            yield f"DROP VIEW IF EXISTS {view}; DROP MACRO IF EXISTS {view}_files"


def _lake_view(table: Table, view: str, *, filled: bool) -> str:
    """Return the SQL of some of a table's files as one view."""
    source = f"FROM read_parquet(lake.{view}_files(), {PARQUET_OPTIONS})" if filled else ""
    return f"CREATE OR REPLACE VIEW lake.{view} AS {_rows_sql(table, source)}"


def _rows_sql(table: Table, source: str = "") -> str:
    """Return the query for the rows of a ``source``, if any, with DuckDB's types and amounts in major units."""
    columns = [f"{c.name}::JSON AS {c.name}" if c.json else c.name for c in table.columns]
    columns += [
        f"major_units({minor}, currency) AS {major.name}"
        for minor, major in AMOUNTS.get(table.name, {}).items()
    ]
    columns += [f"{HOLDER_SQL} AS {column.name}" for column in _holder(table)]
    rows = no_rows_sql(table)  # so that it has every column, whatever is in the files
    if source:
        rows += f" UNION ALL BY NAME {source}"
    return f"SELECT {', '.join(columns)} FROM ({rows})"


def _patterns_sql(patterns: Sequence[Pattern]) -> str:
    """Return the SQL by which payments are known, with the patterns in it."""

    def fits(*kinds: str) -> str:
        return f"regexp_matches(nfc_normalize(lower(text)), {sql_literal(combined(patterns, *kinds))})"

    # Of patterns that somebody gives, each may be as long as can be compiled: then all together cannot.
    any_fits = fits(*KINDS) if tuple(patterns) == OURS else "true"
    cases = " ".join(f"WHEN {fits(kind)} THEN {sql_literal(kind)}" for kind in KINDS)
    rows = ", ".join(f"({sql_literals(one)})" for one in patterns)
    return from_template("patterns", rows=rows, any=any_fits, cases=cases)


def _holder(table: Table) -> tuple[Column, ...]:
    return (HOLDER,) if table in (SESSIONS, ACCOUNTS) else ()


def _comments(view: str, table: Table, about: str = "", more: tuple[Column, ...] = ()) -> Iterator[str]:
    yield f"COMMENT ON VIEW {view} IS {sql_literal(f'{table.meaning} {about}'.strip())}"
    amounts = AMOUNTS.get(table.name, {}).values()
    for column in (*table.columns, *amounts, *_holder(table), *more):
        yield f"COMMENT ON COLUMN {view}.{column.name} IS {sql_literal(column.meaning)}"
