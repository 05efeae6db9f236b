"""Let a table stand in for a macro that several questions stand on, while these are made.

DuckDB binds a view through every macro below it, for each view anew: one over the months of an account through what is a
transfer, down to the transactions. Over a table with the same columns that is one layer.
"""

import re
from collections.abc import Iterable, Iterator

STOOD_ON = frozenset(
    {
        *("lake.backcast_at", "lake.balance_windows_at", "lake.months_at", "lake.summary_at"),
        "classified_transactions_as_of",
    }
)
"""Those of the most layers. Any is right that is of a time: it is bound when it is called, and made a second time for nothing."""

MACRO = re.compile(r"^CREATE (MACRO (?P<name>[\w.]+)\(ts(?P<more>[\w, ]*)\) AS TABLE\b.*?;\n)", re.M | re.S)
COMMENT = re.compile(r"^COMMENT ON MACRO TABLE (?P<name>[\w.]+) IS\s.*?;\n", re.M | re.S)


def over_stand_ins(questions: Iterable[str]) -> Iterator[str]:
    """Yield the SQL that makes ``questions``, each a text of many statements, and in the end what tables stood in for."""
    then: list[str] = []

    def stand_in(found: re.Match[str]) -> str:
        name, more = found["name"], found["more"]
        if name not in STOOD_ON:
            return found[0]
        table = f"lake.stand_in_{len(then)}"
        then.append(f"CREATE OR REPLACE {found[1]}DROP TABLE {table};")
        return (
            f"{found[0]}CREATE TABLE {table} AS FROM {name}('infinity'{', NULL' * more.count(',')});\n"
            f"CREATE OR REPLACE MACRO {name}(ts{more}) AS TABLE FROM {table};\n"
        )

    for text in questions:
        yield MACRO.sub(stand_in, text)
        then += [found[0] for found in COMMENT.finditer(text) if found["name"] in STOOD_ON]
    yield from then
