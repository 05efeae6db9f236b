"""The command line. `fincon.cli.app` has the table of commands; a command's module is imported when it is called."""


def main() -> None:
    """Run ``fincon`` and end the process with its exit code."""
    from fincon.cli import app  # after this package: what only asks for a command's module does without click

    app.end(app.run())
