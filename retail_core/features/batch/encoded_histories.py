"""Features of many users at once from histories in memory: the batch kernel without an engine.

A history is encoded once, and later events can be added: sorted rows of fixed width, in which keys such as
items are numbers that count from 0 for each user. Features compare keys within one user only, so equal
numbers of different users mean nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow

from retail_core.arrays import FloatArray, FloatVector, IntArray
from retail_core.features.batch.feature_kernel import FeatureKernel
from retail_core.features.cutoff_context import ContextFeatures, clock_features
from retail_core.features.cutoffs.policies import LAST_EVENT_FEATURE
from retail_core.features.definitions import expand_definitions
from retail_core.features.event_columns import EVENT_KEYS, Column, EventColumns
from retail_core.features.feature_set import FeatureSet
from retail_core.features.kinds import CART_EVENT_ORDER, Clock, Concentration, Context, Distinct, coded_types
from retail_core.times import to_micros

_NULL = np.iinfo(np.int64).min
"""Stands for a null price or quantity."""

_NUMBERS = ("price_minor", "quantity")
_ROW = np.dtype(
    [
        ("ts", np.int64),
        *((name, np.int64) for name in _NUMBERS),
        *((key, np.int32) for key in EVENT_KEYS),
        ("code", np.int8),
    ]
)
_ADD_TO_CART = CART_EVENT_ORDER["add_to_cart"]


class HistoryLayout(NamedTuple):
    """What a history tells apart, for the features of one set.

    Attributes:
        types: event types by their code; all others share one more code.
        key_types: for each of `EVENT_KEYS` the types of the events that have it; None for all.
    """

    types: tuple[str, ...]
    key_types: tuple[frozenset[str] | None, ...]


@dataclass(frozen=True)
class EncodedHistory:
    """Events of one user in the order of `EVENT_ORDER`.

    Attributes:
        rows: `ROW_BYTES` for each event.
        names: for each of `EVENT_KEYS` the values that its numbers stand for, as JSON.
        layout: what the rows tell apart.
    """

    rows: bytes
    names: bytes
    layout: HistoryLayout

    def __len__(self) -> int:
        return len(self.rows) // ROW_BYTES

    def before(self, instant: int) -> EncodedHistory:
        """The events before an instant, microseconds."""
        times = np.frombuffer(self.rows, _ROW)["ts"]
        end = int(np.searchsorted(times, instant)) * ROW_BYTES
        return EncodedHistory(self.rows[:end], self.names, self.layout)


ROW_BYTES = _ROW.itemsize


class HistoryAtCutoff(NamedTuple):
    """What features are computed from: events, a cut-off (aware), and context features of its local day."""

    history: EncodedHistory
    as_of: datetime
    context: ContextFeatures


class ComputedFeatures(NamedTuple):
    """Features of one user at one cut-off.

    Attributes:
        values: in the order of the set's `names`, without attributes; null is NaN.
        silent_hours: hours since the last event of the look-back; NaN without events.
    """

    values: FloatVector
    silent_hours: float


@lru_cache(maxsize=8)
def history_layout(feature_set: FeatureSet) -> HistoryLayout:
    """What histories have to tell apart for this set."""
    kernel = _kernel(feature_set)
    kinds = [feature.kind for feature in kernel.features]
    key_types: list[frozenset[str] | None] = []
    for key, event_key in EVENT_KEYS.items():
        types = {kind.event_type for kind in kinds if isinstance(kind, Distinct) and kind.key == key}
        types |= {None for kind in kinds if isinstance(kind, Concentration) and kind.key == key}
        has_all = event_key.fallback is None or None in types
        key_types.append(None if has_all else frozenset(filter(None, types)))
    return HistoryLayout(kernel.types, tuple(key_types))


@lru_cache(maxsize=8)
def _kernel(feature_set: FeatureSet) -> FeatureKernel:
    """The kernel for the features of the set and for `LAST_EVENT_FEATURE`."""
    last_event = expand_definitions(feature_set.task)[LAST_EVENT_FEATURE]
    features = tuple(dict.fromkeys([*feature_set.plan(), last_event]))
    return FeatureKernel(feature_set.task, features, coded_types(features))


def encode_history(
    events: EventColumns, layout: HistoryLayout, earlier: EncodedHistory | None = None
) -> EncodedHistory:
    """Encode the events of one person.

    Args:
        events: in any order, each event id once, of any period.
        layout: result of `history_layout`.
        earlier: encoded events of the same person and layout that precede them all.
    """
    codes = {name: code for code, name in enumerate(layout.types)}
    code = [codes.get(event_type, len(codes)) for event_type in events.event_type]
    rows = np.empty(len(code), _ROW)
    rows["ts"], rows["code"] = events.event_time, code
    for name in _NUMBERS:
        column: Column = getattr(events, name)
        rows[name] = [_NULL if value is None else value for value in column]
    earlier_names: list[list[str]] = json.loads(earlier.names) if earlier else [[] for _ in EVENT_KEYS]
    numbers = [{name: number for number, name in enumerate(names)} for names in earlier_names]
    for key, types, key_numbers in zip(EVENT_KEYS, layout.key_types, numbers, strict=True):
        rows[key] = _local_codes(events, key, types, key_numbers)
    order = _event_order(events, code)
    later = (rows[order] if order else rows).tobytes()
    names = json.dumps([list(key_numbers) for key_numbers in numbers], separators=(",", ":"))
    return EncodedHistory(earlier.rows + later if earlier else later, names.encode(), layout)


def _event_order(events: EventColumns, code: Sequence[int]) -> list[int]:
    """Positions of the events by time, code and, for additions to the cart, id; empty if they are sorted."""
    times = events.event_time
    if all(first < second for first, second in pairwise(times)):
        return []
    ids = events.event_id
    return sorted(
        range(len(code)),
        key=lambda row: (times[row], code[row], ids[row] if code[row] == _ADD_TO_CART else ""),
    )


def _local_codes(
    events: EventColumns, key: str, types: frozenset[str] | None, numbers: dict[str, int]
) -> list[int]:
    """Values of a key as numbers, -1 where null or of a type without it; adds new values to `numbers`."""
    event_key = EVENT_KEYS[key]
    values: Column = getattr(events, event_key.column)
    if event_key.fallback is not None:
        fallbacks: Column = getattr(events, event_key.fallback)
        values = [
            fallback if value is None else value for value, fallback in zip(values, fallbacks, strict=True)
        ]
    if types is not None:
        pairs = zip(events.event_type, values, strict=True)
        values = [value if event_type in types else None for event_type, value in pairs]
    return [-1 if value is None else numbers.setdefault(value, len(numbers)) for value in values]


def compute_encoded(items: Sequence[HistoryAtCutoff], feature_set: FeatureSet) -> list[ComputedFeatures]:
    """The features of every item, equal to those of the online interpreter; in the order of the items.

    Events outside an item's look-back are ignored. Takes about 0.1 ms an item for lists of hundreds, 5 ms
    for one. Histories that several items share are computed together.
    """
    if not items:
        return []
    kernel = _kernel(feature_set)
    uids: dict[int, int] = {}
    uid = np.array([uids.setdefault(id(item.history), len(uids)) for item in items])
    as_of = np.array([to_micros(item.as_of) for item in items])
    order = np.lexsort((as_of, uid))
    pairs = {"pid": order, "uid": uid[order], "as_of": as_of[order]}
    pairs |= {name: column[order] for name, column in _cutoff_columns(items, kernel).items()}
    histories = {id(item.history): item.history for item in items}
    table = kernel(pyarrow.table(pairs), _event_table([*histories.values()]))
    matrix = np.empty((len(items), len(feature_set.names)))
    positions = table.column("pid").to_numpy()
    for column, name in enumerate(feature_set.names):
        matrix[positions, column] = table.column(name).to_numpy()
    silent_hours = np.empty(len(items))
    silent_hours[positions] = table.column(LAST_EVENT_FEATURE).to_numpy()
    return [ComputedFeatures(*row) for row in zip(matrix, silent_hours.tolist(), strict=True)]


def _event_table(histories: Sequence[EncodedHistory]) -> pyarrow.Table:
    """The events of all histories, numbered by their position, as a `Timeline` reads them."""
    rows = np.frombuffer(b"".join(history.rows for history in histories), _ROW)
    columns: dict[str, object] = {
        "uid": np.repeat(np.arange(len(histories)), [len(history) for history in histories]),
        "ts": np.ascontiguousarray(rows["ts"]),
        "code": np.ascontiguousarray(rows["code"]),
    }
    columns |= {key: np.ascontiguousarray(rows[key]) for key in EVENT_KEYS}
    for name in _NUMBERS:
        values: IntArray = np.ascontiguousarray(rows[name])
        columns[name] = pyarrow.array(values, mask=values == _NULL)
    return pyarrow.table(columns)


def _cutoff_columns(items: Sequence[HistoryAtCutoff], kernel: FeatureKernel) -> Mapping[str, FloatArray]:
    """Clock and context of every item, as far as the features read them."""
    columns: dict[str, FloatArray] = {}
    kinds = {feature.kind for feature in kernel.features}
    clock_parts = {kind.part for kind in kinds if isinstance(kind, Clock)}
    if clock_parts:
        zone = kernel.task.timezone
        clocks = {as_of: clock_features(as_of, zone) for as_of in {item.as_of for item in items}}
        for part in clock_parts:
            columns[f"clock_{part}"] = np.array([clocks[item.as_of][part] for item in items], np.float64)
    for name in {kind.name for kind in kinds if isinstance(kind, Context)}:
        values = [item.context.get(name) for item in items]
        columns[f"context_{name}"] = np.array(values, np.float64)
    return columns
