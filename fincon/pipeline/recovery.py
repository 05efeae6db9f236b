"""Runs that are half in the tables: noted before their first row goes in, until the last is.

Mostly the pages are still there, and the next run loads the rest. Where they are not (another machine goes on with a
lake in a bucket, or somebody removed them), the half that is in can never be completed, and is taken out again.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fincon.errors import RunFailed
from fincon.lake.append import remove_run
from fincon.lake.tables import Lake
from fincon.landing.run_folder import fetched, pages_folder, unfinished
from fincon.storage.data_folder import DataFolder, atomic_write, make
from fincon.storage.s3 import DataPath, S3Path
from fincon.transforms.schemas import ERASURES


@contextmanager
def noted(data: DataPath, run_ids: Sequence[str]) -> Iterator[None]:
    """Runs are being loaded. The note stays where that fails."""
    note = DataFolder(data).loading / run_ids[0]
    make(note.parent)
    with atomic_write(note) as part:
        part.write_text("\n".join(run_ids), encoding="utf-8")
    yield
    note.unlink()


def settle(data: DataPath, lake: Lake) -> None:
    """Put right what a writer that died or failed left: before anything else is done, and under the lock."""
    lease = data.bucket.lease if isinstance(data, S3Path) else None
    if lease and lease.record.unsettled:
        lake.fence_previous_writer()
        lease.settled()
    finished = lake.run_ids()
    _drop_from_before_an_erasure(data, lake, finished)
    loadable = {run.run_id for run in unfinished(data, finished) if fetched(data, run) is not None}
    for note in DataFolder(data).loading.glob("*"):
        waiting = set(note.read_bytes().decode().split()) - finished
        for run_id in waiting - loadable:
            remove_run(lake, run_id)
        if not waiting & loadable:
            note.unlink()


def _drop_from_before_an_erasure(data: DataPath, lake: Lake, finished: set[str]) -> None:
    """Pages in no table yet that may name who was erased since, on another machine: they are fetched again."""
    moments = lake.records(ERASURES, "epoch_us(observed_at)", "action")
    erased = max((at for at, action in moments if action == "erased"), default=0)
    for run in unfinished(data, finished):
        if run.started_at.timestamp() * 1_000_000 < erased:
            shutil.rmtree(pages_folder(data, run.run_id))


def refuse_halves(data: DataPath) -> None:
    """Nothing is published while a run is half in the tables.

    Raises:
        RunFailed: one is.
    """
    for note in DataFolder(data).loading.glob("*"):
        raise RunFailed(f"Run {note.name} is fetched but not loaded.", "Run `fincon sync` first.")
