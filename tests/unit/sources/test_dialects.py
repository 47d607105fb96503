"""Exports of five vendors: the proposed mapping, the hand edits it needs, and the events it gives.

The expected events are read from the vendors' files with plain Python, as their documentation says.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
import yaml

from retail_core import sources
from retail_core.sources.detection import detect

DIALECTS = Path(__file__).parent / "dialects"
Row = dict[str, str | None]
FIELDS = ("item_id", "category", "price", "quantity", "currency", "session_id", "platform", "order_id")

FILES = {
    "adobe": "adobe_hit_data.tsv",
    "amplitude": "amplitude_export.json",
    "mixpanel": "mixpanel_raw_export.jsonl",
    "matomo": "matomo_visits.jsonl",
    "magento": "magento_orders_grid.csv",
}
EDITS: dict[str, dict[str, object]] = {
    "adobe": {
        "columns.event_type": ["event", "post_page_event"],
        "columns.platform": "(removed)",
        "lists.event": {"column": "post_event_list", "first_of": ["1", "11", "12", "13", "2"]},
        "event_types.1": "purchase",
        "event_types.11": "begin_checkout",
        "event_types.12": "add_to_cart",
        "event_types.13": "remove_from_cart",
        "event_types.2": "view_item",
        "event_types.0": "screen_view",
        "event_types.101": None,
        "price_per": "line",
        "where.exclude_hit": "0",
    },
    "amplitude": {},
    "mixpanel": {"event_types.$identify": None},
    "matomo": {
        "columns.price": ["actionDetails[].revenue", "actionDetails[].productViewPrice"],
        "columns.quantity": "(removed)",
        "event_types.action": "screen_view",
        "event_types.ecommerceAbandonedCart": None,
    },
    "magento": {"constants.currency": "EUR", "timezone": "Europe/Berlin"},
}
"""What was changed in the proposed mapping, by key."""


def _json_lines(name: str) -> Iterator[dict[str, Any]]:
    for line in (DIALECTS / FILES[name]).read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def _money(value: object) -> str | None:
    return None if value is None else f"{float(str(value)):.2f}"


def _row(user: str, time: datetime, event_type: str, **fields: object) -> Row:
    milliseconds = f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"
    row: Row = {"user_id": user, "event_time": milliseconds, "event_type": event_type}
    return row | {name: None if fields.get(name) is None else str(fields[name]) for name in FIELDS}


def _amplitude() -> Iterator[Row]:
    types = {
        "Product Viewed": "view_item",
        "Product Added": "add_to_cart",
        "Product Removed": "remove_from_cart",
        "Product Added to Wishlist": "add_to_wishlist",
        "Products Searched": "search",
        "Checkout Started": "begin_checkout",
        "Order Completed": "purchase",
    }
    for event in _json_lines("amplitude"):
        properties = event["event_properties"]
        for item in properties.get("products") or [properties]:
            yield _row(
                event["user_id"] or event["device_id"],
                datetime.fromisoformat(event["event_time"]).replace(tzinfo=UTC),
                types.get(event["event_type"], event["event_type"]),
                item_id=item.get("product_id"),
                category=item.get("category"),
                price=_money(item.get("price")),
                quantity=item.get("quantity"),
                currency=properties.get("currency"),
                session_id=event["session_id"],
                platform=event["platform"],
                order_id=properties.get("order_id"),
            )


def _adobe() -> Iterator[Row]:
    types = {
        "1": "purchase",
        "11": "begin_checkout",
        "12": "add_to_cart",
        "13": "remove_from_cart",
        "2": "view_item",
    }
    with (DIALECTS / FILES["adobe"]).open(encoding="utf-8", newline="") as file:
        for hit in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            codes = hit["post_event_list"].split(",")
            event_type = next((name for code, name in types.items() if code in codes), "screen_view")
            is_link = hit["post_page_event"] != "0" and event_type == "screen_view"
            if hit["exclude_hit"] != "0" or is_link:
                continue
            for product in hit["post_product_list"].split(","):
                _, sku, quantity, total, *_ = [*product.split(";"), "", "", "", ""]
                yield _row(
                    hit["post_visid_high"],
                    datetime.fromtimestamp(int(hit["hit_time_gmt"]), UTC),
                    event_type,
                    item_id=sku or None,
                    price=f"{Decimal(total) / int(quantity):.2f}" if total else None,
                    quantity=quantity or None,
                    currency=hit["post_currency"],
                    order_id=hit["post_purchaseid"] or None,
                )


def _mixpanel() -> Iterator[Row]:
    types = {
        "$mp_web_page_view": "screen_view",
        "View Item": "view_item",
        "Add to Cart": "add_to_cart",
        "Remove from Cart": "remove_from_cart",
        "Begin Checkout": "begin_checkout",
        "Search": "search",
        "Purchase": "purchase",
        "Order Refunded": "refund",
    }
    for event in _json_lines("mixpanel"):
        properties = event["properties"]
        if event["event"] == "$identify":
            continue
        for item in properties.get("items", [{}]):
            yield _row(
                properties["distinct_id"],
                datetime.fromtimestamp(properties["time"], UTC),
                types[event["event"]],
                item_id=item.get("sku"),
                category=item.get("category"),
                price=_money(item.get("price")),
                quantity=item.get("quantity"),
                currency=properties.get("Currency"),
                platform=properties["$os"],
                order_id=properties.get("Order ID"),
            )


def _matomo() -> Iterator[Row]:
    types = {"action": "screen_view", "ecommerceOrder": "purchase"}
    for visit in _json_lines("matomo"):
        for action in visit["actionDetails"]:
            if action["type"] == "ecommerceAbandonedCart":
                continue
            first = (action.get("itemDetails") or [{}])[0]
            yield _row(
                visit.get("userId") or visit["visitorId"],
                datetime.fromtimestamp(action["timestamp"], UTC),
                types.get(action["type"], action["type"]),
                item_id=action.get("productViewSku") or first.get("itemSKU"),
                category=first.get("itemCategory"),
                price=_money(action.get("revenue") or action.get("productViewPrice")),
                currency=visit["siteCurrency"],
                session_id=visit["idVisit"],
                platform=visit["deviceType"],
                order_id=action.get("orderId"),
            )


def _magento() -> Iterator[Row]:
    with (DIALECTS / FILES["magento"]).open(encoding="utf-8", newline="") as file:
        for order in csv.DictReader(file):
            if order["Status"] in {"Canceled", "Pending", "Pending Payment"}:
                continue
            local = datetime.strptime(order["Purchase Date"], "%b %d, %Y %I:%M:%S %p")  # noqa: DTZ007
            yield _row(
                order["Customer Email"],
                local.replace(tzinfo=ZoneInfo("Europe/Berlin")),
                "purchase",
                price=_money(order["Grand Total (Base)"]),
                currency="EUR",
                order_id=order["ID"],
            )


READERS: dict[str, Callable[[], Iterator[Row]]] = {
    "adobe": _adobe,
    "amplitude": _amplitude,
    "mixpanel": _mixpanel,
    "matomo": _matomo,
    "magento": _magento,
}


@pytest.mark.parametrize("vendor", READERS)
def test_the_mapping_gives_the_events_of_the_vendors_file(vendor: str) -> None:
    source = sources.from_mapping(DIALECTS / f"{vendor}.yaml")
    (chunk,) = sources.read_events(DIALECTS / FILES[vendor], source)
    assert chunk.refused == ()
    assert not chunk.notes.warnings
    rows = []
    for event in chunk.events.to_dict("records"):
        minor = event["price_minor"]
        amounts = {"price": None if pd.isna(minor) else f"{int(minor) / 100:.2f}"}
        values = {
            name: None if pd.isna(event[name]) else str(event[name]) for name in FIELDS if name != "price"
        }
        time = event["event_time"].to_pydatetime()
        rows.append(_row(event["user_id"], time, event["event_type"], **values | amounts))
    assert rows == list(READERS[vendor]())


@pytest.mark.parametrize("vendor", READERS)
def test_the_mapping_is_the_proposal_with_these_edits(vendor: str) -> None:
    proposed = _flat(yaml.safe_load(detect(DIALECTS / FILES[vendor]).text))
    final = _flat(yaml.safe_load((DIALECTS / f"{vendor}.yaml").read_text(encoding="utf-8")))
    edits = {key: final.get(key, "(removed)") for key in {*proposed, *final} if _differ(proposed, final, key)}
    assert edits == EDITS[vendor]


def _flat(mapping: Mapping[str, Any]) -> dict[str, object]:
    """Keys of a mapping, of nested ones as `columns.price`."""
    flat: dict[str, object] = {}
    for key, value in mapping.items():
        flat |= (
            {f"{key}.{name}": entry for name, entry in value.items()}
            if isinstance(value, dict)
            else {key: value}
        )
    return flat


def _differ(first: Mapping[str, object], second: Mapping[str, object], key: str) -> bool:
    return (key in first) != (key in second) or first.get(key) != second.get(key)


VENDOR_EXPORTS = sorted((Path(__file__).parent / "vendor_exports").iterdir())


@pytest.mark.parametrize("path", VENDOR_EXPORTS, ids=lambda path: path.name)
def test_exports_with_a_preset_are_recognised(path: Path) -> None:
    assert detect(path).preset == path.name.split(".")[0].split("-")[0]
