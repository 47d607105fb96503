"""Contiguous rows of one order in a file, within which equal rows without an id are told apart by number.

An order that occurs again further down, as in two exports that were appended, is a later state of itself: its
rows get the numbers of the first occurrence, hence the same ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from retail_core.arrays import IntArray
from retail_core.sources.event_ids import RepeatCounter
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source
from retail_core.sources.text_cleaning import cleaned_text

NO_BLOCK = 0
"""Block of rows that are of no order; their repeats are counted in the whole file."""


class OrderBlocks:
    """Numbers the blocks of a file, from 1 in the order of the file.

    A block begins where the key changes, where a column of the order has another value than before, and where
    it has a value again after a row without one (exports that state it in the first row of an order only).
    """

    def __init__(self, source: Source) -> None:
        order, rules = source.identity.order, source.rules
        self._source = source
        self._key, self._states = (order[0], order[1:]) if order else (rules.fill_key, rules.fill_columns)
        self._number = NO_BLOCK
        self._last_key: str | None = None
        self._known: dict[str, str] = {}
        self._last_cells: dict[str, str | None] = {}

    def numbers(self, table: RawTable) -> IntArray:
        """Block of each record; `NO_BLOCK` for records without a key and for sources without orders.

        Args:
            table: the next records of the file, before columns are filled down. If a source's format has
                orders and the records lack the key, each line is an order with all its items.
        """
        if self._key is None or self._key not in table.columns:
            if not self._source.identity.order:
                return np.full(len(table), NO_BLOCK, np.int64)
            return self._numbers_of_lines(table)
        keys = self._texts(table, self._key)
        names = [name for name in self._states if name in table.columns]
        columns = [self._texts(table, name) for name in names]
        numbers = np.empty(len(table), np.int64)
        for row, (key, *cells) in enumerate(zip(keys, *columns, strict=True)):
            numbers[row] = self._number_of(key, dict(zip(names, cells, strict=True)))
        return numbers

    def _numbers_of_lines(self, table: RawTable) -> IntArray:
        _, positions = np.unique(table.lines, return_inverse=True)
        numbers: IntArray = positions.astype(np.int64) + self._number + 1
        self._number += int(positions.max(initial=-1)) + 1
        return numbers

    def _number_of(self, key: str | None, cells: dict[str, str | None]) -> int:
        if key is None or key != self._last_key or self._is_new_state(cells):
            self._number += key is not None
            self._known = {}
        self._known |= {name: cell for name, cell in cells.items() if cell is not None}
        self._last_key, self._last_cells = key, cells
        return NO_BLOCK if key is None else self._number

    def _is_new_state(self, cells: dict[str, str | None]) -> bool:
        return any(
            cell is not None
            and name in self._known
            and (cell != self._known[name] or self._last_cells.get(name) is None)
            for name, cell in cells.items()
        )

    def _texts(self, table: RawTable, name: str) -> list[str | None]:
        texts: list[str | None] = cleaned_text(table.columns[name], self._source.nulls).to_pylist()
        return texts


class BlockRepeatCounter:
    """Counts how often each id occurred in its block, over the windows of a file."""

    def __init__(self) -> None:
        self._of_file = RepeatCounter()
        self._block = NO_BLOCK
        self._counts: dict[str, int] = {}

    def numbers(self, ids: Sequence[str], blocks: IntArray) -> IntArray:
        """For each id, which occurrence in its block it is, from 1; counts it.

        Args:
            ids: in the order of the file.
            blocks: block of each id.
        """
        numbers = np.empty(len(ids), np.int64)
        outside = np.flatnonzero(blocks == NO_BLOCK)
        inside = np.flatnonzero(blocks != NO_BLOCK)
        if len(outside):
            numbers[outside] = self._of_file.numbers([ids[row] for row in outside.tolist()])
        if len(inside):
            numbers[inside] = self._in_blocks([ids[row] for row in inside.tolist()], blocks[inside])
        return numbers

    def _in_blocks(self, ids: list[str], blocks: IntArray) -> IntArray:
        frame = pd.DataFrame({"id": ids, "block": blocks})
        earlier = np.asarray(frame.groupby(["block", "id"]).cumcount(), dtype=np.int64)
        numbers = earlier + 1
        for row in np.flatnonzero(blocks == self._block).tolist():
            numbers[row] += self._counts.get(ids[row], 0)
        last = int(blocks[-1])
        if last != self._block:
            self._block, self._counts = last, {}
        for row in np.flatnonzero(blocks == last).tolist():
            self._counts[ids[row]] = int(numbers[row])
        return numbers
