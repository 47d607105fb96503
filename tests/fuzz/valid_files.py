"""Small valid files of several sources and formats, which are damaged afterwards."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyarrow import parquet

Row = dict[str, Any]
_TYPES = ("view_item", "search", "add_to_cart", "purchase")


def _canonical(generator: random.Random) -> Row:
    return {
        "event_id": f"e{generator.randrange(10**6)}",
        "user_id": f"u{generator.randrange(9)}",
        "event_time": f"2025-01-{generator.randint(1, 28):02d}T{generator.randrange(24):02d}:15:30Z",
        "event_type": generator.choice(_TYPES),
        "item_id": f"i{generator.randrange(50)}",
        "category": "a|b, \u00e9",
        "price": f"{generator.randrange(99)}.50",
        "quantity": "1",
        "currency": "EUR",
    }


def _online_retail(generator: random.Random) -> Row:
    return {
        "InvoiceNo": f"5363{generator.randrange(10, 99)}",
        "StockCode": f"85{generator.randrange(100)}A",
        "Description": "WHITE HANGING HEART, \u00a3",
        "Quantity": str(generator.randint(-2, 9)),
        "InvoiceDate": f"2010-12-{generator.randint(1, 28):02d} 08:26:00",
        "UnitPrice": f"{generator.randrange(9)}.55",
        "CustomerID": f"178{generator.randrange(10, 99)}.0",
        "Country": "United Kingdom",
    }


def _taobao(generator: random.Random) -> Row:
    user, item = generator.randrange(9), generator.randrange(99)
    return {"u": user, "i": item, "c": 4, "b": "pv", "t": 1_511_658_000 + generator.randrange(10**5)}


def _segment(generator: random.Random) -> Row:
    product = {"product_id": f"p{generator.randrange(9)}", "price": 9.5, "quantity": 2, "category": "x"}
    return {
        "type": "track",
        "event": generator.choice(("Product Viewed", "Product Added", "Order Completed")),
        "messageId": f"m{generator.randrange(10**6)}",
        "userId": f"u{generator.randrange(9)}",
        "anonymousId": f"a{generator.randrange(9)}",
        "timestamp": f"2025-01-{generator.randint(1, 28):02d}T10:00:00.000Z",
        "properties": {"products": [product, product], "order_id": "o1", "currency": "EUR", **product},
        "context": {"device": {"type": "ios"}},
    }


def _otto(generator: random.Random) -> Row:
    events = [
        {"aid": generator.randrange(99), "ts": 1_659_304_800_025 + n * 1_000, "type": "clicks"}
        for n in range(3)
    ]
    return {"session": generator.randrange(99), "events": events}


def _ga4(generator: random.Random) -> Row:
    parameter = {"key": "ga_session_id", "value": {"string_value": None, "int_value": 7}}
    item = {"item_id": "i1", "price": 3.5, "quantity": 1, "item_category": "x"}
    return {
        "event_timestamp": 1_735_725_600_000_000 + generator.randrange(10**9),
        "event_name": generator.choice(("view_item", "purchase", "add_to_cart")),
        "user_pseudo_id": f"{generator.randrange(9)}.{generator.randrange(9)}",
        "event_params": [parameter],
        "items": [item],
        "ecommerce": {"transaction_id": "t1"},
        "platform": "WEB",
    }


def _csv(rows: list[Row], *, header: bool = True) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _json_lines(rows: list[Row]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def _parquet(rows: list[Row]) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def _zstandard(rows: list[Row]) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.CompressedOutputStream(stream, "zstd") as compressed:
        compressed.write(_csv(rows))
    return bytes(stream.getvalue())


VALID: dict[str, tuple[str, Callable[[random.Random], Row], Callable[[list[Row]], bytes]]] = {
    "canonical.csv": ("canonical", _canonical, _csv),
    "canonical.jsonl": ("canonical", _canonical, _json_lines),
    "canonical.parquet": ("canonical", _canonical, _parquet),
    "canonical.csv.gz": ("canonical", _canonical, lambda rows: gzip.compress(_csv(rows))),
    "canonical.csv.zst": ("canonical", _canonical, _zstandard),
    "retail.csv": ("online_retail", _online_retail, _csv),
    "taobao.csv": ("taobao", _taobao, lambda rows: _csv(rows, header=False)),
    "segment.jsonl": ("segment", _segment, _json_lines),
    "otto.jsonl": ("otto", _otto, _json_lines),
    "ga4.jsonl": ("ga4", _ga4, _json_lines),
    "ga4.parquet": ("ga4", _ga4, _parquet),
}
"""Preset, maker of a row and writer, by name of the file."""


def valid_file(name: str, generator: random.Random) -> bytes:
    """Content of a valid file of a few rows."""
    _, make, write = VALID[name]
    return write([make(generator) for _ in range(generator.randint(2, 30))])
