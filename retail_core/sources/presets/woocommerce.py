"""WooCommerce: order exports with one row for each item (CSV), and orders of the REST API as JSON lines.

CSV: format "Default - One Row per Item" of Customer/Order/Coupon Export,
https://docs.woocommerce.com/document/ordercustomer-csv-export-developer-documentation/
The same names: Order Import Export, https://woocommerce.com/document/import-and-export-of-woocommerce-orders/
REST: https://woocommerce.github.io/woocommerce-rest-api-docs/#order-properties

Times of the CSV are in the time zone of the shop, those of the API that end with `_gmt` in UTC. The amount
of a line is decimal, after discounts, without tax, of all pieces together. A guest has the customer id 0.
An order is a purchase when it was placed; its refund is an event of its own, as in preset `shopify`. A refund
has no id: its time and amount are those of the order's latest change, which the next export may have moved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pyarrow as pa

from retail_core.sources.identity import Identity
from retail_core.sources.number_parsing import NumberFormat
from retail_core.sources.presets.record_tables import (
    Record,
    column_texts,
    expanded_table,
    first_value,
    nested_column,
    objects_of,
)
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source
from retail_core.sources.source_options import ColumnValues, RowRules, TimeFormat

_WITHOUT_SALE = tuple(
    prefix + status
    for status in ("pending", "on-hold", "cancelled", "failed", "checkout-draft", "draft", "trash")
    for prefix in ("", "wc-")
)
"""Status of orders that were not paid, as the interface and the database write it."""
_CUSTOMERS = ("customer_id", "customer_user")
_REFUND_DATE = re.compile(r"\bdate:([\d-]{10}[ T][\d:\\]{5,10})")


def prepare_orders(table: RawTable, source: Source) -> RawTable:
    """One record for each item of an order, and one for each refunded item; guests have no customer id."""
    numbers = {name: column_texts(table, source, name) for name in _CUSTOMERS if name in table.columns}
    contacts = {
        name: pa.array([None if text in {"0", "0.0"} else text for text in texts], pa.string())
        for name, texts in numbers.items()
    }
    is_json = "line_items" in table.columns and "item_name" not in table.columns
    records = _json_records(table, source) if is_json else _csv_records(table, source)
    return expanded_table(replace(table, columns=dict(table.columns) | contacts), list(records))


def _csv_records(table: RawTable, source: Source) -> Iterator[Record]:
    placed = column_texts(table, source, "order_date", "date")
    numbers = {
        name: column_texts(table, source, name)
        for name in ("order_id", "item_id", "item_total", "item_quantity")
    }
    refunds = column_texts(table, source, "refunds")
    refunded = {name: column_texts(table, source, name) for name in ("item_refunded", "item_refunded_qty")}
    for row in range(len(table)):
        order, item = numbers["order_id"][row], numbers["item_id"][row]
        event_id = f"{order}-{item}" if order and item else None
        amounts = {name: numbers[name][row] for name in ("item_total", "item_quantity")}
        yield row, amounts | {"event_type": "purchase", "event_time": placed[row], "event_id": event_id}
        amount = _positive(refunded["item_refunded"][row])
        dates = _REFUND_DATE.findall(refunds[row] or "")
        if amount is not None and dates:
            yield (
                row,
                {
                    "event_type": "refund",
                    "event_time": max(dates).replace("\\", ""),
                    "event_id": None,
                    "item_total": amount,
                    "item_quantity": _positive(refunded["item_refunded_qty"][row]),
                },
            )


def _positive(text: str | None) -> str | None:
    """A number without its sign; None if it is zero or missing."""
    digits = (text or "").lstrip("-")
    return digits if re.search(r"[1-9]", digits) else None


def _json_records(table: RawTable, source: Source) -> Iterator[Record]:
    placed = _utc_times(table, source, "date_created")
    changed = _utc_times(table, source, "date_modified")
    orders, status, totals = (column_texts(table, source, name) for name in ("id", "status", "total"))
    lines = nested_column(table, "line_items")
    for row, order in enumerate(orders):
        items = objects_of(lines[row])
        values = [_item(item) for item in items] or [{"item_total": totals[row]}]
        is_refunded = (status[row] or "").removeprefix("wc-") == "refunded"
        for item in values:
            event_id = "-".join(str(part) for part in (order, item.get("item_id")) if part)
            event = {"order_id": order} | item
            yield row, event | {"event_type": "purchase", "event_time": placed[row], "event_id": event_id}
            if is_refunded:
                yield row, event | {"event_type": "refund", "event_time": changed[row], "event_id": None}


def _utc_times(table: RawTable, source: Source, name: str) -> list[str | None]:
    """Times of the API: `..._gmt` is UTC without an offset; the other column is local."""
    utc, local = (column_texts(table, source, column) for column in (f"{name}_gmt", name))
    return [f"{time}Z" if time is not None else local[row] for row, time in enumerate(utc)]


def _item(item: Mapping[str, object]) -> dict[str, object]:
    return {
        "item_id": item.get("id"),
        "item_sku": first_value(item, "sku"),
        "item_product_id": first_value(item, "product_id"),
        "item_name": item.get("name"),
        "item_quantity": item.get("quantity"),
        "item_total": item.get("total"),
    }


WOOCOMMERCE = Source(
    name="woocommerce",
    columns={
        "event_id": ("event_id",),
        "user_id": (*_CUSTOMERS, "billing_email", "customer_email", "billing.email"),
        "event_time": ("event_time",),
        "event_type": ("event_type",),
        "item_id": ("item_sku", "item_product_id", "item_name"),
        "price": ("item_total",),
        "quantity": ("item_quantity",),
        "currency": ("order_currency", "currency"),
        "order_id": ("order_id",),
    },
    time=TimeFormat("strptime", formats=("iso", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M")),
    numbers=NumberFormat(price_per="line"),
    properties=("item_name",),
    derived=("event_time", "event_type"),
    forms=(("order_id", "item_name", "item_quantity"), ("line_items", "date_created", "billing")),
    reads=(
        "id", "item_id", "order_date", "date", "date_created", "date_created_gmt", "date_modified",
        "date_modified_gmt", "total", "refunds", "item_refunded", "item_refunded_qty",
    ),
    rules=RowRules(drop=(ColumnValues("status", _WITHOUT_SALE),)),
    identity=Identity(
        columns=("order_id", "event_type", "item_id", "item_sku", "item_product_id", "item_name"),
        repeats="count",
        order=("order_id", "status", "order_total", "refunded_total", "refunds"),
    ),
    prepare=prepare_orders,
)  # fmt: skip
"""The identity leaves out what a later export of an order changes: status, dates, refunds and amounts."""
