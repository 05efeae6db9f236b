"""Have the commands read the Secret blocks of a Prefect server that the flows read."""

from fincon.cli.options import current_options
from fincon.settings import prefect_api_url, quiet_prefect, set_variables
from fincon.storage.s3 import DataPath


def read_blocks(data: DataPath, **named: str | None) -> dict[str, str]:
    """Return variable → value of the blocks that are named (``key``, ``pii_key``, ``s3``), or that stand for what is missing.

    Raises:
        UsageError: one that is named is not there. RunFailed: the server does not answer.
    """
    quiet_prefect(for_a_person=True)
    # Prefect takes seconds to import, and most commands do without.
    from fincon.flows.blocks import Blocks, variables_of
    from fincon.flows.server import refuse_without_server

    refuse_without_server("Start it, or do without: --no-prefect, or no PREFECT_API_URL.")
    return variables_of(Blocks(**named), data)


def use_blocks(data: DataPath) -> None:
    """Put what the environment lacks and the usual blocks hold into it, for this command, where it is to use a server."""
    if prefect_api_url() and not current_options().no_prefect:
        set_variables(read_blocks(data))
