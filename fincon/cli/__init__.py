"""The command line. `fincon.cli.app` has the table of commands; a command's module is imported when it is called."""

import gc
import os
import sys

from fincon.cli import interrupt


def main() -> None:
    """Run ``fincon`` and end the process with its exit code."""
    try:
        gc.disable()  # which would look through hundreds of modules, again and again, as they come; `app` enables it
        _open_streams()
        interrupt.catch_signals()
        # Only now: Ctrl-C while these are imported is a line, too, and no traceback.
        from fincon.settings import keep_numpy_to_one_thread

        keep_numpy_to_one_thread()
        from fincon.cli import app

        app.end(app.run())
    except interrupt.Interrupted:
        interrupt.leave()


def _open_streams() -> None:
    """Lead to nowhere what was closed of standard input, output and error; else the next file opened would be it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        if descriptor:
            setattr(sys, ("stdout", "stderr")[descriptor - 1], open(descriptor, "w"))  # noqa: SIM115, PTH123 - for good
    os.close(descriptor)
