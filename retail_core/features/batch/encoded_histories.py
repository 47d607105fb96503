"""Features of many users at once from histories in memory: the batch kernel without an engine.

A history is encoded once: sorted rows of fixed width, in which keys such as items are numbers that count from
0 for each user. Features compare keys within one user only, so equal numbers of different users mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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
from retail_core.features.kinds import CART_EVENT_ORDER, Clock, Context, Feature, coded_types
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


@dataclass(frozen=True)
class EncodedHistory:
    """Events of one user in the order of `EVENT_ORDER`.

    Attributes:
        rows: `ROW_BYTES` for each event.
        types: event types by their code.
    """

    rows: bytes
    types: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows) // ROW_BYTES


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


def types_read(feature_set: FeatureSet) -> tuple[str, ...]:
    """The event types that histories for this set have to tell apart."""
    return coded_types(feature_set.plan())


def encode_history(events: EventColumns, types: tuple[str, ...]) -> EncodedHistory:
    """Encode the events of one person.

    Args:
        events: in any order, each event id once, of any period.
        types: result of `types_read`.
    """
    codes = {name: code for code, name in enumerate(types)}
    code = [codes.get(event_type, len(types)) for event_type in events.event_type]
    rows = np.empty(len(code), _ROW)
    order = _event_order(events, code)
    rows["ts"], rows["code"] = events.event_time, code
    for name in _NUMBERS:
        column: Column = getattr(events, name)
        rows[name] = [_NULL if value is None else value for value in column]
    for key in EVENT_KEYS:
        rows[key] = _local_codes(events, key)
    return EncodedHistory((rows[order] if order else rows).tobytes(), types)


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


def _local_codes(events: EventColumns, key: str) -> list[int]:
    """Values of a key as numbers in the order of their first event, -1 where null."""
    event_key = EVENT_KEYS[key]
    values: Column = getattr(events, event_key.column)
    if event_key.fallback is not None:
        fallbacks: Column = getattr(events, event_key.fallback)
        values = [
            fallback if value is None else value for value, fallback in zip(values, fallbacks, strict=True)
        ]
    numbers: dict[str, int] = {}
    return [-1 if value is None else numbers.setdefault(value, len(numbers)) for value in values]


def compute_encoded(items: Sequence[HistoryAtCutoff], feature_set: FeatureSet) -> list[ComputedFeatures]:
    """The features of every item, equal to those of the online interpreter; in the order of the items.

    Events outside an item's look-back are ignored. Takes about 0.1 ms an item for lists of hundreds, 5 ms
    for one. Histories that several items share are computed together.
    """
    if not items:
        return []
    plan = feature_set.plan()
    last_event = expand_definitions(feature_set.task)[LAST_EVENT_FEATURE]
    kernel = FeatureKernel(
        feature_set.task, tuple(dict.fromkeys([*plan, last_event])), types_read(feature_set)
    )
    uids: dict[int, int] = {}
    uid = np.array([uids.setdefault(id(item.history), len(uids)) for item in items])
    as_of = np.array([to_micros(item.as_of) for item in items])
    order = np.lexsort((as_of, uid))
    pairs = {"pid": order, "uid": uid[order], "as_of": as_of[order]}
    pairs |= {name: column[order] for name, column in _cutoff_columns(items, plan, feature_set).items()}
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


def _cutoff_columns(
    items: Sequence[HistoryAtCutoff], plan: Sequence[Feature], feature_set: FeatureSet
) -> Mapping[str, FloatArray]:
    """Clock and context of every item, as far as the features read them."""
    columns: dict[str, FloatArray] = {}
    kinds = {feature.kind for feature in plan}
    clock_parts = {kind.part for kind in kinds if isinstance(kind, Clock)}
    if clock_parts:
        zone = feature_set.task.timezone
        clocks = {as_of: clock_features(as_of, zone) for as_of in {item.as_of for item in items}}
        for part in clock_parts:
            columns[f"clock_{part}"] = np.array([clocks[item.as_of][part] for item in items], np.float64)
    for name in {kind.name for kind in kinds if isinstance(kind, Context)}:
        values = [item.context.get(name) for item in items]
        columns[f"context_{name}"] = np.array(values, np.float64)
    return columns
