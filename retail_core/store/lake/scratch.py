"""A lake made straight from a raw file, for a look at it without MongoDB."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa

from retail_core.schemas import EVENT_ARROW
from retail_core.sources.source import Chunk
from retail_core.store.lake.folder import LakeFolder
from retail_core.store.lake.manifest import Manifest
from retail_core.store.lake.merge import merge
from retail_core.store.lake.rows import USERS_ARROW, Spool
from retail_core.store.lake.table import EVENT_KEYS, USER_KEYS, Lake


def scratch_lake(chunks: Iterable[Chunk], folder: Path) -> Lake:
    """Write the chunks' events and user attributes as a lake below `folder`; refused rows are left out."""
    target, users = LakeFolder(str(folder / "lake")), [USERS_ARROW.empty_table()]
    with Spool(folder / "spool") as spool:
        for chunk in chunks:
            spool.add(_arrow(chunk.events, EVENT_ARROW))
            if len(chunk.users):
                users.append(_arrow(chunk.users, USERS_ARROW))
        days = {
            day: merge(target, f"events/day={day}/00000001.parquet", spool.parts(day), None, EVENT_KEYS)
            for day in spool.days()
        }
    known = merge(target, "users/00000001.parquet", users, None, USER_KEYS) if len(users) > 1 else None
    target.write_manifest(Manifest("scratch").advanced([1], days, known))
    return Lake(str(folder / "lake"))


def _arrow(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame's columns as the schema says; times are UTC."""
    columns = []
    for field in schema:
        column = frame[field.name]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            column = column.dt.tz_localize(None)
        values = pa.array(column, from_pandas=True)
        columns.append(values.cast(pa.timestamp("us")) if pa.types.is_timestamp(values.type) else values)
    return pa.table(columns, names=schema.names).cast(schema)
