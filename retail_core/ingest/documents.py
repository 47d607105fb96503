"""Events and user attributes as MongoDB documents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core.schemas import EventFrame, UserAttributes
from retail_core.store.mongo.connection import Document

_ALWAYS = ("event_id", "user_id", "event_time", "event_type")


def event_documents(events: EventFrame, source: str) -> list[Document]:
    """One document an event, in the order of `events`, without null fields and without `window_id`.

    Times are naive UTC, which the driver stores as they are and encodes fastest.
    """
    columns = {str(name): _column(events[name]) for name in events.columns}
    optional = [name for name in columns if name not in _ALWAYS]
    present = np.zeros(len(events), dtype=np.int64)
    for bit, name in enumerate(optional):
        present |= columns[name].is_valid().to_numpy(zero_copy_only=False).astype(np.int64) << bit
    documents: list[Document] = [{}] * len(events)
    for pattern in np.unique(present).tolist():
        rows = np.flatnonzero(present == pattern)
        names = [*_ALWAYS, *(name for bit, name in enumerate(optional) if pattern >> bit & 1)]
        for row, document in zip(rows.tolist(), _documents(columns, names, rows, source), strict=True):
            documents[row] = document
    return documents


def _documents(
    columns: Mapping[str, pa.Array], names: list[str], rows: npt.NDArray[np.int64], source: str
) -> Iterator[Document]:
    """Documents of rows that all have exactly the fields in `names`."""
    keys = ["_id" if name == "event_id" else name for name in names] + ["source"]
    indices = pa.array(rows)
    values = [columns[name].take(indices).to_numpy(zero_copy_only=False).tolist() for name in names]
    for cells in zip(*values, [source] * len(rows), strict=True):
        yield dict(zip(keys, cells, strict=True))


def _column(column: pd.Series) -> pa.Array:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None).dt.as_unit("ms")
    array = pa.array(column, from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def user_documents(users: DataFrame[UserAttributes], source: str) -> list[Document]:
    """One document per user and set of attributes; the id is a hash of all three columns."""
    columns = [_column(users[name]).to_pylist() for name in ("user_id", "valid_from", "attributes")]
    return [
        {
            "_id": hashlib.blake2b(f"{user}\x1f{since}\x1f{held}".encode(), digest_size=16).hexdigest(),
            "user_id": user,
            "valid_from": since,
            "attributes": held,
            "source": source,
        }
        for user, since, held in zip(*columns, strict=True)
    ]
