"""A small file that is written again and again where it stands: what it says outlives a kill, and needs no new room."""

import os
import threading
from pathlib import Path
from typing import Self

ROOM_BYTES = 4096
"""How large the file is from the first: within it a full disk stops no change, and one write is one page of it."""


class InPlaceFile:
    """A file of text that is replaced as a whole by each `write`; blanks fill it up. Open until `close`."""

    def __init__(self, path: Path) -> None:
        """Open the file, made where it is not there yet.

        Raises:
            OSError: it cannot be made or written.
        """
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._open = True
        self._lock = threading.Lock()
        self._size = max(ROOM_BYTES, os.fstat(self.descriptor).st_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, content: bytes) -> None:
        """Let the file say this, and nothing else; of one that is closed, nothing changes."""
        with self._lock:
            if self._open:  # the number of a closed descriptor may be another file's by now
                self._size = max(self._size, len(content))
                os.pwrite(self.descriptor, content.ljust(self._size), 0)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._open = False
            os.close(self.descriptor)
