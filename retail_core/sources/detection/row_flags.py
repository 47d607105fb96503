"""Columns that mark rows of tests, staff and bots, which are no acts of users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retail_core.sources.detection.column_names import leaf, word_set, words
from retail_core.sources.detection.columns import Column
from retail_core.sources.detection.mapping_builder import MappingBuilder
from retail_core.sources.detection.roles import FieldGuess

_FLAG_WORDS = word_set(
    "test testuser testorder internal intern bot robot crawler staff employee mitarbeiter sandbox debug fake "
    "demo dummy"
)
_PLACE_WORDS = word_set(
    "env environment umgebung omgeving entorno environnement ambiente stage traffic usertype agenttype"
)
_TRUE = word_set("1 true t yes y ja oui si ano tak wahr vrai")
_FALSE = word_set("0 false f no n nein non nee falsch faux")
_MAX_VALUES = 20


def add_row_flags(
    builder: MappingBuilder, fields: Mapping[str, FieldGuess], columns: Sequence[Column]
) -> None:
    """Propose to leave out the rows that a column marks as tests, and ask."""
    used = {name for guess in fields.values() for name in guess.names}
    for column in columns:
        values = [] if column.name in used or column.list_path else _marked_values(column)
        if not values:
            continue
        count = sum(column.counts[value] for value in values)
        shown = values[0] if len(values) == 1 else values
        drop = builder.mapping.get("drop")
        conditions = dict(drop) if isinstance(drop, dict) else {}
        builder.set(
            "drop", {**conditions, column.name: shown}, "rows of tests, staff or bots by their column"
        )
        builder.ask(
            "drop",
            f"Do rows with {column.name} {' or '.join(values)} ({count:,} of {column.records:,}) come from "
            "tests, staff or bots? They are left out and counted.",
            alternatives=(f"without drop.{column.name}: these rows are used too",),
        )


def _marked_values(column: Column) -> list[str]:
    """The values of a column that mark rows to leave out; empty if it marks none."""
    if len(column.counts) > _MAX_VALUES:
        return []
    name_words = set(words(leaf(column.name)))
    values = sorted(column.counts)
    if name_words & _FLAG_WORDS and {value.lower() for value in values} <= _TRUE | _FALSE:
        return [value for value in values if value.lower() in _TRUE]
    if name_words & (_FLAG_WORDS | _PLACE_WORDS):
        return [value for value in values if set(words(value)) & _FLAG_WORDS]
    return []
