"""The engine that runs Ibis expressions: DuckDB in this process, with bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import ibis
import pyarrow
from ibis.expr.types import IntegerValue, Table, Value

from retail_core.features.reader import LakeReader, to_micros
from retail_core.schemas import EVENT_ARROW


@ibis.udf.scalar.builtin(signature=((ibis.dtype("timestamp('UTC')"),), ibis.dtype("int64")))
def epoch_us(instant):  # type: ignore[no-untyped-def]
    """Microseconds since 1970; DuckDB's own function."""


@dataclass(frozen=True)
class Engine:
    """A running engine. Tables of two engines cannot meet in one expression."""

    backend: ibis.BaseBackend

    def events(self, lake: LakeReader, start: datetime | None, end: datetime | None) -> Table:
        """Events with start <= event_time < end, `event_time` as microseconds `ts`."""
        files = lake.files(start, end)
        raw = self.backend.read_parquet(files) if files else ibis.memtable(EVENT_ARROW.empty_table())
        table = raw.mutate(ts=self.micros(raw.event_time))
        if start is not None:
            table = table.filter(table.ts >= to_micros(start))
        if end is not None:
            table = table.filter(table.ts < to_micros(end))
        return table

    def micros(self, instant: Value) -> IntegerValue:
        """A timestamp column as microseconds since 1970."""
        return epoch_us(instant)

    def table(self, rows: pyarrow.Table) -> Table:
        """Rows of this process as a table of the engine."""
        return ibis.memtable(rows)

    def keep(self, expression: Table) -> Table:
        """The expression's rows, computed once and kept until the engine closes."""
        return self.backend.create_table(ibis.util.gen_name("kept"), expression, temp=True)

    def fetch(self, expression: Table) -> pyarrow.Table:
        """The expression's rows in this process."""
        return self.backend.to_pyarrow(expression)


@contextmanager
def open_engine(
    *, memory_limit: str = "3GB", threads: int | None = None, temp_dir: str | None = None
) -> Iterator[Engine]:
    """A DuckDB engine that spills to `temp_dir` (default: a temporary folder) above `memory_limit`."""
    with tempfile.TemporaryDirectory(prefix="retail-", dir=temp_dir) as spill:
        options = {} if threads is None else {"threads": threads}
        backend = ibis.duckdb.connect(
            memory_limit=memory_limit, temp_directory=spill, preserve_insertion_order=False, **options
        )
        try:
            yield Engine(backend)
        finally:
            backend.disconnect()
