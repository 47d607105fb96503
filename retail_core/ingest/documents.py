"""MongoDB documents of events and user attributes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core.arrays import IntArray
from retail_core.schemas import EventFrame, UserAttributes
from retail_core.store.mongo.connection import Document

_REQUIRED_FIELDS = ("event_id", "user_id", "event_time", "event_type")


def event_documents(events: EventFrame, source: str) -> list[Document]:
    """One document per event, in the order of `events`, without null fields and without `window_id`.

    Times are naive UTC, which the driver encodes fastest.
    """
    columns = {str(name): _arrow_column(events[name]) for name in events.columns}
    optional = [name for name in columns if name not in _REQUIRED_FIELDS]
    present = np.zeros(len(events), dtype=np.int64)
    for bit, name in enumerate(optional):
        present |= columns[name].is_valid().to_numpy(zero_copy_only=False).astype(np.int64) << bit
    documents: list[Document] = [{}] * len(events)
    for pattern in np.unique(present).tolist():
        rows = np.flatnonzero(present == pattern)
        names = [*_REQUIRED_FIELDS, *(name for bit, name in enumerate(optional) if pattern >> bit & 1)]
        for row, document in zip(rows.tolist(), _documents(columns, names, rows, source), strict=True):
            documents[row] = document
    return documents


def _documents(
    columns: Mapping[str, pa.Array], names: list[str], rows: IntArray, source: str
) -> Iterator[Document]:
    """Documents of `rows`, of which each has exactly the fields `names`."""
    keys = ["_id" if name == "event_id" else name for name in names] + ["source"]
    indices = pa.array(rows)
    values = [columns[name].take(indices).to_numpy(zero_copy_only=False).tolist() for name in names]
    for cells in zip(*values, [source] * len(rows), strict=True):
        yield dict(zip(keys, cells, strict=True))


def _arrow_column(column: pd.Series) -> pa.Array:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None).dt.as_unit("ms")
    array = pa.array(column, from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def user_documents(users: DataFrame[UserAttributes], source: str) -> list[Document]:
    """One document per row of `users`; its id is a hash of user, `valid_from` and attributes."""
    columns = [_arrow_column(users[name]).to_pylist() for name in ("user_id", "valid_from", "attributes")]
    return [
        {
            "_id": hashlib.blake2b(
                f"{user}\x1f{valid_from}\x1f{attributes}".encode(), digest_size=16
            ).hexdigest(),
            "user_id": user,
            "valid_from": valid_from,
            "attributes": attributes,
            "source": source,
        }
        for user, valid_from, attributes in zip(*columns, strict=True)
    ]
