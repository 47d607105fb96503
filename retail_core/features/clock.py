"""The cut-off on the shop's clock; the same function serves batch and online."""

from __future__ import annotations

from datetime import datetime

from retail_core.times import zone


def clock_parts(as_of: datetime, zone_name: str) -> dict[str, int]:
    """Hour (0 to 23), weekday (0 = Monday) and weekend flag in the zone.

    >>> from datetime import UTC
    >>> clock_parts(datetime(2025, 1, 4, 23, 30, tzinfo=UTC), "Europe/Berlin")
    {'hour': 0, 'weekday': 6, 'weekend': 1}
    """
    local = as_of.astimezone(zone(zone_name))
    return {"hour": local.hour, "weekday": local.weekday(), "weekend": int(local.weekday() >= 5)}
