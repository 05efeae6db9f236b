"""Keep test mode and live mode apart: a data folder belongs to the mode of its first run."""

from fincon.errors import UsageError
from fincon.lake.tables import Lake
from fincon.lake.version_sql import read_parquet_sql
from fincon.landing.run_folder import first_run
from fincon.settings import Settings
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import ACCOUNTS, RUNS, SESSIONS, TRANSACTIONS

MODES = {True: "live", False: "test"}


def refuse_other_mode(settings: Settings, lake: Lake) -> None:
    """Refuse a key of another mode than the folder's: totals would add both up. Nothing is sent before.

    Raises:
        UsageError: the folder holds data of the other mode.
    """
    held = livemode_of(settings.data, lake)
    if held is not None and held != settings.livemode:
        raise UsageError(
            f"The data folder {settings.data} holds {MODES[held]} data, and the key is a {MODES[not held]} one.",
            f"Name another folder for {MODES[not held]} data, with --data or FINCON_DATA, or set a key of {MODES[held]} mode.",
        )


def livemode_of(data: DataPath, lake: Lake) -> bool | None:
    """Return whether a folder is of live mode, by its first run that is finished or has pages here; None where there is none.

    Of runs of an older fincon, whose pages are gone, by its rows.
    """
    run = first_run(data)
    if run:
        return run.livemode
    finished = [bool(livemode) for (livemode,) in lake.records(RUNS, "livemode") if livemode is not None]
    return finished[0] if finished else _livemode_of_rows(lake)


def _livemode_of_rows(lake: Lake) -> bool | None:
    """Look at one row that says it: of a table's files one alone is opened, but where nothing in it does."""
    for table in (ACCOUNTS, SESSIONS, TRANSACTIONS):
        for file in lake.files(table):
            with lake.query() as query:
                rows = f"FROM {read_parquet_sql([file])} WHERE livemode IS NOT NULL LIMIT 1"
                found = query.execute(f"SELECT livemode {rows}").fetchone()
            if found:
                return bool(found[0])
    return None
