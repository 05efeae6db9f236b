"""Read the data dictionary from the comments in ``fincon.duckdb``: what each view, column and macro means."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fincon.errors import UsageError
from fincon.lake.snapshots import LatestFiles
from fincon.transforms.schemas import TABLES
from fincon.warehouse.connection import connect, did_you_mean
from fincon.warehouse.read_only import ReadOnlyConnection
from fincon.warehouse.views import publish

COLUMNS = """
    SELECT table_name, column_name, data_type, comment FROM duckdb_columns()
    WHERE database_name = current_database() AND schema_name = $schema ORDER BY column_index"""
VIEWS = """
    SELECT view_name, comment FROM duckdb_views()
    WHERE database_name = current_database() AND schema_name = $schema"""
MACROS = """
    SELECT function_name || '(' || array_to_string(parameters, ', ') || ')', comment FROM duckdb_functions()
    WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal ORDER BY 1"""

HEAD = """# Data dictionary

What every view, column and macro of `fincon.duckdb` means. `make docs` makes this page from their comments; `fincon schema`
prints the same. Times are UTC. Amounts without `_amount` in their name are whole numbers of the currency's minor unit.
"""

HISTORY = """
## History

`history.<table>` has every version of each row of a table above that has versions, with two more columns:

"""


class Column(NamedTuple):
    """A column: its name, DuckDB's type, its meaning."""

    name: str
    type: str
    meaning: str


class Entry(NamedTuple):
    """A view with its columns; or a macro, which has none."""

    name: str
    meaning: str
    columns: list[Column]


@contextmanager
def empty_views() -> Iterator[ReadOnlyConnection]:
    """Open a connection to the views of this version of fincon, over empty tables."""
    with tempfile.TemporaryDirectory(prefix="fincon-") as folder:
        data = Path(folder).resolve()
        publish(data, {table.name: LatestFiles([], [], []) for table in TABLES})
        with connect(data) as connection:
            yield connection


def views(connection: ReadOnlyConnection, schema: str = "main") -> list[Entry]:
    """Return the views of a schema, with their columns; in ``main`` tables first, then questions."""
    columns: dict[str, list[Column]] = {}
    for view, *column in connection.execute(COLUMNS, {"schema": schema}).fetchall():
        columns.setdefault(view, []).append(Column(*column))
    found = connection.execute(VIEWS, {"schema": schema}).fetchall()
    tables = [table.name for table in TABLES]
    entries = [Entry(name, meaning, columns[name]) for name, meaning in found]
    return sorted(
        entries, key=lambda it: (tables.index(it.name) if it.name in tables else len(tables), it.name)
    )


def macros(connection: ReadOnlyConnection) -> list[Entry]:
    """Return the macros, each named with its parameters."""
    return [Entry(name, meaning, []) for name, meaning in connection.execute(MACROS).fetchall()]


def entries(connection: ReadOnlyConnection) -> list[Entry]:
    """Return all that can be asked: views, those of ``history``, and macros."""
    history = [entry._replace(name=f"history.{entry.name}") for entry in views(connection, "history")]
    return [*views(connection), *history, *macros(connection)]


def find(connection: ReadOnlyConnection, name: str) -> Entry:
    """Return the view or macro of this name, in whatever case; a macro with or without its parameters.

    Raises:
        UsageError: there is no such view or macro; the hint names what is nearest.
    """
    every = entries(connection)
    wanted = name.strip().lower().removeprefix("main.")
    for entry in every:
        if wanted in (entry.name.lower(), entry.name.lower().partition("(")[0]):
            return entry
    near = did_you_mean(wanted, [entry.name.partition("(")[0] for entry in every])
    raise UsageError(f"There is no view or macro {name}.", near or "`fincon schema` lists all.")


def as_markdown(connection: ReadOnlyConnection) -> str:
    """Write the whole dictionary, as ``docs/data-dictionary.md`` has it."""
    tables = {table.name for table in TABLES}
    main = views(connection)
    parts = [HEAD, "\n## Tables, as they are now\n"]
    parts += [_section(entry) for entry in main if entry.name in tables]
    parts += ["\n## Questions\n"]
    parts += [_section(entry) for entry in main if entry.name not in tables]
    versioned = views(connection, "history")[0]
    parts += [HISTORY, _table(column for column in versioned.columns if column.name.startswith("valid_"))]
    parts += ["\n## Macros\n\n| macro | meaning |\n|---|---|\n"]
    parts += [f"| `{entry.name}` | {_cell(entry.meaning)} |\n" for entry in macros(connection)]
    return "".join(parts)


def _section(entry: Entry) -> str:
    return f"\n### {entry.name}\n\n{entry.meaning}\n\n{_table(entry.columns)}"


def _table(columns: Iterable[Column]) -> str:
    lines = [f"| `{column.name}` | {_cell(column.type)} | {_cell(column.meaning)} |\n" for column in columns]
    return "| column | type | meaning |\n|---|---|---|\n" + "".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
