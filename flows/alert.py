"""Tell people what is new in a lake, as a Prefect flow. It needs no key; what leads to DuckDB is imported within the flow."""

from typing import Any

from fincon.settings import alert_urls, data_folder, quiet_prefect

quiet_prefect()

from prefect import flow  # noqa: E402 - after quiet_prefect, which must come first
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.states import Completed  # noqa: E402

from fincon.flows.flow_options import failing_in_words, run_name  # noqa: E402


@flow(name="alert", flow_run_name=run_name, persist_result=False)
@failing_in_words
def alert(
    data: str | None = None, details: bool = False, s3_block: str | None = None
) -> "dict[str, int] | State[Any]":
    """Tell what is new by the addresses in FINCON_ALERT_URLS, each row once; return alert → how many.

    Args:
        data: The data folder; FINCON_DATA if not given.
        details: Put rows into the message, which name accounts and their holders.
        s3_block: The Secret block with AWS_ACCESS_KEY_ID and the rest, as JSON; the environment, or fincon-s3, if not given.
    """
    from fincon.flows.blocks import Blocks, secrets_of
    from fincon.pipeline.alert import tell

    urls = alert_urls()
    if not urls:
        return Completed(name="Nobody to tell", message="FINCON_ALERT_URLS is not set.")
    folder = data_folder(data)
    with secrets_of(Blocks(s3=s3_block), folder):
        return {one.name: len(one.rows) for one in tell(folder, urls, details=details)}
