"""The engines that read the lake: DuckDB in this process, or Spark on one machine or many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from retail_core.features.engine.duckdb_engine import duckdb_engine
from retail_core.features.engine.query_engine import (
    DUCKDB,
    EngineOptions,
    LakeReader,
    PartitionFunction,
    QueryEngine,
)

__all__ = ["DUCKDB", "EngineOptions", "LakeReader", "PartitionFunction", "QueryEngine", "open_engine"]


@contextmanager
def open_engine(options: EngineOptions = DUCKDB) -> Iterator[QueryEngine]:
    """A running engine of these options; closed on exit.

    Raises:
        DependencyError: Spark cannot be started.
    """
    if options.kind == "spark":
        from retail_core.features.engine.spark_engine import spark_engine

        with spark_engine(options) as spark:
            yield spark
        return
    with duckdb_engine(options) as duckdb:
        yield duckdb
