"""Events and user attributes as MongoDB documents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core.schemas import EventFrame, UserAttributes
from retail_core.store.mongo import Document

_ALWAYS = ("event_id", "user_id", "event_time", "event_type")


def event_documents(events: EventFrame, source: str) -> list[Document]:
    """One document an event, in the order of `events`, without null fields and without `window_id`.

    Times are naive UTC, which the driver stores as they are and encodes fastest.
    """
    columns = {name: _values(events[name]) for name in events.columns}
    optional = [name for name in columns if name not in _ALWAYS and events[name].notna().any()]
    present = np.zeros(len(events), dtype=np.int64)
    for bit, name in enumerate(optional):
        present |= events[name].notna().to_numpy(dtype=np.int64) << bit
    documents: list[Document] = [{}] * len(events)
    for pattern in np.unique(present).tolist():
        rows = np.flatnonzero(present == pattern).tolist()
        names = [*_ALWAYS, *(name for bit, name in enumerate(optional) if pattern >> bit & 1)]
        for row, document in zip(rows, _documents(columns, names, rows, source), strict=True):
            documents[row] = document
    return documents


def _documents(
    columns: dict[str, list[object]], names: list[str], rows: list[int], source: str
) -> Iterator[Document]:
    keys = ["_id" if name == "event_id" else name for name in names]
    taken = [[columns[name][row] for row in rows] for name in names]
    for values in zip(*taken, strict=True):
        document: Document = dict(zip(keys, values, strict=True))
        document["source"] = source
        yield document


def _values(column: pd.Series) -> list[object]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        values: list[object] = column.dt.tz_localize(None).to_numpy().astype("datetime64[ms]").tolist()
    else:
        values = pa.array(column, from_pandas=True).to_pylist()
    return values


def user_documents(users: DataFrame[UserAttributes], source: str) -> list[Document]:
    """One document per user and set of attributes; the id is a hash of all three columns."""
    instants = _values(users["valid_from"])
    rows = zip(users["user_id"].tolist(), instants, users["attributes"].tolist(), strict=True)
    return [
        {
            "_id": hashlib.blake2b(f"{user}\x1f{since}\x1f{held}".encode(), digest_size=16).hexdigest(),
            "user_id": user,
            "valid_from": since,
            "attributes": held,
            "source": source,
        }
        for user, since, held in rows
    ]
