"""Whether a Prefect server is there: told in two lines before anything is begun, and not by a traceback after a minute."""

from fincon.errors import RunFailed, reason_of
from fincon.settings import prefect_api_url, quiet_prefect

quiet_prefect()

from prefect.client.orchestration import get_client  # noqa: E402 - after quiet_prefect, which must come first


def refuse_without_server(hint: str) -> None:
    """Make sure that a server answers at ``PREFECT_API_URL``.

    Raises:
        RunFailed: none does.
    """
    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            raise RunFailed(f"No Prefect server answers at {prefect_api_url()}: {reason_of(error)}", hint)
