"""``fincon sandbox``: Stripe's API on this machine, for whoever has no key or wants to rehearse failures."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from fincon.cli.options import NumberRange, command, echo_status, pluralize
from fincon.errors import UsageError
from fincon.sandbox.server import serve
from fincon.sandbox.state import AGE, MOST_SPEED
from fincon.sandbox.world import World


@command(
    "fincon sandbox --accounts 50 --session-ids ids.txt",
    "fincon sandbox --clock 2026-06-01 --speed 3600",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8090,
    show_default=True,
    help="On loopback; 0 = any free one.",
)
@click.option("--seed", default=1, show_default=True, help="Another seed, another world.")
@click.option(
    "--accounts",
    type=click.IntRange(1, 100_000_000),
    default=1000,
    show_default=True,
    help="At its first moment; in a day 0.5 % more are linked.",
)
@click.option(
    "--sessions", type=click.IntRange(0, 100_000_000), default=300, show_default=True, help="Likewise."
)
@click.option(
    "--connected",
    type=click.IntRange(0, 1_000_000),
    default=0,
    show_default=True,
    help="Connected accounts, each with a world of its own as large.",
)
@click.option(
    "--clock", metavar="TIME", help="Its first moment, ISO 8601 [now]; the same makes the same world."
)
@click.option(
    "--speed",
    type=NumberRange(0, MOST_SPEED),
    default=1,
    show_default=True,
    metavar="N",
    help="Seconds of its clock in each second; 0 = it stands still.",
)
@click.option(
    "--session-ids",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Write the ids of its sessions to this file; - = standard output, before its line.",
)
def sandbox(  # its parameters are the options of the command
    port: int,
    seed: int,
    accounts: int,
    sessions: int,
    connected: int,
    clock: str | None,
    speed: float,
    session_ids: Path | None,
) -> None:
    """Serve a Stripe Financial Connections API on this machine.

    What Stripe can do wrong can be rehearsed, and its clock be moved, while it runs:

    \b
      curl -d '{"rate": 0.2}' localhost:8090/_sandbox/faults
      curl -d '{"rules": [{"kind": "reset"}]}' localhost:8090/_sandbox/faults
      curl -X DELETE localhost:8090/_sandbox/faults
      curl -d '{"advance_seconds": 86400}' localhost:8090/_sandbox/clock

    sandbox/README.md has all that can be set.
    """  # noqa: D301 - click takes the backspace for "leave these lines as they are"
    world = World.beginning(
        _time(clock), seed=seed, accounts=accounts, sessions=sessions, connected=connected
    )
    if session_ids:
        _write_ids(session_ids, world)

    of_each = f"{pluralize(connected, 'connected account')} and the platform, each with " if connected else ""
    runs = "" if speed == 1 else f", {speed:,g} seconds a second" if speed else ", where it stands"

    def ready(url: str) -> None:
        click.echo(f"STRIPE_API_BASE={url} STRIPE_API_KEY=sk_test_sandbox fincon sync")
        echo_status(
            f"{of_each}{pluralize(world.account_count, 'account')}, {pluralize(world.session_count, 'session')} at "
            f"{world.clock:%Y-%m-%d %H:%M} UTC{runs}. Ctrl-C ends it."
        )
        sys.stdout.flush()

    try:
        serve(world, port=port, speed=speed, on_ready=ready)
    except OSError as error:
        raise UsageError(
            f"Port {port} cannot be used: {error.strerror}.",
            "Name another with --port; 0 takes any free one.",
        ) from error


def _write_ids(file: Path, world: World) -> None:
    lines = "".join(f"{one}\n" for one in world.session_ids())
    if file == Path("-"):
        click.echo(lines, nl=False)
        return
    try:
        file.write_text(lines, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}.", "Name another file with --session-ids."
        ) from error


def _time(text: str | None) -> datetime:
    try:
        at = datetime.fromisoformat(text) if text else datetime.now(UTC).replace(microsecond=0)
    except ValueError as error:
        raise UsageError(f"--clock {text!r} is not a time.", "Write it like 2026-06-01T12:00.") from error
    if at.year not in AGE:
        raise UsageError(f"--clock {text!r} is not of this age.", "Write it like 2026-06-01T12:00.")
    return at if at.tzinfo else at.replace(tzinfo=UTC)
