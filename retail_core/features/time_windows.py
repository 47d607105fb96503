"""Units of time in microseconds, and the windows over which features aggregate events.

Separate from the feature kinds because formulas, kinds, interpreters and explanations all use them.
"""

from __future__ import annotations

from dataclasses import dataclass

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
MINUTE_US = HOUR_US // 60
SESSION_GAP_US = 30 * MINUTE_US
"""A pause of this length or longer ends a session."""

IN_SESSION_HOURS = SESSION_GAP_US / HOUR_US
"""A user whose last event is younger than this is in a session."""


@dataclass(frozen=True)
class FeatureWindow:
    """The last `micros` microseconds before the cut-off: `as_of - micros <= event_time < as_of`."""

    label: str
    micros: int


def standard_windows(lookback_days: int) -> tuple[FeatureWindow, ...]:
    """The standard windows shorter than the look-back, and the look-back itself, ascending.

    >>> [window.label for window in standard_windows(3)]
    ['1h', '6h', '1d', '3d']
    """
    standard = [FeatureWindow(f"{h}h", h * HOUR_US) for h in (1, 6)]
    standard += [FeatureWindow(f"{d}d", d * DAY_US) for d in (1, 3, 7, 28, 91)]
    lookback = FeatureWindow(f"{lookback_days}d", lookback_days * DAY_US)
    return (*(window for window in standard if window.micros < lookback.micros), lookback)
