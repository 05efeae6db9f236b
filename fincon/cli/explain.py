"""``fincon explain``: what became of a link, in words, and why there is no balance."""

import click

from fincon.cli.options import command, current_options
from fincon.cli.terminal import terminal_width, visible
from fincon.cli.text import wrap
from fincon.warehouse.connection import connect
from fincon.warehouse.explain import explain as explained


@command("fincon explain fca_1abc", "fincon explain cus_1abc")
@click.argument("account")
def explain(account: str) -> None:
    """Say in words what became of ACCOUNT's link, and why it has no balance, or an old one.

    ACCOUNT is an account (fca_…), or the holder of several (cus_…, acct_…). All is taken from the lake; Stripe is not asked.
    """
    with connect(current_options().data) as connection:
        for line in explained(connection, account):
            click.echo("\n".join(wrap(visible(line), terminal_width(), "      ")) if line else "")
