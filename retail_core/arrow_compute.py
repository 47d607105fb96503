"""Modules of pyarrow without type information, as `Any`.

The compute functions are generated at import, so type checkers cannot see them.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

pc: Any = pyarrow.compute
pq: Any = pyarrow.parquet
arrow_csv: Any = pyarrow.csv


def python_value(value: pa.Scalar) -> object:
    """The Python value of a scalar; times beyond Python's calendar as integer, bytes as text with escapes."""
    try:
        converted: object = value.as_py()
    except UnicodeDecodeError:
        converted = value.as_buffer().to_pybytes()
    except (OverflowError, ValueError):
        return int(value.value)
    return converted.decode("utf-8", "surrogateescape") if isinstance(converted, bytes) else converted
