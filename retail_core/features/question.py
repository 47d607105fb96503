"""How the question is put, and which user attributes go along."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from retail_core.features.kinds import HOUR_US, Window, windows

if TYPE_CHECKING:
    from retail_core.settings import Settings


@dataclass(frozen=True)
class Question:
    """Who buys within the horizon after a cut-off, asked of eligible users, seen over the look-back.

    Attributes:
        horizon_hours: length of the label window [t, t + horizon).
        eligible_days: a user with an event in the last so many days is eligible.
        lookback_days: how far features reach back.
        timezone: IANA zone of the shop; its midnights are the daily cut-offs.
    """

    horizon_hours: int = 24
    eligible_days: int = 7
    lookback_days: int = 28
    timezone: str = "UTC"

    @classmethod
    def from_settings(cls, settings: Settings, zone: str) -> Question:
        """The question of the settings, in the shop's zone."""
        return cls(settings.horizon_hours, settings.eligible_days, settings.lookback_days, zone)

    @property
    def horizon(self) -> timedelta:
        """Length of the label window."""
        return timedelta(hours=self.horizon_hours)

    @property
    def eligibility(self) -> timedelta:
        """Length of the eligibility window."""
        return timedelta(days=self.eligible_days)

    @property
    def lookback(self) -> timedelta:
        """Length of the look-back."""
        return timedelta(days=self.lookback_days)

    @property
    def lookback_us(self) -> int:
        """Length of the look-back in microseconds."""
        return self.lookback_days * 24 * HOUR_US

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """Feature windows, ascending; the last one is the look-back."""
        return windows(self.lookback_days)


@dataclass(frozen=True)
class Attribute:
    """One user attribute: a number, or a category with the values that get a column each.

    Attributes:
        name: key in the user's attributes.
        kind: how it becomes numbers.
        categories: values with a column of their own; any other value is 0 in all of them.
        undated: rows without `valid_from` count at every cut-off; only where it was admitted by name.
    """

    name: str
    kind: Literal["number", "category"]
    categories: tuple[str, ...] = ()
    undated: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """`attr_<name>` for a number, `attr_<name>=<category>` per category."""
        if self.kind == "number":
            return (f"attr_{self.name}",)
        return tuple(f"attr_{self.name}={category}" for category in self.categories)

    def encode(self, attributes: Mapping[str, object]) -> Iterator[float]:
        """One float per column; NaN for an unknown number, 0 for a category that is not the value."""
        value = attributes.get(self.name)
        if self.kind == "number":
            number = as_number(value)
            yield math.nan if number is None else number
            return
        text = None if value is None else str(value)
        for category in self.categories:
            yield 1.0 if text == category else 0.0


def as_number(value: object) -> float | None:
    """A JSON value as a finite float, None where it is not one.

    >>> as_number("12.5"), as_number(True), as_number("red")
    (12.5, 1.0, None)
    """
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
