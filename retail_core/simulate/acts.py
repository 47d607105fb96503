"""Acts: events of one day before they have a time, ordered by their position within a session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import BoolArray, FloatArray, IntArray
from retail_core.schemas import EVENT_TYPES

TYPE = {name: code for code, name in enumerate(EVENT_TYPES)}
STEP = 16
"""Positions between two pages of a session, for acts on the page."""

_POSITIONS_PER_SESSION = STEP * 4_096
_RELATIVE_GAP = np.ones(len(EVENT_TYPES))
_RELATIVE_GAP[[TYPE["add_to_cart"], TYPE["add_to_wishlist"]]] = 0.45
_RELATIVE_GAP[TYPE["purchase"]] = 1.6


@dataclass(frozen=True)
class Acts:
    """Acts of one day, in any order; `place` orders them within a session.

    `item` is -1 without an item and -2 - category for a list page; `order` counts the day's orders,
    -1 outside of one.
    """

    session: IntArray
    place: IntArray
    kind: IntArray
    item: IntArray
    quantity: IntArray
    order: IntArray

    def take(self, index: IntArray | BoolArray) -> Acts:
        """The rows of `index`."""
        return Acts(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def of(self, kind: str) -> Acts:
        """The rows of that event type."""
        return self.take(self.kind == TYPE[kind])

    def in_order(self) -> Acts:
        """By session, then place; ties keep their order."""
        return self.take(np.argsort(self.session * _POSITIONS_PER_SESSION + self.place, kind="stable"))

    def relative_gaps(self) -> FloatArray:
        """The usual gap before each (ordered) act relative to that before a page.

        Lines of an order after the first have none.
        """
        same = np.zeros(len(self.kind), dtype=bool)
        same[1:] = (self.order[1:] >= 0) & (self.order[1:] == self.order[:-1])
        return np.where(same, 0.0, _RELATIVE_GAP[self.kind])


def acts(
    session: IntArray,
    place: IntArray,
    kind: str,
    item: IntArray | None = None,
    quantity: IntArray | None = None,
) -> Acts:
    """Acts of one kind, outside of any order."""
    none = np.full(len(session), -1, dtype=np.int64)
    return Acts(
        session=session,
        place=place,
        kind=np.full(len(session), TYPE[kind], dtype=np.int64),
        item=none if item is None else item,
        quantity=none if quantity is None else quantity,
        order=none,
    )


def concatenate(tables: list[Acts]) -> Acts:
    """The rows of all tables."""
    return Acts(
        *(np.concatenate([getattr(table, name) for table in tables]) for name in Acts.__dataclass_fields__)
    )
