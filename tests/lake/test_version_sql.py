"""SQL over versions, where DuckDB is asked what it makes of it."""

import duckdb

from fincon.lake.version_sql import no_rows_sql
from fincon.transforms.schemas import TABLES


def test_columns_have_the_types_that_duckdb_reads_from_arrow() -> None:
    """Else a column of a file would be cast, and a struct lose what the name of its type leaves out."""
    with duckdb.connect() as connection:
        for table in TABLES:
            ours, theirs = (
                connection.sql(no_rows_sql(table)),
                connection.from_arrow(table.schema.empty_table()),
            )
            assert ours.columns == theirs.columns
            assert ours.types == theirs.types, table.name
