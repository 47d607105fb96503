"""A Google Analytics 4 export as BigQuery has it, made of every shape that its schema allows.

Records are Python objects with the types of the schema
(https://support.google.com/analytics/answer/7029846); writers give the formats of `bq extract`: JSON lines
with 64-bit integers as text and without null fields, Parquet with structures and lists, and a CSV flattened
with one row per item.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from retail_core.arrow_compute import pq

Record = dict[str, Any]

START = 1_735_725_600_000_000
"""2025-01-01T10:00:00Z in microseconds since 1970."""

_SECOND = 1_000_000
_DEVICE = {
    "category": "mobile",
    "mobile_brand_name": "Samsung",
    "mobile_model_name": "Galaxy S23",
    "operating_system": "Android",
    "operating_system_version": "Android 14",
    "language": "de-de",
    "is_limited_ad_tracking": "No",
    "web_info": {"browser": "Chrome", "browser_version": "131.0.6778.200", "hostname": "shop.test"},
}
_GEO = {
    "city": "Leipzig", "country": "Germany", "continent": "Europe", "region": "Saxony",
    "sub_continent": "Western Europe", "metro": "(not set)",
}  # fmt: skip
_CAMPAIGN = {
    "manual_campaign_name": "winter",
    "manual_source": "google",
    "manual_medium": "cpc",
    "gclid": "Cj0KCQ",
}
_VALUE = pa.struct(
    [
        ("string_value", pa.string()),
        ("int_value", pa.int64()),
        ("float_value", pa.float64()),
        ("double_value", pa.float64()),
    ]
)
_PARAMETERS = pa.list_(pa.struct([("key", pa.string()), ("value", _VALUE)]))
_ITEM = pa.struct(
    [
        *((name, pa.string()) for name in ("item_id", "item_name", "item_brand", "item_variant")),
        ("item_category", pa.string()),
        ("price_in_usd", pa.float64()),
        ("price", pa.float64()),
        ("quantity", pa.int64()),
        ("item_revenue", pa.float64()),
        ("item_params", _PARAMETERS),
    ]
)
_ECOMMERCE = pa.struct(
    [
        ("total_item_quantity", pa.int64()),
        ("purchase_revenue_in_usd", pa.float64()),
        ("purchase_revenue", pa.float64()),
        ("refund_value", pa.float64()),
        ("unique_items", pa.int64()),
        ("transaction_id", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("event_date", pa.string()),
        ("event_timestamp", pa.int64()),
        ("event_name", pa.string()),
        ("event_params", _PARAMETERS),
        ("event_value_in_usd", pa.float64()),
        ("event_bundle_sequence_id", pa.int64()),
        ("user_id", pa.string()),
        ("user_pseudo_id", pa.string()),
        ("user_properties", _PARAMETERS),
        ("user_ltv", pa.struct([("revenue", pa.float64()), ("currency", pa.string())])),
        ("device", pa.struct([("category", pa.string()), ("language", pa.string())])),
        ("geo", pa.struct([("country", pa.string()), ("city", pa.string())])),
        ("stream_id", pa.string()),
        ("platform", pa.string()),
        ("ecommerce", _ECOMMERCE),
        ("items", pa.list_(_ITEM)),
        ("batch_event_index", pa.int64()),
        ("batch_page_id", pa.int64()),
        ("batch_ordering_id", pa.int64()),
    ]
)
FLAT_COLUMNS = (
    "event_timestamp", "event_name", "user_pseudo_id", "user_id", "platform", "event_bundle_sequence_id",
    "batch_event_index", "batch_page_id", "batch_ordering_id",
)  # fmt: skip
FLAT_ITEMS = (
    "item_id", "item_name", "item_variant", "item_brand", "item_category", "price", "quantity",
)  # fmt: skip


def parameter(key: str | None, value: object) -> Record:
    """One event parameter; None as value is a null structure."""
    kinds: dict[type, str] = {str: "string_value", int: "int_value", float: "double_value"}
    return {"key": key, "value": None if value is None else {kinds[type(value)]: value}}


def item(number: int, price: float | str | None = None, quantity: int | None = None) -> Record:
    """An item of the catalogue; the price is a double, or text as some converters write it."""
    return {
        "item_id": f"SKU {number}",
        "item_name": f"Wäsche „{number}“ 👕",
        "item_brand": None if number % 3 else "(not set)",
        "item_variant": "rot" if number % 2 else None,
        "item_category": f"Damen/{number % 4}",
        "price": price,
        "price_in_usd": None,
        "quantity": quantity,
        "item_params": [parameter("colour", "blue")],
    }


def record(name: str, user: str | None, second: int, **fields: Any) -> Record:
    """An event `second` seconds after `START`, with the parameters that Google's tag always sends."""
    parameters = [
        parameter("ga_session_id", 1_735_725_000 + second // 3600),
        parameter("page_location", f"https://shop.test/p?a=1&b={second % 7}"),
        parameter("engagement_time_msec", second),
        parameter("currency", "EUR"),
    ]
    return {
        "event_date": "20250101",
        "event_timestamp": START + second * _SECOND,
        "event_name": name,
        "event_params": parameters,
        "event_bundle_sequence_id": 1_000 + second,
        "user_id": None,
        "user_pseudo_id": user,
        "user_properties": [],
        "user_ltv": {"revenue": 0.0, "currency": "USD"},
        "device": _DEVICE,
        "geo": _GEO,
        "traffic_source": {"name": "(organic)", "medium": "organic", "source": "google"},
        "collected_traffic_source": _CAMPAIGN,
        "privacy_info": {"analytics_storage": "Yes", "ads_storage": "No", "uses_transient_token": "No"},
        "user_first_touch_timestamp": START - 86_400 * _SECOND,
        "is_active_user": True,
        "stream_id": "12345",
        "platform": "WEB",
        "ecommerce": None,
        "items": [],
        "batch_event_index": 1,
        "batch_page_id": START // 1_000,
        "batch_ordering_id": 1,
    } | fields


def order(name: str, user: str | None, second: int, order_id: str | None, items: list[Record]) -> Record:
    """A purchase or refund with items and an order id."""
    total = sum(float(entry["price"]) * (entry["quantity"] or 1) for entry in items)
    amount = {"refund_value" if name == "refund" else "purchase_revenue": total}
    return record(name, user, second, items=items, ecommerce={"transaction_id": order_id} | amount)


def shapes() -> list[Record]:
    """One record or a few of each shape, in the order of time."""
    ann, bob, cem = "1111.222", "Ünïcode ☃.333", "0044.0055"
    cart = [item(1, 19.9, 2), item(2, 5.0)]
    many = [item(number, 1.5) for number in range(9)]
    params = [parameter(*pair) for pair in (("ga_session_id", "text-1"), ("f", 1.25), ("n", None), (None, 3))]
    repeated = [parameter("ga_session_id", 7), parameter("ga_session_id", 8), parameter("currency", "CHF")]
    return [
        record("session_start", ann, 0, items=None, event_params=None, user_ltv=None, device=None),
        record("page_view", ann, 1),
        record("view_item", ann, 2, items=[item(1, "19.90")], event_params=params),
        record("view_item_list", ann, 3, items=[*many, item(3, 1.5)]),
        record("view_item_list", ann, 3, items=many[:2], batch_event_index=2),
        record("search", bob, 4, event_params=repeated),
        record("add_to_cart", ann, 5, items=[item(1, 19.9, 2)], ecommerce={"transaction_id": None}),
        record("add_to_cart", ann, 6, items=[None], ecommerce={}),
        order("purchase", ann, 10, "T-1", cart),
        order("purchase", ann, 70, "T-1", cart),
        order("purchase", bob, 80, "T-1", [item(2, 5.0, 1)]),
        order("purchase", bob, 90, "(not set)", [item(4, 7.25, 1)]),
        order("purchase", bob, 95, "(not set)", [item(4, 7.25, 1)]),
        record("purchase", cem, 100, ecommerce={"transaction_id": "T-2", "purchase_revenue": 49.99}),
        record("purchase", cem, 160, ecommerce={"transaction_id": "T-2", "purchase_revenue": 49.99}),
        record("purchase", cem, 170, platform="ANDROID", event_params=[parameter("value", 3)]),
        record("page_view", ann, 200, user_id="customer-1"),
        order("refund", ann, 300, "T-1", [item(1, 19.9, 1)]),
        record("refund", cem, 310, ecommerce={"transaction_id": "T-2", "refund_value": 49.99}),
        record("view_item", None, 320, items=many[:3], privacy_info=None),
        record("page_view", "", 330),
        record("page_view", "(not set)", 340),
        *(record("view_item", f"u{n}.{n}", 400 + n, items=[item(n, n / 100, n)]) for n in range(40)),
    ]


def random_records(count: int, seed: int = 7) -> Iterator[Record]:
    """Records of a shop's usual traffic: about 1.3 events each, most of them without items."""
    rng = random.Random(seed)
    names = ("page_view", "user_engagement", "scroll", "session_start", "view_item", "view_item_list",
             "add_to_cart", "begin_checkout", "purchase")  # fmt: skip
    weights = (34, 18, 10, 8, 18, 3, 5, 3, 1)
    for number, name in enumerate(rng.choices(names, weights, k=count)):
        sizes = {"view_item": 1, "view_item_list": 8, "add_to_cart": 1, "begin_checkout": 2, "purchase": 2}
        user, second = f"{rng.randrange(50_000)}.{1_000 + number % 977}", number // 4
        items = [item(rng.randrange(5_000), 19.99, 1) for _ in range(sizes.get(name, 0))]
        event = (
            order(name, user, second, f"T{number}", items)
            if name == "purchase"
            else record(name, user, second, items=items)
        )
        event["event_params"] += [parameter(f"custom_{n}", f"value {n} of {number}") for n in range(8)]
        yield event | {"batch_event_index": number % 4}


def intraday(records: Iterable[Record]) -> list[Record]:
    """The streamed copies of records, which lack what Google adds when the day is complete."""
    copies = []
    for event in records:
        ecommerce = event["ecommerce"] and event["ecommerce"] | {"transaction_id": None}
        copies.append(event | {"user_ltv": None, "ecommerce": ecommerce, "geo": None})
    return copies


def write_json_lines(path: Path, records: Iterable[Record]) -> Path:
    """As `bq extract --destination_format NEWLINE_DELIMITED_JSON`."""
    with path.open("w", encoding="utf-8") as file:
        for event in records:
            file.write(json.dumps(_exported(event), ensure_ascii=False).replace("&", "\\u0026") + "\n")
    return path


def _exported(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _exported(entry) for name, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [_exported(entry) for entry in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def write_parquet(path: Path, records: Sequence[Record]) -> Path:
    """As `bq extract --destination_format PARQUET`; prices that are text become doubles."""
    typed = [
        event | {"items": event["items"] and [_with_double(entry) for entry in event["items"]]}
        for event in records
    ]
    pq.write_table(pa.Table.from_pylist(typed, SCHEMA), path)
    return path


def _with_double(entry: Record | None) -> Record | None:
    return entry and entry | {"price": None if entry["price"] is None else float(entry["price"])}


def write_flat_csv(path: Path, records: Iterable[Record], separator: str = ".") -> Path:
    """A row for each item; nested names are joined by `separator`, prices have two decimals."""
    parameters = ("ga_session_id", "page_location", "currency", "value", "transaction_id")
    ecommerce = ("transaction_id", "purchase_revenue", "refund_value")
    header = [
        *FLAT_COLUMNS,
        *(f"event_params{separator}{name}" for name in parameters),
        *(f"ecommerce{separator}{name}" for name in ecommerce),
        *(f"items{separator}{name}" for name in FLAT_ITEMS),
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for event in records:
            values: dict[str | None, object] = {}
            for entry in event["event_params"] or ():
                first = next(iter((entry["value"] or {}).values()), None)
                values.setdefault(entry["key"], first)
            shared = [event[name] for name in FLAT_COLUMNS] + [values.get(name) for name in parameters]
            shared += [(event["ecommerce"] or {}).get(name) for name in ecommerce]
            for entry in event["items"] or [{}]:
                cells = {**(entry or {})}
                if cells.get("price") is not None:
                    cells["price"] = f"{float(cells['price']):.2f}"
                writer.writerow([*shared, *(cells.get(name) for name in FLAT_ITEMS)])
    return path
