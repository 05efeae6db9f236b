"""Keep what delta-rs prints when it panics off standard error: the same trouble comes as an error, and is told in two lines.

On a disk that is full, a thread of delta-rs panics after the write has failed, and Rust prints where in its sources that
was, whatever the caller does with the error. Only who holds the file descriptor itself can keep that back.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from deltalake.exceptions import DeltaError

_STDERR = 2
_PANIC = b" panicked at "

_lock = threading.Lock()
_calls = 0
_diverted = ExitStack()
"""What puts the descriptor back, once the last of several calls at a time has ended."""


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Hold back what native code prints meanwhile, and let it out afterwards, unless it is of a panic.

    Python goes on printing where it did. It is a decorator too.

    Raises:
        DeltaError: the panic itself came up to here, which is no `Exception` of Python's.
    """
    global _calls
    with _lock:
        _calls += 1
        if _calls == 1 and hasattr(os, "memfd_create"):  # elsewhere a panic is seen
            _diverted.enter_context(_stderr_diverted())
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise DeltaError(str(error)) from error
        raise
    finally:
        with _lock:
            _calls -= 1
            if not _calls:
                _diverted.close()


@contextmanager
def _stderr_diverted() -> Iterator[None]:
    held = os.memfd_create("stderr")  # in memory: the disk may be full
    before = os.dup(_STDERR)
    own = sys.stderr
    with open(before, "w", buffering=1, encoding="utf-8", errors="backslashreplace") as ours:  # noqa: PTH123 - a descriptor
        if _is_stderr(own):
            own.flush()
            sys.stderr = ours
        os.dup2(held, _STDERR)
        try:
            yield
        finally:
            if sys.stderr is ours:
                sys.stderr = own
            elif _is_stderr(own):
                own.flush()
            os.dup2(before, _STDERR)
            printed = os.pread(held, os.fstat(held).st_size, 0)
            os.close(held)
            if _PANIC not in printed:
                ours.buffer.write(printed)


def _is_stderr(stream: object) -> bool:
    """Return whether a stream writes to the descriptor; what a test puts in its place has none."""
    try:
        return stream.fileno() == _STDERR  # type: ignore[attr-defined,no-any-return]
    except (OSError, ValueError, AttributeError):
        return False
