"""Does the model in production still tell the truth? Triggers, drift and live quality in one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from retail_core.monitoring.drift import Shift
from retail_core.monitoring.outcomes import mature
from retail_core.monitoring.population import measure_drift
from retail_core.monitoring.triggers import TriggerCheck, check
from retail_core.registry.versions import load_champion
from retail_core.workspace import Workspace

OK = "ok"
UNSURE = "insufficient data"


@dataclass(frozen=True)
class MonitorReport:
    """What is known of the production model at an instant.

    Attributes:
        model_version: the version in production.
        status: the triggers that have fired; else `insufficient data` where one could not be measured; else
            `ok`.
        triggers: every trigger with its evidence, as stored.
        drift: every feature and the score, the most striking first.
        population: the rows that `drift` compares, or why there are none.
        live: quality of the matured predictions by day.
    """

    model_version: str
    status: str
    triggers: list[TriggerCheck]
    drift: list[Shift]
    population: str
    live: list[dict[str, object]]


def monitor(work: Workspace, *, as_of: datetime, at: datetime) -> MonitorReport:
    """Mature what has matured at `as_of`, check and store the triggers, and tell all of it.

    `at` is when this is done (aware).

    Raises:
        DataError: there is no champion.
    """
    served = load_champion(work.settings)
    measured = measure_drift(work.lake.snapshot(), served, as_of, work.engine)
    outcomes = mature(work, as_of=as_of)
    checks = check(work, as_of=as_of, at=at, measured=measured)
    population = measured.population or f"none: {measured.lacking}"
    return MonitorReport(
        served.spec.version, status_of(checks), checks, measured.found, population, outcomes.by_day
    )


def status_of(checks: Sequence[TriggerCheck]) -> str:
    """One word for all checks."""
    fired = ", ".join(entry.name for entry in checks if entry.fired)
    return fired or (UNSURE if any(entry.value is None for entry in checks) else OK)
