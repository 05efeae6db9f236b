"""Have the commands read the Secret blocks of a Prefect server that the flows read."""

from fincon.settings import quiet_prefect
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
