"""Have a Prefect server mark runs whose process died, and tell people: one automation each, however often they are set up."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from fincon.errors import UsageError
from fincon.settings import HEARTBEAT_SECONDS, prefect_api_url, quiet_prefect

quiet_prefect()

from prefect.client.orchestration import SyncPrefectClient, get_client  # noqa: E402 - after quiet_prefect, which must come first
from prefect.client.schemas.objects import StateType  # noqa: E402
from prefect.events.actions import ChangeFlowRunState, SendNotification  # noqa: E402
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture  # noqa: E402
from prefect.events.schemas.events import ResourceSpecification  # noqa: E402
from prefect.exceptions import ObjectNotFound  # noqa: E402

from fincon.flows.server import refuse_without_server  # noqa: E402

NAME = "fincon: mark runs whose process died"
TAG = "fincon"
"""What the deployments of prefect.yaml and the runs of the command line are tagged with."""

HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = ("Completed", "Failed", "Crashed", "Cancelling", "Cancelled", "Skipped")
"""The states after which no further heartbeat is awaited."""

BAD = ("Failed", "Crashed")
WAITING = ("Pending", "Submitting")
EVENT = "prefect.flow-run.{}"

STUCK_AFTER = timedelta(minutes=10)
"""How long a run may wait for a worker that has taken it."""

ANY_RUN = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
OURS = ResourceSpecification({"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"})

MISSED = 3
"""Heartbeats that may be missed."""


def dead_runs() -> AutomationCore:
    """Return what marks a run as Crashed that had a heartbeat, and then within three more neither one nor an end."""
    return AutomationCore(
        name=NAME,
        description="The worker died with the run, so that nobody else is left to say so.",
        trigger=EventTrigger(
            match=ANY_RUN,
            match_related=OURS,
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


def notifications(block_id: UUID, within: timedelta) -> list[AutomationCore]:
    """Return what tells people, by a notification block: of runs that failed, of none that succeeds, of one that is stuck."""
    action = SendNotification(
        block_document_id=block_id,
        subject="fincon: {{ flow_run.name }}",
        body="{{ automation.name }}: {{ flow_run.name }} is {{ flow_run.state.name }}. {{ flow_run|ui_url }}",
    )
    silent = SendNotification(
        block_document_id=block_id,
        subject="fincon: no run has succeeded",
        body=f"{{{{ automation.name }}}}: none within {within}. `fincon status` says more.",
    )

    def on_events(**asked: Any) -> EventTrigger:
        return EventTrigger(match=ANY_RUN, match_related=OURS, threshold=1, **asked)

    failed = on_events(expect=set(map(EVENT.format, BAD)), posture=Posture.Reactive)
    quiet = on_events(expect={EVENT.format("Completed")}, posture=Posture.Proactive, within=within)
    stuck = on_events(
        for_each={"prefect.resource.id"},
        after=set(map(EVENT.format, WAITING)),
        expect=set(map(EVENT.format, ("Running", *ENDS))),
        posture=Posture.Proactive,
        within=STUCK_AFTER,
    )
    return [
        AutomationCore(name="fincon: tell of runs that failed", trigger=failed, actions=[action]),
        AutomationCore(name="fincon: tell when no run succeeds", trigger=quiet, actions=[silent]),
        AutomationCore(name="fincon: tell of runs that are stuck", trigger=stuck, actions=[action]),
    ]


def set_up(notify: str = "", within: timedelta = timedelta(hours=3)) -> dict[str, bool]:
    """Create the automations, or bring those that are there up to date; return the name of each with whether it is new.

    ``notify`` names a notification block, as ``slack-webhook/ops``.

    Raises:
        UsageError: no server is named, or there is no such block. RunFailed: it does not answer.
    """
    if not prefect_api_url():
        raise UsageError(
            "PREFECT_API_URL is not set.", "Set it to the Prefect server that runs the schedules."
        )
    refuse_without_server("Start it, or set PREFECT_API_URL.")
    with get_client(sync_client=True) as client:
        wanted = [dead_runs()]
        if notify:
            wanted += notifications(_block(client, notify), within)
        return {automation.name: _put(client, automation) for automation in wanted}


def _block(client: SyncPrefectClient, name: str) -> UUID:
    """Return the id of a block that is named by its type and its own name.

    Raises:
        UsageError: there is none.
    """
    kind, _, own = name.partition("/")
    try:
        return client.read_block_document_by_name(own, kind, include_secrets=False).id
    except (ObjectNotFound, ValueError) as error:
        raise UsageError(
            f"The server has no block {name!r}.", "Name one as slack-webhook/ops: its type, then its name."
        ) from error


def _put(client: SyncPrefectClient, automation: AutomationCore) -> bool:
    """Create an automation, or update the one of its name; return whether it is new."""
    found = client.read_automations_by_name(automation.name)
    if not found:
        client.create_automation(automation)
        return True
    client.update_automation(found[0].id, automation)
    for surplus in found[1:]:
        client.delete_automation(surplus.id)
    return False
