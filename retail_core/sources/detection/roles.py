"""Which column is which event field: names and values together, with a confidence and its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from retail_core.sources.detection.column_names import is_of_another_time, leaf, name_scores, word_set
from retail_core.sources.detection.columns import Column, Place
from retail_core.sources.detection.event_names import canonical_event, order_status
from retail_core.sources.source import REQUIRED

FIELDS = (
    "user_id", "event_time", "event_type", "item_id", "order_id", "session_id", "event_id", "price",
    "quantity", "currency", "category", "brand", "platform",
)  # fmt: skip
"""Event fields in the order in which they choose a column."""

PERSONAL_FIELDS = frozenset({"user_id", "event_id", "session_id", "order_id"})
"""Fields whose values can identify a user: a mapping file, which is shared, must not contain them."""

MIN_CONFIDENCE: Mapping[str, float] = {"user_id": 0.3, "event_time": 0.3, "event_type": 0.35} | dict.fromkeys(
    FIELDS[3:], 0.38
)
"""Confidence below which a column is not proposed."""

_ENOUGH = 20
"""Values from which their distribution says something."""
_FALLBACK: Mapping[str, float] = {"price": 0.8, "quantity": 0.8, "event_time": 0.45}
"""Strength of a name from which a further column is used where the first has no value; 0.55 by default."""

_WEIGHTS: Mapping[str, float] = {"user_id": 3.0, "event_time": 3.0, "event_type": 3.0, "item_id": 2.0}
"""Importance of a field for the choice of the list that is exploded; 1 by default."""

_OF_USERS = 0.5
"""Strength of a name from which a column has ids of users, though each value may occur once in a sample."""

_CURRENCY = re.compile(r"^[A-Z]{3}$")
KNOWN_CURRENCIES = word_set("EUR USD GBP CHF PLN SEK NOK DKK CZK HUF JPY CNY INR BRL CAD AUD MXN TRY RUB KRW")


@dataclass(frozen=True)
class FieldGuess:
    """The column of an event field.

    Attributes:
        field: event field.
        columns: the column and those that are used where it has no value.
        confidence: from 0 to 1.
        reason: why, in a few words.
    """

    field: str
    columns: tuple[Column, ...]
    confidence: float
    reason: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)


def assign_fields(columns: Sequence[Column]) -> dict[str, FieldGuess]:
    """The column of each event field; at most one list is exploded, the one that explains most fields."""
    lists = sorted({column.list_path for column in columns if column.list_path is not None})
    best: tuple[float, dict[str, FieldGuess]] = (-1.0, {})
    for list_path in (None, *lists):
        usable = [column for column in columns if column.list_path in {None, list_path}]
        guesses = _assign(usable, event_places(usable))
        score = sum(_WEIGHTS.get(name, 1.0) * guess.confidence for name, guess in guesses.items())
        if score > best[0] + 0.05:
            best = (score, guesses)
    return best[1]


def event_places(columns: Sequence[Column]) -> frozenset[Place]:
    """The future events: each element of the exploded list, and each record without one."""
    elements = frozenset(place for column in columns if column.list_path for place in column.places)
    with_elements = {row for row, _ in elements}
    records = max((column.records for column in columns), default=0)
    return elements | {(row, None) for row in range(records) if row not in with_elements}


def _assign(columns: Sequence[Column], places: frozenset[Place]) -> dict[str, FieldGuess]:
    fills = [len(column.covered(places)) / len(places) for column in columns]
    scores = {name: _ranked(name, columns, fills) for name in FIELDS}
    guesses: dict[str, FieldGuess] = {}
    used: set[str] = set()
    for name in _by_certainty(scores):
        free = [(score, column) for score, column in scores[name] if column.name not in used]
        if not free or free[0][0] < MIN_CONFIDENCE[name]:
            continue
        first = free[0][1]
        candidates = [column for _, column in free[1:]]
        field_columns = (
            first,
            *(_clock(name, first, columns) or _fallbacks(name, first, candidates, places)),
        )
        used |= {column.name for column in field_columns}
        covered = frozenset[Place]().union(*(column.covered(places) for column in field_columns))
        confidence = round(field_score(name, first, len(covered) / len(places)), 2)
        guesses[name] = FieldGuess(name, field_columns, confidence, _reason(name, field_columns))
    return {name: guesses[name] for name in FIELDS if name in guesses}


def _by_certainty(scores: Mapping[str, Sequence[tuple[float, Column]]]) -> list[str]:
    """Fields by their best score: a column belongs to the field that fits it best."""
    best = {name: max((score for score, _ in scores[name]), default=0.0) for name in FIELDS}
    return sorted(FIELDS, key=lambda name: (-best[name], FIELDS.index(name)))


def _ranked(name: str, columns: Sequence[Column], fills: Sequence[float]) -> list[tuple[float, Column]]:
    """Columns that can be a field, the best one first; `fills` is the share of the events with a value."""
    scored = [
        (field_score(name, column, fill), -position, column)
        for position, (column, fill) in enumerate(zip(columns, fills, strict=True))
    ]
    ranked = sorted((entry for entry in scored if entry[0] > 0), key=lambda entry: entry[:2], reverse=True)
    return [(score, column) for score, _, column in ranked]


def field_score(name: str, column: Column, fill: float) -> float:
    """Confidence from 0 to 1 that `column`, which has a value in a share `fill` of the events, is a field."""
    if column.is_plain_list and name != "item_id":
        return 0.0  # a list of categories or tags must not multiply the events
    by_name = name_scores(column.name).get(name, 0.0)
    if name == "event_id" and name_scores(column.name).get("user_id", 0.0) >= _OF_USERS:
        return 0.0
    alone = _VALUES_ALONE[name](column) if name in _VALUES_ALONE else 0.0
    if not by_name and not alone:
        return 0.0
    score = max(by_name * _VALUE_CHECKS[name](column), alone * 0.9)
    return score * ((0.3 + 0.7 * fill) if name in REQUIRED else (0.6 + 0.4 * fill))


def _clock(name: str, first: Column, columns: Sequence[Column]) -> list[Column]:
    """The column of the times of day that belongs to a column of dates."""
    if name != "event_time" or first.times is None or not first.times.is_date:
        return []
    clocks = [column for column in columns if column.is_clock and column.list_path == first.list_path]
    return [column for column in clocks if not is_of_another_time(column.name)][:1]


def _fallbacks(
    name: str, first: Column, candidates: Sequence[Column], places: frozenset[Place]
) -> list[Column]:
    """Further columns with values where the columns before have none."""
    missing = places - first.covered(places)
    field_columns: list[Column] = []
    for column in candidates:
        fits = name_scores(column.name).get(name, 0.0) >= _FALLBACK.get(name, 0.55)
        gained = (
            missing & column.covered(places) if fits and _VALUE_CHECKS[name](column) >= 0.5 else frozenset()
        )
        enough = len(gained) * 10 >= len(missing)
        if gained and enough and len(field_columns) < 2 and _combines(name, first, column):
            field_columns.append(column)
            missing -= gained
    return field_columns


def _combines(name: str, first: Column, column: Column) -> bool:
    """Whether both columns can be columns of one field; the identity of events is never put together."""
    if name == "event_time":
        return first.times is not None and column.times is not None
    return name not in {"event_id", "event_type", "currency"}


def _reason(name: str, columns: Sequence[Column]) -> str:
    first = columns[0]
    by_name = name_scores(first.name).get(name, 0.0)
    why = f"by its name {leaf(first.name)!r}" if by_name >= 0.5 else "by its values"
    times = first.times if name == "event_time" else None
    detail = (
        f"{times.share:.0%} of the values are {' or '.join(times.formats)}"
        if times
        else first.summary(example=name not in PERSONAL_FIELDS)
    )
    return f"{why}; {detail}"


def id_check(column: Column) -> float:
    """How far the values of a column can be ids, from 0 to 1."""
    if not column.values or max(map(len, column.counts)) > 512:
        return 0.0
    if column.times is not None and not all(value.isdigit() for value in column.values[:50]):
        return 0.1
    if len(column.values) >= _ENOUGH and len(column.counts) == 1:
        return 0.3
    looks_like_price = column.numbers > 0.9 and column.integers < 0.5 and column.id_like > 0.9
    return (
        0.2
        if looks_like_price and any("." in value[-4:] for value in column.counts)
        else 0.6 + 0.4 * column.id_like
    )


def _time_check(column: Column) -> float:
    if column.times is None:
        return 0.3 if column.is_clock else 0.0
    certain = 1.0 if column.times.zoned else 0.97
    return column.times.share * certain * (0.5 if is_of_another_time(column.name) else 1.0)


def recognised_events(column: Column) -> float:
    """Share of the values that are known event names or states of an order."""
    rows_with_meaning = sum(
        n for value, n in column.counts.items() if canonical_event(value) or order_status(value)
    )
    return rows_with_meaning / max(len(column.values), 1)


def _type_check(column: Column) -> float:
    if not column.values or column.times is not None or max(map(len, column.counts)) > 64:
        return 0.0
    distinct, total = len(column.counts), len(column.values)
    if total >= _ENOUGH and distinct > max(60, total // 2):
        return 0.1
    shape = 0.75 if column.numbers < 0.9 or column.holds_lists else 0.6
    return shape + (1 - shape) * recognised_events(column)


def _type_alone(column: Column) -> float:
    few = len(column.counts) <= 60 and (
        len(column.values) < _ENOUGH or len(column.counts) * 2 < len(column.values)
    )
    return 0.6 * recognised_events(column) if few and column.numbers < 0.5 and column.times is None else 0.0


def _price_check(column: Column) -> float:
    return column.numbers if column.numbers >= 0.6 and (column.times is None or column.integers < 1) else 0.0


def _quantity_check(column: Column) -> float:
    return column.integers if column.integers >= 0.8 else 0.0


def _unique_check(column: Column) -> float:
    is_number = column.numbers > 0.95 and column.integers < 1
    return (
        1.0
        if column.is_unique and column.list_path is None and column.times is None and not is_number
        else 0.0
    )


def _currency_check(column: Column) -> float:
    return sum(n for value, n in column.counts.items() if _CURRENCY.match(value)) / max(len(column.values), 1)


def _currency_alone(column: Column) -> float:
    return 0.6 if column.counts and set(column.counts) <= KNOWN_CURRENCIES else 0.0


def _text_check(column: Column) -> float:
    return 1.0 if column.values and column.times is None else 0.0


def _time_alone(column: Column) -> float:
    return 0.5 * column.times.share if column.times and not is_of_another_time(column.name) else 0.0


_VALUE_CHECKS: Mapping[str, Callable[[Column], float]] = {
    "user_id": id_check,
    "item_id": id_check,
    "order_id": id_check,
    "session_id": id_check,
    "event_time": _time_check,
    "event_type": _type_check,
    "event_id": _unique_check,
    "price": _price_check,
    "quantity": _quantity_check,
    "currency": _currency_check,
    "category": _text_check,
    "brand": _text_check,
    "platform": _text_check,
}
_VALUES_ALONE: Mapping[str, Callable[[Column], float]] = {
    "event_time": _time_alone,
    "event_type": _type_alone,
    "currency": _currency_alone,
}
