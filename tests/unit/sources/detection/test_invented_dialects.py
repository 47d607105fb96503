"""Logs in dialects of nobody: the proposed mapping, used as it is written, gives what the log says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources.detection import detect
from tests.unit.sources.detection.detected import csv_lines, hours

ROWS = 60
TIMES = hours(ROWS)
GERMAN = [f"{13 + row // 24}.01.2025 {row % 24:02d}:15" for row in range(ROWS)]
FRENCH = [time.replace(".", "/") for time in GERMAN]


@dataclass(frozen=True)
class Dialect:
    """A log and what it says.

    Attributes:
        name: file name.
        content: of the file.
        purchases: purchases in it.
        revenue: price times quantity of the purchases, in hundredths.
        asked: keys of the questions that stay open.
        events: all events.
    """

    name: str
    content: str | Callable[[Path], None]
    purchases: int
    revenue: int | None
    asked: frozenset[str]
    events: int = ROWS


def _csv(header: str, row: Callable[[int], str]) -> str:
    return csv_lines(header, [row(number) for number in range(ROWS)])


def _json(row: Callable[[int], dict[str, object]]) -> str:
    return "".join(json.dumps(row(number)) + "\n" for number in range(ROWS))


def _structs(path: Path) -> None:
    rows = [
        {
            "customer": {"customer_id": f"c{row % 7}"},
            "occurred_at": pd.Timestamp(TIMES[row]),
            "event_type": ("view", "cart", "purchase")[row % 3],
            "product": {"sku": f"s{row % 9}", "price": 10.5},
        }
        for row in range(ROWS)
    ]
    pd.DataFrame(rows).to_parquet(path)


DIALECTS = {
    "German, semicolons, decimal comma": Dialect(
        "log.csv",
        _csv(
            "Kundennummer;Zeitpunkt;Ereignis;Artikelnummer;Menge;Einzelpreis;Währung",
            lambda r: (
                f"K{r % 7};{GERMAN[r]};{('Produktansicht', 'Warenkorb', 'kauf')[r % 3]};A{r % 9};2;10,90;EUR"
            ),
        ),
        20,
        20 * 2 * 1090,
        frozenset({"timezone"}),
    ),
    "French, day first, signs": Dialect(
        "log.csv",
        _csv(
            "id_client;date_heure;evenement;ref_produit;quantite;prix",
            lambda r: (
                f"C{r % 7};{FRENCH[r]};{('vue produit', 'ajout panier', 'achat')[r % 3]};P{r % 9};1;10,90 €"
            ),
        ),
        20,
        20 * 1090,
        frozenset({"timezone"}),
    ),
    "Spanish, camel case": Dialect(
        "log.csv",
        _csv(
            "idUsuario,fechaHora,tipoEvento,idProducto,precio,cantidad",
            lambda r: (
                f"U{r % 7},{TIMES[r]},{('vista', 'agregarAlCarrito', 'compra')[r % 3]},P{r % 9},10.90,3"
            ),
        ),
        20,
        20 * 3 * 1090,
        frozenset({"constants.currency"}),
    ),
    "epoch ms, enumerations": Dialect(
        "log.csv",
        _csv(
            "uid,ts,action,sku,price_eur",
            lambda r: (
                f"u{r % 7},{1735700000000 + r * 3600000},"
                f"{('PRODUCT_VIEW', 'ADD_TO_BASKET', 'ORDER_PLACED')[r % 3]},s{r % 9},10.9"
            ),
        ),
        20,
        20 * 1090,
        frozenset({"constants.currency"}),
    ),
    "nested JSON": Dialect(
        "log.jsonl",
        _json(
            lambda r: {
                "meta": {"id": f"e{r}", "ts": TIMES[r]},
                "user": {"id": f"u{r % 7}"},
                "event": {"name": ("item_viewed", "cart_add", "checkout_completed")[r % 3]},
                "cart": {
                    "lines": [
                        {"product": {"id": "p"}, "qty": 1, "unitPrice": {"amount": 9.5, "currency": "EUR"}},
                        {"product": {"id": "q"}, "qty": 2, "unitPrice": {"amount": 3, "currency": "EUR"}},
                    ]
                },
            }
        ),
        40,
        20 * (950 + 2 * 300),
        frozenset({"price_per"}),
        events=2 * ROWS,
    ),
    "Parquet structs": Dialect("log.parquet", _structs, 20, 20 * 1050, frozenset({"constants.currency"})),
    "tabs, date and clock, test users": Dialect(
        "log.tsv",
        _csv(
            "member_no\tevent_date\tevent_time\tevent\titem\tamount\tis_test",
            lambda r: (
                f"m{r % 7}\t{13 + r // 24}-01-2025\t{r % 24:02d}:05\t{('view', 'basket', 'order')[r % 3]}"
                f"\ti{r % 9}\t10,50\t{'true' if r % 10 == 0 else 'false'}"
            ),
        ),
        18,
        18 * 1050,
        frozenset({"timezone", "constants.currency", "drop"}),
        events=54,
    ),
    "orders only": Dialect(
        "orders.csv",
        _csv(
            "order_number,created_at,customer_email,status,total_price,currency",
            lambda r: (
                f"{1000 + r},{TIMES[r]},m{r % 7}@x.test,{('paid', 'shipped', 'cancelled')[r % 3]},10.90,EUR"
            ),
        ),
        40,
        40 * 1090,
        frozenset(),
        events=40,
    ),
    "orders with their items in a cell": Dialect(
        "orders.csv",
        _csv(
            "order_id,placed_at,customer_id,skus,order_total",
            lambda r: f"{1000 + r},{TIMES[r]},c{r % 7},S{r % 9}|S{r % 5},31.00",
        ),
        120,
        60 * 3100,
        frozenset({"constants.event_type", "lists.goods", "price_per", "constants.currency"}),
        events=120,
    ),
    "Dutch, pipes, cents, environment": Dialect(
        "log.txt",
        _csv(
            "klantnummer|tijdstip|actie|artikelnummer|bedrag_cent|omgeving",
            lambda r: (
                f"k{r % 7}|{TIMES[r]}|{('bekeken', 'in winkelwagen', 'gekocht')[r % 3]}|a{r % 9}|1050|"
                f"{'test' if r % 10 == 0 else 'prod'}"
            ),
        ),
        18,
        18 * 1050,
        frozenset({"price_unit", "constants.currency", "drop"}),
        events=54,
    ),
    "a mark of purchases": Dialect(
        "log.csv",
        _csv(
            "user_id,timestamp,product_id,purchased",
            lambda r: f"u{r % 7},{TIMES[r]},p{r % 9},{int(r % 6 == 0)}",
        ),
        10,
        None,
        frozenset({"event_types"}),
    ),
    "US dates, grouped dollars": Dialect(
        "log.csv",
        _csv(
            "Customer ID,Date,Activity,SKU,Unit Price,Qty",
            lambda r: (
                f"C{r % 7},1/{13 + r // 24}/2025 {1 + r % 12}:05 PM,"
                f'{("Viewed Product", "Added to Cart", "Placed Order")[r % 3]},S{r % 9},"$1,100.50",1'
            ),
        ),
        20,
        20 * 110050,
        frozenset({"timezone"}),
    ),
    "Parquet-like JSON with a total and item ids": Dialect(
        "log.jsonl",
        _json(
            lambda r: {
                "external_user_id": f"c{r % 7}",
                "time": 1735700000 + r * 3600,
                "name": ("product_view", "cart", "order")[r % 3],
                "item_ids": [f"s{r % 9}", f"s{r % 4}"],
                "total_value": 10.0,
            }
        ),
        40,
        20 * 1000,
        frozenset({"price_per", "constants.currency"}),
        events=2 * ROWS,
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_the_written_mapping_gives_the_events_of_the_log(tmp_path: Path, dialect: Dialect) -> None:
    path, mapping = tmp_path / dialect.name, tmp_path / "shop.yaml"
    if isinstance(dialect.content, str):
        path.write_text(dialect.content, encoding="utf-8")
    else:
        dialect.content(path)
    result = detect(path)
    assert frozenset(question.key for question in result.questions) == dialect.asked
    mapping.write_text(result.text, encoding="utf-8")
    (chunk,) = sources.read_events(path, sources.from_mapping(mapping))
    purchases = chunk.events[chunk.events["event_type"] == "purchase"]
    amounts = purchases["price_minor"] * purchases["quantity"].fillna(1)
    assert (len(chunk.events), chunk.refused, chunk.notes.warnings) == (dialect.events, (), ())
    assert chunk.events["event_id"].nunique() == dialect.events
    assert len(purchases) == dialect.purchases
    assert (None if amounts.isna().all() else int(amounts.sum())) == dialect.revenue
    assert chunk.events["user_id"].nunique() == 7


def test_an_italian_log_with_an_ambiguous_date_is_not_read_before_it_is_decided(tmp_path: Path) -> None:
    rows = [f"u{r};{1 + r % 12:02d}/{1 + r % 11:02d}/2024;acquisto;a{r};5,00" for r in range(ROWS)]
    path, mapping = tmp_path / "log.csv", tmp_path / "shop.yaml"
    path.write_text(csv_lines("utente;data;azione;articolo;prezzo", rows))
    mapping.write_text(detect(path).text)
    with pytest.raises(InputError, match="ambiguous"):
        sources.from_mapping(mapping)
    decided = mapping.read_text().replace('["%d/%m/%Y", "%m/%d/%Y"]', '["%d/%m/%Y"]')
    mapping.write_text(decided)
    (chunk,) = sources.read_events(path, sources.from_mapping(mapping))
    assert len(chunk.events) == ROWS


def test_orders_that_were_given_back_are_asked_about(tmp_path: Path) -> None:
    rows = [f"{r},{TIMES[r]},c{r % 7},{('paid', 'refunded')[r % 2]},9.90,EUR" for r in range(ROWS)]
    path = tmp_path / "orders.csv"
    path.write_text(csv_lines("order_number,created_at,customer_id,status,total,currency", rows))
    (question,) = detect(path).questions
    assert question.key == "event_types"
    assert question.alternatives == ("event_types: {refunded: purchase}",)
