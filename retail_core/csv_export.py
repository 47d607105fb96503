"""CSV exports that are safe to open in a spreadsheet, written completely or not at all."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow

from retail_core.arrays import IntArray
from retail_core.arrow_compute import arrow_csv, pc
from retail_core.errors import InputError
from retail_core.file_locks import replace_file

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters by which spreadsheets recognise a formula; they skip a leading tab or line break."""

_FORMULA_PATTERN = "^[=+@\t\r\n-]"
_NEEDS_QUOTES_PATTERN = '[",\n\r]'
_CHUNK_ROWS = 20_000


def escape_formula(value: object) -> object:
    """`value` with an apostrophe in front if it is text that a spreadsheet would run as a formula.

    >>> escape_formula("=1+1"), escape_formula("u-1"), escape_formula(-1)
    ("'=1+1", 'u-1', -1)
    """
    if isinstance(value, str) and value.startswith(FORMULA_PREFIXES):
        return f"'{value}"
    return value


def require_parent_folder(path: Path) -> None:
    """Check before long work that its output file has a folder; a missing one is not created.

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

    The file appears under its name only when it is complete. Text that begins with `= + - @`, a tab or a
    line break gets a leading apostrophe, which spreadsheets hide and which keeps them from running it; a
    program that reads the file has to remove that character.

    Raises:
        InputError: the file cannot be written there.
    """
    table = frame.to_pandas() if isinstance(frame, pyarrow.Table) else frame
    header = io.StringIO(newline="")
    csv.writer(header, lineterminator="\n").writerow([escape_formula(str(name)) for name in table.columns])
    try:
        with replace_file(path) as stream:
            stream.write(header.getvalue().encode())
            for start in range(0, len(table), _CHUNK_ROWS):
                stream.write(_csv_lines(table.iloc[start : start + _CHUNK_ROWS]))
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}.", remedy="name a file in a folder you may write to."
        ) from error
    return len(table)


def _csv_lines(rows: pd.DataFrame) -> bytes:
    cells = pyarrow.table({str(name): _cells(column) for name, column in rows.items()})
    texts = [column for column in cells.columns if pyarrow.types.is_string(column.type)]
    if any(pc.any(pc.match_substring_regex(column, _NEEDS_QUOTES_PATTERN)).as_py() for column in texts):
        # Arrow would quote every text of these rows, pandas only those that need it.
        frame = cells.to_pandas()
        lines: str = frame.to_csv(index=False, header=False, quoting=_quoting(frame))
        return lines.encode()
    stream = io.BytesIO()
    arrow_csv.write_csv(cells, stream, arrow_csv.WriteOptions(include_header=False, quoting_style="none"))
    return bytes(stream.getvalue())


def _quoting(rows: pd.DataFrame) -> Literal[0, 2]:
    """Quote every text of `rows` if one contains a carriage return, which pandas alone would not quote."""
    texts = rows.select_dtypes(["object", "str"])
    has_carriage_return = any(texts[name].str.contains("\r", regex=False).any() for name in texts)
    return csv.QUOTE_NONNUMERIC if has_carriage_return else csv.QUOTE_MINIMAL


def _cells(column: pd.Series) -> pyarrow.Array:
    """Numbers unchanged; times, booleans and everything else as text, formulas escaped."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        codes, instants = pd.factorize(column)
        micros = pd.Series(instants).dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        text = micros.str.replace(r"(\.0{6}|(?<=\.\d{3})000)Z", "Z", regex=True)
        return _take(pyarrow.array(text, pyarrow.string()), codes)
    if column.dtype == bool:
        return _take(pyarrow.array(["False", "True"]), column.to_numpy(np.int64))
    if pd.api.types.is_string_dtype(column.dtype) or column.dtype == object:
        strings = column.map(str, na_action="ignore") if column.dtype == object else column
        text = pyarrow.array(strings, pyarrow.string(), from_pandas=True)
        is_formula = pc.match_substring_regex(text, _FORMULA_PATTERN)
        return pc.if_else(is_formula, pc.binary_join_element_wise("'", text, ""), text)
    return pyarrow.array(column)


def _take(texts: pyarrow.Array, codes: IntArray) -> pyarrow.Array:
    """`texts[codes]`, null for code -1."""
    return texts.take(pyarrow.array(codes, mask=codes < 0))
