"""Google Analytics 4: the BigQuery export, native (JSON lines, Parquet) or flattened (CSV).

Fields: https://support.google.com/analytics/answer/7029846. Of the parameters of an event, each has one of
four values by type; of its items, each becomes an event. A purchase or refund without items has the value of
the whole event as price.

Google Analytics itself counts a purchase of a web stream once per transaction id of a user:
https://support.google.com/analytics/answer/12313109; the export contains every one that was sent.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa

from retail_core.arrow_compute import pc
from retail_core.sources.event_fields import raw_event_types
from retail_core.sources.identity import Identity
from retail_core.sources.identity_links import LinkColumns
from retail_core.sources.nested_paths import nested_values
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source
from retail_core.sources.source_options import TimeFormat
from retail_core.sources.text_cleaning import NULL_MARKERS, cleaned_text


def _flat(*names: str) -> tuple[str, ...]:
    """Spellings of a nested name in flattened exports: `items.price`, `items_price`, `price`."""
    return tuple(
        spelling for name in names for spelling in (name, name.replace(".", "_"), name.rpartition(".")[2])
    )


def _parameter(name: str, *kinds: str) -> tuple[str, ...]:
    """Paths to an event parameter whose value is of one of `kinds`."""
    return tuple(f"event_params[key={name}].value.{kind}_value" for kind in kinds)


_ITEM_FIELDS = (
    "item_id", "item_name", "item_variant", "item_category", "item_brand", "price", "quantity",
)  # fmt: skip
_IDENTITY_NAMES = (
    "event_params.ga_session_id",
    "event_params.page_location",
    *(f"items.{name}" for name in ("item_id", "item_name", "item_variant", "price", "quantity")),
)
_ALL_PARAMETERS = "event_params.*"
_VALUES = {
    "purchase": (*_flat("ecommerce.purchase_revenue"), "event_params.value"),
    "refund": _flat("ecommerce.refund_value"),
}
"""Event type -> columns of the value of the whole event."""


def derived_columns(table: RawTable, source: Source) -> dict[str, pa.Array]:
    """Values of whole events where these are prices, and what tells events of older exports apart."""
    return _values_without_items(table, source) | _parameter_texts(table)


def _values_without_items(table: RawTable, source: Source) -> dict[str, pa.Array]:
    """Columns of the value of an event, null unless it is a purchase or refund without items."""
    types = raw_event_types(table, source)
    names = _flat("items.item_id", "items.item_name", "items.price")
    texts = [cleaned_text(table.columns[name], source.nulls) for name in names if name in table.columns]
    item = pc.coalesce(pa.nulls(len(table), pa.string()), *texts)
    columns = {}
    for event_type, spellings in _VALUES.items():
        without_items = pc.and_(pc.fill_null(pc.equal(types, event_type), False), item.is_null())
        for name in spellings:
            if name in table.columns:
                column = table.columns[name]
                columns[name] = pc.if_else(without_items, column, pa.scalar(None, column.type))
    return columns


def _parameter_texts(table: RawTable) -> dict[str, pa.Array]:
    """All parameters of the events without a position in their batch.

    Events of one batch had one time until 2024, and only their parameters tell them apart.
    """
    if "event_params" not in table.columns:
        return {}
    without_position = np.ones(len(table), dtype=bool)
    if "batch_event_index" in table.columns:
        without_position = table.columns["batch_event_index"].is_null().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(without_position)
    if not len(rows):
        return {}
    texts: list[str | None] = [None] * len(table)
    for row, values in zip(rows.tolist(), nested_values(table.take(rows), "event_params"), strict=True):
        texts[row] = _parameter_text(values)
    return {_ALL_PARAMETERS: pa.array(texts, pa.string())}


def _parameter_text(parameters: object) -> str | None:
    """Keys and values in the order of keys, as every format has them."""
    entries = (
        [entry for entry in parameters if isinstance(entry, dict)] if isinstance(parameters, list) else []
    )
    pairs = sorted((str(entry.get("key")), _value_text(entry.get("value"))) for entry in entries)
    return json.dumps(pairs, ensure_ascii=False) if pairs else None


def _value_text(value: object) -> str:
    values = value.values() if isinstance(value, dict) else ()
    text = next((str(entry) for entry in values if entry is not None), "")
    return re.sub(r"^(-?\d+)\.0*$", r"\1", text)


_V1 = Source(
    name="ga4",
    columns={
        "user_id": ("user_pseudo_id",),
        "event_time": ("event_timestamp",),
        "event_type": ("event_name",),
        "item_id": _flat("items.item_id"),
        "category": _flat("items.item_category"),
        "brand": _flat("items.item_brand"),
        "price": _flat("items.price"),
        "quantity": _flat("items.quantity"),
        "currency": _flat("event_params.currency"),
        "session_id": _flat("event_params.ga_session_id"),
        "platform": ("platform",),
        "order_id": _flat("ecommerce.transaction_id"),
    },
    time=TimeFormat("unix", "us"),
    properties=(
        "items.item_name",
        "items_item_name",
        "item_name",
        "event_params.page_location",
        "page_location",
    ),
)
"""The preset of release 0.1.0."""

GA4 = replace(
    _V1,
    columns={
        **_V1.columns,
        "price": (*_flat("items.price"), *chain(*_VALUES.values())),
        "order_id": (*_flat("ecommerce.transaction_id"), "event_params.transaction_id"),
    },
    properties=(*(_V1.properties or ()), *_flat("items.item_variant")),
    derive=derived_columns,
    nulls=(*NULL_MARKERS, "(not set)"),
    identity=Identity(
        columns=(
            "event_timestamp",
            "event_name",
            "user_pseudo_id",
            "event_bundle_sequence_id",
            "batch_page_id",
            "batch_ordering_id",
            "batch_event_index",
            *_flat(*_IDENTITY_NAMES),
            _ALL_PARAMETERS,
        ),
        repeats="once_per_order",
        spellings={spelling: name for name in _IDENTITY_NAMES for spelling in _flat(name)},
        numbers=_flat("items.price", "items.quantity"),
    ),
    nested={
        **{f"items.{name}": (f"items[].{name}",) for name in _ITEM_FIELDS},
        "event_params.currency": _parameter("currency", "string"),
        "event_params.ga_session_id": _parameter("ga_session_id", "int", "string"),
        "event_params.page_location": _parameter("page_location", "string"),
        "event_params.transaction_id": _parameter("transaction_id", "string", "int"),
        "event_params.value": _parameter("value", "double", "float", "int"),
    },
    unused=(
        "event_date", "event_previous_timestamp", "event_value_in_usd", "event_server_timestamp_offset",
        "is_active_user", "privacy_info", "user_properties", "user_first_touch_timestamp",
        "user_ltv", "device", "geo", "app_info", "traffic_source", "collected_traffic_source",
        "session_traffic_source_last_click", "stream_id", "event_dimensions", "publisher",
    ),
    v1_reading=_V1,
    links=LinkColumns(anonymous=("user_pseudo_id",), logged_in=("user_id",), of_format=True),
)  # fmt: skip
"""The identity leaves out what the intraday export of an event may lack, such as the transaction id."""
