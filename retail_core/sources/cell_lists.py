"""Cells with several values, such as `;SKU-1;2;19.98,;SKU-2;1;5` and `1,100,201`, as columns of their own."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa

from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source
from retail_core.sources.source_options import CellList
from retail_core.sources.text_cleaning import cleaned_text


def split_cells(table: RawTable, source: Source) -> RawTable:
    """`table` with a column for each list of `source`; the columns of the file stay as they are.

    A list with `fields` becomes JSON text, whose elements paths such as `products[].sku` read.
    """
    columns: dict[str, pa.Array] = {}
    for name, cells in source.lists.items():
        if cells.column in table.columns:
            split = _structures if cells.fields else _first_value
            columns[name] = _distinct(cleaned_text(table.columns[cells.column], source.nulls), cells, split)
    return table.with_columns(columns) if columns else table


def _distinct(text: pa.Array, cells: CellList, split: Callable[[str, CellList], str | None]) -> pa.Array:
    """`split` of each distinct cell."""
    encoded = text.dictionary_encode()
    values = [split(cell, cells) for cell in encoded.dictionary.to_pylist()]
    return pa.array(values, pa.string()).take(encoded.indices)


def _structures(cell: str, cells: CellList) -> str | None:
    """The elements of a cell as a JSON list of objects; empty fields are left out.

    >>> _structures(";a;2,;b", CellList("c", fields=("category", "sku", "quantity")))
    '[{"sku": "a", "quantity": "2"}, {"sku": "b"}]'
    >>> _structures("['a', 'b']", CellList("c", fields=("sku",), strip="[]'"))
    '[{"sku": "a"}, {"sku": "b"}]'
    """
    elements = []
    for element in cells.values(cell):
        values = zip(cells.fields, element.split(cells.field_separator), strict=False)
        elements.append({name: text for name, value in values if (text := value.strip())})
    return json.dumps([element for element in elements if element], ensure_ascii=False)


def _first_value(cell: str, cells: CellList) -> str | None:
    """The first of `first_of` that the cell contains.

    >>> _first_value("2,1,100", CellList("c", first_of=("1", "2")))
    '1'
    """
    values = set(cells.values(cell))
    return next((value for value in cells.first_of if value in values), None)
