"""The context features: what is measured of the shop when a local day begins. See `context`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime

from retail_core.features.question import Question
from retail_core.times import zone

Values = Mapping[str, float | None]
"""Context features of one day by name; null is NaN or None."""

Shop = Mapping[date, Values]
"""Context features by local day."""

CONTEXT_PREFIX = "shop_"
"""How names of context features begin."""

CONTEXT_DAYS = 56
"""How many whole local days before the day of the cut-off they see."""


def local_day(as_of: datetime, question: Question) -> date:
    """The day of a cut-off on the shop's clock."""
    return as_of.astimezone(zone(question.timezone)).date()


def context_key(day: date, question: Question) -> str:
    """Under which the context features of a local day are stored.

    >>> from datetime import date, datetime
    >>> context_key(date(2025, 1, 31), Question())
    '2025-01-31 UTC 7d'
    """
    return f"{day.isoformat()} {question.timezone} {question.eligible_days}d"


def sees_the_shop(names: Iterable[str]) -> bool:
    """Whether there are context features among these."""
    return any(name.startswith(CONTEXT_PREFIX) for name in names)


_NO_DAY, _NO_WEEK = "no earlier day", "no earlier such weekday"

MEASURES: tuple[tuple[str, str, str, str], ...] = (
    ("buyers_yesterday", "users", "Buyers on the day before.", _NO_DAY),
    ("buyers_usual", "users", "Mean buyers on days of the same weekday.", _NO_WEEK),
    ("rate_usual", "share", "Buyers among the eligible on days of the same weekday.", _NO_WEEK),
    ("rate_recent", "share", "Buyers among the eligible on the last 7 days.", _NO_DAY),
    ("weekday_index", "ratio", "The usual rate of the weekday over that of all days.", _NO_WEEK),
    ("demand_yesterday", "ratio", "Buyers on the day before over the mean of its weekday before.", _NO_WEEK),
    ("closed", "flag", "The weekday was silent in most of at least 3 weeks.", _NO_DAY),
)
"""Name, unit, meaning, null where."""
