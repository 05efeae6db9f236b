"""Have a Prefect server mark runs whose process died, by one automation however often it is set up."""

from datetime import timedelta

from fincon.errors import UsageError
from fincon.settings import HEARTBEAT_SECONDS, prefect_api_url, quiet_prefect

quiet_prefect()

from prefect.client.orchestration import get_client  # noqa: E402 - after quiet_prefect, which must come first
from prefect.client.schemas.objects import StateType  # noqa: E402
from prefect.events.actions import ChangeFlowRunState  # noqa: E402
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture  # noqa: E402
from prefect.events.schemas.events import ResourceSpecification  # noqa: E402

from fincon.flows.server import refuse_without_server  # noqa: E402

NAME = "fincon: mark runs whose process died"
TAG = "fincon"
"""What the deployments of prefect.yaml and the runs of the command line are tagged with."""

HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = ("Completed", "Failed", "Crashed", "Cancelling", "Cancelled", "Skipped")
"""The states after which no further heartbeat is awaited."""

MISSED = 3
"""Heartbeats that may be missed."""


def dead_runs() -> AutomationCore:
    """Return what marks a run as Crashed that had a heartbeat, and then within three more neither one nor an end."""
    return AutomationCore(
        name=NAME,
        description="The worker died with the run, so that nobody else is left to say so.",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
            ),
            for_each={"prefect.resource.id"},
            after={HEARTBEAT},
            expect={HEARTBEAT, *(f"prefect.flow-run.{state}" for state in ENDS)},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=MISSED * HEARTBEAT_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message="Its process died: no heartbeat since.",
                force=False,
            )
        ],
    )


def set_up() -> bool:
    """Create the automation, or bring the one that is there up to date; return whether it is new.

    Raises:
        UsageError: no server is named. RunFailed: it does not answer.
    """
    if not prefect_api_url():
        raise UsageError(
            "PREFECT_API_URL is not set.", "Set it to the Prefect server that runs the schedules."
        )
    refuse_without_server("Start it, or set PREFECT_API_URL.")
    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(NAME)
        if not found:
            client.create_automation(dead_runs())
            return True
        client.update_automation(found[0].id, dead_runs())
        for surplus in found[1:]:
            client.delete_automation(surplus.id)
        return False
