"""``fincon automations``: apart, for it alone always imports Prefect, which takes seconds."""

from fincon.cli.options import command, echo_status
from fincon.flows.automations import NAME, set_up


@command("PREFECT_API_URL=http://localhost:4200/api fincon automations")
def automations() -> None:
    """Have the Prefect server mark runs whose process died as crashed. Again changes nothing."""
    echo_status(f"{NAME}: {'created' if set_up() else 'it was there, and is up to date'}.")
