"""CSV files that people open in a spreadsheet: whole or not there at all, and never a formula."""

from __future__ import annotations

import csv
import io
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow

from retail_core.arrow_compute import arrow_csv, pc
from retail_core.errors import InputError

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_FORMULA, _QUOTED = "^[=+@\t\r-]", '[",\n\r]'
_CHUNK = 20_000


def defuse(value: object) -> object:
    """Text that a spreadsheet would read as a formula, behind an apostrophe; all else unchanged.

    >>> defuse("=1+1"), defuse("u-1"), defuse(-1)
    ("'=1+1", 'u-1', -1)
    """
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value


def refuse_no_folder(path: Path) -> None:
    """Refuse to begin work whose result could not be written; no folder is made of a misspelt name.

    Raises:
        InputError: the folder of `path` does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(
            f"{path} cannot be written: there is no folder {path.parent}.",
            remedy="name a file in a folder that exists.",
        )


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
        with partial.open("wb") as handle:
            header = io.StringIO(newline="")
            csv.writer(header, lineterminator="\n").writerow([defuse(str(name)) for name in table.columns])
            handle.write(header.getvalue().encode())
            for start in range(0, len(table), _CHUNK):
                handle.write(_lines(table.iloc[start : start + _CHUNK]))
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


def _lines(rows: pd.DataFrame) -> bytes:
    plain = pyarrow.table({str(name): _plain(column) for name, column in rows.items()})
    texts = [column for column in plain.columns if pyarrow.types.is_string(column.type)]
    if any(pc.any(pc.match_substring_regex(text, _QUOTED)).as_py() for text in texts):
        # Arrow would put quotes around every text of these rows, pandas does so where they are needed.
        frame = plain.to_pandas()
        text: str = frame.to_csv(index=False, header=False, quoting=_quoting(frame))
        return text.encode()
    out = io.BytesIO()
    arrow_csv.write_csv(plain, out, arrow_csv.WriteOptions(include_header=False, quoting_style="none"))
    return bytes(out.getvalue())


def _quoting(chunk: pd.DataFrame) -> Literal[0, 2]:
    """Quotes around every text where one holds a carriage return: by itself that does not get any."""
    texts = chunk.select_dtypes(["object", "str"])
    returns = any(texts[name].str.contains("\r", regex=False).any() for name in texts)
    return csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL


def _plain(column: pd.Series) -> pyarrow.Array:
    """Numbers as they are, all else as text."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        codes, instants = pd.factorize(column)
        micros = pd.Series(instants).dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        text = micros.str.replace(r"(\.0{6}|(?<=\.\d{3})000)Z", "Z", regex=True)
        return _chosen(pyarrow.array(text, pyarrow.string()), codes)
    if column.dtype == bool:
        return _chosen(pyarrow.array(["False", "True"]), column.to_numpy(np.int64))
    if pd.api.types.is_string_dtype(column.dtype) or column.dtype == object:
        known = column.map(str, na_action="ignore") if column.dtype == object else column
        text = pyarrow.array(known, pyarrow.string(), from_pandas=True)
        formula = pc.match_substring_regex(text, _FORMULA)
        return pc.if_else(formula, pc.binary_join_element_wise("'", text, ""), text)
    return pyarrow.array(column)


def _chosen(texts: pyarrow.Array, codes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pyarrow.Array:
    """The texts of these codes, null for -1."""
    return texts.take(pyarrow.array(codes, mask=codes < 0))
