"""Values of Python, NumPy and pandas as the JSON values that the service reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from retail_core.errors import InputError
from retail_core.times import iso


def utc_text(instant: datetime) -> str:
    """ISO 8601, UTC; an instant without an offset is UTC, as everywhere in the API.

    >>> utc_text(datetime(2025, 1, 31, 9, 30))
    '2025-01-31T09:30:00Z'
    """
    return iso(instant if instant.tzinfo else instant.replace(tzinfo=UTC))


_CONVERSIONS: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (Enum, lambda value: value.value),
    (str, str),
    (bool, bool),
    (int, int),
    (float, float),
    (Decimal, lambda value: format(value, "f")),
    (datetime, utc_text),
    (date, date.isoformat),
    (UUID, str),
)
"""By the first type that fits."""


def json_value(value: object, name: str) -> object:
    """A value as JSON: times in UTC, NumPy and pandas values as those of Python, missing ones as None.

    A `Decimal` becomes text, which the service reads exactly. Mappings, lists, tuples and arrays are
    converted value by value.

    Args:
        value: of an event or of features.
        name: its name, for errors.

    Raises:
        InputError: it is infinite, or of a type that has no JSON value.

    >>> json_value({"price": Decimal("19.90"), "event_time": datetime(2025, 1, 31)}, "event")
    {'price': '19.90', 'event_time': '2025-01-31T00:00:00Z'}
    """
    if hasattr(value, "dtype"):
        value = _without_numpy(value)
    if isinstance(value, Mapping):
        return {str(key): json_value(entry, f"{name}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(entry, f"{name}[{number}]") for number, entry in enumerate(value)]
    if value is None or _is_missing(value):
        return None
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise InputError(f"{name} is {value}.", remedy="send a finite number, or None for a missing one.")
    for kind, convert in _CONVERSIONS:
        if isinstance(value, kind):
            return convert(value)
    raise InputError(
        f"{name} is a {type(value).__name__}, which is no JSON value.",
        remedy="send text, numbers, times, lists or mappings.",
    )


def json_number(value: object, name: str) -> object:
    """As `json_value`, for a feature: a `Decimal` becomes a number."""
    return float(value) if isinstance(value, Decimal) and value.is_finite() else json_value(value, name)


def _without_numpy(value: object) -> object:
    """The Python value of a NumPy scalar, the list of an array; instants of any unit as datetimes."""
    if getattr(value, "dtype").kind == "M":  # noqa: B009 - NumPy is not imported for this
        value = value.astype("datetime64[us]")  # type: ignore[attr-defined]
    return value.tolist()  # type: ignore[attr-defined]


def _is_missing(value: object) -> bool:
    """Whether it is NaN, NaT or pandas' NA: they differ from themselves, or cannot be compared."""
    if type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, float | Decimal) and math.isnan(value)
