"""Prefect automations that report failed, crashed, late and lost runs to the API, which raises alerts.

Example: python -m flows.automations

They are created or updated by name, so running it again changes nothing. The server that evaluates them calls
`POST /alerts/run` of the API, which works where the worker has stopped.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from prefect.automations import CallWebhook, ChangeFlowRunState, EventTrigger, Posture
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes
from prefect.events.schemas.automations import AutomationCore
from prefect.types import SecretDict
from pydantic import SecretStr

from flows.command_line import JsonFlag, run_command
from retail_core.api_keys import client_key
from retail_core.cli.output import emit
from retail_core.settings import Settings, load_settings
from retail_core.stack.services import api_url

PREFIX = "retail: "
"""First characters of the names of our automations."""

BLOCK = "retail-alerts"
ENDED = tuple(
    f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling")
)
STARTED = tuple(
    f"prefect.flow-run.{state}" for state in ("Pending", "Running", "AwaitingConcurrencySlot", "Cancelled")
)
HEARTBEAT = "prefect.flow-run.heartbeat"

_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
_OURS = {"prefect.resource.id": "prefect.tag.retail", "prefect.resource.role": "tag"}
_PAYLOAD = (
    '{"flow": {{ flow.name | tojson }}, "run": {{ flow_run.name | tojson }}, "state": STATE, '
    '"message": {{ (flow_run.state.message or "")[:2000] | tojson }}}'
)
_STATE = "{{ flow_run.state.name | tojson }}"


def automations(webhook: CallWebhook, late: CallWebhook, lost_after: timedelta) -> list[AutomationCore]:
    """Our automations.

    Args:
        webhook: reports a run with its state.
        late: reports a run as late.
        lost_after: time without a heartbeat after which a run is lost, and without a start after which it
            is late.
    """
    return [
        _automation(
            "failed and crashed runs",
            "Report a run that has failed or crashed.",
            EventTrigger(
                expect={f"prefect.flow-run.{state}" for state in ("Failed", "TimedOut", "Crashed")},
                match=_RUNS,
                match_related=_OURS,
                posture=Posture.Reactive,
                threshold=1,
            ),
            webhook,
        ),
        _automation(
            "late runs",
            "Report a scheduled run that no worker has started.",
            _absence({"prefect.flow-run.Late"}, set(STARTED), lost_after),
            late,
        ),
        _automation(
            "lost runs",
            "Mark a run whose process sends no heartbeat as crashed, which reports it and frees its slot.",
            _absence({HEARTBEAT}, {HEARTBEAT, *ENDED}, lost_after),
            ChangeFlowRunState(
                name="Crashed", state=StateType.CRASHED, message="The run has stopped sending heartbeats."
            ),
        ),
    ]


def _absence(after: set[str], expect: set[str], within: timedelta) -> EventTrigger:
    """Fires for a run with an event of `after` that is not followed by one of `expect` in time."""
    return EventTrigger(
        after=after,
        expect=expect,
        match=_RUNS,
        match_related=_OURS,
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def _automation(name: str, description: str, trigger: EventTrigger, action: ActionTypes) -> AutomationCore:
    return AutomationCore(name=PREFIX + name, description=description, trigger=trigger, actions=[action])


def apply_automations(client: SyncPrefectClient, settings: Settings, lost_after: timedelta) -> list[str]:
    """Create or update the webhook and the automations; their names.

    Raises:
        httpx.HTTPError: the server refuses or does not answer.
    """
    block_id = _webhook(settings)._block_document_id
    reports = [
        CallWebhook(block_document_id=block_id, payload=_PAYLOAD.replace("STATE", state))
        for state in (_STATE, '"Late"')
    ]
    definitions = automations(reports[0], reports[1], lost_after)
    for automation in definitions:
        present = client.read_automations_by_name(automation.name)
        if present:
            client.update_automation(present[0].id, automation)
        else:
            client.create_automation(automation)
    return [automation.name for automation in definitions]


def _webhook(settings: Settings) -> Webhook:
    """The stored webhook of the API; Prefect encrypts its address and its key."""
    key = client_key(settings)
    headers = {"content-type": "application/json"} | ({"X-API-Key": key} if key else {})
    block = Webhook(
        url=SecretStr(f"{api_url(settings)}/alerts/run"),
        headers=SecretDict(headers),
    )
    block.save(BLOCK, overwrite=True)
    return block


def main(
    lost_after: Annotated[
        int,
        typer.Option(min=60, help="Seconds without a heartbeat or a start after which a run is reported."),
    ] = 600,
    json_output: JsonFlag = False,
) -> None:
    """Create or update Prefect's automations for alerts about runs.

    Example: python -m flows.automations
    """
    with get_client(sync_client=True) as client:
        names = apply_automations(client, load_settings(), timedelta(seconds=lost_after))
    emit({"automations": names}, json_output=json_output, title="Automations")


if __name__ == "__main__":
    run_command(main)
