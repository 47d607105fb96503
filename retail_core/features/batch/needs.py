"""What the wanted features need of the events; nothing else leaves the engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import ibis
from ibis.expr.types import Table

from retail_core.features.kinds import (
    CLOSING_ORDER,
    Cart,
    Concentration,
    Count,
    Days,
    Distinct,
    Feature,
    Gap,
    MeanPrice,
    Since,
    Total,
)

_TYPED = (Count, Total, Distinct, Days, Gap, Since, MeanPrice)


@dataclass(frozen=True)
class Needs:
    """Columns and event types that are asked for.

    Attributes:
        types: event types by their code; those of carts come first, in the order in which they count at
            equal times. All others share one more code.
        names: columns besides `uid`, `ts` and `code`.
        orders: event types whose orders are counted; None among them stands for all.
    """

    types: tuple[str, ...]
    names: frozenset[str]
    orders: frozenset[str | None]

    @classmethod
    def of(cls, features: Iterable[Feature]) -> Needs:
        """Needs of these features."""
        kinds = list(dict.fromkeys(feature.kind for feature in features))
        types = [
            kind.event_type for kind in kinds if isinstance(kind, _TYPED) and kind.event_type is not None
        ]
        names: set[str] = {kind.key for kind in kinds if isinstance(kind, Distinct)}
        if any(isinstance(kind, Cart) for kind in kinds):
            names |= {"item", "tie", "price_minor", "quantity"}
        if any(isinstance(kind, Concentration) for kind in kinds):
            names.add("category")
        if any(isinstance(kind, Total) for kind in kinds):
            names |= {"price_minor", "quantity"}
        if any(isinstance(kind, MeanPrice) for kind in kinds):
            names.add("price_minor")
        orders = frozenset(k.event_type for k in kinds if isinstance(k, Distinct) and k.key == "order")
        return cls(tuple(dict.fromkeys([*CLOSING_ORDER, *filter(None, types)])), frozenset(names), orders)

    def columns(self, events: Table) -> Table:
        """Of events with `uid` and `ts`: the columns a `Timeline` wants, one row per event.

        `tie` tells additions to the cart at equal times apart, and is null for all other events.
        """
        kind = events.event_type
        order = ibis.coalesce(events.order_id, events.event_id)
        if None not in self.orders:
            order = ibis.ifelse(kind.isin(sorted(filter(None, self.orders))), order, ibis.null("string"))
        known = {
            "item": events.item_id,
            "category": events.category,
            "order": order,
            "price_minor": events.price_minor,
            "quantity": events.quantity,
            "tie": ibis.ifelse(kind == "add_to_cart", events.event_id, ibis.null("string")),
        }
        codes = ((name, code) for code, name in enumerate(self.types))
        return events.select(
            "uid",
            "ts",
            code=kind.cases(*codes, else_=len(self.types)).cast("int8"),
            **{name: column for name, column in known.items() if name in self.names},
        )
