"""The newest page that anything is known from: what is remembered of it never says other than the tables."""

from datetime import timedelta
from pathlib import Path

from fincon.lake.page_times import newest_page_times
from fincon.lake.tables import Lake
from fincon.pipeline.compact import compact
from fincon.pipeline.request import SyncRequest
from fincon.pipeline.sync import run_sync
from fincon.sandbox.server import running
from fincon.sandbox.world import World
from fincon.storage.data_folder import DataFolder
from tests.conftest import settings_for


def test_what_is_remembered_is_what_all_files_say(data: Path) -> None:
    """After more files, after files that are gone, and after a file that remembers those of another lake."""
    remembered = DataFolder(data).page_times

    def both() -> dict[str, int]:
        with Lake(data / "lake") as lake:
            found = newest_page_times(lake)
            remembered.unlink()
            assert found == newest_page_times(lake)
        return found

    seen = []
    with running(World(accounts=30, sessions=0)) as sandbox:
        for _ in range(2):
            run_sync(settings_for(sandbox.url, data), SyncRequest())
            seen.append(both()[""])
            sandbox.advance(timedelta(days=1))
    assert seen == sorted({*seen}), "each listing is newer than the one before"
    compact(data, 0, 0)
    assert both() == {"": seen[-1]}
    remembered.write_text(
        '{"files": ["accounts/gone.parquet"], "newest": {"": 9000000000000000, "acct_2": 1}}'
    )
    assert both() == {"": seen[-1]}
