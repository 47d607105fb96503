"""Which model versions were trained on given events."""

from __future__ import annotations

from datetime import datetime

from retail_core.registry.versions import list_versions
from retail_core.settings import Settings
from retail_core.times import parse_instant


def versions_trained_on(settings: Settings, *, ingested_at: datetime, first_event: datetime) -> list[str]:
    """Versions whose training began after the events were ingested and whose data reach beyond the first one.

    Args:
        settings: where the registry is.
        ingested_at: start of the ingestion, aware.
        first_event: time of the earliest event, aware.

    Returns:
        Version numbers, newest first.

    Raises:
        DependencyError: MLflow is unreachable.
    """
    return [
        spec.version
        for spec in list_versions(settings)
        if spec.trained_at >= ingested_at and parse_instant(str(spec.data["as_of"])) > first_event
    ]
