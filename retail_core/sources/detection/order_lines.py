"""Order exports whose further lines leave the columns of the order empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retail_core.sources.detection.columns import Column
from retail_core.sources.detection.roles import FieldGuess


def fill_down(
    fields: Mapping[str, FieldGuess], columns: Sequence[Column]
) -> tuple[str, tuple[str, ...]] | None:
    """The column of the order and the columns that its further lines leave empty; None if there are none."""
    user = fields.get("user_id")
    if user is None or len(user.columns) > 1 or user.columns[0].fill in {0.0, 1.0}:
        return None
    first = user.columns[0]
    empty = sorted(set(range(first.records)) - first.filled_rows)
    named = fields["order_id"].columns[:1] if "order_id" in fields else ()
    for column in (*named, *columns):
        if column.list_path is None and column.fill == 1 and _repeats(column, empty):
            return column.name, _empty_columns(fields, columns, frozenset(empty))
    return None


def _repeats(column: Column, empty: Sequence[int]) -> bool:
    """Whether each record in `empty` has the value of the record before it, and no other record has."""
    values = column.values
    repeated = [row for row in range(1, len(values)) if values[row] == values[row - 1]]
    return bool(empty) and empty == repeated


def _empty_columns(
    fields: Mapping[str, FieldGuess], columns: Sequence[Column], empty: frozenset[int]
) -> tuple[str, ...]:
    used = {name for guess in fields.values() for name in guess.names}
    return tuple(column.name for column in columns if column.name in used and not column.filled_rows & empty)
