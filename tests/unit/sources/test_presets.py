"""Events of each preset, from rows in its documented format."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources import Chunk
from retail_core.sources.presets.app_profile import screen_name


def _read(tmp_path: Path, source: str, text: str) -> Chunk:
    path = tmp_path / "raw"
    path.write_text(text)
    (chunk,) = sources.read_events(path, sources.get_preset(source))
    return chunk


def _rows(chunk: Chunk) -> list[tuple[object, ...]]:
    """User, time, type and item of each event."""
    events = chunk.events
    times = events["event_time"].dt.strftime("%Y-%m-%d %H:%M:%S")
    return list(zip(events["user_id"], times, events["event_type"], events["item_id"], strict=True))


def test_taobao(tmp_path: Path) -> None:
    chunk = _read(
        tmp_path, "taobao", "1,2268318,2520377,pv,1511544070\n1,2268318,2520377,buy,1511544071\n1,2,3,p"
    )
    assert _rows(chunk) == [
        ("1", "2017-11-24 17:21:10", "view_item", "2268318"),
        ("1", "2017-11-24 17:21:11", "purchase", "2268318"),
    ]
    assert chunk.events["category"].tolist() == ["2520377"] * 2
    assert [(refusal.line, refusal.rule) for refusal in chunk.refused] == [(3, "fields")]


def test_rees46_falls_back_to_the_category_id(tmp_path: Path) -> None:
    header = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
    chunk = _read(
        tmp_path,
        "rees46",
        header
        + "2019-10-01 00:00:00 UTC,view,44600062,21038,,shiseido,35.79,541312140,s1\n"
        + "2019-10-01 00:00:01 UTC,remove_from_cart,1,2,a.b,,33.20,5,s2\n",
    )
    assert _rows(chunk) == [
        ("541312140", "2019-10-01 00:00:00", "view_item", "44600062"),
        ("5", "2019-10-01 00:00:01", "remove_from_cart", "1"),
    ]
    assert chunk.events["category"].tolist() == ["21038", "a.b"]
    assert chunk.events["price_minor"].tolist() == [3579, 3320]
    assert chunk.events["session_id"].tolist() == ["s1", "s2"]


def test_retailrocket(tmp_path: Path) -> None:
    text = "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
    chunk = _read(tmp_path, "retailrocket", text + "1433222276276,599528,transaction,356475,4000\n")
    assert _rows(chunk) == [
        ("257597", "2015-06-02 05:02:12", "view_item", "355908"),
        ("599528", "2015-06-02 05:17:56", "purchase", "356475"),
    ]
    assert chunk.events["order_id"].tolist()[1] == "4000"
    assert chunk.events["event_time"].dt.microsecond.tolist() == [117_000, 276_000]


def test_online_retail_turns_cancellations_into_refunds_and_refuses_bookkeeping(tmp_path: Path) -> None:
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    lines = [
        "536365,85123A,LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
        "C536379,D,Discount,-1,2011-07-01 09:41:00,27.505,14527.0,United Kingdom",
        "536414,22139,,56,2010-12-01 11:52:00,0.0,,United Kingdom",
        "A563185,B,Adjust bad debt,1,2011-08-12 14:50:00,11062.06,12345.0,United Kingdom",
        "536779,BANK CHARGES,Bank Charges,1,2010-12-02 15:08:00,15.0,15823.0,United Kingdom",
        "536365,85123A,LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
    ]
    chunk = _read(tmp_path, "online_retail", header + "\n".join(lines) + "\n")
    assert _rows(chunk) == [
        ("17850", "2010-12-01 08:26:00", "purchase", "85123A"),
        ("14527", "2011-07-01 08:41:00", "refund", "D"),
        ("17850", "2010-12-01 08:26:00", "purchase", "85123A"),
    ]
    assert chunk.events["event_id"].nunique() == 2
    assert chunk.events["quantity"].tolist() == [6, 1, 6]
    assert chunk.events["price_minor"].tolist() == [255, 2750, 255]
    assert json.loads(chunk.events["properties"][0]) == {
        "Country": "United Kingdom",
        "Description": "LIGHT HOLDER",
    }
    assert sorted((refusal.line, refusal.rule, refusal.field) for refusal in chunk.refused) == [
        (4, "missing", "CustomerID"),
        (5, "adjustment", "InvoiceNo"),
        (6, "not_a_product", "StockCode"),
    ]


def test_otto_sessions_become_users_and_a_bad_event_is_refused_alone(tmp_path: Path) -> None:
    good = {"aid": 7, "ts": 1659304800025, "type": "clicks"}
    session = {
        "session": 3,
        "events": [good, {"aid": 8, "ts": "soon", "type": "orders"}, good | {"type": "carts"}],
    }
    chunk = _read(tmp_path, "otto", json.dumps(session) + "\n{broken\n")
    assert _rows(chunk) == [
        ("3", "2022-07-31 22:00:00", "view_item", "7"),
        ("3", "2022-07-31 22:00:00", "add_to_cart", "7"),
    ]
    assert sorted((refusal.line, refusal.rule) for refusal in chunk.refused) == [(1, "time"), (2, "json")]
    assert chunk.rows_read == 4


@pytest.mark.parametrize("style", ["items.{}", "items_{}", "{}"])
def test_ga4_in_the_three_spellings_of_flattened_exports(tmp_path: Path, style: str) -> None:
    names = [style.format(name) for name in ("item_id", "item_category", "price", "quantity")]
    header = [
        "event_timestamp",
        "event_name",
        "user_pseudo_id",
        *names,
        "ecommerce.transaction_id",
        "platform",
    ]
    row = "1609459200123456,purchase,1234.5678,SKU1,Shoes,19.99,2,T1,WEB"
    chunk = _read(tmp_path, "ga4", ",".join(header) + "\n" + row + "\n")
    assert _rows(chunk) == [("1234.5678", "2021-01-01 00:00:00", "purchase", "SKU1")]
    event = chunk.events.iloc[0]
    assert (event["category"], event["price_minor"], event["quantity"]) == ("Shoes", 1999, 2)
    assert (event["order_id"], event["platform"]) == ("T1", "WEB")


def test_app_profile_makes_screens_purchase_and_attributes_of_a_row(tmp_path: Path) -> None:
    header = (
        "user_id,first_visit_date,age,platform,screen_list,made_purchase,purchase_date,"
        "user_segment,app_version\n"
    )
    lines = [
        '1,9/19/23,66,Android,"ProductDetail,product",1,9/19/23 0:00,Senior Buyer,2.0',
        '2,12/1/2024 13:05,34,iOS,"cart",0,,New,3.1.2',
        '3,31/12/24,34,iOS,"cart",0,,New,3.1.2',
        '4,4/29/23,34,iOS,"cart, search",1,tomorrow,New,3.1.2',
        ",4/29/23,34,iOS,cart,0,,New,3.1.2",
        "6,4/29/23,34,iOS,,0,,New,3.1.2",
    ]
    chunk = _read(tmp_path, "app_profile", header + "\n".join(lines) + "\n")
    assert [row[:3] for row in _rows(chunk)] == [
        ("1", "2023-09-19 00:00:00", "screen_view"),
        ("1", "2023-09-19 00:00:00", "screen_view"),
        ("1", "2023-09-19 00:00:01", "purchase"),
        ("2", "2024-12-01 13:05:00", "screen_view"),
    ]
    assert chunk.events["category"].tolist()[:2] == ["product", "product"]
    assert [json.loads(text)["position"] for text in chunk.events["properties"].dropna()] == ["0", "1", "0"]
    assert chunk.users["user_id"].tolist() == ["1", "2", "6"]
    assert json.loads(chunk.users["attributes"][0]) == {
        "age": 66, "platform": "Android", "user_segment": "Senior Buyer", "app_version": "2.0",
    }  # fmt: skip
    assert chunk.users["valid_from"].dt.strftime("%Y-%m-%d %H:%M").tolist()[1] == "2024-12-01 13:05"
    assert [(refusal.line, refusal.field, refusal.rule) for refusal in chunk.refused] == [
        (4, "first_visit_date", "time"), (5, "purchase_date", "time"), (6, "user_id", "missing"),
    ]  # fmt: skip
    assert chunk.rows_read == 4 + 3


def test_both_vocabularies_of_screens_have_the_same_names() -> None:
    pairs = [
        ("ProductDetail", "product"),
        ("ShoppingCart", "cart"),
        ("WishList", "wishlist"),
        ("Reviews", "review"),
    ]
    assert all(screen_name(old) == screen_name(new) == new for old, new in pairs)


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="canonical, taobao, rees46"):
        sources.get_preset("adobe")


def test_event_ids_do_not_depend_on_the_file(tmp_path: Path) -> None:
    row = "u1,2025-01-01T00:00:00Z,view_item"
    bare = _read(tmp_path, "canonical", f"user_id,event_time,event_type\n{row}\n")
    with_empty_columns = _read(
        tmp_path, "canonical", f"user_id,event_time,event_type,item_id,price\n{row},,\n"
    )
    offset = _read(
        tmp_path, "canonical", "event_type,user_id,event_time\nview_item,u1,2025-01-01T08:00:00+08:00\n"
    )
    (posted, _) = sources.parse_events(
        [{"user_id": "u1", "event_time": "2025-01-01T00:00:00.000Z", "event_type": "view_item"}]
    )
    ids = [frame["event_id"][0] for frame in (bare.events, with_empty_columns.events, offset.events, posted)]
    assert len(set(ids)) == 1
    assert len(ids[0]) == 32


def test_ids_of_the_file_replace_hashed_ones(tmp_path: Path) -> None:
    header = "event_id,user_id,event_time,event_type\n"
    chunk = _read(
        tmp_path,
        "canonical",
        header
        + "a,u1,2025-01-01T00:00:00Z,view_item\na,u2,2025-01-01T00:00:00Z,search\n,u1,2025-01-01,search\n",
    )
    ids = chunk.events["event_id"].tolist()
    assert ids[0] == ids[1] != ids[2]
    assert chunk.source_ids.is_valid().to_pylist() == [True, True, False]


def test_posted_events_may_have_numbers_and_objects() -> None:
    rows: list[dict[str, object]] = [
        {"user_id": 12, "event_time": "2025-01-01T00:00:00Z", "event_type": "purchase", "price": 0.1 + 0.2,
         "quantity": 2, "properties": {"coupon": "X"}, "campaign": "mail"},
        {"user_id": "u", "event_time": 5, "event_type": "purchase"},
        {"user_id": "u", "event_time": "2025-01-01T00:00:00Z", "event_type": "refund", "price": float("nan")},
        {"user_id": "u", "event_time": "2025-01-01T00:00:00Z", "event_type": "purchase", "properties": "x"},
        {"event_time": "2025-01-01T00:00:00Z", "event_type": "purchase"},
        {"user_id": "u\x00", "event_time": "2025-01-01T00:00:00Z", "event_type": "purchase"},
    ]  # fmt: skip
    events, refused = sources.parse_events(rows)
    assert events["user_id"].tolist() == ["12", "u", "u"]
    assert events["price_minor"].tolist() == [30, pd.NA, pd.NA]
    assert json.loads(events["properties"][0]) == {"coupon": "X", "campaign": "mail"}
    assert sorted((refusal.line, refusal.rule) for refusal in refused) == [
        (2, "time"), (5, "missing"), (6, "nul"),
    ]  # fmt: skip
    assert len(sources.parse_events([])[0]) == 0


def test_a_quantity_with_two_signs_is_no_refund(tmp_path: Path) -> None:
    head = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    rows = "".join(f"1,M,x,{quantity},2010-12-01 08:26:00,1,1,UK\n" for quantity in ("-3", "--3", "-"))
    chunk = _read(tmp_path, "online_retail", head + rows)
    assert chunk.events["event_type"].tolist() == ["refund", "purchase", "purchase"]
    assert chunk.events["quantity"].isna().tolist() == [False, True, True]
    assert [(note.field, note.rule, note.count) for note in chunk.notes.warnings] == [
        ("Quantity", "quantity", 1)
    ]
