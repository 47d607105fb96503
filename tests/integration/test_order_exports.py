"""An order that is exported again at a later state gives none of its events a second time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.store.mongo.connection import Store

pytestmark = pytest.mark.integration

EXPORTS = Path(__file__).resolve().parents[1] / "unit" / "sources" / "vendor_exports"
AT = datetime(2025, 3, 1, tzinfo=UTC)

Change = Callable[[str], str]


def _export(name: str) -> str:
    return (EXPORTS / name).read_text()


def _replaced(*pairs: tuple[str, str]) -> Change:
    def change(text: str) -> str:
        for before, after in pairs:
            assert before in text
            text = text.replace(before, after)
        return text

    return change


def _with_lines(*lines: str) -> Change:
    return lambda text: text + "".join(f"{line}\n" for line in lines)


def _without_item_ids(text: str) -> str:
    """The export of a plugin that has no ids of items; the first item of an order occurs in two lines."""
    rows = [line.split(",") for line in text.splitlines()]
    column = rows[0].index("item_id")
    lines = [",".join(row[:column] + row[column + 1 :]) for row in rows]
    return "\n".join([*lines[:2], *lines[1:]]) + "\n"


WOOCOMMERCE = _export("woocommerce.csv").replace(",completed,", ",processing,")
WOOCOMMERCE_LATER = _replaced(
    (",processing,", ",completed,"),
    ("30.00,30.00,EUR", "30.00,31.00,EUR"),
    ("2025-06-02 09:00:00|amount:30.00", "2025-06-09 09:00:00|amount:31.00"),
)
PRODUCTS = '"properties":{{"order_id":"o-1","products":[{{"product_id":"507f","price":19,"quantity":3}}]}}}}'
ORDER = (
    '{{"userId":"u-7","messageId":"{}","timestamp":"2025-03-01T1{}:09:00Z","type":"track","event":"{}",'
    + PRODUCTS
)
CAPTURED = (
    '{{"uuid":"{}","event":"{}","distinct_id":"u-7","person_id":"p-1","timestamp":"2025-03-01T1{}:04:00Z",'
    + PRODUCTS
)
SESSIONS = (
    "user_id,first_visit_date,age,screen_list,purchase_date,platform,session_count\n"
    "1,4/29/23,66,cart,4/30/23,iOS,1\n"
)

CASES: dict[str, tuple[str, Change, set[str]]] = {
    "woocommerce.csv": (WOOCOMMERCE, WOOCOMMERCE_LATER, set()),
    "woocommerce-plain.csv": (_without_item_ids(WOOCOMMERCE), WOOCOMMERCE_LATER, set()),
    "woocommerce-rest.jsonl": (
        _export("woocommerce-rest.jsonl"),
        _replaced(('"processing"', '"completed"'), ("2017-03-25T10:00:00", "2017-04-25T10:00:00")),
        set(),
    ),
    "shopify.csv": (
        _export("shopify.csv"),
        _replaced(
            ("ann@example.com,paid,", "ann@example.com,partially_refunded,"),
            ("eve@example.com,authorized,,unfulfilled,", "new@example.com,paid,,fulfilled,"),
            ("+0100,2,Socks", "+0100,1,Socks"),
            ("2025-01-07 08:00:00 +0100,PayPal", "2025-01-08 08:00:00 +0100,PayPal"),
        ),
        set(),
    ),
    "shopify-rest.jsonl": (
        _export("shopify-rest.jsonl"),
        _replaced(
            ('"partially_refunded"', '"refunded","fulfillment_status":"fulfilled","updated_at":"2008-03-01"'),
            ('"quantity":2,"vendor"', '"quantity":2,"current_quantity":1,"vendor"'),
        ),
        set(),
    ),
    "shopify-graphql.jsonl": (
        _export("shopify-graphql.jsonl"),
        _replaced(('"PARTIALLY_REFUNDED"', '"REFUNDED","displayFulfillmentStatus":"FULFILLED"')),
        set(),
    ),
    "segment.jsonl": (
        _export("segment.jsonl"),
        _with_lines(ORDER.format("n-1", 2, "Order Completed"), ORDER.format("n-2", 3, "Order Updated")),
        {"Order Updated"},
    ),
    "posthog.jsonl": (
        _export("posthog.jsonl"),
        _with_lines(CAPTURED.format("n-1", "Order Completed", 2), CAPTURED.format("n-2", "Order Updated", 3)),
        {"Order Updated"},
    ),
    "snowplow-sdk.jsonl": (
        _export("snowplow-sdk.jsonl"),
        _replaced(('"etl_tstamp":"2025-03-01T11', '"etl_tstamp":"2025-03-04T11'), ("js-3.8.0", "js-3.9.0")),
        set(),
    ),
    "app_profile.csv": (
        SESSIONS,
        _replaced((",cart,", ',"cart,reviews",'), ("iOS,1", "Android,9")),
        {"screen_view"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_later_state_of_an_order_is_no_second_order(store: Store, tmp_path: Path, name: str) -> None:
    text, change, further_types = CASES[name]
    source = sources.get_preset(Path(name).stem.partition("-")[0])
    path = tmp_path / name
    path.write_text(text)
    first = ingest(store, [path], source, at=AT)
    assert store.events.count_documents({"event_type": "purchase"})
    before = {event["_id"]: event for event in store.events.find()}
    path.write_text(change(text))
    second = ingest(store, [path], source, at=AT)
    new = list(store.events.find({"_id": {"$nin": list(before)}}))
    assert {event["event_type"] for event in new} == further_types
    assert all(store.events.find_one({"_id": key}) == event for key, event in before.items())
    assert second.events_inserted == len(new) == len(further_types)
    assert second.quarantined == first.quarantined
    assert second.rows_read == second.events_inserted + second.duplicates + second.quarantined


def test_rows_without_an_id_of_their_own_are_compared_by_identity_alone(store: Store, tmp_path: Path) -> None:
    mapping, path = tmp_path / "map.yaml", tmp_path / "log.csv"
    mapping.write_text(
        "name: shop\nidentity: [order, item]\ncolumns:\n"
        "  {event_id: id, user_id: user, event_time: at, order_id: order, item_id: item, price: price}\n"
        "constants: {event_type: purchase}\n"
    )
    path.write_text(
        "id,user,at,order,item,price\n,u1,2025-01-01,1,a,5\n,u1,2025-01-01,1,a,6\n"
        "x,u2,2025-01-01,2,a,5\nx,u2,2025-01-01,2,a,6\n"
    )
    report = ingest(store, [path], sources.from_mapping(mapping), at=AT)
    assert (report.events_inserted, report.duplicates, report.quarantined) == (2, 1, 1)
    path.write_text("id,user,at,order,item,price\n,u1,2025-01-01,1,a,7\ny,u2,2025-01-01,2,a,5\n")
    report = ingest(store, [path], sources.from_mapping(mapping), at=AT)
    assert (report.events_inserted, report.duplicates, report.quarantined) == (1, 1, 0)
