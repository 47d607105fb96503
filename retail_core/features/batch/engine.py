"""The engines that run Ibis expressions: DuckDB in this process, or Spark on one machine or many."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

import ibis
import pyarrow
from ibis.expr.types import IntegerValue, Table, Value

from retail_core.features.batch.shares import SHARE_ROWS, in_threads, shares
from retail_core.features.batch.timeline import ORDER
from retail_core.features.reader import LakeReader, to_micros
from retail_core.schemas import EVENT_ARROW

if TYPE_CHECKING:
    from retail_core.settings import Settings

_MOST_SHARES = 4
"""Worked on at once: each takes some 150 MB, and NumPy's threads hold each other up."""

_INSTANT = ibis.dtype("timestamp('UTC')")


@dataclass(frozen=True)
class EngineOptions:
    """Which engine computes, and with what.

    Attributes:
        kind: `duckdb` or `spark`; the numbers are the same.
        memory_limit: above it DuckDB spills to disk; the driver's memory where this process starts Spark.
        threads: of DuckDB; None for one per core.
        spark_master: where Spark runs, as Spark names it: `local[2]`, `spark://host:7077`, `yarn`.
    """

    kind: Literal["duckdb", "spark"] = "duckdb"
    memory_limit: str = "3GB"
    threads: int | None = None
    spark_master: str = "local[2]"

    @classmethod
    def from_settings(cls, settings: Settings) -> EngineOptions:
        """The engine of the settings."""
        return cls(settings.engine, settings.memory_limit, spark_master=settings.spark_master)


DUCKDB = EngineOptions()
"""DuckDB with its defaults."""


class Work(Protocol):
    """What is done in the end, in this process or on Spark's executors."""

    @property
    def schema(self) -> pyarrow.Schema:
        """Columns of the result."""
        ...

    def __call__(self, pairs: pyarrow.Table, events: pyarrow.Table) -> pyarrow.Table:
        """One row per pair, from pairs (by `uid` and `as_of`) and all events (by `ORDER`) of some users."""
        ...


class Engine(ABC):
    """A running engine. Tables of two engines cannot meet in one expression."""

    def events(self, lake: LakeReader, start: datetime | None, end: datetime | None) -> Table:
        """Events with start <= event_time < end, `event_time` as microseconds `ts`."""
        files = lake.files(start, end)
        raw = self.parquet(files) if files else self.table(EVENT_ARROW.empty_table())
        table = raw.mutate(ts=self.micros(raw.event_time))
        if start is not None:
            table = table.filter(table.ts >= to_micros(start))
        if end is not None:
            table = table.filter(table.ts < to_micros(end))
        return table

    @abstractmethod
    def parquet(self, files: list[str]) -> Table:
        """Parquet files with the columns of EVENT_ARROW as one table."""

    @abstractmethod
    def micros(self, instant: Value) -> IntegerValue:
        """A timestamp column as microseconds since 1970."""

    @abstractmethod
    def table(self, rows: pyarrow.Table) -> Table:
        """Rows of this process as a table of the engine."""

    @abstractmethod
    def keep(self, expression: Table) -> Table:
        """The expression's rows, computed once and kept until the engine closes."""

    @abstractmethod
    def fetch(self, expression: Table) -> pyarrow.Table:
        """The expression's rows in this process."""

    @abstractmethod
    def finish(self, pairs: pyarrow.Table, events: Table, work: Work) -> Iterator[pyarrow.Table]:
        """What `work` makes of the pairs (by `uid` and `as_of`) and the events (in any order), in parts."""


@ibis.udf.scalar.builtin(signature=((_INSTANT,), ibis.dtype("int64")))
def epoch_us(instant):  # type: ignore[no-untyped-def]
    """Microseconds since 1970; DuckDB's own function."""


class DuckEngine(Engine):
    """DuckDB in this process."""

    def __init__(self, backend: ibis.BaseBackend, threads: int) -> None:
        self._backend = backend
        self._threads = threads

    def parquet(self, files: list[str]) -> Table:
        """As `Engine` says."""
        return self._backend.read_parquet(files)

    def micros(self, instant: Value) -> IntegerValue:
        """As `Engine` says."""
        return epoch_us(instant)

    def table(self, rows: pyarrow.Table) -> Table:
        """As `Engine` says."""
        return self.keep(ibis.memtable(rows))

    def keep(self, expression: Table) -> Table:
        """As `Engine` says; a temporary table."""
        return self._backend.create_table(ibis.util.gen_name("kept"), expression, temp=True)

    def fetch(self, expression: Table) -> pyarrow.Table:
        """As `Engine` says."""
        return self._backend.to_pyarrow(expression)

    def finish(self, pairs: pyarrow.Table, events: Table, work: Work) -> Iterator[pyarrow.Table]:
        """As `Engine` says; DuckDB sorts, and events are handed over share by share."""
        in_order = events.order_by([name for name in ORDER if name in events.columns])
        relation = self._backend.con.sql(self._backend.compile(in_order))
        reader = relation.to_arrow_reader(SHARE_ROWS)
        yield from in_threads(work, shares(pairs, reader), min(self._threads, _MOST_SHARES))


@contextmanager
def open_engine(options: EngineOptions = DUCKDB) -> Iterator[Engine]:
    """The engine of the options; DuckDB spills to a temporary folder.

    Raises:
        DependencyError: Spark is asked for and cannot be started.
    """
    if options.kind == "spark":
        from retail_core.features.batch.spark import spark_engine

        with spark_engine(options) as engine:
            yield engine
        return
    with tempfile.TemporaryDirectory(prefix="retail-") as spill:
        threads = options.threads or os.cpu_count() or 1
        backend = ibis.duckdb.connect(
            memory_limit=options.memory_limit,
            temp_directory=spill,
            preserve_insertion_order=False,
            threads=threads,
        )
        # Its bar would go to standard output, where a command's JSON goes.
        backend.raw_sql("SET enable_progress_bar = false")
        try:
            yield DuckEngine(backend, threads)
        finally:
            backend.disconnect()
