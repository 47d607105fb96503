"""Ids of users and items in files whose column names say nothing, from their values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retail_core.sources.detection.columns import Column
from retail_core.sources.detection.roles import PERSONAL_FIELDS, FieldGuess

_CONFIDENCE = 0.3
_RECORDS_OF_USER = 200
"""Mean number of records of a value above which it is a category."""

_ID_DIGITS = 5
"""Digits from which a number may be an id although its column's name does not say so."""


def ids_by_values(
    columns: Sequence[Column], fields: Mapping[str, FieldGuess], *, named: bool
) -> dict[str, FieldGuess]:
    """`fields` with the user id and, in a file without a header, item id and price.

    The first free column of repeated single words or numbers is the user, the next one the item: logs are
    written that way round. The confidence is low, so that the preview has to be looked at.
    """
    result = dict(fields)
    missing_fields = [
        name for name in ("user_id", "item_id") if name not in result and not (named and name == "item_id")
    ]
    used = {name for guess in fields.values() for name in guess.names}
    free = [column for column in columns if column.name not in used and _is_id(column)]
    if named:
        # Under a name that says nothing these are measures and categories more often than ids.
        free = [column for column in free if not _is_measure(column)]
    for name, column in zip(missing_fields, free, strict=False):
        result[name] = _guess(name, column)
    amounts = [column for column in columns if column.name not in used and _is_amount(column)]
    if amounts and "price" not in result and not named:
        result["price"] = _guess("price", amounts[0])
    return result


def _guess(name: str, column: Column) -> FieldGuess:
    return FieldGuess(
        name,
        (column,),
        _CONFIDENCE,
        f"by its values alone; {column.summary(example=name not in PERSONAL_FIELDS)}",
    )


def _is_measure(column: Column) -> bool:
    """Whether the values are few words for many records, or numbers, but not all whole and some long."""
    if len(column.counts) * _RECORDS_OF_USER < len(column.values):
        return True
    return column.numbers > 0.9 and (column.integers < 1 or max(map(len, column.counts)) < _ID_DIGITS)


def _is_amount(column: Column) -> bool:
    return column.numbers > 0.9 and column.integers < 0.5 and column.times is None


def _is_id(column: Column) -> bool:
    repeated = len(column.counts) > 1 and (len(column.counts) < len(column.values) or len(column.values) < 50)
    return (
        column.list_path is None
        and column.fill > 0.9
        and column.id_like > 0.95
        and repeated
        and not (_is_amount(column) or column.times is not None or column.holds_lists)
    )
