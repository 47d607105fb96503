"""pyarrow's untyped parts. Its compute functions are made at import, so no type checker can see them."""

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
    """As Python has it; instants beyond its years as their number, bytes as text with escapes."""
    try:
        found: object = value.as_py()
    except UnicodeDecodeError:
        found = value.as_buffer().to_pybytes()
    except (OverflowError, ValueError):
        return int(value.value)
    return found.decode("utf-8", "surrogateescape") if isinstance(found, bytes) else found
