"""The event columns and event types that a set of features reads; nothing else leaves the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ibis
from ibis.expr.types import StringColumn, Table

from retail_core.features.event_columns import EVENT_KEYS
from retail_core.features.kinds import (
    Cart,
    Concentration,
    Distinct,
    Feature,
    Kind,
    MeanPrice,
    Total,
    coded_types,
)

_COLUMNS_OF_KIND: Mapping[type[Kind], tuple[str, ...]] = {
    Cart: ("item", "tie", "price_minor", "quantity"),
    Total: ("price_minor", "quantity"),
    MeanPrice: ("price_minor",),
}
"""Columns that a kind always reads, besides the key it may name."""


@dataclass(frozen=True)
class RequiredColumns:
    """The columns and event types that the features of one run read.

    Attributes:
        types: event types by their code (`coded_types`).
        names: columns besides `uid`, `ts` and `code`: keys of `EVENT_KEYS`, `tie`, prices, quantities.
        types_with_key: for each key the event types whose key is read; None among them stands for all.
    """

    types: tuple[str, ...]
    names: frozenset[str]
    types_with_key: Mapping[str, frozenset[str | None]]

    @classmethod
    def of(cls, features: Iterable[Feature]) -> RequiredColumns:
        """Columns and types that these features read."""
        features = tuple(features)
        kinds = list(dict.fromkeys(feature.kind for feature in features))
        names = {name for kind in kinds for name in _COLUMNS_OF_KIND.get(type(kind), ())}
        types_with_key: dict[str, frozenset[str | None]] = {}
        if "item" in names:
            types_with_key["item"] = frozenset({None})
        for kind in kinds:
            if isinstance(kind, Distinct | Concentration):
                event_type = kind.event_type if isinstance(kind, Distinct) else None
                types_with_key[kind.key] = types_with_key.get(kind.key, frozenset()) | {event_type}
        return cls(
            coded_types(features),
            frozenset(names | types_with_key.keys()),
            types_with_key,
        )

    def select(self, events: Table) -> Table:
        """The required columns of events with `uid` and `ts`, as a `Timeline` reads them; one row per event.

        `tie` orders additions to the cart at equal times, and is null for all other events.
        """
        event_type = events.event_type
        columns = {
            "price_minor": events.price_minor,
            "quantity": events.quantity,
            "tie": ibis.ifelse(event_type == "add_to_cart", events.event_id, ibis.null("string")),
        }
        columns |= {key: self._key(events, key) for key in self.types_with_key}
        codes = ((name, code) for code, name in enumerate(self.types))
        return events.select(
            "uid",
            "ts",
            code=event_type.cases(*codes, else_=len(self.types)).cast("int8"),
            **{name: column for name, column in columns.items() if name in self.names},
        )

    def _key(self, events: Table, name: str) -> StringColumn:
        """A key column; one with a fallback is null for events of types whose key is not read."""
        key, types = EVENT_KEYS[name], self.types_with_key[name]
        if key.fallback is None:
            return events[key.column]
        value = ibis.coalesce(events[key.column], events[key.fallback])
        if None in types:
            return value
        return ibis.ifelse(events.event_type.isin(sorted(filter(None, types))), value, ibis.null("string"))
