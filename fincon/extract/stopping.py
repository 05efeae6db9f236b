"""Stop a sync from outside: one signal, which every thread of it looks at before a request, in a wait and between steps."""

import threading
from collections.abc import Callable

from fincon.errors import Stopped


class StopSignal:
    """Say that a sync is to end, to all of its threads at once. It is never taken back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._told: list[Callable[[], object]] = []

    def stop(self) -> None:
        """Have the sync end: whoever waits is woken, and whoever asks next is told."""
        with self._lock:
            self._stopped = True
            told, self._told = self._told, []
        for tell in told:
            tell()

    def tell(self, what: Callable[[], object]) -> None:
        """Call ``what``, once, when the sync is to end; at once where it is already."""
        with self._lock:
            if not self._stopped:
                self._told.append(what)
                return
        what()

    def forget(self, what: Callable[[], object]) -> None:
        """Call ``what`` no more."""
        with self._lock:
            self._told = [one for one in self._told if one != what]

    def is_set(self) -> bool:
        """Tell whether the sync is to end."""
        return self._stopped

    def check(self) -> None:
        """Go on only while nothing has stopped the sync.

        Raises:
            Stopped: something has.
        """
        if self._stopped:
            raise Stopped
