"""DuckDB in this process: the default engine. Events of users are computed on in threads, part by part."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import duckdb
import ibis
import numpy as np
import pyarrow
from ibis.expr.types import IntegerValue, Table, Value
from pyarrow import dataset

from retail_core.errors import IntegrityError
from retail_core.features.engine.query_engine import (
    EVENT_ORDER,
    EngineOptions,
    PartitionFunction,
    QueryEngine,
)
from retail_core.schemas import EVENT_ARROW
from retail_core.store.lake.location import open_files
from retail_core.temporary_files import temporary_folder

PARTITION_EVENTS = 400_000
"""Events of a partition: few enough for caches and memory, enough for NumPy."""

_MAX_CONCURRENT_PARTITIONS = 4
"""Each takes some 150 MB, and NumPy's threads slow each other down."""

_INSTANT = ibis.dtype("timestamp('UTC')")


@ibis.udf.scalar.builtin(signature=((_INSTANT,), ibis.dtype("int64")))
def epoch_us(instant):  # type: ignore[no-untyped-def]
    """Microseconds since 1970; DuckDB's own function."""


_GLOB = re.compile(r"[*?\[]")


class DuckDBEngine(QueryEngine):
    """DuckDB in this process."""

    def __init__(self, backend: ibis.BaseBackend, threads: int) -> None:
        self._backend = backend
        self._threads = threads

    def parquet(self, files: list[str]) -> Table:
        """See `QueryEngine`."""
        if not any("://" in file or _GLOB.search(file) for file in files):
            with _explained_errors():
                return self._backend.read_parquet(files)
        # DuckDB itself would download an extension to read an object store, and read a path as a pattern.
        # Files of an object store are not checked before, see `retail_core.store.lake.file_checks`.
        pages = dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
        parquet = dataset.ParquetFileFormat(default_fragment_scan_options=pages)
        events = dataset.dataset(
            [
                dataset.dataset(paths, schema=EVENT_ARROW, format=parquet, filesystem=filesystem)
                for filesystem, paths in open_files(files)
            ]
        )
        name = ibis.util.gen_name("events")
        self._backend.con.register(name, events)
        return self._backend.table(name)

    def micros(self, instant: Value) -> IntegerValue:
        """See `QueryEngine`."""
        return epoch_us(instant)

    def table(self, rows: pyarrow.Table) -> Table:
        """See `QueryEngine`."""
        return self.materialize(ibis.memtable(rows))

    def materialize(self, expression: Table) -> Table:
        """See `QueryEngine`; a temporary table."""
        with _explained_errors():
            return self._backend.create_table(ibis.util.gen_name("materialized"), expression, temp=True)

    def to_arrow(self, expression: Table) -> pyarrow.Table:
        """See `QueryEngine`."""
        with _explained_errors():
            return self._backend.to_pyarrow(expression)

    def map_users(
        self, pairs: pyarrow.Table, events: Table, function: PartitionFunction
    ) -> Iterator[pyarrow.Table]:
        """See `QueryEngine`; DuckDB sorts the events and hands them over in partitions."""
        in_order = events.order_by([name for name in EVENT_ORDER if name in events.columns])
        relation = self._backend.con.sql(self._backend.compile(in_order))
        batches = relation.to_arrow_reader(PARTITION_EVENTS)
        partitions = user_partitions(pairs, batches, PARTITION_EVENTS)
        threads = min(self._threads, _MAX_CONCURRENT_PARTITIONS)
        with _explained_errors():
            yield from map_in_threads(function, partitions, threads)


@contextmanager
def _explained_errors() -> Iterator[None]:
    """Raise what DuckDB reports about a Parquet file as an `IntegrityError`."""
    try:
        yield
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        if ".parquet" not in reason and "CRC checksum" not in reason:
            raise
        raise IntegrityError(
            f"Events cannot be read: {reason}.",
            remedy="run the command again; if it fails again, run `retail lake rebuild` first.",
        ) from error


@contextmanager
def duckdb_engine(options: EngineOptions) -> Iterator[DuckDBEngine]:
    """A DuckDB database in memory that spills to a temporary folder."""
    with temporary_folder("retail-") as spill_folder:
        threads = options.threads or os.cpu_count() or 1
        backend = ibis.duckdb.connect(
            memory_limit=options.memory_limit,
            temp_directory=spill_folder,
            preserve_insertion_order=False,
            threads=threads,
        )
        # The progress bar would go to standard output, where a command's JSON goes.
        backend.raw_sql("SET enable_progress_bar = false")
        try:
            yield DuckDBEngine(backend, threads)
        finally:
            backend.disconnect()


def user_partitions(
    pairs: pyarrow.Table, events: pyarrow.RecordBatchReader, rows: int
) -> Iterator[tuple[pyarrow.Table, pyarrow.Table]]:
    """Pairs and events of the same users; about `rows` events at a time, or those of one user with more.

    Args:
        pairs: `uid` and more, by uid; every pair is in one partition, also one whose user has no events.
        events: `uid` and more, by uid.
        rows: approximate number of events of a partition.
    """
    pair_users = pairs.column("uid").to_numpy()
    first_pair, buffered = 0, events.schema.empty_table()
    for batch in events:
        buffered = pyarrow.concat_tables([buffered, pyarrow.Table.from_batches([batch])])
        if len(buffered) < rows:
            continue
        users = buffered.column("uid").to_numpy()
        # Further events of the last user may follow in the next batch.
        if complete := int(np.searchsorted(users, users[-1])):
            end = int(np.searchsorted(pair_users, users[-1]))
            yield pairs.slice(first_pair, end - first_pair), buffered.slice(0, complete)
            first_pair, buffered = end, buffered.slice(complete)
    yield pairs.slice(first_pair), buffered


def map_in_threads(
    function: Callable[[pyarrow.Table, pyarrow.Table], pyarrow.Table],
    partitions: Iterable[tuple[pyarrow.Table, pyarrow.Table]],
    threads: int,
) -> Iterator[pyarrow.Table]:
    """Results of the partitions in their order; at most `threads` + 1 partitions are in memory."""
    with ThreadPoolExecutor(threads) as pool:
        futures: deque[Future[pyarrow.Table]] = deque()
        for partition in partitions:
            futures.append(pool.submit(function, *partition))
            if len(futures) > threads:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
