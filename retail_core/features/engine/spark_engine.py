"""Spark as the engine: the same Ibis expressions and the same results as DuckDB. One session a process.

A running session (a notebook's, or that of `spark-submit`) is used as it is. A session started here keeps
the JVM's log output to itself and ends with the process. Cluster settings, such as the executors' memory or
an object store's jars, are Spark's own: `spark-defaults.conf`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import ibis
import pyarrow
from ibis.expr.types import IntegerValue, Table, Value

from retail_core.errors import DependencyError
from retail_core.features.engine.query_engine import (
    EVENT_ORDER,
    EngineOptions,
    PartitionFunction,
    QueryEngine,
)
from retail_core.schemas import EVENT_ARROW

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_LOCAL_PARTITIONS = 4
_GROUP_COLUMN = "users"
_GROUP_USERS = 4_000
_UNINFORMATIVE_LINE = re.compile(r"WARN|INFO|incubator|^\s*$|^\s+at ")


@ibis.udf.scalar.builtin(signature=((ibis.dtype("timestamp('UTC')"),), ibis.dtype("int64")))
def unix_micros(instant):  # type: ignore[no-untyped-def]
    """Microseconds since 1970; Spark's own function."""


class SparkEngine(QueryEngine):
    """Spark. Materialized tables are cached on the executors, and recomputed where an executor is lost."""

    def __init__(self, session: SparkSession) -> None:
        self.session = session
        self._backend = ibis.pyspark.connect(session)
        self._cached: list[DataFrame] = []
        self._views: list[str] = []

    def parquet(self, files: list[str]) -> Table:
        """See `QueryEngine`; URLs of Amazon's store go to Hadoop's `s3a`."""
        from pyspark.sql.pandas.types import from_arrow_schema

        urls = [re.sub(r"^s3://", "s3a://", file) for file in files]
        return self._as_view(self.session.read.schema(from_arrow_schema(EVENT_ARROW)).parquet(*urls))

    def micros(self, instant: Value) -> IntegerValue:
        """See `QueryEngine`."""
        return unix_micros(instant)

    def table(self, rows: pyarrow.Table) -> Table:
        """See `QueryEngine`."""
        return self._as_view(self.session.createDataFrame(rows))

    def materialize(self, expression: Table) -> Table:
        """See `QueryEngine`; computed when first used."""
        frame = self.frame(expression).persist()
        self._cached.append(frame)
        return self._as_view(frame)

    def to_arrow(self, expression: Table) -> pyarrow.Table:
        """See `QueryEngine`, in the expression's types: Spark takes a literal such as 1.0 for a decimal."""
        return self.frame(expression).toArrow().cast(expression.schema().to_pyarrow())

    def map_users(
        self, pairs: pyarrow.Table, events: Table, function: PartitionFunction
    ) -> Iterator[pyarrow.Table]:
        """See `QueryEngine`; the function runs on the executors."""
        yield self.map_users_to_frame(pairs, events, function).toArrow()

    def map_users_to_frame(
        self, pairs: pyarrow.Table, events: Table, function: PartitionFunction
    ) -> DataFrame:
        """Result of `map_users` as a Spark data frame: the rows stay on the executors.

        Pairs and events of some thousand users at a time meet in one partition, after one shuffle of each.
        """
        from pyspark.sql.pandas.types import from_arrow_schema

        group = f"uid div {_GROUP_USERS} as {_GROUP_COLUMN}"
        grouped_pairs = self.session.createDataFrame(pairs).selectExpr("*", group).groupBy(_GROUP_COLUMN)
        grouped_events = self.frame(events).selectExpr("*", group).groupBy(_GROUP_COLUMN)

        def sort_and_apply(pairs: pyarrow.Table, events: pyarrow.Table) -> pyarrow.Table:
            order = [(name, "ascending") for name in EVENT_ORDER if name in events.column_names]
            in_order = pairs.sort_by([("uid", "ascending"), ("as_of", "ascending")])
            return function(
                in_order.drop_columns(_GROUP_COLUMN), events.sort_by(order).drop_columns(_GROUP_COLUMN)
            )

        cogrouped = grouped_pairs.cogroup(grouped_events)
        return cogrouped.applyInArrow(sort_and_apply, from_arrow_schema(function.schema))

    def frame(self, expression: Table) -> DataFrame:
        """The expression as a Spark data frame."""
        return self.session.sql(self._backend.compile(expression))

    def close(self) -> None:
        """Release cached tables and views; the session stays for the next engine."""
        for frame in self._cached:
            frame.unpersist()
        for name in self._views:
            self.session.catalog.dropTempView(name)

    def _as_view(self, frame: DataFrame) -> Table:
        name = ibis.util.gen_name("cached")
        frame.createOrReplaceTempView(name)
        self._views.append(name)
        return self._backend.table(name)


@contextmanager
def spark_engine(options: EngineOptions) -> Iterator[SparkEngine]:
    """An engine on the process's Spark session, which is started where there is none.

    Raises:
        DependencyError: PySpark or a Java runtime is missing, or the master does not answer.
    """
    engine = SparkEngine(_find_or_start_session(options))
    try:
        yield engine
    finally:
        engine.close()


def _find_or_start_session(options: EngineOptions) -> SparkSession:
    try:
        from pyspark import SparkContext
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise DependencyError(
            "RETAIL_ENGINE=spark needs PySpark, which is not installed.",
            remedy="install its extra (pip install 'retail-purchase-24h[spark]'), or unset RETAIL_ENGINE.",
        ) from error
    if SparkContext._active_spark_context is not None:
        return SparkSession.builder.getOrCreate()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        return _start_session(options, log)


def _start_session(options: EngineOptions, log: IO[str]) -> SparkSession:
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    conf = SparkConf(loadDefaults=False).setAll(list(_spark_settings(options).items()))
    try:
        # The JVM of a stopped session still runs, and PySpark accepts no second one.
        gateway = SparkContext._gateway or launch_gateway(  # type: ignore[no-untyped-call]
            conf, {"stdout": log, "stderr": log}
        )
        context = SparkContext(gateway=gateway, conf=conf)
    except (PySparkRuntimeError, Py4JError, OSError) as error:
        raise _start_failed(options, log, error) from error
    if context.pythonExec == "python3":
        # Executors must run this process's interpreter, not the first one on the search path.
        context.pythonExec = sys.executable
    return SparkSession(context)


def _spark_settings(options: EngineOptions) -> dict[str, str]:
    local = options.spark_master.startswith("local")
    common = {
        "spark.master": options.spark_master,
        "spark.app.name": "retail",
        "spark.driver.memory": java_memory(options.memory_limit),
        "spark.driver.maxResultSize": "0",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
    }
    if not local:
        return common
    return common | {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": str(_LOCAL_PARTITIONS),
    }


def java_memory(limit: str) -> str:
    """A DuckDB memory limit in Java's notation; 2g where it is not an amount.

    >>> java_memory("3GB"), java_memory("512MiB"), java_memory("80%")
    ('3g', '512m', '2g')
    """
    size = re.fullmatch(r"\s*(\d+)\s*([kmgt])i?b\s*", limit, re.IGNORECASE)
    return f"{size[1]}{size[2].lower()}" if size else "2g"


def _start_failed(options: EngineOptions, log: IO[str], error: Exception) -> DependencyError:
    log.seek(0)
    lines = [line.strip() for line in log if not _UNINFORMATIVE_LINE.search(line)]
    reason = lines[-1] if lines else str(error).splitlines()[0]
    return DependencyError(
        f"Spark cannot be started on {options.spark_master}: {reason}.",
        remedy="install a Java 17 or 21 runtime (apt-get install openjdk-17-jre-headless) where PATH or "
        "JAVA_HOME finds it, correct RETAIL_SPARK_MASTER, or unset RETAIL_ENGINE.",
    )
