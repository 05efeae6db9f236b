"""Give memory back to the system, for what comes next: many parts of a run take a good deal of it, one after another."""

import ctypes
from contextlib import suppress

import pyarrow as pa


def give_memory_back() -> None:
    """Give back what was freed, which Arrow's pool and glibc hold on to. It takes a few milliseconds."""
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError):  # another C library has no such function
        ctypes.CDLL(None).malloc_trim(0)
