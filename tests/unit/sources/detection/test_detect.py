"""What is recognised in unknown files: each test is one rule, with a file that shows it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources.detection import Detection, detect
from retail_core.sources.detection.column_names import name_scores
from tests.unit.sources.detection.preset_files import PRESET_FILES
from tests.unit.sources.event_rows import event_rows

CASES = Path(__file__).parents[1] / "cases"


def _detect(tmp_path: Path, content: str | bytes, name: str = "log.csv") -> Detection:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return detect(path)


def _mapping(result: Detection) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(result.text)
    return content


def _lines(header: str, rows: Sequence[str]) -> str:
    return "\n".join([header, *rows]) + "\n"


def _times(count: int) -> list[str]:
    return [f"2025-01-{1 + row // 24:02d}T{row % 24:02d}:00:00Z" for row in range(count)]


@pytest.mark.parametrize(
    ("name", "header", "field"),
    [
        ("user_id", "Kundennummer", "K{}"),
        ("user_id", "customerId", "c{}"),
        ("user_id", "id_client", "c{}"),
        ("user_id", "Customer Email", "c{}@x.test"),
        ("item_id", "Artikel-Nr", "A{}"),
        ("item_id", "produit", "P{}"),
        ("item_id", "Lineitem sku", "S{}"),
        ("order_id", "numéro_commande", "F{}"),
        ("session_id", "visitId", "v{}"),
        ("quantity", "Anzahl", "{}"),
        ("price", "Grand Total (Base)", "{}.50"),
        ("category", "Kategorie", "k{}"),
        ("brand", "marque", "m{}"),
    ],
)
def test_columns_are_found_by_names_of_several_languages(
    tmp_path: Path, name: str, header: str, field: str
) -> None:
    columns = {"user_id": "user", "event_type": "action", name: header}
    rows = [f"u{row % 7},view,{field.format(row % 5)},{time}" for row, time in enumerate(_times(40))]
    text = _lines(f"{columns['user_id']},action,{header},zeit", rows)
    if name == "user_id":
        text = _lines(
            f"{header},action,zeit", [f"{field.format(row % 7)},view,{t}" for row, t in enumerate(_times(40))]
        )
    result = _detect(tmp_path, text)
    assert _mapping(result)["columns"][name] == header
    assert _mapping(result)["columns"]["event_time"] == "zeit"
    assert (result.trial.events, result.trial.refused) == (40, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2025-01-31T10:00:00Z", "2025-02-01T10:00:00+01:00"], None),
        (["1738317600", "1738317601"], "unix_s"),
        (["1738317600123", "1738317601123"], "unix_ms"),
        (["1738317600123456", "1738317601123456"], "unix_us"),
        (["31.01.2025 10:00", "01.02.2025 11:00"], ["%d.%m.%Y %H:%M"]),
        (["01/31/2025 10:00:05", "02/01/2025 11:00:05"], ["%m/%d/%Y %H:%M:%S"]),
        (["1/31/25 1:00 PM", "2/1/25 11:00 AM"], ["%m/%d/%y %I:%M %p"]),
        (["Jan 31, 2025 10:00:05 AM", "Feb 1, 2025 01:00:05 PM"], ["%b %d, %Y %I:%M:%S %p"]),
        (["31-Jan-2025", "01-Feb-2025"], ["%d-%b-%Y"]),
        (["31/Jan/2025:10:00:05 +0100", "01/Feb/2025:10:00:05 +0100"], ["%d/%b/%Y:%H:%M:%S %z"]),
        (["20250131100005", "20250201100005"], ["%Y%m%d%H%M%S"]),
        (["2014-12-05 07", "2014-12-06 23"], ["%Y-%m-%d %H"]),
        (["2025-01-31T10:00:00Z", "1738317600"], ["iso", "unix_s"]),
        (["1738317600", "1738317601123"], ["unix_s", "unix_ms"]),
        (["1738317600123456", "1738317601123", "1738317601123"], ["unix_ms", "unix_us"]),
    ],
)
def test_formats_of_times(tmp_path: Path, values: list[str], expected: object) -> None:
    rows = [f'u{row % 7},purchase,"{values[row % len(values)]}"' for row in range(40)]
    result = _detect(tmp_path, _lines("user_id,event,time", rows))
    assert _mapping(result).get("time") == expected
    assert result.trial.refused == 0


def test_written_times_after_many_unix_times_are_read(tmp_path: Path) -> None:
    times = [str(1738317600 + row) for row in range(80)] + ["2025-02-01T10:00:00Z"] * 40
    result = _detect(
        tmp_path, _lines("user_id,event,time", [f"u{time[-2]},purchase,{time}" for time in times])
    )
    assert _mapping(result)["time"] == ["unix_s", "iso"]
    assert (result.trial.events, result.trial.refused) == (120, 0)


@pytest.mark.parametrize(
    "other", ["Refunded Amount", "Tax Amount", "discount_total", "Shipping Revenue", "Erstattet Betrag"]
)
def test_a_refund_tax_or_discount_is_not_the_price(tmp_path: Path, other: str) -> None:
    rows = [f"c{row % 9},2025-01-{1 + row % 28:02d} 10:00:00,{row % 3}.00,{10 + row}.50" for row in range(40)]
    result = _detect(tmp_path, _lines(f"customer_id,order_date,{other},Total", rows))
    assert _mapping(result)["columns"]["price"] == "Total"


@pytest.mark.parametrize("name", ["discount_price", "total_incl_tax", "Amount without shipping"])
def test_an_amount_after_discount_or_with_tax_is_a_price(name: str) -> None:
    assert name_scores(name)["price"] >= 0.35


def test_an_ambiguous_order_of_day_and_month_is_asked_not_guessed(tmp_path: Path) -> None:
    rows = [f"u{date},purchase,{date}/2025" for date in ("02/03", "11/03", "12/03", "01/04")]
    result = _detect(tmp_path, _lines("user_id,event,date", rows))
    question = next(question for question in result.questions if question.key == "time")
    assert question.choices == ('time: ["%d/%m/%Y"]', 'time: ["%m/%d/%Y"]')
    assert "Only with %d/%m/%Y the rows are in order of time" in question.text
    first = [trial.preview[0]["event"]["event_time"] for _, trial in result.alternatives]
    assert first == ["2025-03-02T00:00:00.000Z", "2025-02-03T00:00:00.000Z"]
    mapping = tmp_path / "shop.yaml"
    mapping.write_text(result.text)
    with pytest.raises(InputError, match="order of day and month is ambiguous"):
        sources.from_mapping(mapping)


def test_one_day_after_the_twelfth_decides_the_order(tmp_path: Path) -> None:
    result = _detect(tmp_path, _lines("user_id,event,date", ["u1,buy,03/04/2025", "u2,buy,13/04/2025"]))
    assert _mapping(result)["time"] == ["%d/%m/%Y"]
    assert [question.key for question in result.questions] == ["timezone"]


def test_date_and_clock_in_two_columns_are_joined(tmp_path: Path) -> None:
    rows = [f"u{row},kauf,{13 + row}.01.2025,1{row}:05:00" for row in range(9)]
    result = _detect(tmp_path, _lines("kunde,aktion,datum,uhrzeit", rows))
    assert _mapping(result)["columns"]["event_time"] == ["datum", "uhrzeit"]
    assert result.trial.preview[0]["event"]["event_time"] == "2025-01-13T10:05:00.000Z"


def test_the_time_of_the_event_is_preferred_to_other_times(tmp_path: Path) -> None:
    header = "user_id,event,server_upload_time,event_time,user_creation_time"
    rows = [
        f"u{row % 7},view,2025-02-01T00:00:00Z,{time},2024-01-01T00:00:00Z"
        for row, time in enumerate(_times(30))
    ]
    assert _mapping(_detect(tmp_path, _lines(header, rows)))["columns"]["event_time"] == "event_time"


def test_a_second_column_fills_gaps_of_the_first(tmp_path: Path) -> None:
    rows = [
        f"{f'u{row % 4}' if row % 3 else ''},d{row % 5},view,{time}" for row, time in enumerate(_times(30))
    ]
    result = _detect(tmp_path, _lines("user_id,device_id,event,time", rows))
    assert _mapping(result)["columns"]["user_id"] == "user_id"
    assert _mapping(result)["anonymous_id"] == "device_id"
    assert any(question.key == "anonymous_id" for question in result.questions)
    assert {row["event"]["user_id"][0] for row in result.trial.preview} == {"u", "d"}


def test_two_ids_of_accounts_are_asked_about(tmp_path: Path) -> None:
    rows = [
        f"{f'u{row % 4}' if row % 5 else ''},d{row % 5}@x,view,{time}" for row, time in enumerate(_times(30))
    ]
    result = _detect(tmp_path, _lines("user_id,email,event,time", rows))
    assert _mapping(result)["columns"]["user_id"] == ["user_id", "email"]
    assert any(question.key == "columns.user_id" for question in result.questions)


def test_a_counter_is_no_event_id_and_a_unique_column_is(tmp_path: Path) -> None:
    rows = [f"u{row % 7},{row % 9},m{row},view,{time}" for row, time in enumerate(_times(30))]
    result = _detect(tmp_path, _lines("user_id,event_id,insert_id,event,time", rows))
    assert _mapping(result)["columns"]["event_id"] == "insert_id"


def test_names_of_events_are_translated_and_unknown_ones_kept(tmp_path: Path) -> None:
    names = ["Produktansicht", "In den Warenkorb", "Kauf", "Merkliste", "Suche", "page_ping"]
    rows = [f"u{row % 7},{names[row % 6]},{time}" for row, time in enumerate(_times(30))]
    result = _detect(tmp_path, _lines("kunde,aktion,zeit", rows))
    assert _mapping(result)["event_types"] == {
        "Produktansicht": "view_item",
        "In den Warenkorb": "add_to_cart",
        "Kauf": "purchase",
        "Merkliste": "add_to_wishlist",
        "Suche": "search",
    }
    assert result.trial.event_types is not None
    assert result.trial.event_types["page_ping"] == 5
    assert "page_ping (5)" in next(q.text for q in result.questions if q.key == "event_types")


def test_numbers_as_event_types_are_asked_about(tmp_path: Path) -> None:
    rows = [f"u{row % 7},{1 + row % 4},{time}" for row, time in enumerate(_times(40))]
    result = _detect(tmp_path, _lines("user_id,behavior_type,time", rows))
    assert _mapping(result)["columns"]["event_type"] == "behavior_type"
    assert "1 (10), 2 (10), 3 (10), 4 (10)" in result.questions[0].text
    assert result.document()["notes"] == [
        "No event type of the sample is a purchase; a model needs purchases."
    ]


def test_states_of_orders_become_purchases_refunds_or_nothing(tmp_path: Path) -> None:
    states = ["Complete", "Canceled", "Refunded", "Closed"]
    rows = [
        f"{row:05d},c{row % 7}@x.test,{states[row % 4]},9.50,{time}" for row, time in enumerate(_times(40))
    ]
    result = _detect(tmp_path, _lines("ID,Email,Status,Total,Purchase Date", rows))
    mapping = _mapping(result)
    assert mapping["event_types"] == {
        "Complete": "purchase",
        "Canceled": None,
        "Refunded": "refund",
        "Closed": "purchase",
    }
    assert mapping["columns"]["order_id"] == "ID"
    assert "Do these mean a purchase: Closed?" in next(
        q.text for q in result.questions if q.key == "event_types"
    )
    assert result.trial.filtered[0]["count"] == 10


def test_a_file_of_orders_has_purchases_only(tmp_path: Path) -> None:
    rows = [f"c{row % 7},{1000 + row},9.50,{time}" for row, time in enumerate(_times(30))]
    result = _detect(tmp_path, _lines("customer,invoice_no,amount,date", rows))
    assert _mapping(result)["constants"] == {"event_type": "purchase"}
    assert "Is every row a purchase?" in result.questions[0].text
    assert result.trial.event_types == {"purchase": 30}


def test_no_event_type_without_evidence_of_orders_is_a_problem(tmp_path: Path) -> None:
    result = _detect(
        tmp_path, _lines("user_id,zone,time", [f"u{row},a,{t}" for row, t in enumerate(_times(9))])
    )
    problem = result.problem()
    assert result.missing == ("event_type",)
    assert problem is not None
    assert "no column that looks like event_type" in problem.message
    assert "constants" in problem.remedy


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        (["19,90", "1.012,50"], {"decimal": ","}),
        (["19.90", "1,012.50"], {"decimal": "."}),
        (["19.90", "5"], {}),
        (["$19.90", "$5"], {"currency_signs": {"$": "USD"}}),
        (["19,90 €", "5,00 €"], {"decimal": ",", "currency_signs": {"€": "EUR"}}),
        (["19.90", "-5.00"], {"refunds": {"negative": True}}),
    ],
)
def test_how_amounts_are_written(tmp_path: Path, prices: list[str], expected: dict[str, object]) -> None:
    rows = [f'u{row % 7};purchase;"{prices[row % 2]}";{time}' for row, time in enumerate(_times(30))]
    result = _detect(tmp_path, _lines("user_id;event;price;time", rows))
    mapping = _mapping(result)
    assert {
        key: mapping.get(key) for key in ("decimal", "currency_signs", "refunds") if key in mapping
    } == expected
    assert not result.trial.warnings
    assert result.trial.refused == 0


def test_a_grouped_number_without_decimals_is_asked_about(tmp_path: Path) -> None:
    rows = [f'u{row % 7},purchase,"1,{row:03d}",{time}' for row, time in enumerate(_times(30))]
    result = _detect(tmp_path, _lines("user_id,event,price,time", rows))
    assert any(question.key == "decimal" for question in result.questions)


def test_lines_of_an_order_are_filled_down() -> None:
    mapping = _mapping(detect(CASES / "shopify_cont.csv"))
    assert mapping["fill_down"] == {"by": "Name", "columns": ["Email", "Financial Status", "Currency"]}
    assert mapping["columns"]["order_id"] == "Name"


def _nested_lines() -> str:
    items = [{"sku": "a", "price": 1.5, "quantity": 2}, {"sku": "b", "price": 3, "quantity": 1}]
    rows = [
        {
            "user": {"id": f"u{row % 7}"},
            "ts": time,
            "event": {"name": "Order Completed"},
            "order": {"id": f"o{row}", "items": items},
        }
        if row % 3 == 0
        else {
            "user": {"id": f"u{row % 7}"},
            "ts": time,
            "event": {"name": "Product Viewed"},
            "product": {"sku": f"c{row % 5}", "price": 2},
        }
        for row, time in enumerate(_times(30))
    ]
    return "\n".join(map(json.dumps, rows)) + "\n"


def test_paths_into_json_and_one_exploded_list(tmp_path: Path) -> None:
    result = _detect(tmp_path, _nested_lines(), "log.jsonl")
    columns = _mapping(result)["columns"]
    assert (columns["user_id"], columns["event_type"]) == ("user.id", "event.name")
    assert set(columns["item_id"]) == {"order.items[].sku", "product.sku"}
    assert columns["quantity"] == "order.items[].quantity"
    assert result.trial.events == 40


def test_the_packing_does_not_matter(tmp_path: Path) -> None:
    plain = _detect(tmp_path, _nested_lines(), "log.jsonl")
    packed = _detect(tmp_path, gzip.compress(_nested_lines().encode()), "log.gz")
    assert packed.text.splitlines()[1:] == plain.text.splitlines()[1:]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    times = pd.to_datetime(_times(30))
    frame = pd.DataFrame(
        {"customer": [f"c{row % 7}" for row in range(30)], "when": times, "action": "buy", "preis": 2.5}
    )
    frame.to_parquet(path)
    result = detect(path)
    assert _mapping(result)["columns"] == {
        "user_id": "customer",
        "event_time": "when",
        "event_type": "action",
        "price": "preis",
    }
    assert (result.trial.events, result.trial.refused) == (30, 0)


def test_a_file_without_a_header_is_read_by_its_values(tmp_path: Path) -> None:
    names = ["view", "view", "cart", "purchase"]
    rows = [
        f"{time};{100 + row % 30};{names[row % 4]};SKU{row % 20};{row % 9}.50"
        for row, time in enumerate(_times(200))
    ]
    result = _detect(tmp_path, "\n".join(rows) + "\n")
    mapping = _mapping(result)
    assert mapping["header"] == [f"column{number}" for number in range(1, 6)]
    assert mapping["columns"] == {
        "event_time": "column1",
        "event_type": "column3",
        "user_id": "column2",
        "item_id": "column4",
        "price": "column5",
    }
    assert result.proposal is not None
    assert result.proposal.fields["user_id"].confidence == 0.3


def test_refused_rows_are_counted_with_rule_and_remedy() -> None:
    result = detect(CASES / "nullmarkers.csv")
    assert (result.trial.events, result.trial.refused) == (1, 4)
    assert [(row["rule"], row["field"], row["count"], row["line"]) for row in result.trial.refusals] == [
        ("missing", "userId", 4, 2)
    ]


def test_the_proposed_mapping_gives_the_previewed_events(tmp_path: Path) -> None:
    result = detect(CASES / "shopify_cont.csv")
    mapping = tmp_path / "m.yaml"
    mapping.write_text(result.text)
    chunks = list(sources.read_events(CASES / "shopify_cont.csv", sources.from_mapping(mapping)))
    rows = event_rows(chunks)
    assert (
        rows[1]
        == "a@x.test 2025-01-05T07:59:00Z purchase item_id=S2 price=5.00 quantity=2 currency=EUR order_id=#1"
    )
    assert len(rows) == result.trial.events == 3


EXPECTED = {
    "attrmissing.csv": "canonical",
    "dup_unused.csv": "ga4",
    "floatids.csv": "canonical",
    "ga4_daily.csv": "ga4",
    "ga4_intraday.csv": "ga4",
    "ga4_sci.csv": "ga4",
    "optionalmissing.csv": "canonical",
    "sciids.csv": "canonical",
}
WITHOUT_TYPE = {"ambiguous.csv", "datetime2.csv"}


@pytest.mark.parametrize("path", sorted(CASES.glob("*.csv")), ids=lambda path: path.name)
def test_the_cases_are_recognised(path: Path) -> None:
    result = detect(path)
    assert result.preset == EXPECTED.get(path.name)
    assert result.missing == (("event_type",) if path.name in WITHOUT_TYPE else ())


@pytest.mark.parametrize("preset", PRESET_FILES)
def test_presets_are_recognised(tmp_path: Path, preset: str) -> None:
    result = _detect(tmp_path, PRESET_FILES[preset])
    assert result.preset == preset
    mapping = tmp_path / "m.yaml"
    mapping.write_text(result.text)
    assert sources.from_mapping(mapping) == sources.get_preset(preset)


def test_canonical_columns_with_other_event_names_need_a_mapping(tmp_path: Path) -> None:
    result = _detect(tmp_path, "user_id,event_time,event_type\nu1,2025-01-01T10:00:00Z,buy\n")
    assert result.preset is None
    assert _mapping(result)["event_types"] == {"buy": "purchase"}


def test_a_mapping_contains_no_value_that_identifies_a_user(tmp_path: Path) -> None:
    rows = [f"mia{row % 7}@x.test,ord{row},view,{time}" for row, time in enumerate(_times(30))]
    text = _detect(tmp_path, _lines("email,order_id,event,time", rows)).text
    assert "user_id: email" in text
    assert "x.test" not in text
    assert "ord1" not in text


def test_cells_with_goods_are_split_into_parts(tmp_path: Path) -> None:
    goods = [";A-1;2;19.98", ";B-2;1;5,;C-3;1;7.50", ";D-4"]
    rows = [f"u{row % 7}|purchase|{time}|{goods[row % 3]}" for row, time in enumerate(_times(30))]
    result = _detect(tmp_path, _lines("user_id|event|time|products", rows))
    mapping = _mapping(result)
    assert mapping["lists"] == {
        "goods": {"column": "products", "fields": ["part1", "sku", "quantity", "total"]}
    }
    assert mapping["columns"]["price"] == "goods[].total"
    assert result.trial.events == 40


def test_cells_with_known_events_give_the_one_nearest_to_a_purchase(tmp_path: Path) -> None:
    cells = ["page_view,view_item", "view_item,promo", "promo,purchase,view_item"]
    rows = [f"u{row % 7}|{cells[row % 3]}|{time}" for row, time in enumerate(_times(30))]
    result = _detect(tmp_path, _lines("user_id|events|time", rows).replace("events", "event"))
    assert _mapping(result)["lists"]["event"]["first_of"] == ["purchase", "view_item", "page_view"]
    assert result.trial.event_types == {"view_item": 20, "purchase": 10}


def test_cells_with_codes_are_listed_in_a_question(tmp_path: Path) -> None:
    rows = [f"u{row % 7}|{'2,100' if row % 3 else '1,100,20'}|{time}" for row, time in enumerate(_times(30))]
    result = _detect(tmp_path, _lines("user_id|event_list|time", rows))
    assert "100 (30), 2 (20), 1 (10), 20 (10)" in next(
        q.text for q in result.questions if q.key == "lists.event"
    )


def test_counts_under_names_that_say_nothing_are_no_user_ids(tmp_path: Path) -> None:
    rows = [f"{row % 7},{row % 5},buy,{time}" for row, time in enumerate(_times(60))]
    assert _detect(tmp_path, _lines("foo,bar,event,time", rows)).missing == ("user_id",)
    rows = [f"{70000 + row % 7},{row % 5},buy,{time}" for row, time in enumerate(_times(60))]
    columns = _mapping(_detect(tmp_path, _lines("foo,bar,event,time", rows)))["columns"]
    assert columns["user_id"] == "foo"


def test_a_dash_for_no_decimals_is_no_refund(tmp_path: Path) -> None:
    rows = [f"K{row % 7};{13 + row % 9}.01.2025;Kauf;{5 + row},-" for row in range(40)]
    result = _detect(tmp_path, _lines("Kunde;Datum;Aktion;Preis", rows))
    assert (_mapping(result)["decimal"], _mapping(result).get("refunds")) == (",", None)
    assert (result.trial.event_types, result.trial.refused, result.trial.warnings) == (
        {"purchase": 40},
        0,
        (),
    )
