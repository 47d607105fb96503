"""Shopify: the orders export (CSV), and orders of the Admin API (REST or GraphQL) as JSON lines.

Export: https://help.shopify.com/en/manual/fulfillment/managing-orders/exporting-orders
Order: https://shopify.dev/docs/api/admin-rest/latest/resources/order and
https://shopify.dev/docs/api/admin-graphql/latest/objects/Order
Refund: https://shopify.dev/docs/api/admin-rest/latest/resources/refund

In the CSV the second and further lines of an order lack the columns of the order. Amounts are decimal, in the
currency of the shop, and before discounts; times have an offset.

An order is a purchase when it was placed, whatever happened to it later: features at a time between must not
know of a refund. Refunds are events of their own at their own time, which the CSV knows for cancelled orders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pyarrow as pa

from retail_core.sources.identity import Identity
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
from retail_core.sources.source_options import ColumnValues, RowRules

_UNPAID = ("pending", "voided", "expired", "unpaid")
_ORDER_COLUMNS = (
    "Email", "Phone", "Financial Status", "Paid at", "Cancelled at", "Created at", "Currency", "Source",
)  # fmt: skip
_ITEM_COLUMNS = ("Lineitem sku", "Lineitem product", "Lineitem name")


def prepare_orders(table: RawTable, source: Source) -> RawTable:
    """One record for each line of an order, and one for each refunded line."""
    is_json = "line_items" in table.columns or "lineItems" in table.columns
    records = _json_records(table, source) if is_json else _csv_records(table, source)
    customers = [_number(text) for text in column_texts(table, source, "customer.id")]
    # The export writes a phone number with an apostrophe, which keeps spreadsheets from computing it.
    phones = [text and text.removeprefix("'") for text in column_texts(table, source, "Phone", "phone")]
    contacts = {"customer.id": pa.array(customers, pa.string()), "Phone": pa.array(phones, pa.string())}
    return expanded_table(replace(table, columns=dict(table.columns) | contacts), list(records))


def _csv_records(table: RawTable, source: Source) -> Iterator[Record]:
    placed = column_texts(table, source, "Created at", "Paid at")
    cancelled = column_texts(table, source, "Cancelled at")
    status = column_texts(table, source, "Financial Status")
    for row in range(len(table)):
        yield row, {"event_type": "purchase", "event_time": placed[row]}
        if status[row] == "refunded" and cancelled[row] is not None:
            yield row, {"event_type": "refund", "event_time": cancelled[row]}


def _json_records(table: RawTable, source: Source) -> Iterator[Record]:
    placed = column_texts(table, source, "processed_at", "processedAt", "created_at", "createdAt")
    totals = column_texts(table, source, "total_price", "totalPriceSet.shopMoney.amount")
    ids = column_texts(table, source, "id")
    lines = [nested_column(table, name) for name in ("line_items", "lineItems")]
    refunds = nested_column(table, "refunds")
    for row, order in enumerate(map(_number, ids)):
        purchase = {"event_type": "purchase", "event_time": placed[row]}
        items = objects_of(lines[0][row]) or objects_of(lines[1][row])
        if not items:
            yield row, purchase | {"event_id": order, "Lineitem price": totals[row]}
        for item in items:
            yield row, purchase | _line(item) | {"event_id": _joined(order, _number(item.get("id")))}
        for refund in objects_of(refunds[row]):
            for values in _refund_lines(refund):
                yield row, values


def _line(item: Mapping[str, object]) -> dict[str, object]:
    product = first_value(item, "variant_id", "variant.id", "product_id", "product.id")
    return {
        "Lineitem sku": first_value(item, "sku", "variant.sku"),
        "Lineitem product": _number(product),
        "Lineitem name": first_value(item, "name", "title"),
        "Lineitem price": first_value(
            item, "price", "originalUnitPriceSet.shopMoney.amount", "originalUnitPrice"
        ),
        "Lineitem quantity": item.get("quantity"),
        "Vendor": item.get("vendor"),
    }


def _refund_lines(refund: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """A record for each refunded line, or one with the amount of a refund without lines."""
    number = _number(refund.get("id"))
    event: dict[str, object] = {
        "event_type": "refund",
        "event_time": first_value(refund, "processed_at", "processedAt", "created_at", "createdAt"),
    }
    lines = objects_of(refund.get("refund_line_items")) or objects_of(refund.get("refundLineItems"))
    for line in lines:
        item = next((entry for entry in (line.get("line_item"), line.get("lineItem")) if entry), None)
        values = _line(item) if isinstance(item, Mapping) else {}
        event_id = _joined("refund", number, _number(first_value(line, "id", "lineItem.id", "line_item_id")))
        yield event | values | {"Lineitem quantity": line.get("quantity"), "event_id": event_id}
    if not lines:
        amount = first_value(refund, "totalRefundedSet.shopMoney.amount", "transactions[0].amount")
        if amount is not None:
            yield event | {"event_id": _joined("refund", number), "Lineitem price": amount}


def _number(identifier: object) -> str | None:
    """The number of an id, which GraphQL writes as `gid://shopify/Order/450789469`."""
    return None if identifier is None else str(identifier).rpartition("/")[2] or None


def _joined(*id_values: str | None) -> str | None:
    """An event id of these values; None if one is missing."""
    present = [value for value in id_values if value is not None]
    return "-".join(present) if len(present) == len(id_values) else None


SHOPIFY = Source(
    name="shopify",
    columns={
        "event_id": ("event_id",),
        "user_id": (
            "Email", "email", "customer.email", "Phone", "phone", "customer.phone", "customer.id",
        ),
        "event_time": ("event_time",),
        "event_type": ("event_type",),
        "item_id": _ITEM_COLUMNS,
        "brand": ("Vendor",),
        "price": ("Lineitem price",),
        "quantity": ("Lineitem quantity",),
        "currency": ("Currency", "currency", "currencyCode"),
        "platform": ("Source", "source_name", "sourceName"),
        "order_id": ("Name", "name"),
    },
    properties=("Lineitem name",),
    derived=("event_time", "event_type"),
    forms=(("Name", "Created at", "Lineitem name"), ("line_items", "financial_status"), ("lineItems",)),
    reads=(
        "id", "Paid at", "Cancelled at", "Financial Status", "processed_at", "processedAt", "created_at",
        "createdAt", "displayFinancialStatus", "refunds", "total_price", "totalPriceSet.shopMoney.amount",
    ),
    rules=RowRules(
        drop=(
            ColumnValues("Financial Status", _UNPAID),
            ColumnValues("financial_status", _UNPAID),
            ColumnValues("displayFinancialStatus", tuple(status.upper() for status in _UNPAID)),
            ColumnValues("test", ("true",)),
        ),
        fill_key="Name",
        fill_columns=_ORDER_COLUMNS,
    ),
    identity=Identity(
        columns=("Name", "event_type", *_ITEM_COLUMNS), repeats="count", order=("Name", *_ORDER_COLUMNS)
    ),
    prepare=prepare_orders,
)  # fmt: skip
"""A CSV line has no id: its identity leaves out what a later export changes, such as status and quantity."""
