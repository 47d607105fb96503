"""The output files, the canonical log and the truth: written day by day, visible only when complete."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from retail_core.arrays import BoolArray, FloatArray, IntArray
from retail_core.errors import InputError
from retail_core.file_locks import replace_file
from retail_core.schemas import EVENT_TYPES
from retail_core.simulate.acts import TYPE
from retail_core.simulate.catalogue import CURRENCY, Catalogue
from retail_core.simulate.day import DayEvents
from retail_core.simulate.simulation_config import Day
from retail_core.simulate.user_traits import PLATFORMS

COLUMNS: tuple[str, ...] = (
    "user_id", "event_time", "event_type", "item_id", "category", "brand", "price", "quantity", "currency",
    "session_id", "platform", "order_id",
)  # fmt: skip
"""Columns of the log, all text."""

TRUTH_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("as_of", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("probability", pa.float64(), nullable=False),
        pa.field("purchased", pa.bool_(), nullable=False),
    ]
)
"""The truth; in CSV `as_of` is ISO 8601 with Z and `purchased` is true or false."""

_TRUTH_CSV = pa.schema([*(TRUTH_SCHEMA.field(0),), pa.field("as_of", pa.string()), *list(TRUTH_SCHEMA)[2:]])
_CSV_OPTIONS = csv.WriteOptions(include_header=False, quoting_style="none", batch_size=65_536)
_ANDROID = PLATFORMS.index("android")
_SUFFIXES = {"log": (".csv", ".csv.gz"), "truth": (".csv", ".csv.gz", ".parquet")}


class BatchWriter(Protocol):
    """What pyarrow's CSV and Parquet writers share."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows."""

    def close(self) -> None:
        """Finish the file."""


def check_target(path: Path, kind: str) -> None:
    """Refuse a file name that cannot be written.

    Raises:
        InputError: unknown ending, a folder, or no such parent folder.
    """
    endings = _SUFFIXES[kind]
    if not path.name.endswith(endings):
        raise InputError(
            f"The {kind} file {path} has no known ending.", remedy=f"end it in {', '.join(endings)}."
        )
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path} cannot be written.", remedy="name a file in a folder that exists.")


@contextmanager
def open_writer(path: Path, schema: pa.Schema) -> Iterator[BatchWriter]:
    """A writer whose batches become `path` at the end of the block, in one step.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with replace_file(path) as raw:
            yield from _write(raw, path.name, schema)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.",
                         remedy="check the folder's rights and free space.") from error  # fmt: skip


def _write(raw: IO[bytes], name: str, schema: pa.Schema) -> Iterator[BatchWriter]:
    if name.endswith(".parquet"):
        with parquet.ParquetWriter(raw, schema, compression="zstd") as writer:
            yield writer
    elif name.endswith(".gz"):
        with (
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=3, mtime=0) as packed,
            _csv_writer(packed, schema) as writer,
        ):
            yield writer
    else:
        with _csv_writer(raw, schema) as writer:
            yield writer


def _csv_writer(sink: IO[bytes] | gzip.GzipFile, schema: pa.Schema) -> csv.CSVWriter:
    sink.write((",".join(schema.names) + "\n").encode())
    return csv.CSVWriter(sink, schema, write_options=_CSV_OPTIONS)


class Renderer:
    """Turns a day's arrays into the log's text columns by looking up prepared texts."""

    schema = pa.schema([pa.field(name, pa.string()) for name in COLUMNS])

    def __init__(self, catalogue: Catalogue, users: int) -> None:
        self._catalogue = catalogue
        self.user_ids = pa.array([f"u{number:07d}" for number in range(users)])
        self._kinds = pa.array([*EVENT_TYPES, "view_promotion"])
        self._items = pa.array([f"item-{number:05d}" for number in range(catalogue.items)])
        names = catalogue.category_names
        self._categories = pa.array([*names, *(name.upper() for name in names)])
        self._brands = pa.array(catalogue.brand_names)
        self._platforms = pa.array(PLATFORMS)
        self._cents = pa.array([f".{number:02d}" for number in range(100)])
        self._seconds = pa.array([f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}." for s in range(86_400)])
        self._thousandths = pa.array([f"{number:03d}Z" for number in range(1_000)])

    def batch(self, events: DayEvents, day: Day) -> pa.RecordBatch:
        """The day's rows of the log."""
        cat, has_item, listing = self._catalogue, events.item >= 0, events.item <= -2
        item = np.maximum(events.item, 0)
        category = np.where(listing, -2 - events.item, cat.category[item])
        price = np.where(events.paid >= 0, events.paid, cat.price_on(promotion=day.promotion)[item])
        new_app = (events.platform == _ANDROID) & (day.drift == "schema")
        kind = np.where(new_app & (events.kind == TYPE["view_item_list"]), len(EVENT_TYPES), events.kind)
        columns = [
            self.user_ids.take(pa.array(events.user)),
            self._time(events.ms, day.date),
            self._kinds.take(pa.array(kind)),
            self._items.take(_index(item, has_item)),
            self._categories.take(_index(category + new_app * len(cat.category_names), has_item | listing)),
            self._brands.take(_index(cat.brand[item], has_item & ~new_app)),
            _joined(
                _index(price // 100, has_item).cast(pa.string()), self._cents.take(pa.array(price % 100))
            ),
            _index(events.quantity, events.quantity > 0).cast(pa.string()),
            pa.array([CURRENCY]).take(_index(np.zeros_like(item), has_item)),
            _numbered("s", events.session),
            self._platforms.take(_index(events.platform, events.platform >= 0)),
            _numbered("o", events.order),
        ]
        return pa.record_batch(columns, schema=self.schema)

    def _time(self, ms: IntArray, day: date) -> pa.Array:
        second, thousandth = pa.array(ms // 1_000), pa.array(ms % 1_000)
        return _joined(f"{day.isoformat()}T", self._seconds.take(second), self._thousandths.take(thousandth))

    def truth(
        self, users: IntArray, probability: FloatArray, purchased: BoolArray, day: date, *, text: bool
    ) -> pa.RecordBatch:
        """The truth's rows at the day's midnight; `text` as CSV has it."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        as_of = pa.array([f"{day.isoformat()}T00:00:00Z" if text else midnight],
                         type=pa.string() if text else TRUTH_SCHEMA.field("as_of").type)  # fmt: skip
        columns = [
            self.user_ids.take(pa.array(users)),
            as_of.take(pa.array(np.zeros(len(users), dtype=np.int64))),
            pa.array(probability),
            pa.array(purchased),
        ]
        return pa.record_batch(columns, schema=_TRUTH_CSV if text else TRUTH_SCHEMA)


def truth_schema(path: Path) -> pa.Schema:
    """The truth's schema in a file of that name."""
    return TRUTH_SCHEMA if path.suffix == ".parquet" else _TRUTH_CSV


def _index(values: IntArray, present: BoolArray) -> pa.Array:
    return pa.array(values, mask=~present)


def _joined(*columns: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*columns, "")


def _numbered(prefix: str, number: IntArray) -> pa.Array:
    return _joined(prefix, _index(number, number >= 0).cast(pa.string()))
