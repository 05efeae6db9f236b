"""Take a lake's views elsewhere: rows as plain files that need nothing else, or the same views for where the lake is read."""

from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from fincon.errors import UsageError
from fincon.lake.version_sql import sql_literal
from fincon.storage.data_folder import DataFolder, atomic_write, local_copy
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import TABLES
from fincon.warehouse.connection import connect
from fincon.warehouse.read_only import ReadOnlyConnection
from fincon.warehouse.relocation import relocate

BATCH_ROWS = 50_000


def export(data: DataPath, target: Path, *, history: bool) -> dict[str, int]:
    """Write each table's latest state, or all its versions, as Parquet files into a folder or as tables into ``FILE.duckdb``.

    Return table → rows. A file is replaced whole, or stays as it was.

    Raises:
        UsageError: nothing was synced, or the target is no place for it.
    """
    schema = "history" if history else "main"
    with connect(data) as views:
        if target.suffix == ".duckdb":
            if target.is_dir():
                raise UsageError(
                    f"{target} is a folder.", "Name a file that ends in .duckdb, or another folder."
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            return _to_duckdb(views, schema, target)
        if target.exists() and not target.is_dir():
            raise UsageError(f"{target} is a file.", "Name a folder, or a file that ends in .duckdb.")
        target.mkdir(parents=True, exist_ok=True)
        return {table.name: _to_parquet(views, f"{schema}.{table.name}", target) for table in TABLES}


def _to_parquet(views: ReadOnlyConnection, table: str, folder: Path) -> int:
    path = folder / f"{table.partition('.')[2]}.parquet"
    reader = views.sql(f"FROM {table}").to_arrow_reader(BATCH_ROWS)
    rows = 0
    with atomic_write(path) as part, pq.ParquetWriter(part, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _to_duckdb(views: ReadOnlyConnection, schema: str, target: Path) -> dict[str, int]:
    counts = {}
    with atomic_write(target) as part, duckdb.connect() as connection:
        connection.execute(
            f"SET TimeZone = 'UTC'; ATTACH {sql_literal(str(part))} AS out (STORAGE_VERSION 'v1.2.0')"
        )
        for table in TABLES:
            reader = views.sql(f"FROM {schema}.{table.name}").to_arrow_reader(BATCH_ROWS)
            connection.register("rows_read", reader)
            connection.execute(f"CREATE TABLE out.{table.name} AS FROM rows_read")
            connection.unregister("rows_read")
            connection.execute(f"COMMENT ON TABLE out.{table.name} IS {sql_literal(table.meaning)}")
            counts[table.name] = connection.execute(f"SELECT count(*) FROM out.{table.name}").fetchall()[0][0]
        connection.execute("DETACH out")
    return counts


def views_for(data: DataPath, root: str, output: Path) -> None:
    """Write the views as they are now, for a lake that is read at ``root``: mounted there, or copied to it.

    Raises:
        UsageError: nothing was synced, or the views cannot be read.
    """
    source = DataFolder(data).views
    if not source.exists():
        raise UsageError(f"There is no {source}.", "Run `fincon sync` first, or name the folder with --data.")
    with local_copy(source) as copy, atomic_write(output) as part:
        relocate(copy, part, root)
