"""Exports of analytics tools and shop systems: their events, and what a wrong preset says about them.

The files in `vendor_exports` are written from the documentation that the module of each preset names.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources import PRESETS
from retail_core.sources.presets import matching_preset
from retail_core.sources.presets.snowplow import TSV_COLUMNS
from tests.unit.sources.event_rows import read_rows

EXPORTS = Path(__file__).parent / "vendor_exports"

SNOWPLOW_EVENTS = [
    ('d-1 2025-03-01T10:00:00Z screen_view session_id=s-1 platform=web properties={"page_urlpath":"/"}'),
    (
        "d-1 2025-03-01T10:02:00Z view_item item_id=P1 category=apparel/t-shirt brand=Acme "
        "price=19.99 quantity=2 currency=EUR session_id=s-1 platform=web "
        'properties={"item_name":"Tee"}'
    ),
    (
        "d-1 2025-03-01T10:03:00Z view_item_list item_id=P1 category=apparel/t-shirt "
        "brand=Acme price=19.99 quantity=2 currency=EUR session_id=s-1 platform=web "
        'properties={"item_name":"Tee"}'
    ),
    (
        "d-1 2025-03-01T10:03:00Z view_item_list item_id=P2 category=mugs price=5.00 "
        "currency=EUR session_id=s-1 platform=web"
    ),
    (
        "d-1 2025-03-01T10:04:00Z add_to_cart item_id=P1 category=apparel/t-shirt brand=Acme "
        "price=19.99 quantity=2 currency=EUR session_id=s-1 platform=web "
        'properties={"item_name":"Tee"}'
    ),
    "d-1 2025-03-01T10:05:00Z begin_checkout session_id=s-1 platform=web",
    "d-1 2025-03-01T10:06:00Z checkout_step session_id=s-1 platform=web",
    (
        "u-7 2025-03-01T10:07:00Z purchase item_id=P1 category=apparel/t-shirt brand=Acme "
        "price=19.99 quantity=2 currency=EUR session_id=s-1 platform=web order_id=T-1 "
        'properties={"item_name":"Tee"}'
    ),
    (
        "u-7 2025-03-01T10:07:00Z purchase item_id=P2 category=mugs price=5.00 quantity=1 "
        "currency=EUR session_id=s-1 platform=web order_id=T-1"
    ),
    ("u-7 2025-03-01T10:08:00Z refund price=5.00 currency=EUR session_id=s-1 platform=web order_id=T-1"),
    "d-1 2025-03-01T10:09:00Z size-guide session_id=s-1 platform=web",
    "u-8 2025-03-01T10:10:00Z purchase currency=GBP session_id=s-1 platform=web order_id=T-2",
    (
        "u-8 2025-03-01T10:10:00Z purchase item_id=P9 category=clothing price=15.00 quantity=2 "
        'currency=GBP session_id=s-1 platform=web order_id=T-2 properties={"item_name":"Blue '
        't-shirt"}'
    ),
    (
        "d-1 2025-03-01T10:11:00Z add_to_cart item_id=P9 category=clothing price=3.49 "
        'quantity=2 currency=GBP session_id=s-1 platform=web properties={"item_name":"blue '
        'tie"}'
    ),
    ('m-1 2025-03-01T10:12:00Z screen_view session_id=ms-1 platform=mob properties={"screen_name":"Cart"}'),
]
"""Of both forms of the export."""

OUTCOMES: dict[str, list[str]] = {
    "online_retail-second.csv": [
        (
            "13085 2009-12-01T07:45:00Z purchase item_id=85048 price=6.95 quantity=12 currency=GBP "
            'order_id=489434 properties={"Country":"United Kingdom","Description":"15CM CHRISTMAS '
            'GLASS BALL 20 LIGHTS"}'
        ),
        (
            "16321 2009-12-01T10:33:00Z refund item_id=22087 price=2.95 quantity=12 currency=GBP "
            'order_id=C489449 properties={"Country":"Australia","Description":"PAPER BUNTING WHITE '
            'LACE"}'
        ),
        (
            "13078 2010-06-01T06:45:00Z purchase item_id=M price=5.00 quantity=1 currency=GBP "
            'order_id=489436 properties={"Country":"United Kingdom","Description":"Manual"}'
        ),
        "refused: line 4 CustomerID missing",
        "refused: line 5 InvoiceNo adjustment",
    ],
    "posthog.csv": [
        (
            "p-1 2025-03-01T10:01:00Z view_item item_id=507f price=18.99 currency=EUR "
            'properties={"distinct_id":"d-1"}'
        ),
        (
            "p-1 2025-03-01T10:02:00Z purchase item_id=507f price=18.99 quantity=1 order_id=o-1 "
            'properties={"distinct_id":"d-1"}'
        ),
        (
            "p-1 2025-03-01T10:02:00Z purchase item_id=G-9 price=1.00 order_id=o-1 "
            'properties={"distinct_id":"d-1"}'
        ),
    ],
    "posthog.jsonl": [
        (
            "p-1 2025-03-01T10:00:00Z screen_view session_id=s-1 platform=Android "
            'properties={"distinct_id":"d-1","properties.$pathname":"/"}'
        ),
        (
            "p-1 2025-03-01T10:01:00Z view_item item_id=507f category=Games brand=Hasbro "
            'price=18.99 currency=usd session_id=s-1 properties={"distinct_id":"d-1"}'
        ),
        (
            "p-1 2025-03-01T10:03:00Z add_to_cart item_id=507f price=18.99 quantity=2 "
            'properties={"distinct_id":"u-7"}'
        ),
        (
            "p-1 2025-03-01T10:04:00Z purchase item_id=507f price=18.99 quantity=1 currency=USD "
            'order_id=o-1 properties={"distinct_id":"u-7"}'
        ),
        (
            "p-1 2025-03-01T10:04:00Z purchase item_id=505b price=3.00 quantity=2 currency=USD "
            'order_id=o-1 properties={"distinct_id":"u-7"}'
        ),
        'u-9 2025-03-01T10:05:00Z newsletter opened properties={"distinct_id":"u-9"}',
        (
            "u-9 2025-03-02T10:00:00Z refund price=12.00 currency=EUR order_id=o-2 "
            'properties={"distinct_id":"u-9"}'
        ),
        "link: d-1 p-1 2025-03-01T10:02:00Z",
        "filtered: event event_type $feature_flag_called 1",
        "filtered: event identity $identify 1",
    ],
    "segment.jsonl": [
        'a-1 2025-03-01T10:00:00Z screen_view properties={"name":"Home"}',
        'a-1 2025-03-01T10:01:00Z search properties={"properties.query":"blue roses"}',
        "a-1 2025-03-01T10:02:00Z view_item_list item_id=507f category=Games price=19.00",
        "a-1 2025-03-01T10:02:00Z view_item_list item_id=505b category=Games price=3.00",
        (
            "a-1 2025-03-01T10:03:00Z view_item item_id=507f category=Games brand=Hasbro "
            "price=18.99 quantity=1 currency=usd"
        ),
        "u-7 2025-03-01T10:05:00Z add_to_cart item_id=G-32 price=18.99 quantity=2",
        "u-7 2025-03-01T10:06:00Z add_to_wishlist item_id=505b",
        "u-7 2025-03-01T10:07:00Z remove_from_cart item_id=507f price=18.99 quantity=1",
        "u-7 2025-03-01T10:08:00Z begin_checkout item_id=507f price=19.00 quantity=1 order_id=o-1",
        ("u-7 2025-03-01T10:09:00Z purchase item_id=507f price=19.00 quantity=1 currency=USD order_id=o-1"),
        "u-7 2025-03-01T10:09:00Z purchase item_id=505b price=3.00 quantity=2 currency=USD order_id=o-1",
        "u-8 2025-03-01T10:10:00Z purchase price=27.50 currency=USD order_id=o-2",
        "u-8 2025-03-02T10:10:00Z refund price=27.50 currency=USD order_id=o-2",
        (
            "u-9 2025-03-02T10:13:00Z screen_view session_id=1740910380 platform=iOS "
            'properties={"properties.name":"Cart"}'
        ),
        "u-9 2025-03-02T10:14:00Z Product Clicked item_id=505b",
        "refused: line 17 userId missing",
        "link: a-1 u-7 2025-03-01T10:04:00Z",
        "link: a-8 u-8 2025-03-02T10:11:00Z",
        "filtered: event_type event_type group 1",
        "filtered: event_type identity identify 1",
        "filtered: event_type identity alias 1",
    ],
    "shopify-graphql.jsonl": [
        (
            "bob.norman@example.com 2008-01-10T16:00:00Z purchase item_id=IPOD2008GREEN "
            "brand=Apple price=199.00 quantity=1 currency=USD platform=web order_id=#1001 "
            'properties={"Lineitem name":"IPod Nano - 8gb - green"}'
        ),
        (
            "bob.norman@example.com 2008-01-20T16:00:00Z refund item_id=IPOD2008GREEN price=199.00 "
            'quantity=1 currency=USD platform=web order_id=#1001 properties={"Lineitem name":"IPod '
            'Nano - 8gb - green"}'
        ),
        "filtered: displayFinancialStatus drop 1",
    ],
    "shopify-rest.jsonl": [
        (
            "bob.norman@example.com 2008-01-10T16:00:00Z purchase item_id=IPOD2008GREEN "
            "brand=Apple price=199.00 quantity=1 currency=USD platform=web order_id=#1001 "
            'properties={"Lineitem name":"IPod Nano - 8gb - green"}'
        ),
        (
            "bob.norman@example.com 2008-01-10T16:00:00Z purchase item_id=49148385 price=199.00 "
            'quantity=2 currency=USD platform=web order_id=#1001 properties={"Lineitem name":"IPod '
            'Nano - 8gb - red"}'
        ),
        (
            "bob.norman@example.com 2008-01-20T16:00:00Z refund item_id=49148385 price=199.00 "
            'quantity=1 currency=USD platform=web order_id=#1001 properties={"Lineitem name":"IPod '
            'Nano - 8gb - red"}'
        ),
        "207119552 2008-01-11T16:00:00Z purchase price=10.00 currency=USD order_id=#1002",
        "207119552 2008-01-21T16:00:00Z refund price=10.00 currency=USD order_id=#1002",
        "filtered: financial_status drop 1",
        "filtered: test drop 1",
    ],
    "shopify.csv": [
        (
            "ann@example.com 2025-01-05T08:00:00Z purchase item_id=TS-M brand=Acme price=10.00 "
            'quantity=1 currency=EUR platform=web order_id=#1001 properties={"Lineitem '
            'name":"T-shirt - M"}'
        ),
        (
            "ann@example.com 2025-01-05T08:00:00Z purchase item_id=Socks brand=Acme price=5.00 "
            'quantity=2 currency=EUR platform=web order_id=#1001 properties={"Lineitem '
            'name":"Socks"}'
        ),
        (
            "bob@example.com 2025-01-06T11:00:00Z purchase item_id=TS-M brand=Acme price=7.00 "
            'quantity=1 currency=EUR platform=web order_id=#1002 properties={"Lineitem '
            'name":"T-shirt - M"}'
        ),
        (
            "bob@example.com 2025-01-07T07:00:00Z refund item_id=TS-M brand=Acme price=7.00 "
            'quantity=1 currency=EUR platform=web order_id=#1002 properties={"Lineitem '
            'name":"T-shirt - M"}'
        ),
        (
            "+4930123456 2025-01-07T08:00:00Z purchase item_id=TS-M brand=Acme price=7.00 "
            'quantity=1 currency=EUR platform=pos order_id=#1005 properties={"Lineitem '
            'name":"T-shirt - M"}'
        ),
        (
            "eve@example.com 2025-01-08T08:00:00Z purchase item_id=GW brand=Acme price=2.00 "
            'quantity=1 currency=EUR platform=web order_id=#1006 properties={"Lineitem name":"Gift '
            'wrap"}'
        ),
        (
            "eve@example.com 2025-01-08T08:00:00Z purchase item_id=GW brand=Acme price=2.00 "
            'quantity=1 currency=EUR platform=web order_id=#1006 properties={"Lineitem name":"Gift '
            'wrap"}'
        ),
        "refused: line 11 Email missing",
        "filtered: Financial Status drop 3",
    ],
    "snowplow-sdk.jsonl": [
        *SNOWPLOW_EVENTS,
        "refused: line 15 user_id missing",
        "link: d-1 u-7 2025-03-01T10:07:00Z",
        "link: d-1 u-8 2025-03-01T10:10:00Z",
        "filtered: event_type event_type page_ping 1",
    ],
    "snowplow.tsv": [
        *SNOWPLOW_EVENTS,
        "refused: line 15 user_id missing",
        "refused: line 16 None fields",
        "link: d-1 u-7 2025-03-01T10:07:00Z",
        "link: d-1 u-8 2025-03-01T10:10:00Z",
        "filtered: event_type event_type page_ping 1",
    ],
    "woocommerce-rest.jsonl": [
        (
            "john.doe@example.com 2017-03-22T19:28:02Z purchase item_id=93 price=3.00 quantity=2 "
            'currency=USD order_id=727 properties={"item_name":"Woo Single #1"}'
        ),
        (
            "john.doe@example.com 2017-03-22T19:28:02Z purchase item_id=Bar3 price=12.00 "
            'quantity=1 currency=USD order_id=727 properties={"item_name":"Ship Your Idea"}'
        ),
        (
            "26 2017-03-23T19:28:02Z purchase item_id=Bar3 price=12.00 quantity=1 currency=USD "
            'order_id=728 properties={"item_name":"Ship Your Idea"}'
        ),
        (
            "26 2017-03-25T10:00:00Z refund item_id=Bar3 price=12.00 quantity=1 currency=USD "
            'order_id=728 properties={"item_name":"Ship Your Idea"}'
        ),
        "filtered: status drop 2",
    ],
    "woocommerce.csv": [
        (
            "17 2025-05-30T22:00:00Z purchase item_id=TS-M price=15.00 quantity=2 currency=EUR "
            'order_id=4992 properties={"item_name":"T-shirt"}'
        ),
        (
            "17 2025-05-30T22:00:00Z purchase item_id=4960 price=13.33 quantity=3 currency=EUR "
            'order_id=4992 properties={"item_name":"Mug"}'
        ),
        (
            "bob@example.com 2025-05-31T00:37:00Z purchase item_id=TS-M price=15.00 quantity=2 "
            'currency=EUR order_id=4993 properties={"item_name":"T-shirt"}'
        ),
        (
            "bob@example.com 2025-06-02T09:00:00Z refund item_id=TS-M price=15.00 quantity=2 "
            'currency=EUR order_id=4993 properties={"item_name":"T-shirt"}'
        ),
        (
            "eve@example.com 2025-05-31T01:20:00Z purchase item_id=TS-M price=30.00 quantity=1 "
            'currency=EUR order_id=4996 properties={"item_name":"T-shirt"}'
        ),
        "filtered: status drop 2",
    ],
}
"""File -> its events, refusals, filtered rows and warnings."""

SAMPLES = {
    "canonical": "user_id,event_time,event_type\nu1,2025-01-01T10:00:00Z,view_item\n",
    "taobao": "1,2268318,2520377,pv,1511544070\n",
    "rees46": (
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        "2019-10-01 00:00:00 UTC,view,44600062,21038,,shiseido,35.79,541312140,s1\n"
    ),
    "retailrocket": "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n",
    "online_retail": (
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
    ),
    "otto": '{"session": 3, "events": [{"aid": 7, "ts": 1659304800025, "type": "clicks"}]}\n',
    "ga4": (
        "event_timestamp,event_name,user_pseudo_id,item_id,price\n1609459200123456,purchase,1.5,SKU1,19.99\n"
    ),
    "app_profile": "user_id,first_visit_date,screen_list,purchase_date\n1,9/19/23,cart,\n",
}
"""Preset -> a file of it, beside those in `vendor_exports`."""


def preset_of(name: str) -> str:
    """The preset of a file in `vendor_exports`: the first word of its name."""
    return name.partition(".")[0].rpartition("-")[0] or name.partition(".")[0]


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_export_has_its_events(name: str) -> None:
    assert read_rows(EXPORTS / name, sources.get_preset(preset_of(name))) == OUTCOMES[name]


def test_every_export_has_an_outcome() -> None:
    assert {path.name for path in EXPORTS.iterdir()} == set(OUTCOMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_ids_of_an_export_are_unique_and_stay(name: str) -> None:
    source = sources.get_preset(preset_of(name))
    first, second = (
        [chunk.events["event_id"] for chunk in sources.read_events(EXPORTS / name, source)] for _ in range(2)
    )
    assert pd.concat(first).is_unique
    assert pd.concat(first).equals(pd.concat(second))


@pytest.mark.parametrize("name", [*OUTCOMES, *SAMPLES])
def test_every_other_preset_names_the_fitting_one(name: str, tmp_path: Path) -> None:
    path, fitting = EXPORTS / name, preset_of(name)
    if name in SAMPLES:
        path, fitting = tmp_path / "raw", name
        path.write_text(SAMPLES[name])
    assert any(len(chunk.events) for chunk in sources.read_events(path, sources.get_preset(fitting)))
    for other in PRESETS.keys() - {fitting}:
        with pytest.raises(InputError) as caught:
            list(sources.read_events(path, sources.get_preset(other)))
        assert caught.value.remedy.startswith(f"use --source {fitting}"), (other, str(caught.value))
        assert "\n" not in str(caught.value)


@pytest.fixture
def posthog_parquet(tmp_path: Path) -> Path:
    """The events of `posthog.jsonl` as a batch export writes them: properties as text, typed times."""
    rows = [json.loads(line) for line in (EXPORTS / "posthog.jsonl").read_text().splitlines()]
    table = pa.table(
        {name: [row.get(name) for row in rows] for name in ("uuid", "event", "distinct_id", "person_id")}
        | {"properties": [json.dumps(row["properties"]) for row in rows]}
    )
    times = pa.array([row["timestamp"].rstrip("Z") for row in rows]).cast(pa.timestamp("us"))
    pq.write_table(table.append_column("timestamp", times.cast(pa.timestamp("us", "UTC"))), tmp_path / "p")
    return tmp_path / "p"


def test_posthog_parquet_has_the_events_of_its_json_lines(posthog_parquet: Path) -> None:
    posthog = sources.get_preset("posthog")
    assert read_rows(posthog_parquet, posthog) == read_rows(EXPORTS / "posthog.jsonl", posthog)


@pytest.mark.parametrize("other", sorted(PRESETS.keys() - {"posthog"}))
def test_other_presets_name_the_fitting_one_for_parquet_too(posthog_parquet: Path, other: str) -> None:
    with pytest.raises(InputError) as caught:
        list(sources.read_events(posthog_parquet, sources.get_preset(other)))
    assert caught.value.remedy.startswith("use --source posthog")


def test_a_mapping_extends_a_vendor_preset(tmp_path: Path) -> None:
    mapping = tmp_path / "shop.yaml"
    mapping.write_text("extends: woocommerce\ntimezone: Europe/Berlin\nname: woo_berlin\n")
    source = sources.from_mapping(mapping)
    (csv_chunk,) = sources.read_events(EXPORTS / "woocommerce.csv", source)
    (json_chunk,) = sources.read_events(EXPORTS / "woocommerce-rest.jsonl", source)
    assert csv_chunk.events["event_time"][0] == pd.Timestamp("2025-05-30T20:00:00Z")
    assert json_chunk.events["event_time"][0] == pd.Timestamp("2017-03-22T19:28:02Z")


def test_a_matching_preset_needs_its_own_columns() -> None:
    assert matching_preset(("id", "time", "name")) is None


def test_an_order_in_a_later_export_is_the_same_event(tmp_path: Path) -> None:
    """Its status has changed by then, and it is on another line of the file."""
    lines = (EXPORTS / "shopify.csv").read_text().splitlines(keepends=True)
    path = tmp_path / "later.csv"
    path.write_text(lines[0] + lines[-1] + lines[1].replace("paid", "partially_refunded", 1) + lines[2])
    shopify = sources.get_preset("shopify")
    (earlier,) = sources.read_events(EXPORTS / "shopify.csv", shopify)
    (later,) = sources.read_events(path, shopify)
    assert later.events.equals(earlier.events.head(2))


def test_orders_of_both_shopify_apis_are_the_same_events() -> None:
    shopify = sources.get_preset("shopify")
    (rest,) = sources.read_events(EXPORTS / "shopify-rest.jsonl", shopify)
    (graphql,) = sources.read_events(EXPORTS / "shopify-graphql.jsonl", shopify)
    assert graphql.events.head(1).equals(rest.events.head(1))


def test_both_editions_of_online_retail_give_the_same_events(tmp_path: Path) -> None:
    text = (EXPORTS / "online_retail-second.csv").read_text()
    first_edition = tmp_path / "first.csv"
    names = {"Invoice,": "InvoiceNo,", "Price,": "UnitPrice,", "Customer ID": "CustomerID"}
    for other, name in names.items():
        text = text.replace(other, name, 1)
    first_edition.write_text(text)
    source = sources.get_preset("online_retail")
    (second,) = sources.read_events(EXPORTS / "online_retail-second.csv", source)
    (first,) = sources.read_events(first_edition, source)
    assert len(first.events) == 3
    assert second.events.equals(first.events)
    assert second.v1_ids() == first.v1_ids()
    assert second.header == first.header


def test_spellings_change_no_options_hash_and_no_column_that_a_mapping_names() -> None:
    source = sources.get_preset("online_retail")
    assert replace(source, spellings={}).options_hash() == source.options_hash()
    assert source.spelled(("Invoice", "InvoiceNo", "Price")) == ("Invoice", "InvoiceNo", "UnitPrice")
    mapped = replace(source, columns=dict(source.columns) | {"price": ("Price",)})
    assert mapped.spelled(("Price",)) == ("Price",)


def test_snowplow_reads_a_tsv_with_a_header_and_both_forms_alike(tmp_path: Path) -> None:
    snowplow = sources.get_preset("snowplow")
    lines = (EXPORTS / "snowplow.tsv").read_text().splitlines(keepends=True)[:-1]
    path = tmp_path / "with_header.tsv"
    path.write_text("\t".join(TSV_COLUMNS) + "\n" + "".join(lines))
    (with_header,) = sources.read_events(path, snowplow)
    (tsv,) = sources.read_events(EXPORTS / "snowplow.tsv", snowplow)
    (sdk,) = sources.read_events(EXPORTS / "snowplow-sdk.jsonl", snowplow)
    assert with_header.events.equals(tsv.events)
    assert sdk.events.equals(tsv.events)
    assert with_header.lines[0] == 2


def test_a_response_of_an_api_with_all_orders_in_one_object_is_explained(tmp_path: Path) -> None:
    lines = (EXPORTS / "shopify-rest.jsonl").read_text().splitlines()
    path = tmp_path / "response.json"
    path.write_text(json.dumps({"orders": [json.loads(line) for line in lines]}))
    with pytest.raises(InputError, match="write one of these per line"):
        list(sources.read_events(path, sources.get_preset("shopify")))


@pytest.mark.parametrize("other", ["taobao", "snowplow", "otto", "canonical"])
def test_a_quoted_header_is_recognised(tmp_path: Path, other: str) -> None:
    header, *lines = (EXPORTS / "shopify.csv").read_text().splitlines()
    path = tmp_path / "quoted.csv"
    quoted = ",".join(f'"{name}"' for name in header.split(","))
    path.write_text("\n".join([quoted, *lines]))
    with pytest.raises(InputError) as caught:
        list(sources.read_events(path, sources.get_preset(other)))
    assert caught.value.remedy.startswith("use --source shopify")
