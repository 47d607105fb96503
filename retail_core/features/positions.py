"""Where events stand relative to the cut-offs: the positions that partial aggregates are grouped by.

The instants `cut-off - w` of all cut-offs and all window and day lengths w cut the time axis into
elementary intervals. No window or 24-hour block of any cut-off begins or ends inside one, so all
events of an interval may be aggregated once and stand at the interval's start. That is exact for
any cut-offs, across daylight-saving changes too. Where cut-offs lie too irregularly for it to pay,
an event's position is simply its own time; what follows is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow
from ibis.expr.types import IntegerValue, Table

from retail_core.features.engine import Engine
from retail_core.features.kinds import DAY_US, Window

_MAX_CUTOFFS = 2_000
_MAX_CELLS = 500_000


@dataclass(frozen=True)
class Grid:
    """Equal cells, none of them across a boundary, each with the start of its elementary interval."""

    first: int
    step: int
    starts: np.ndarray[tuple[int], np.dtype[np.int64]]

    def place(self, engine: Engine, events: Table) -> Table:
        """`events` (with `ts`) and their position `pos`; events outside the grid are left out."""
        cells = pyarrow.table({"cell": np.arange(len(self.starts)), "pos": self.starts})
        cell = ((events.ts - self.first) // self.step).cast("int64")
        return events.mutate(cell=cell).join(engine.table(cells), "cell").drop("cell")


def grid(cutoffs: Sequence[int], windows: tuple[Window, ...]) -> Grid | None:
    """The grid for these cut-offs (microseconds); None where they are too many or too irregular."""
    if not 0 < len(cutoffs) <= _MAX_CUTOFFS:
        return None
    whole = windows[-1].micros
    lengths = {0, *(w.micros for w in windows), *range(DAY_US, whole, DAY_US)}
    edges = np.unique(np.subtract.outer(np.array(cutoffs, np.int64), np.array(sorted(lengths), np.int64)))
    step = int(np.gcd.reduce(np.diff(edges)))
    cells = (int(edges[-1]) - int(edges[0])) // step
    if cells > _MAX_CELLS:
        return None
    times = edges[0] + np.arange(cells, dtype=np.int64) * step
    return Grid(int(edges[0]), step, edges[np.searchsorted(edges, times, side="right") - 1])


def place(engine: Engine, events: Table, cells: Grid | None) -> Table:
    """`events` with `pos`: the start of the elementary interval, or without a grid the event's time."""
    return events.mutate(pos=events.ts) if cells is None else cells.place(engine, events)


def ring(age: IntegerValue, windows: tuple[Window, ...]) -> IntegerValue:
    """Index of the smallest window that holds an event `age` microseconds before the cut-off."""
    branches = [(age <= window.micros, index) for index, window in enumerate(windows[:-1])]
    return ibis.cases(*branches, else_=len(windows) - 1) if branches else ibis.literal(0)
