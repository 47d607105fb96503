"""A lake of raw files without a database: what the benchmarks of models read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from retail_core import sources
from retail_core.schemas import EVENT_ARROW
from retail_core.sources.event_reader import read_events
from tests.benchmarks.bench_features import DayFiles

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def write_lake(files: Iterable[Path], source: str, folder: Path) -> DayFiles:
    """The events of `files`, each once, as one Parquet file a UTC day; refused rows are left out."""
    dialect = sources.get_preset(source)
    frames = [chunk.events for path in files for chunk in read_events(path, dialect)]
    events = pd.concat(frames, ignore_index=True).drop_duplicates("event_id")
    events = events.sort_values(["event_time", "user_id", "event_id"], ignore_index=True)
    table = pa.Table.from_pandas(events, schema=EVENT_ARROW, preserve_index=False, safe=False)
    days = events["event_time"].dt.strftime("%Y-%m-%d").to_numpy()
    names, first = np.unique(days, return_index=True)
    for name, begin, end in zip(names, first, [*first[1:], len(days)], strict=True):
        pq.write_table(table.slice(begin, end - begin), folder / f"{name}.parquet")
    return DayFiles(folder)
