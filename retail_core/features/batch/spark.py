"""Spark as the engine: one session a process, found or started; the same expressions, the same numbers.

A session that is already there (a notebook's, or that of `spark-submit`) is used as it is. One that is
started here keeps the JVM's chatter to itself and ends with the process. Settings of a cluster, such as
the executors' memory or an object store's jars, are Spark's own: `spark-defaults.conf`.
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
from retail_core.features.batch.engine import Engine, EngineOptions, Work
from retail_core.features.batch.timeline import ORDER
from retail_core.schemas import EVENT_ARROW

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_LOCAL_PARTITIONS = 4
_GROUP = "users"
_GROUP_USERS = 4_000
_NOISE = re.compile(r"WARN|INFO|incubator|^\s*$|^\s+at ")


@ibis.udf.scalar.builtin(signature=((ibis.dtype("timestamp('UTC')"),), ibis.dtype("int64")))
def unix_micros(instant):  # type: ignore[no-untyped-def]
    """Microseconds since 1970; Spark's own function."""


class SparkEngine(Engine):
    """Spark. What is kept is cached on the executors, and computed again where one of them is lost."""

    def __init__(self, session: SparkSession) -> None:
        self.session = session
        self._backend = ibis.pyspark.connect(session)
        self._kept: list[DataFrame] = []
        self._views: list[str] = []

    def parquet(self, files: list[str]) -> Table:
        """As `Engine` says; URLs of Amazon's store go to Hadoop's `s3a`."""
        from pyspark.sql.pandas.types import from_arrow_schema

        urls = [re.sub(r"^s3://", "s3a://", file) for file in files]
        return self._named(self.session.read.schema(from_arrow_schema(EVENT_ARROW)).parquet(*urls))

    def micros(self, instant: Value) -> IntegerValue:
        """As `Engine` says."""
        return unix_micros(instant)

    def table(self, rows: pyarrow.Table) -> Table:
        """As `Engine` says."""
        return self._named(self.session.createDataFrame(rows))

    def keep(self, expression: Table) -> Table:
        """As `Engine` says; computed when first used."""
        frame = self.frame(expression).persist()
        self._kept.append(frame)
        return self._named(frame)

    def fetch(self, expression: Table) -> pyarrow.Table:
        """As `Engine` says, in the expression's types: Spark takes a literal such as 1.0 for a decimal."""
        return self.frame(expression).toArrow().cast(expression.schema().to_pyarrow())

    def finish(self, pairs: pyarrow.Table, events: Table, work: Work) -> Iterator[pyarrow.Table]:
        """As `Engine` says; each executor finishes the pairs of its users."""
        yield self.finished(pairs, events, work).toArrow()

    def finished(self, pairs: pyarrow.Table, events: Table, work: Work) -> DataFrame:
        """What `finish` brings here, left where it is.

        Pairs and events of some thousand users at a time meet in one partition, after one shuffle of each.
        """
        from pyspark.sql.pandas.types import from_arrow_schema

        group = f"uid div {_GROUP_USERS} as {_GROUP}"
        asked = self.session.createDataFrame(pairs).selectExpr("*", group).groupBy(_GROUP)
        seen = self.frame(events).selectExpr("*", group).groupBy(_GROUP)

        def users(pairs: pyarrow.Table, events: pyarrow.Table) -> pyarrow.Table:
            seen = [(name, "ascending") for name in ORDER if name in events.column_names]
            in_order = pairs.sort_by([("uid", "ascending"), ("as_of", "ascending")])
            return work(in_order.drop_columns(_GROUP), events.sort_by(seen).drop_columns(_GROUP))

        return asked.cogroup(seen).applyInArrow(users, from_arrow_schema(work.schema))

    def frame(self, expression: Table) -> DataFrame:
        """The expression as a Spark data frame."""
        return self.session.sql(self._backend.compile(expression))

    def close(self) -> None:
        """Forget what was kept; the session stays for the next one."""
        for frame in self._kept:
            frame.unpersist()
        for name in self._views:
            self.session.catalog.dropTempView(name)

    def _named(self, frame: DataFrame) -> Table:
        name = ibis.util.gen_name("kept")
        frame.createOrReplaceTempView(name)
        self._views.append(name)
        return self._backend.table(name)


@contextmanager
def spark_engine(options: EngineOptions) -> Iterator[SparkEngine]:
    """An engine on the process's Spark session.

    Raises:
        DependencyError: PySpark or a Java runtime is missing, or the master does not answer.
    """
    engine = SparkEngine(_session(options))
    try:
        yield engine
    finally:
        engine.close()


def _session(options: EngineOptions) -> SparkSession:
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
        return _started(options, log)


def _started(options: EngineOptions, log: IO[str]) -> SparkSession:
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    conf = SparkConf(loadDefaults=False).setAll(list(_settings(options).items()))
    try:
        # The JVM of a session that was stopped is still there, and PySpark would not take another.
        gateway = SparkContext._gateway or launch_gateway(  # type: ignore[no-untyped-call]
            conf, {"stdout": log, "stderr": log}
        )
        context = SparkContext(gateway=gateway, conf=conf)
    except (PySparkRuntimeError, Py4JError, OSError) as error:
        raise _not_started(options, log, error) from error
    if context.pythonExec == "python3":
        # Executors are to run what this process runs, not what the search path has first.
        context.pythonExec = sys.executable
    return SparkSession(context)


def _settings(options: EngineOptions) -> dict[str, str]:
    local = options.spark_master.startswith("local")
    everywhere = {
        "spark.master": options.spark_master,
        "spark.app.name": "retail",
        "spark.driver.memory": java_memory(options.memory_limit),
        "spark.driver.maxResultSize": "0",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
    }
    if not local:
        return everywhere
    return everywhere | {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": str(_LOCAL_PARTITIONS),
    }


def java_memory(limit: str) -> str:
    """DuckDB's way of writing a size as Java's; 2g where it is not an amount.

    >>> java_memory("3GB"), java_memory("512MiB"), java_memory("80%")
    ('3g', '512m', '2g')
    """
    found = re.fullmatch(r"\s*(\d+)\s*([kmgt])i?b\s*", limit, re.IGNORECASE)
    return f"{found[1]}{found[2].lower()}" if found else "2g"


def _not_started(options: EngineOptions, log: IO[str], error: Exception) -> DependencyError:
    log.seek(0)
    lines = [line.strip() for line in log if not _NOISE.search(line)]
    reason = lines[-1] if lines else str(error).splitlines()[0]
    return DependencyError(
        f"Spark cannot be started on {options.spark_master}: {reason}.",
        remedy="install a Java 17 or 21 runtime (apt-get install openjdk-17-jre-headless) where PATH or "
        "JAVA_HOME finds it, correct RETAIL_SPARK_MASTER, or unset RETAIL_ENGINE.",
    )
