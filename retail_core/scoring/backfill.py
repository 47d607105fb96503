"""Past midnights that the version in production has not been scored at."""

from __future__ import annotations

from datetime import datetime

from retail_core.registry.champion import load_champion
from retail_core.times import iso, midnights
from retail_core.workspace import Workspace


def unscored_midnights(workspace: Workspace, first: datetime, last: datetime) -> list[datetime]:
    """Local midnights of [first, last] without stored predictions of the version in production, ascending.

    Midnights after the newest event are left out: their lists would lack events.

    Args:
        workspace: store and lake.
        first: aware.
        last: aware.

    Raises:
        DataError: no model is in production, or there are no events.
    """
    version = load_champion(workspace.store).spec.version
    end = min(last, workspace.newest_event)
    predictions = workspace.store.predictions.name
    ids = {f"{predictions}:{iso(day)}:{version}": day for day in midnights(first, end, workspace.zone)}
    scored = workspace.store.prediction_windows.find(
        {"_id": {"$in": list(ids)}, "state": "whole"}, {"_id": 1}
    )
    stored = {entry["_id"] for entry in scored}
    return [day for key, day in ids.items() if key not in stored]
