"""What a cut-off itself says, without the user's events: the local clock, and the context features.

Context features describe the shop when a local day begins; they are computed in `batch.context_features`,
stored by day and looked up by the service. Their names and keys are here, because both sides use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime

from retail_core.features.prediction_task import PredictionTask
from retail_core.times import zone

ContextFeatures = Mapping[str, float | None]
"""Context features of one day by name; null is NaN or None."""

ContextByDay = Mapping[date, ContextFeatures]
"""Context features by local day."""

CONTEXT_PREFIX = "shop_"
"""Prefix of the names of context features."""

CONTEXT_DAYS = 56
"""How many complete local days before the day of the cut-off context features use."""

_NO_DAY, _NO_WEEK = "no earlier day", "no earlier such weekday"

CONTEXT_MEASURES: tuple[tuple[str, str, str, str], ...] = (
    ("buyers_yesterday", "users", "Buyers on the day before.", _NO_DAY),
    ("buyers_usual", "users", "Mean buyers on days of the same weekday.", _NO_WEEK),
    ("rate_usual", "share", "Buyers among the eligible on days of the same weekday.", _NO_WEEK),
    ("rate_recent", "share", "Buyers among the eligible on the last 7 days.", _NO_DAY),
    ("weekday_index", "ratio", "The usual rate of the weekday over that of all days.", _NO_WEEK),
    ("demand_yesterday", "ratio", "Buyers on the day before over the mean of its weekday before.", _NO_WEEK),
    ("closed", "flag", "The weekday had no events in most of at least 3 weeks.", _NO_DAY),
)
"""Name without prefix, unit, meaning, and when it is null, of every context feature."""


def clock_features(as_of: datetime, zone_name: str) -> dict[str, int]:
    """Hour (0 to 23), weekday (0 = Monday) and weekend flag of a cut-off in the zone.

    >>> from datetime import UTC
    >>> clock_features(datetime(2025, 1, 4, 23, 30, tzinfo=UTC), "Europe/Berlin")
    {'hour': 0, 'weekday': 6, 'weekend': 1}
    """
    local = as_of.astimezone(zone(zone_name))
    return {"hour": local.hour, "weekday": local.weekday(), "weekend": int(local.weekday() >= 5)}


def local_day(as_of: datetime, task: PredictionTask) -> date:
    """The local day of a cut-off in the shop's time zone."""
    return as_of.astimezone(zone(task.timezone)).date()


def context_key(day: date, task: PredictionTask) -> str:
    """The id under which the context features of a local day are stored.

    It names the rule for quiet days where that is not the default.

    >>> from datetime import date, datetime
    >>> context_key(date(2025, 1, 31), PredictionTask())
    '2025-01-31 UTC 7d'
    """
    rule = "" if task.quiet_days == "auto" else f" {task.quiet_days}"
    return f"{day.isoformat()} {task.timezone} {task.eligible_days}d{rule}"


def has_context_features(names: Iterable[str]) -> bool:
    """Whether any of these feature names is a context feature."""
    return any(name.startswith(CONTEXT_PREFIX) for name in names)
