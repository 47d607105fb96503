"""The prediction task: label horizon, eligibility, look-back and time zone. Stored with every model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from retail_core.features.time_windows import HOUR_US, FeatureWindow, standard_windows
from retail_core.log_coverage import QuietDays
from retail_core.settings import Settings


@dataclass(frozen=True)
class PredictionTask:
    """Which eligible users purchase within the horizon after a cut-off, given the events of the look-back.

    Attributes:
        horizon_hours: length of the label window [t, t + horizon).
        eligible_days: a user with an event in this many days before the cut-off is eligible.
        lookback_days: features use events of this many days before the cut-off.
        timezone: IANA zone of the shop; its midnights are the daily cut-offs.
        quiet_days: which local days without events are outages (`log_coverage.classify_silent_days`): their
            labels are unknown, and context features leave them out.
    """

    horizon_hours: int = 24
    eligible_days: int = 7
    lookback_days: int = 28
    timezone: str = "UTC"
    quiet_days: QuietDays = "auto"

    @classmethod
    def from_settings(cls, settings: Settings, zone: str) -> PredictionTask:
        """The task that the settings define, in the shop's zone."""
        return cls(
            settings.horizon_hours, settings.eligible_days, settings.lookback_days, zone, settings.quiet_days
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values as stored with a model; `quiet_days` only where it is not the default.

        Hashes of feature sets include these values, and models of earlier releases have no `quiet_days`.
        """
        stored = asdict(self)
        if self.quiet_days == "auto":
            del stored["quiet_days"]
        return stored

    def differing_labels(self, other: PredictionTask) -> list[str]:
        """Names of the fields by which the two predict different things: all but how a model learns."""
        return [
            name
            for name, value in asdict(self).items()
            if name not in {"lookback_days", "quiet_days"} and value != getattr(other, name)
        ]

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
