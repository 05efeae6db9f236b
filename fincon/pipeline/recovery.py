"""Put right what a writer that died left half in the tables, before anything else is done.

A load that was cut short is taken back, and an erasure finished. Then runs of which all is fetched are loaded anew, where their
pages are still there: not where another machine goes on with a lake in a bucket, or somebody removed them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fincon.lake.tables import Lake
from fincon.lake.take_back import take_back
from fincon.lake.upgrade import refuse_newer, upgrade
from fincon.landing.run_folder import RunFolder, unfinished_runs
from fincon.pipeline.erasing import finish as finish_erasure
from fincon.storage.data_folder import DataFolder
from fincon.storage.lock import writer_lock
from fincon.storage.s3 import DataPath, S3Path
from fincon.transforms.schemas import ERASURES


@contextmanager
def recovered_lake(data: DataPath, *, reads_logs: bool = False) -> Iterator[Lake]:
    """Lock the data folder, put right what a killed writer left in it, and open its lake for writing, as this fincon writes it.

    Whoever writes all of it anew ``reads_logs`` of a local lake, every one: a damaged one is told before that begins.

    Raises:
        DataFolderLocked: another run holds it.
        UsageError: a newer fincon wrote it.
    """
    refuse_newer(data)
    with writer_lock(data), Lake(DataFolder(data).lake) as lake:
        lake.recall(reads_logs=reads_logs)
        recover(data, lake)
        yield lake
        lake.note_logs()


def finish_what_was_begun(data: DataPath) -> None:
    """Finish an erasure that was interrupted, if there is one.

    Raises:
        DataFolderLocked: another run holds the folder.
    """
    if DataFolder(data).erasing.exists():
        with recovered_lake(data, reads_logs=True):
            pass


def recover(data: DataPath, lake: Lake) -> None:
    """Take back what is half in the tables, and finish what must be. The lock must be held."""
    lease = data.bucket.lease if isinstance(data, S3Path) else None
    if lease and lease.must_fence:
        lake.fence_previous_writer()
        lease.mark_fenced()
    upgrade(lake)
    waiting = [run.run_id for run in unfinished_runs(data, lake.run_ids())]
    loadable = {run_id for run_id in waiting if RunFolder(data, run_id).fetch_counts() is not None}
    take_back(lake, loadable)  # before an erasure, so that nothing of it is put back
    finish_erasure(data, lake)
    _drop_from_before_an_erasure(data, lake)


def _drop_from_before_an_erasure(data: DataPath, lake: Lake) -> None:
    """Remove pages in no table yet that may name who was erased since, on another machine: they are fetched again."""
    records = lake.records(ERASURES, "action", "coalesce(sequence, 0)", "epoch_us(observed_at)")
    erased = [(sequence, at) for action, sequence, at in records if action == "erased"]
    last, moment = max(erased, default=(0, 0))
    for run in unfinished_runs(data, lake.run_ids()):
        # One of a fincon before 0.2 does not say which erasures it knew.
        is_from_before = (
            run.started_at.timestamp() * 1_000_000 < moment
            if run.erased_before is None
            else run.erased_before < last
        )
        if is_from_before:
            RunFolder(data, run.run_id).remove()
