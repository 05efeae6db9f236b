"""``fincon listen``: take Stripe's webhooks, and load what came every few seconds."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from fincon.cli import interrupt
from fincon.cli.options import (
    command,
    current_options,
    echo_status,
    log_option,
    pluralize,
    seconds_option,
)
from fincon.cli.sync import details_options
from fincon.errors import DataFolderLocked, UsageError
from fincon.landing.spool import Spool
from fincon.listen.receiver import PATH, Receiver, Wanted
from fincon.listen.server import bind, serving
from fincon.pipeline.load_step import MACHINES
from fincon.pipeline.policy import current_policy
from fincon.settings import STRIPE_ACCOUNT_ID, Settings, load_settings, webhook_secrets
from fincon.storage.data_folder import DataFolder, prepare

STOP_SECONDS = 60.0
"""How long a load has to stop that is in progress at the end."""

NICE = 10
"""How much a load yields to the answers, for they have their time."""

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""How long is waited where one try after another fails, in seconds: twice as long each time."""

LIST, LOAD = "Stripe's list of events could not be read", "what was received could not be loaded"
"""What `/health` says where one failed."""


@command("fincon listen", "fincon listen --port 8000 --every 5", "fincon listen --connected --transactions")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on; a proxy stands before it.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8091,
    show_default=True,
    help="Its port; 0 = any free one.",
)
@seconds_option("--every", 10, "How often what came is loaded.")
@seconds_option(
    "--events-every",
    3600,
    "How often Stripe's list of events is read, for what was never sent; first at the beginning.",
    least=1,
)
@click.option(
    "--stripe-account",
    "stripe_accounts",
    metavar="ID",
    multiple=True,
    help="A connected account, acct_…, whose events are taken [STRIPE_ACCOUNT]; may be repeated.",
)
@click.option("--connected", is_flag=True, help="Take those of every connected account of the platform.")
@details_options
@log_option
def listen(  # its parameters are the options of the command
    host: str,
    port: int,
    every: float,
    events_every: float,
    stripe_accounts: tuple[str, ...],
    *,
    connected: bool,
    **details: Any,
) -> None:
    """Take the events that Stripe posts to /stripe/events, and load them every few seconds.

    Each is on disk before Stripe is told that it came. STRIPE_WEBHOOK_SECRET is the secret of the endpoint: two of them,
    with a comma between, while it is changed. GET /health tells what was received, refused and loaded.
    """
    data = current_options().data
    settings, secrets = load_settings(data=data), webhook_secrets()
    for one in stripe_accounts:
        if not STRIPE_ACCOUNT_ID.fullmatch(one):
            raise UsageError(
                f"{one!r} is not the id of a Stripe account.", "It looks like acct_1Nq4rLAbCdEfGhIj."
            )
    prepare(settings.data)
    own = stripe_accounts or (() if connected else (settings.stripe_account,))
    wanted = Wanted(livemode=settings.livemode, stripe_accounts=frozenset(own), connected=connected)
    receiver = Receiver(Spool(settings.data), secrets, wanted)
    asked = [
        *(word for one in stripe_accounts for word in ("--stripe-account", one)),
        *["--connected"] * connected,
    ]
    more = [f"--{name}" for name, is_asked in details.items() if is_asked]
    more += ["--no-prefect", "--quiet", *(("--data", str(data)) if data else ())]
    loads = Loads(
        settings=settings,
        receiver=receiver,
        every=every,
        events_every=events_every,
        events=["sync", "--events", *asked, *more],
        received=["events", "--received", *more],
        owners=details["owners"],
    )
    loads.renew_policy()
    listener = bind(host, port)
    interrupt.end_well(STOP_SECONDS)
    with interrupt.unwinding():
        try:
            with serving(receiver, listener):
                shown = f"[{host}]" if ":" in host else host
                echo_status(f"Listening on http://{shown}:{listener.getsockname()[1]}{PATH}. Ctrl-C ends it.")
                loads.run()
        finally:
            interrupt.expect(summary(receiver))


def summary(receiver: Receiver) -> str:
    """Say in a line what came, and what became of it."""
    refused = _counts(receiver.refused)
    ignored = _counts(receiver.ignored)
    return (
        f"{pluralize(receiver.received, 'event')} received, {receiver.duplicates:,} sent again,"
        f" {refused} refused, {ignored} not asked for, {receiver.loaded:,} loaded;"
        f" {receiver.spool.count():,} wait for the next start."
    )


def _counts(counts: Any) -> str:
    by_reason = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    return f"{sum(counts.values()):,}" + (f" ({by_reason})" if by_reason else "")


@dataclass(kw_only=True)
class Loads:
    """Bring into the lake what waits, each time as a command in a process of its own, so that answers do not wait."""

    settings: Settings
    receiver: Receiver
    every: float
    events_every: float
    events: Sequence[str]
    """The command that reads Stripe's list of events."""
    received: Sequence[str]
    """The command that loads what was received."""
    owners: bool
    published: int | None = None
    """When the views were published that the policy is of."""
    failures: Counter[str] = field(default_factory=Counter)
    """What failed → how many times in a row."""

    def run(self) -> None:
        """Load what came, turn by turn; never returns."""
        list_due = load_due = 0.0
        while True:
            began = time.monotonic()
            if began >= list_due:
                waits = self._run(LIST, self.events)
                list_due = time.monotonic() + (
                    self.events_every if waits is None else min(waits, self.events_every)
                )
            if began >= load_due and (files := {*self.receiver.spool.files()}):
                waits = self._run(LOAD, self.received)
                if not files <= {*self.receiver.spool.files()}:
                    # What failed is one Stripe account's, and the others' news does not wait for it.
                    waits = None
                load_due = began + (waits or 0.0)
            try:
                self.renew_policy()
                self.receiver.not_known = ""
            except MACHINES as error:
                # What people chose is not known: nothing is kept, and Stripe sends it again.
                if not self.receiver.not_known:
                    click.echo(f"fincon: Nothing is kept for now. {error}", err=True)
                self.receiver.not_known = f"what is to be left out cannot be read: {error}"
            time.sleep(max(0.0, began + self.every - time.monotonic()))

    def _run(self, what: str, arguments: Sequence[str]) -> float | None:
        """Run a command; return None where it succeeded, else for how many seconds to wait before it is tried again.

        Where another run holds the data folder, the next turn comes.
        """
        # -P: what lies in the folder that it is started from is nobody's module, whatever its name.
        command = [sys.executable, "-P", "-m", "fincon.cli", *arguments]
        try:
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own command
        except OSError as error:
            return self._failed(what, f"fincon: {what}: {error.strerror}.\n")
        try:
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            said = process.communicate()[1]
        except BaseException:
            process.terminate()
            process.communicate(timeout=STOP_SECONDS)
            raise
        if process.returncode == DataFolderLocked.exit_code:
            return 0.0
        if process.returncode:
            return self._failed(what, said)
        click.echo(said, err=True, nl=False)
        self.failures[what] = 0
        self.receiver.not_loaded = "; ".join(+self.failures)
        return None

    def _failed(self, what: str, said: str) -> float:
        """Tell and count a failure; return for how many seconds to wait."""
        click.echo(said, err=True, nl=False)
        self.failures[what] += 1
        self.receiver.not_loaded = "; ".join(+self.failures)
        return float(min(FIRST_PAUSE * 2.0 ** self.failures[what], LONGEST_PAUSE))

    def renew_policy(self) -> None:
        """Have the receiver leave out what runs leave out now of people, and who was erased, where a run was since.

        Raises:
            UsageError: as `current_policy`.
        """
        views = DataFolder(self.settings.data).views
        published = views.stat().st_mtime_ns if isinstance(views, Path) and views.exists() else None
        if published is None or published != self.published:
            policy = current_policy(self.settings, owners=self.owners)
            self.receiver.privacy, self.receiver.erased = policy
            self.published = published
