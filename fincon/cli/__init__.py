"""The command line. `fincon.cli.app` has the table of commands; a command's module is imported when it is called."""

from fincon.cli import interrupt


def main() -> None:
    """Run ``fincon`` and end the process with its exit code."""
    try:
        interrupt.catch_signals()
        from fincon.cli import app  # only now: Ctrl-C while this is imported is a line, too, and no traceback

        app.end(app.run())
    except interrupt.Interrupted:
        interrupt.leave()
