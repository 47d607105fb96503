"""Rows about pairs, as they come from the engine, put where they belong.

Rows arrive in batches, in any order: additive measures go to (ring, pair), all else to the pair. Null is
NaN; instants and counts are exact in float64, and sums of money stay 64-bit integers until they are whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import compute

_SUMMED = ("n_", "v_", "p_", "q_", "d_", "days_", "same_", "squares_", "sessions")
_MONEY = ("v_", "p_")
_SMALLEST = ("first_ts", "nth_first", "carted_first", "newest_", "second_")

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Gathered:
    """What is known of some pairs.

    Attributes:
        sums: measures by name, shape (rings, pairs).
        values: all else by name, shape (pairs,), NaN where unknown.
    """

    def __init__(self, pids: Ints, rings: int) -> None:
        """Begin with nothing known of the pairs with these ids, ascending."""
        self._pids = pids
        self._rings = rings
        self.sums: dict[str, npt.NDArray[Any]] = {}
        self.values: dict[str, Floats] = {}

    def add(self, batch: pyarrow.Table) -> None:
        """Put in rows (pid, ring, measures), each (pid, ring) once, or rows (pid, values), each pid once."""
        places = np.searchsorted(self._pids, batch.column("pid").to_numpy())
        if "ring" not in batch.column_names:
            for name in batch.column_names:
                if name != "pid":
                    self._known(name)[places] = _floats(batch.column(name))
            return
        ring = np.asarray(batch.column("ring").to_numpy(), np.int64)
        apart = [(rows, places[rows]) for rows in (np.flatnonzero(ring == r) for r in np.unique(ring))]
        for name in batch.column_names:
            if name.startswith(_SUMMED):
                self._added(name)[ring, places] = _whole(batch.column(name))
            elif name not in {"pid", "ring"}:
                self._extreme(name, apart, _floats(batch.column(name)))

    def _known(self, name: str) -> Floats:
        if name not in self.values:
            self.values[name] = np.full(len(self._pids), np.nan)
        return self.values[name]

    def _added(self, name: str) -> npt.NDArray[Any]:
        if name not in self.sums:
            shape = (self._rings, len(self._pids))
            self.sums[name] = np.zeros(shape, np.int64 if name.startswith(_MONEY) else np.float64)
        return self.sums[name]

    def _extreme(self, name: str, apart: Sequence[tuple[Ints, Ints]], values: Floats) -> None:
        """Ring by ring: within one, a pair has one row, so that none is written over."""
        known = self._known(name)
        better = np.fmin if name.startswith(_SMALLEST) else np.fmax
        for rows, places in apart:
            known[places] = better(known[places], values[rows])


def _floats(column: pyarrow.ChunkedArray) -> Floats:
    return np.asarray(column.cast("float64").to_numpy(), np.float64)


def _whole(column: pyarrow.ChunkedArray) -> Ints:
    return np.asarray(compute.fill_null(column.cast("int64"), 0).to_numpy(), np.int64)
