"""Put right what a writer that died left half in the tables, before anything else is done.

A run that is being loaded is marked before its first row goes in, until its last is. Mostly its pages are still there,
and the next sync loads the rest. Where they are not (another machine goes on with a lake in a bucket, or somebody removed
them), the half that is in can never be completed, and is taken out again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fincon.lake.append import remove_run
from fincon.lake.tables import Lake
from fincon.lake.upgrade import refuse_newer, upgrade
from fincon.landing.run_folder import RunFolder, unfinished_runs
from fincon.pipeline.erasing import finish as finish_erasure
from fincon.storage.data_folder import DataFolder, atomic_write, make_folder
from fincon.storage.lock import writer_lock
from fincon.storage.s3 import DataPath, S3Path
from fincon.transforms.schemas import ERASURES


@contextmanager
def recovered_lake(data: DataPath) -> Iterator[Lake]:
    """Lock the data folder, put right what a killed writer left in it, and open its lake for writing, as this fincon writes it.

    Raises:
        DataFolderLocked: another run holds it.
        UsageError: a newer fincon wrote it.
    """
    refuse_newer(data)
    with writer_lock(data), Lake(DataFolder(data).lake) as lake:
        lake.recall()
        recover(data, lake)
        yield lake
        lake.note_logs()


def finish_what_was_begun(data: DataPath) -> None:
    """Finish an erasure that was interrupted, if there is one.

    Raises:
        DataFolderLocked: another run holds the folder.
    """
    if DataFolder(data).erasing.exists():
        with recovered_lake(data):
            pass


@contextmanager
def loading_marker(data: DataPath, run_ids: Sequence[str]) -> Iterator[None]:
    """Mark runs as being loaded. The mark stays where that fails."""
    marker = DataFolder(data).loading / run_ids[0]
    make_folder(marker.parent)
    with atomic_write(marker) as part:
        part.write_text("\n".join(run_ids), encoding="utf-8")
    yield
    marker.unlink()


def recover(data: DataPath, lake: Lake) -> None:
    """Take out what is half in the tables and cannot be completed. The lock must be held."""
    lease = data.bucket.lease if isinstance(data, S3Path) else None
    if lease and lease.must_fence:
        lake.fence_previous_writer()
        lease.mark_fenced()
    upgrade(lake)
    finish_erasure(data, lake)
    finished = lake.run_ids()
    _drop_from_before_an_erasure(data, lake, finished)
    waiting_runs = [run.run_id for run in unfinished_runs(data, finished)]
    loadable = {run_id for run_id in waiting_runs if RunFolder(data, run_id).fetch_counts() is not None}
    for marker in DataFolder(data).loading.glob("*"):
        waiting = set(marker.read_bytes().decode().split()) - finished
        for run_id in waiting - loadable:
            remove_run(lake, run_id)
        if not waiting & loadable:
            marker.unlink()


def _drop_from_before_an_erasure(data: DataPath, lake: Lake, finished: set[str]) -> None:
    """Remove pages in no table yet that may name who was erased since, on another machine: they are fetched again."""
    records = lake.records(ERASURES, "action", "coalesce(sequence, 0)", "epoch_us(observed_at)")
    erased = [(sequence, at) for action, sequence, at in records if action == "erased"]
    last, moment = max(erased, default=(0, 0))
    for run in unfinished_runs(data, finished):
        # One of a fincon before 0.2 does not say which erasures it knew.
        is_from_before = (
            run.started_at.timestamp() * 1_000_000 < moment
            if run.erased_before is None
            else run.erased_before < last
        )
        if is_from_before:
            RunFolder(data, run.run_id).remove()
