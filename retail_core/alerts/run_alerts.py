"""Alerts about runs of the flows that failed, crashed or did not start."""

from __future__ import annotations

from dataclasses import dataclass

from retail_core.alerts.alert import Alert, AlertKind

LATE = "Late"
"""Prefect's name of the state of a scheduled run that no worker has started."""


@dataclass(frozen=True)
class RunEvent:
    """A run that did not do its work.

    Attributes:
        flow: name of the flow.
        run: name of the run.
        state: Prefect's name of its state: `Failed`, `TimedOut`, `Crashed` or `Late`.
        message: of the state.
    """

    flow: str
    run: str
    state: str
    message: str


def run_alert(event: RunEvent) -> Alert:
    """The alert of a run. Its cause is the flow: a flow that keeps failing is one cause until it succeeds."""
    if event.state == LATE:
        return Alert(
            AlertKind.RUN_LATE,
            event.flow,
            f"The flow {event.flow} does not start",
            f"No worker has started the run {event.run}.",
            "look whether a worker of the pool `retail` runs: `retail status`, or the log of the worker's "
            "container. The run starts when one does.",
        )
    return Alert(
        AlertKind.RUN_FAILED,
        event.flow,
        f"The flow {event.flow} has {'failed' if event.state == 'Failed' else 'crashed'}",
        f"Run {event.run}, {event.state}: {event.message or 'no message'}",
        "do what the remedy in the message says; the log of the run is in Prefect's UI. The next scheduled "
        "run continues where this one ended.",
    )


def run_alert_ids(flow: str) -> tuple[str, ...]:
    """`_id`s of the alerts that a successful run of the flow resolves."""
    return tuple(f"{kind}:{flow}" for kind in (AlertKind.RUN_FAILED, AlertKind.RUN_LATE))
