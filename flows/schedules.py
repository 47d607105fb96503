"""Names of runs, and scheduled runs that a later one of the same schedule makes unnecessary."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from uuid import UUID

import prefect.runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from retail_core.errors import InputError
from retail_core.settings import load_settings
from retail_core.times import iso, parse_instant, zone


def day_name() -> str:
    """Name of a run: the flow and the local day of its cut-off, else of its start, `score 2025-02-01`."""
    return _run_name("%Y-%m-%d")


def minute_name() -> str:
    """As `day_name`, with the time of day, for flows that run often."""
    return _run_name("%Y-%m-%d %H:%M")


def _run_name(time_format: str) -> str:
    run = prefect.runtime.flow_run
    as_of = (run.parameters or {}).get("as_of")
    instant = parse_instant(as_of) if isinstance(as_of, str) else as_of
    local = (instant or run.scheduled_start_time or datetime.now(UTC)).astimezone(_zone())
    return f"{run.flow_name} {local.strftime(time_format)}"


def _zone() -> tzinfo:
    try:
        return zone(load_settings().timezone or "UTC")
    except InputError:
        return UTC


def newer_due_run() -> str | None:
    """Start of a later run of the same deployment that is due as well, or None.

    After downtime all runs that were missed are due. Only the newest of them does the work, the others end as
    skipped. Runs that were started by hand or by an event are never skipped.
    """
    if prefect.runtime.deployment.id is None:
        return None
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(prefect.runtime.flow_run.id))
        if not run.auto_scheduled or run.expected_start_time is None:
            return None
        later = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                expected_start_time=FlowRunFilterExpectedStartTime(
                    after_=run.expected_start_time, before_=datetime.now(UTC)
                ),
            ),
        )
    starts = [
        other.expected_start_time
        for other in later
        if other.auto_scheduled
        and other.expected_start_time is not None
        and other.expected_start_time > run.expected_start_time
    ]
    return iso(max(starts)) if starts else None
