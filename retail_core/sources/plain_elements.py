"""Elements of an exploded list that are plain values where the mapping expects objects, counted as warnings.

`items: ["a", "b"]` has nothing under `items[].sku`: without a warning its events would have no item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from retail_core.sources.json_columns import as_text
from retail_core.sources.parse_notes import WarningCollector
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source

PLAIN_ELEMENT = "\0plain element"
"""Column of the plain elements, of which no path of the mapping reads anything; null for other elements."""


def with_plain_elements(table: RawTable, elements: Sequence[object], paths: Sequence[str]) -> RawTable:
    """`table` with the column of plain elements, if there are any.

    Args:
        table: one record for each element.
        elements: element of each record, None where the row has no list.
        paths: those into the list.
    """
    plain_types = set(map(type, elements)) - {dict, type(None)}
    if not plain_types or any(path.endswith("[]") for path in paths):
        return table
    plain = [None if isinstance(element, dict) else as_text(element) for element in elements]
    return table.with_columns({PLAIN_ELEMENT: pa.array(plain, pa.string())})


def take_plain_elements(table: RawTable, source: Source, warnings: WarningCollector) -> RawTable:
    """`table` without the column of plain elements, which are counted in `warnings`."""
    if PLAIN_ELEMENT not in table.columns:
        return table
    plain = table.columns[PLAIN_ELEMENT]
    names = [*source.columns.get("item_id", ()), *source.mapped_columns()]
    name = next((name for name in names if "[]" in name), source.raw_name("item_id"))
    warnings.add(name, "list_element", np.flatnonzero(plain.is_valid().to_numpy(zero_copy_only=False)), plain)
    columns = {name: column for name, column in table.columns.items() if name != PLAIN_ELEMENT}
    return replace(table, columns=columns)
