"""pyarrow's untyped parts. Its compute functions are made at import, so no type checker can see them."""

from __future__ import annotations

from typing import Any

import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

pc: Any = pyarrow.compute
pq: Any = pyarrow.parquet
arrow_csv: Any = pyarrow.csv
