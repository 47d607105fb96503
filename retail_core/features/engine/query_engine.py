"""What feature queries need of an engine and of the lake, whichever engine runs them.

Queries are Ibis expressions; DuckDB (`duckdb_engine`) and Spark (`spark_engine`) implement `QueryEngine`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import pyarrow
from ibis.expr.types import IntegerValue, Table, Value

from retail_core.schemas import EVENT_ARROW
from retail_core.settings import Settings
from retail_core.times import to_micros

EVENT_ORDER = ("uid", "ts", "code", "tie")
"""Events handed to a `PartitionFunction` are sorted by those of these columns that they have."""


class LakeReader(Protocol):
    """What the engines read: Parquet files with the columns of EVENT_ARROW, such as those of the lake."""

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        """Parquet files that may hold events of [start, end)."""
        ...

    def users_file(self) -> str | None:
        """Parquet file of user attributes (user_id, valid_from, attributes as JSON); None without one."""
        ...

    def identities_file(self) -> str | None:
        """Parquet file of identity links (from_id, to_id, linked_at); None without one."""
        ...


@dataclass(frozen=True)
class EngineOptions:
    """Which engine runs the queries, and its resources.

    Attributes:
        kind: `duckdb` or `spark`; the results are equal.
        memory_limit: DuckDB spills to disk above it; the driver's memory where this process starts Spark.
        threads: threads of DuckDB; None for one per core.
        spark_master: URL of the Spark master: `local[2]`, `spark://host:7077`, `yarn`.
    """

    kind: Literal["duckdb", "spark"] = "duckdb"
    memory_limit: str = "3GB"
    threads: int | None = None
    spark_master: str = "local[2]"

    @classmethod
    def from_settings(cls, settings: Settings) -> EngineOptions:
        """The engine that the settings name."""
        return cls(settings.engine, settings.memory_limit, spark_master=settings.spark_master)


DUCKDB = EngineOptions()
"""DuckDB with its defaults."""


class PartitionFunction(Protocol):
    """What is computed per partition of users, in this process or on Spark's executors."""

    @property
    def schema(self) -> pyarrow.Schema:
        """Columns of the result."""
        ...

    def __call__(self, pairs: pyarrow.Table, events: pyarrow.Table) -> pyarrow.Table:
        """One row per pair, from the pairs (by `uid` and `as_of`) and events (by `EVENT_ORDER`) of users."""
        ...


class QueryEngine(ABC):
    """A running engine. Tables of two engines cannot be used in one expression."""

    def events(self, lake: LakeReader, start: datetime | None, end: datetime | None) -> Table:
        """Events with start <= event_time < end, with `event_time` as microseconds in `ts`."""
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
    def materialize(self, expression: Table) -> Table:
        """The expression's rows, computed once and stored until the engine closes."""

    @abstractmethod
    def to_arrow(self, expression: Table) -> pyarrow.Table:
        """The expression's rows in this process."""

    @abstractmethod
    def map_users(
        self, pairs: pyarrow.Table, events: Table, function: PartitionFunction
    ) -> Iterator[pyarrow.Table]:
        """Apply `function` to partitions of whole users and yield its tables.

        Args:
            pairs: by `uid` and `as_of`; each is in exactly one partition.
            events: of the users of the pairs, with `uid`, in any order.
            function: called once a partition.
        """
