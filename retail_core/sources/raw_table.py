"""The raw records of one window of a file, as tables that pass between the stages of reading it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.sources.json_columns import JsonColumns
from retail_core.sources.refusals import Refusal, refusal

Problems = dict[int, tuple[str | None, str, object]]
"""Record number -> (raw field, rule, value) of the first problem of each record."""


@dataclass(frozen=True)
class RawTable:
    """The raw records of one window of a file; with `refused`, every record of its lines is in it.

    Attributes:
        columns: text (or, from Parquet, typed) columns of equal length by raw name.
        lines: line of each record, shape (records,).
        raw: `raw(i)` is record i as it is in the file.
        refused: records that could not be read.
        first: first line of the window.
        last: last line of the window.
        users: columns of user attributes where these are not columns of the records.
        header: field names of a raw CSV record; empty if a raw record is JSON.
        file_columns: names of the columns of the file, where `columns` has those that its source reads; None
            if `columns` has those of the file.
        exploded: whether a line can have several records, one for each element of a list.
        cut_line: line of the last record of a file that ends without a line break; it may be incomplete.
    """

    columns: Mapping[str, pa.Array]
    lines: IntArray
    raw: Callable[[int], str]
    refused: tuple[Refusal, ...]
    first: int
    last: int
    users: Mapping[str, pa.Array] | None = None
    header: tuple[str, ...] = ()
    file_columns: tuple[str, ...] | None = None
    exploded: bool = False
    cut_line: int | None = None

    def __len__(self) -> int:
        """Number of records."""
        return len(self.lines)

    def refuse(self, problems: Problems) -> tuple[RawTable, IntArray]:
        """The table with the records in `problems` moved to `refused`, and the row numbers of the others."""
        accepted = np.setdiff1d(
            np.arange(len(self)), np.fromiter(problems, dtype=np.int64), assume_unique=True
        )
        refused = tuple(
            refusal(self.lines[row], name, rule, value, self.raw(row))
            for row, (name, rule, value) in sorted(problems.items())
        )
        return self.take(accepted, self.refused + refused), accepted

    def take(self, rows: IntArray, refused: tuple[Refusal, ...] | None = None) -> RawTable:
        """Records `rows` in that order, with repetitions; `refused` replaces the refusals unless None."""
        raw = self.raw
        return replace(
            self,
            columns=self._taken_columns(rows),
            lines=self.lines[rows],
            raw=lambda row: raw(int(rows[row])),
            refused=self.refused if refused is None else refused,
        )

    def with_columns(self, columns: Mapping[str, pa.Array]) -> RawTable:
        """The table with `columns`, which replace those of the same name."""
        if isinstance(self.columns, JsonColumns):
            return replace(self, columns=self.columns.with_columns(columns))
        return replace(self, columns=dict(self.columns) | dict(columns))

    def _taken_columns(self, rows: IntArray) -> Mapping[str, pa.Array]:
        if isinstance(self.columns, JsonColumns):
            return self.columns.take(rows)
        indices = pa.array(rows)
        return {name: column.take(indices) for name, column in self.columns.items()}
