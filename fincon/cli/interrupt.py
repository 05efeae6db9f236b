"""Ctrl-C and SIGTERM: one line on standard error, and the process ends, whatever it is doing.

A thread that the kernel wakes ends it, at once: an exception in the main thread would be heard late, or taken for an
error of theirs, by DuckDB, delta-rs and whatever is being imported. What is on disk outlives any death of the process.
Where something in memory does not, `unwinding` gives the command a second to put it right.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

UNWINDING_SECONDS = 1.0

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}


class Interrupted(BaseException):
    """A signal came. No KeyboardInterrupt: click would write a line of its own, and others take it for theirs."""


class _State:
    received: int | None = None
    """The signal that came, if one did."""
    unwinds = False
    """The command hears of it by an exception."""
    raised = False
    """It has heard: once, so that nothing disturbs its end."""
    unwinding_seconds = UNWINDING_SECONDS
    ends_well = False
    """SIGTERM is the usual end of the command that runs."""
    consequence = ""
    """What it means for the command that runs."""
    told = threading.Lock()
    standard_error = 2
    """A descriptor of its own: what 2 is may be held back while delta-rs is called (`lake.panics`)."""


def catch_signals() -> None:
    """Have Ctrl-C and SIGTERM end the process, from now on."""
    with suppress(OSError):  # standard error may be closed
        _State.standard_error = os.dup(2)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in WORDS:
        signal.signal(number, _interrupt)
    threading.Thread(target=_end_in_time, args=(reader,), name="interrupt", daemon=True).start()


def expect(consequence: str) -> None:
    """Say what an interruption means from here on, in the line that tells of it."""
    _State.consequence = consequence


def end_well(seconds: float) -> None:
    """Let SIGTERM be the usual end of this command, with 0; what it started has so long to stop."""
    _State.ends_well, _State.unwinding_seconds = True, seconds


@contextmanager
def unwinding(*, when: bool = True) -> Iterator[None]:
    """Raise `Interrupted` in the main thread within this block: a server is to be told, a file or a lease given up."""
    _State.unwinds = when
    try:
        yield
    finally:
        _State.unwinds = False


def received() -> bool:
    """Tell whether a signal came that ends the process."""
    return _State.received is not None


def leave() -> None:
    """End the process as interrupted; the line is written once, whoever comes first."""
    if not _State.told.acquire(blocking=False):
        threading.Event().wait()  # the other is about to end the process
    number = _State.received or signal.SIGINT
    line = f"fincon: {WORDS[signal.Signals(number)]}. {_State.consequence}".rstrip() + "\n"
    try:
        # On a terminal progress bars hide the cursor, and may stand in this line.
        os.write(
            _State.standard_error, ("\x1b[?25h\n" if sys.stderr.isatty() else "").encode() + line.encode()
        )
    finally:
        os._exit(0 if _State.ends_well and number == signal.SIGTERM else 128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise `Interrupted` if that is wanted; but not within an import, where it can break a library's neck."""
    _State.received = number
    if _State.unwinds and not _State.raised and not _imports(frame):
        _State.raised = True
        raise Interrupted


def _imports(frame: FrameType | None) -> bool:
    while frame and "importlib" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


def _end_in_time(reader: int) -> None:
    """Wait for a signal; give a command that unwinds its time, or until a second signal comes."""
    while (number := os.read(reader, 1)[0]) not in WORDS:
        pass  # another library listens to it
    _State.received = number
    if _State.unwinds or _State.raised:
        again, _, _ = select.select([reader], [], [], UNWINDING_SECONDS)
        if (
            _State.raised and not again
        ):  # an exception that could not be raised, within an import, is not waited for
            select.select([reader], [], [], _State.unwinding_seconds - UNWINDING_SECONDS)
    leave()
