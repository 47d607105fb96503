"""The prediction task: label horizon, eligibility, look-back and time zone. Stored with every model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from retail_core.features.time_windows import HOUR_US, FeatureWindow, standard_windows
from retail_core.settings import Settings


@dataclass(frozen=True)
class PredictionTask:
    """Which eligible users purchase within the horizon after a cut-off, given the events of the look-back.

    Attributes:
        horizon_hours: length of the label window [t, t + horizon).
        eligible_days: a user with an event in this many days before the cut-off is eligible.
        lookback_days: features use events of this many days before the cut-off.
        timezone: IANA zone of the shop; its midnights are the daily cut-offs.
    """

    horizon_hours: int = 24
    eligible_days: int = 7
    lookback_days: int = 28
    timezone: str = "UTC"

    @classmethod
    def from_settings(cls, settings: Settings, zone: str) -> PredictionTask:
        """The task that the settings define, in the shop's zone."""
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
    def windows(self) -> tuple[FeatureWindow, ...]:
        """Feature windows, ascending; the last one is the look-back."""
        return standard_windows(self.lookback_days)
