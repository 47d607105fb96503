"""Text of raw values as event ids are made of it, and the ids of release 0.1.0 (rule `v1`).

Frozen copies of how release 0.1.0 read text: parsing may change, stored ids may not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from retail_core.arrow_compute import pc
from retail_core.sources.json_tables import load_object
from retail_core.sources.number_parsing import parse_prices, parse_quantities

if TYPE_CHECKING:
    from retail_core.sources.raw_table import RawTable
    from retail_core.sources.source import Source

_TEXTS = (
    "user_id",
    "event_type",
    "item_id",
    "category",
    "brand",
    "currency",
    "session_id",
    "platform",
    "order_id",
)
_NO_TEXT = pa.scalar(None, pa.string())
_EXACT = float(1 << 53)
"""Up to here a float represents every whole number exactly."""


def identity_text(column: pa.Array) -> pa.Array:
    """`column` as text without surrounding white space; empty text and NaN are null."""
    if pa.types.is_floating(column.type):
        column = _float_text(column)
    elif not pa.types.is_string(column.type):
        column = _cast_text(column)
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), _NO_TEXT, trimmed)


def v1_columns(
    columns: Mapping[str, pa.Array], table: RawTable, raw_names: tuple[str, ...], source: Source
) -> dict[str, pa.Array]:
    """`columns` with the text fields and properties as release 0.1.0 read them.

    Args:
        columns: parsed columns by event field.
        table: the records.
        raw_names: columns of the file that release 0.1.0 knew, without paths into nested values.
        source: dialect of the records.
    """
    raw = {name: table.columns[name] for name in raw_names if name in table.columns}
    texts = {name: _text_column(raw, len(table), source, name) for name in _TEXTS}
    vocabulary = source.vocabulary
    if vocabulary:
        encoded = texts["event_type"].dictionary_encode()
        names = [vocabulary.get(name) or name for name in encoded.dictionary.to_pylist()]
        texts["event_type"] = pa.array(names, pa.string()).take(encoded.indices)
    return dict(columns) | texts | {"properties": _properties(raw, len(table), source)}


def v1_amounts(table: RawTable, raw_names: tuple[str, ...], source: Source) -> dict[str, pa.Array]:
    """Prices and quantities of the columns that release 0.1.0 read; arguments as in `v1_columns`."""
    raw = {name: table.columns[name] for name in raw_names if name in table.columns}
    price, quantity = (_text_column(raw, len(table), source, name) for name in ("price", "quantity"))
    return {
        "price_minor": parse_prices(price, source.numbers)[0],
        "quantity": parse_quantities(quantity, source.numbers)[0],
    }


def _text_column(raw: Mapping[str, pa.Array], rows: int, source: Source, name: str) -> pa.Array:
    if name in source.constants:
        return pa.array([source.constants[name]] * rows, pa.string())
    texts = [identity_text(raw[column]) for column in source.columns.get(name, ()) if column in raw]
    if not texts:
        return pa.nulls(rows, pa.string())
    return pc.coalesce(*texts) if len(texts) > 1 else texts[0]


def _properties(raw: Mapping[str, pa.Array], rows: int, source: Source) -> pa.Array:
    if source.properties is None:
        used = {column for names in source.columns.values() for column in names} | set(source.attributes)
        names = [name for name in raw if name not in used]
    else:
        names = [name for name in source.properties if name in raw]
    if not names:
        return pa.nulls(rows, pa.string())
    cells = zip(*(identity_text(raw[name]).to_pylist() for name in names), strict=True)
    records = (
        {name: cell for name, cell in zip(names, row, strict=True) if cell is not None} for row in cells
    )
    return pa.array([_properties_json(record) for record in records], pa.string())


def _properties_json(cells: Mapping[str, str | None]) -> str | None:
    merged: dict[str, object] = {name: cell for name, cell in cells.items() if cell is not None}
    if "properties" in merged:
        nested = load_object(str(merged.pop("properties")), parse_float=None)
        merged |= nested or {}
    if not merged:
        return None
    text = json.dumps(merged, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _float_text(column: pa.Array) -> pa.Array:
    """Floats as text, whole numbers without a decimal point."""
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    exact = pc.less_equal(pc.abs(column), _EXACT)
    is_whole = pc.fill_null(pc.and_(exact, pc.equal(pc.floor(column), column)), False)
    integers = pc.if_else(is_whole, column, pa.scalar(None, column.type)).cast(pa.int64())
    return pc.coalesce(integers.cast(pa.string()), column.cast(pa.string()))


def _cast_text(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = column.to_pylist()
        return pa.array(
            [
                value
                if value is None or isinstance(value, str)
                else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
                for value in values
            ],
            pa.string(),
        )
