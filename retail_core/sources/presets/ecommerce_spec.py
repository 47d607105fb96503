"""The e-commerce event names and properties that Segment, RudderStack and PostHog share.

https://www.twilio.com/docs/segment/connections/spec/ecommerce/v2
https://www.rudderstack.com/docs/event-spec/ecommerce-events-spec/ordering/
https://posthog.com/docs/data/event-spec/ecommerce-events
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pyarrow as pa

from retail_core.arrow_compute import pc
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source
from retail_core.sources.text_cleaning import cleaned_text

SPEC_EVENTS = MappingProxyType(
    {
        "Products Searched": "search",
        "Product List Viewed": "view_item_list",
        "Product List Filtered": "view_item_list",
        "Product Viewed": "view_item",
        "Product Added": "add_to_cart",
        "Wishlist Product Added to Cart": "add_to_cart",
        "Product Removed": "remove_from_cart",
        "Product Added to Wishlist": "add_to_wishlist",
        "Checkout Started": "begin_checkout",
        "Order Completed": "purchase",
        "Order Refunded": "refund",
    }
)
"""Event type by name in the specification; all other names stay as they are."""

ORDER_VALUE = "order_value"
"""Column of the price of an order without a list of products: its total."""

_ORDERS = ("Order Completed", "Order Refunded")
TOTALS = ("properties.total", "properties.revenue", "properties.value")
"""Paths of the total of an order, of which the first with a value is used."""


def _product(*names: str) -> tuple[str, ...]:
    """Paths of a property of each product of a list, then of an event about one product."""
    in_list = (f"properties.products[].{name}" for name in names)
    return (*in_list, *(f"properties.{name}" for name in names))


SPEC_COLUMNS = MappingProxyType(
    {
        "item_id": _product("product_id", "sku"),
        "category": _product("category"),
        "brand": _product("brand"),
        "price": (*_product("price"), ORDER_VALUE),
        "quantity": _product("quantity"),
        "currency": ("properties.currency", "properties.products[].currency"),
        "order_id": ("properties.order_id",),
    }
)
"""Raw columns of the properties of products and orders by event field."""

SPEC_PROPERTIES = ("properties.products[].name", "properties.name", "properties.query", "properties.coupon")
"""Raw columns stored as properties: names of products, what was searched for, coupons."""


def order_values(table: RawTable, source: Source) -> RawTable:
    """Add column `ORDER_VALUE`: the total of orders and refunds that list no products."""
    names = text_column(table, source, "event")
    without_product = pc.and_(
        *(
            _is_missing(table, source, _product(*fields))
            for fields in (("product_id", "sku"), ("price", "quantity"))
        )
    )
    is_order = pc.fill_null(pc.is_in(names, value_set=pa.array(_ORDERS)), False)
    total = pc.coalesce(*(text_column(table, source, name) for name in TOTALS))
    values = pc.if_else(pc.and_(is_order, without_product), total, pa.scalar(None, pa.string()))
    return replace(table, columns=dict(table.columns) | {ORDER_VALUE: values})


def text_column(table: RawTable, source: Source, name: str) -> pa.Array:
    """A column's text without missing values; null where the file has no such column."""
    if name not in table.columns:
        return pa.nulls(len(table), pa.string())
    return cleaned_text(table.columns[name], source.nulls)


def _is_missing(table: RawTable, source: Source, columns: tuple[str, ...]) -> pa.Array:
    return pc.coalesce(*(text_column(table, source, name) for name in columns)).is_null()
