"""CSV files that people open in a spreadsheet: whole or not there at all, and never a formula."""

from __future__ import annotations

import csv
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow

from retail_core.errors import InputError

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_CHUNK = 100_000


def defuse(value: object) -> object:
    """Text that a spreadsheet would read as a formula, behind an apostrophe; all else unchanged.

    >>> defuse("=1+1"), defuse("u-1"), defuse(-1)
    ("'=1+1", 'u-1', -1)
    """
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value


def write_csv(frame: pd.DataFrame | pyarrow.Table, path: Path) -> int:
    """Write `frame` to `path` and return the number of rows; UTF-8, times as ISO 8601 with `Z`.

    The file appears under its name only when it is complete. Text beginning with `= + - @`, a tab or
    a carriage return gets a leading apostrophe, which spreadsheets hide and which keeps them from
    running it; whoever reads the file back by program takes that one character off again.

    Raises:
        InputError: the file cannot be written there.
    """
    table = frame.to_pandas() if isinstance(frame, pyarrow.Table) else frame
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle, lineterminator="\n").writerow([defuse(str(name)) for name in table.columns])
            for start in range(0, len(table), _CHUNK):
                chunk = _plain(table.iloc[start : start + _CHUNK])
                chunk.to_csv(handle, index=False, header=False, quoting=_quoting(chunk))
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise InputError(
            f"{path} cannot be written: {error.strerror}.", remedy="name a file in a folder you may write to."
        ) from error
    return len(table)


def _quoting(chunk: pd.DataFrame) -> Literal[0, 2]:
    """Quotes around every text where one holds a carriage return: by itself that does not get any."""
    texts = chunk.select_dtypes(["object", "str"])
    returns = any(texts[name].str.contains("\r", regex=False).any() for name in texts)
    return csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL


def _plain(chunk: pd.DataFrame) -> pd.DataFrame:
    columns: dict[str, object] = {}
    for name, column in chunk.items():
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            columns[str(name)] = column.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ").str.replace(".000000Z", "Z")
        elif pd.api.types.is_string_dtype(column.dtype) or column.dtype == object:
            columns[str(name)] = column.map(defuse, na_action="ignore")
        else:
            columns[str(name)] = column
    return pd.DataFrame(columns, index=chunk.index)
