"""How user attributes become feature columns. Shared by the batch and the online interpreter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AttributeEncoding:
    """The feature columns of one user attribute: one for a number, one per value for a category.

    Attributes:
        name: key in the user's attributes.
        kind: a number is used as it is, a category is one-hot encoded.
        categories: values with a column of their own; any other value is 0 in all of them.
        undated: rows without `valid_from` count at every cut-off; only for attributes allowed by name.
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
            number = finite_number(value)
            yield math.nan if number is None else number
            return
        text = None if value is None else str(value)
        for category in self.categories:
            yield 1.0 if text == category else 0.0


def finite_number(value: object) -> float | None:
    """A JSON value as a finite float, None where it is not one.

    >>> finite_number("12.5"), finite_number(True), finite_number("red")
    (12.5, 1.0, None)
    """
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
