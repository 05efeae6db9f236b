"""Start DuckDB before it is asked for: that takes 25 ms, in which Python can go on with something else."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import duckdb

_STARTED: list["Future[duckdb.DuckDBPyConnection]"] = []
"""Those that nobody has taken yet."""


@contextmanager
def duckdbs_ahead(count: int) -> Iterator[None]:
    """Start so many on another thread while the block goes on, for whoever opens one; close what nobody took.

    Each holds 4 MB until then.
    """
    with ThreadPoolExecutor(1, "duckdb") as starting:
        started = [starting.submit(duckdb.connect) for _ in range(count)]
        _STARTED.extend(started)
        try:
            yield
        finally:
            for one in started:
                with suppress(ValueError):  # somebody took it
                    _STARTED.remove(one)
                    one.add_done_callback(_close)


def start_duckdb() -> duckdb.DuckDBPyConnection:
    """Return a DuckDB that was started ahead, or one that is started now.

    Raises:
        duckdb.Error: it cannot be started.
    """
    try:
        started = _STARTED.pop(0)
    except IndexError:
        return duckdb.connect()
    return started.result()


def _close(started: "Future[duckdb.DuckDBPyConnection]") -> None:
    if not started.exception():
        started.result().close()
