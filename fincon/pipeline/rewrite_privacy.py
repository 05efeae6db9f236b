"""Make all that a folder holds say of people what its choice about personal data lets it, and prove it."""

from fincon import privacy
from fincon.errors import RunFailed, UsageError
from fincon.lake import digests
from fincon.lake.erasure import remove_old_files, remove_torn_files, replace_files
from fincon.lake.incremental import last_pii
from fincon.lake.privacy_rewrite import with_choice
from fincon.lake.snapshots import latest_files_by_table
from fincon.landing.page_store import PageStore
from fincon.landing.spool import Spool
from fincon.pipeline.recovery import recovered_lake
from fincon.settings import Secret
from fincon.storage.data_folder import DataFolder
from fincon.storage.readers import Readers
from fincon.storage.s3 import DataPath
from fincon.transforms.schemas import OBJECT_TABLES
from fincon.warehouse.views import publish

STRICTNESS = {"": 0, "keep": 0, "hash": 1, "drop": 2}


def is_stricter(choice: str, before: str) -> bool:
    """Return whether a choice, as `Privacy.policy_id`, keeps less than the one before."""
    return STRICTNESS[choice.partition(":")[0]] > STRICTNESS[before.partition(":")[0]]


def rewrite(data: DataPath, key: Secret | None) -> int:
    """Rewrite history, rejects and pages as the folder's last choice says; return how many pages changed.

    It may be run again at any time; what was hashed stays as it is.

    Raises:
        UsageError: the last choice is to keep all, or its key is missing.
        RunFailed: something is left in clear.
    """
    with recovered_lake(data, reads_logs=True) as lake:
        policy = privacy.resolve_policy(last_pii(lake), key)
        if policy.choice == "keep":
            raise UsageError(
                "This folder's choice is to keep personal data: there is nothing to rewrite.",
                "Sync with --pii hash or --pii drop first.",
            )
        remove_torn_files(lake)
        choice = with_choice(lake, policy)
        readers = Readers(DataFolder(data).views)
        stores = [PageStore(folder) for folder in DataFolder(data).page_folders()]
        pages = sum(store.redact(policy) for store in stores) + Spool(data).redact(policy)
        digests.forget(lake)  # of what was kept in clear
        for table in OBJECT_TABLES:
            replace_files(lake, table, choice)
        publish(data, latest_files_by_table(lake))
        readers.wait()
        for table in OBJECT_TABLES:
            remove_old_files(lake, table, choice)
        left = [
            t.name for t in OBJECT_TABLES if any(choice.concerns(t, file) for file in _files(data, t.name))
        ]
        left += ["pages"] * any(store.redact(policy) for store in stores)
        if left:
            raise RunFailed(
                f"Something is left in clear in {', '.join(left)}.", "Run the same command again."
            )
        return pages


def _files(data: DataPath, table: str) -> list[DataPath]:
    """List every file that holds rows of a table, whether any view reads it or not."""
    folder = DataFolder(data)
    return [*(folder.lake / table).glob("*.parquet"), *folder.snapshots.glob(f"{table}-*.parquet")]
