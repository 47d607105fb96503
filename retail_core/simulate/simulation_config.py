"""Arguments and report of a simulation, drifts, and the calendar of days."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType

from retail_core.errors import InputError

DRIFTS: Mapping[str, str] = MappingProxyType(
    {
        "intent": "the odds of buying on a visiting day fall to 0.4 of what they were",
        "intent_mild": "the odds of buying on a visiting day fall to 0.6 of what they were",
        "mix": "half of the sessions move to android and 45 % of the interest to three small categories",
        "volume": "the rate of visits rises by 70 %",
        "schema": "the android app sends no brand, categories in capitals and view_promotion for lists",
    }
)
"""Drift kinds and what each does from two thirds of the period on."""

BURN_IN_DAYS = 14
"""Days lived before the first written one, so that carts and moods are not all new on day one."""

_MAX_USERS = 5_000_000
_MAX_DAYS = 3_660
_FIRST, _LAST = date(1990, 3, 1), date(2099, 12, 31)


@dataclass(frozen=True)
class SimulationConfig:
    """A population, a period and a seed; equal configs give equal files, byte for byte.

    Args:
        users: accounts that exist at some time of the period; about two thirds from its start.
        days: UTC days written.
        seed: any non-negative integer.
        start: the first day.
        drift: a key of `DRIFTS`, or None.

    Raises:
        InputError: a value makes no sense.
    """

    users: int = 20_000
    days: int = 45
    seed: int = 7
    start: date = date(2025, 1, 1)
    drift: str | None = None

    def __post_init__(self) -> None:
        _within("users", self.users, 1, _MAX_USERS)
        _within("days", self.days, 1, _MAX_DAYS)
        _within("seed", self.seed, 0, 2**63 - 1)
        if self.start < _FIRST or self.start + timedelta(days=self.days) > _LAST:
            raise InputError(
                f"The period of {self.days} days from {self.start} is not within the years 1990 to 2099.",
                remedy="choose another start, such as 2025-01-01.",
            )
        if self.drift is not None and self.drift not in DRIFTS:
            raise InputError(
                f"There is no drift {self.drift!r}.", remedy=f"use one of {', '.join(DRIFTS)}, or none."
            )

    @property
    def drift_day(self) -> int:
        """Index of the first day on which a drift acts: two thirds of the period, rounded up."""
        return -(-2 * self.days // 3)


@dataclass(frozen=True)
class SimulationReport:
    """What was written: rows, users with at least one row, `purchase` rows, seconds taken."""

    events: int
    users: int
    purchases: int
    seconds: float


@dataclass(frozen=True)
class Day:
    """One UTC day: its index (0 is the first written day) and what the calendar says of it."""

    index: int
    date: date
    promotion: bool
    eve: bool
    drift: str | None


def is_promotion(day: date) -> bool:
    """The announced calendar: the second Friday of each month and the Saturday after it.

    >>> [is_promotion(date(2025, 1, day)) for day in (9, 10, 11, 12)]
    [False, True, True, False]
    """
    return (day.weekday() == 4 and 8 <= day.day <= 14) or (day.weekday() == 5 and 9 <= day.day <= 15)


def calendar(config: SimulationConfig) -> Iterator[Day]:
    """Every day lived, ascending, the burn-in (negative index) first."""
    for index in range(-BURN_IN_DAYS, config.days):
        today = config.start + timedelta(days=index)
        promotion = is_promotion(today)
        yield Day(
            index=index,
            date=today,
            promotion=promotion,
            eve=not promotion and is_promotion(today + timedelta(days=1)),
            drift=config.drift if index >= config.drift_day else None,
        )


def _within(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(
            f"{name} is {value!r}.", remedy=f"give {name} as a whole number from {low:,} to {high:,}."
        )
