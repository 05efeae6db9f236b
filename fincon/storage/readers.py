"""Wait for those who read the views as they were."""

import fcntl
import os
import time
from pathlib import Path

from fincon.storage.s3 import DataPath

WAIT_SECONDS = 10.0
"""How long readers of old views are waited for before the files go that those name."""

POLL_SECONDS = 0.05


class Readers:
    """Those who have the views open as they are now, after they have been published anew.

    DuckDB locks the file that it has open. Nobody can be seen who opened views that were older still, or one in a bucket.
    """

    def __init__(self, views: DataPath) -> None:
        self._views = os.open(views, os.O_RDWR) if isinstance(views, Path) and views.exists() else None

    def wait(self, seconds: float = WAIT_SECONDS) -> bool:
        """Wait until all are gone; return whether one is left after so many seconds."""
        if self._views is None:
            return False
        deadline = time.monotonic() + seconds
        try:
            while is_held := not self._are_gone():
                if time.monotonic() >= deadline:
                    break
                time.sleep(POLL_SECONDS)
        finally:
            os.close(self._views)
        return is_held

    def _are_gone(self) -> bool:
        try:
            fcntl.lockf(self._views, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
        except OSError:
            return False
        return True
