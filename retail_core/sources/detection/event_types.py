"""The event types of a file: known ones, states of orders, and files in which every row is a purchase."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retail_core.schemas import EVENT_TYPES
from retail_core.sources.detection.column_names import word_set, words
from retail_core.sources.detection.columns import Column
from retail_core.sources.detection.event_names import (
    canonical_event,
    is_unsure_status,
    order_status,
    status_event,
)
from retail_core.sources.detection.roles import FieldGuess

ORDER_COMMENT = "states of orders"
"""Beginning of the comment of a vocabulary of states of orders."""

_MAX_TYPES = 200
_ORDER_WORDS = word_set(
    "order orders invoice invoices purchase purchases transaction transactions sale sales receipt "
    "bestellung bestellungen auftrag rechnung rechnungen verkauf verkaeufe commande commandes vente "
    "ventes pedido pedidos venta ventas ordine ordini vendite bestelling bestellingen"
)


_BOUGHT_WORDS = word_set(
    "purchase purchased bought buy converted conversion ordered gekauft kauf achete achat comprado compra "
    "acquistato"
)
_TRUE, _FALSE = word_set("1 true t yes y ja oui si"), word_set("0 false f no n nein non")


@dataclass(frozen=True)
class PurchaseFlag:
    """A column that marks purchases by true or false.

    Attributes:
        name: of the column.
        true: value of purchases.
        false: value of other rows.
        other: event type of other rows.
    """

    name: str
    true: str
    false: str
    other: str

    @property
    def vocabulary(self) -> dict[str, str]:
        """Event type by value."""
        return {self.true: "purchase", self.false: self.other}


def purchase_flag(columns: Sequence[Column], fields: Mapping[str, FieldGuess]) -> PurchaseFlag | None:
    """The column that marks some rows as purchases; None if there is none."""
    for column in columns:
        values = {value.lower(): value for value in column.counts}
        true, false = values.keys() & _TRUE, values.keys() & _FALSE
        is_flag = len(values) == 2 and len(true) == len(false) == 1 and column.list_path is None
        if is_flag and _BOUGHT_WORDS & set(words(column.name)):
            other = "view_item" if "item_id" in fields else "screen_view"
            return PurchaseFlag(column.name, values[true.pop()], values[false.pop()], other)
    return None


@dataclass(frozen=True)
class EventTypes:
    """What the values of a column of event types mean.

    Attributes:
        vocabulary: canonical type by raw name, None to leave rows out; only names that change.
        canonical: canonical types that occur.
        unknown: names without a known meaning, with the number of their rows.
        unsure: states of orders that shops use differently.
        comment: what the vocabulary is based on.
        refunded: states of orders that were given back.
    """

    vocabulary: Mapping[str, str | None]
    canonical: frozenset[str]
    unknown: tuple[tuple[str, int], ...] = ()
    unsure: tuple[str, ...] = ()
    comment: str = ""
    refunded: tuple[str, ...] = ()


def describe_types(column: Column) -> EventTypes:
    """The meaning of a column's values."""
    counts = column.counts.most_common(_MAX_TYPES)
    states = sum(count for name, count in counts if order_status(name))
    rows_with_meaning = sum(count for name, count in counts if canonical_event(name))
    only_states = all(order_status(name) for name, _ in counts)
    return _states(counts) if only_states or states > rows_with_meaning else _names(counts)


def _states(counts: Sequence[tuple[str, int]]) -> EventTypes:
    names = [name for name, _ in counts]
    vocabulary = {
        name: status_event(name) if order_status(name) else canonical_event(name) or "purchase"
        for name in names
    }
    canonical = frozenset(event_type for event_type in vocabulary.values() if event_type)
    unsure = tuple(name for name in names if is_unsure_status(name) or not order_status(name))
    refunded = tuple(name for name, event_type in vocabulary.items() if event_type == "refund")
    comment = f"{ORDER_COMMENT}; null leaves the order out"
    return EventTypes(vocabulary, canonical, (), unsure, comment, refunded)


def _names(counts: Sequence[tuple[str, int]]) -> EventTypes:
    meanings = {name: canonical_event(name) for name, _ in counts}
    vocabulary: dict[str, str | None] = {
        name: meaning for name, meaning in meanings.items() if meaning and meaning != name
    }
    unknown = tuple(
        (name, count) for name, count in counts if meanings[name] is None and name not in EVENT_TYPES
    )
    canonical = frozenset(meaning for meaning in meanings.values() if meaning)
    return EventTypes(vocabulary, canonical, unknown, (), "by their names; other types are kept as they are")


def purchases_only(path: Path, fields: Mapping[str, FieldGuess], columns: Sequence[Column]) -> str | None:
    """Why every row is probably a purchase; None if nothing says so."""
    for name in ("order_id", "price", "quantity"):
        if name in fields:
            return f"{fields[name].names[0]} belongs to a purchase"
    named = [column.name for column in columns if _ORDER_WORDS & set(words(column.name))]
    if named:
        return f"column {named[0]} belongs to a purchase"
    if _ORDER_WORDS & set(words(re.sub(r"\W+", " ", path.name))):
        return "the file's name says so"
    return None
