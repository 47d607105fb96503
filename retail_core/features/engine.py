"""The engines that run Ibis expressions: DuckDB in this process, or Spark on one machine or many."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

import ibis
import pyarrow
from ibis.expr.types import IntegerValue, Table, Value

from retail_core.features.reader import LakeReader, to_micros
from retail_core.schemas import EVENT_ARROW

if TYPE_CHECKING:
    from retail_core.settings import Settings

_BATCH_ROWS = 100_000
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
    """What is done in the end, in this process or in each of Spark's partitions."""

    @property
    def schema(self) -> pyarrow.Schema:
        """Columns of the result."""
        ...

    def __call__(self, pairs: pyarrow.Table, parts: Iterable[pyarrow.Table]) -> pyarrow.Table:
        """One row per pair, from the pairs (`pid` ascending) and rows about them in any order."""
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
    def finish(self, pairs: pyarrow.Table, parts: Sequence[Table], work: Work) -> pyarrow.Table:
        """What `work` makes of the pairs (`pid` ascending) and of the parts' rows about them."""


@ibis.udf.scalar.builtin(signature=((_INSTANT,), ibis.dtype("int64")))
def epoch_us(instant):  # type: ignore[no-untyped-def]
    """Microseconds since 1970; DuckDB's own function."""


class DuckEngine(Engine):
    """DuckDB in this process."""

    def __init__(self, backend: ibis.BaseBackend) -> None:
        self._backend = backend

    def parquet(self, files: list[str]) -> Table:
        """As `Engine` says."""
        return self._backend.read_parquet(files)

    def micros(self, instant: Value) -> IntegerValue:
        """As `Engine` says."""
        return epoch_us(instant)

    def table(self, rows: pyarrow.Table) -> Table:
        """As `Engine` says."""
        return ibis.memtable(rows)

    def keep(self, expression: Table) -> Table:
        """As `Engine` says; a temporary table."""
        return self._backend.create_table(ibis.util.gen_name("kept"), expression, temp=True)

    def fetch(self, expression: Table) -> pyarrow.Table:
        """As `Engine` says."""
        return self._backend.to_pyarrow(expression)

    def finish(self, pairs: pyarrow.Table, parts: Sequence[Table], work: Work) -> pyarrow.Table:
        """As `Engine` says; rows are handed over batch by batch, so that they never all lie in memory."""
        return work(pairs, (batch for part in parts for batch in self._batches(part)))

    def _batches(self, expression: Table) -> Iterator[pyarrow.Table]:
        relation = self._backend.con.sql(self._backend.compile(expression))
        for batch in relation.to_arrow_reader(_BATCH_ROWS):
            yield pyarrow.Table.from_batches([batch])


@contextmanager
def open_engine(options: EngineOptions = DUCKDB) -> Iterator[Engine]:
    """The engine of the options; DuckDB spills to a temporary folder.

    Raises:
        DependencyError: Spark is asked for and cannot be started.
    """
    if options.kind == "spark":
        from retail_core.features.spark import spark_engine

        with spark_engine(options) as engine:
            yield engine
        return
    with tempfile.TemporaryDirectory(prefix="retail-") as spill:
        threads = {} if options.threads is None else {"threads": options.threads}
        backend = ibis.duckdb.connect(
            memory_limit=options.memory_limit,
            temp_directory=spill,
            preserve_insertion_order=False,
            **threads,
        )
        # Its bar would go to standard output, where a command's JSON goes.
        backend.raw_sql("SET enable_progress_bar = false")
        try:
            yield DuckEngine(backend)
        finally:
            backend.disconnect()
