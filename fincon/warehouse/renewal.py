"""Make the views anew over a lake that another version of fincon wrote."""

import os

import duckdb

from fincon.lake.snapshots import latest_files_by_table
from fincon.lake.tables import Lake
from fincon.lake.upgrade import refuse_newer as refuse_newer
from fincon.lake.upgrade import upgrade
from fincon.storage.data_folder import DataFolder
from fincon.storage.lock import writer_lock
from fincon.storage.s3 import DataPath
from fincon.warehouse.views import publish, published_files


def publish_anew(folder: DataPath, views: duckdb.DuckDBPyConnection) -> None:
    """Give the lake what it lacks, and make its ``views`` anew, as the next run would.

    While a run is half in the tables they go on reading the files that they read.

    Raises:
        DataFolderLocked: a run holds the folder.
        RunFailed: something of the lake cannot be read or written.
    """
    before = os.umask(
        0o077
    )  # what is written is for its owner alone; the process may be a notebook, and keeps its own
    try:
        with writer_lock(folder), Lake(DataFolder(folder).lake) as lake:
            if any(DataFolder(folder).loading.glob("*")):
                publish(folder, published_files(views))
            else:
                upgrade(lake)
                publish(folder, latest_files_by_table(lake))
    finally:
        os.umask(before)
