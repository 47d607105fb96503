"""Acts: the day's events before they have a time, ordered by their place within a session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.schemas import EVENT_TYPES
from retail_core.simulate.arrays import Flags, Floats, Ints

TYPE = {name: code for code, name in enumerate(EVENT_TYPES)}
STEP = 16
"""Room between two pages of a session, for what happens on the page."""

_ROOM = STEP * 4_096
_PACE = np.ones(len(EVENT_TYPES))
_PACE[[TYPE["add_to_cart"], TYPE["add_to_wishlist"]]] = 0.45
_PACE[TYPE["purchase"]] = 1.6


@dataclass(frozen=True)
class Acts:
    """Acts of one day, in any order; `place` orders them within a session.

    `item` is -1 without an item and -2 - category for a list page; `order` counts the day's orders,
    -1 outside of one.
    """

    session: Ints
    place: Ints
    kind: Ints
    item: Ints
    quantity: Ints
    order: Ints

    def take(self, index: Ints | Flags) -> Acts:
        """Those rows."""
        return Acts(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def of(self, kind: str) -> Acts:
        """The rows of that event type."""
        return self.take(self.kind == TYPE[kind])

    def in_order(self) -> Acts:
        """By session, then place; ties keep their order."""
        return self.take(np.argsort(self.session * _ROOM + self.place, kind="stable"))

    def pace(self) -> Floats:
        """The usual gap before each (ordered) act relative to that before a page.

        Lines of an order after the first have none.
        """
        same = np.zeros(len(self.kind), dtype=bool)
        same[1:] = (self.order[1:] >= 0) & (self.order[1:] == self.order[:-1])
        return np.where(same, 0.0, _PACE[self.kind])


def acts(
    session: Ints, place: Ints, kind: str, item: Ints | None = None, quantity: Ints | None = None
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


def join(parts: list[Acts]) -> Acts:
    """All parts in one."""
    return Acts(*(np.concatenate([getattr(p, name) for p in parts]) for name in Acts.__dataclass_fields__))
