"""The summary of a log is exact over windows and files, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.sources import Source
from retail_core.sources.ingest_summary import IngestSummary
from retail_core.sources.parse_notes import ParseNotes, merge_notes
from retail_core.sources.raw_tables import WINDOW_ROWS
from retail_core.sources.summary_collector import SummaryCollector, similar_event_type

CANONICAL = sources.get_preset("canonical")


def _collect(
    path: Path, rows: Iterable[str], source: Source = CANONICAL
) -> tuple[SummaryCollector, ParseNotes]:
    path.write_text("user_id,event_time,event_type,item_id,note\n" + "".join(rows))
    collector, notes = SummaryCollector(source), []
    for chunk in sources.read_events(path, source):
        collector.add(chunk)
        notes.append(chunk.notes)
    return collector, merge_notes(notes)


def _rules(summary: IngestSummary) -> list[tuple[str, int]]:
    return [(warning["rule"], warning["count"]) for warning in summary.warnings]


def test_counts_are_exact_over_windows_and_files(tmp_path: Path) -> None:
    rows = [f"u{row % 20_000},2025-01-{row % 28 + 1:02d},search,,\n" for row in range(WINDOW_ROWS + 5_000)]
    whole, _ = _collect(tmp_path / "a", [*rows, "u1,2025-02-03,purchase,i1,\n"])
    further, _ = _collect(tmp_path / "b", ["u1,2024-12-31,purchase,,\n", "new,2025-01-01,search,,\n"])
    whole.merge(further)
    summary = whole.summary(ParseNotes())
    assert (summary.users, summary.purchases) == (20_001, 2)
    assert summary.event_types == {"search": WINDOW_ROWS + 5_001, "purchase": 2}
    assert (summary.first_event, summary.last_event) == (
        datetime(2024, 12, 31, tzinfo=UTC), datetime(2025, 2, 3, tzinfo=UTC),
    )  # fmt: skip
    assert (summary.dominant_user, summary.warnings, summary.null_fields) == (None, (), ())


@pytest.mark.parametrize(("events", "reported"), [(100, False), (101, True)])
def test_a_user_above_a_tenth_of_a_thousand_events_is_reported(
    tmp_path: Path, events: int, reported: bool
) -> None:
    rows = [f"{'NA-user' if row < events else row},2025-01-01,search,,\n" for row in range(1_000)]
    collector, notes = _collect(tmp_path / "log", rows)
    summary = collector.summary(notes)
    assert summary.dominant_user == ("NA-user" if reported else None)
    assert _rules(summary) == ([("large_user", events)] if reported else [])
    stored = collector.summary(notes, stored=True)
    assert stored.dominant_user is None
    assert "NA-user" not in str(stored.document())


def test_a_small_log_has_no_dominant_user(tmp_path: Path) -> None:
    collector, _ = _collect(tmp_path / "log", ["u,2025-01-01,search,,\n"] * 999)
    assert collector.summary(ParseNotes()).dominant_user is None


def test_a_user_that_is_frequent_in_one_window_only_is_exact(tmp_path: Path) -> None:
    rows = ["big,2025-01-01,search,,\n"] * 5_000 + [f"{row},2025-01-01,search,,\n" for row in range(30_000)]
    summary = _collect(tmp_path / "log", rows)[0].summary(ParseNotes())
    assert (summary.dominant_user, summary.dominant_share) == ("big", 5_000 / 35_000)


def test_columns_that_are_absent_unread_or_empty_are_named(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "name: shop\ncolumns: {user_id: user_id, event_time: event_time, event_type: event_type,"
        " item_id: item_id, price: 'prise?', brand: ['maker?', note]}\n"
    )
    collector, _ = _collect(tmp_path / "log", ["u,2025-01-01,Purchase,,n\n"], sources.from_mapping(mapping))
    summary = collector.summary(ParseNotes())
    assert summary.absent_columns == ("prise",)
    assert (summary.unread_columns, summary.null_fields) == ((), ("item_id",))
    assert summary.similar_event_types == {"Purchase": "purchase"}


def test_a_json_key_that_no_line_has_is_reported(tmp_path: Path) -> None:
    mapping, log = tmp_path / "mapping.yaml", tmp_path / "log"
    mapping.write_text("name: shop\ncolumns: {user_id: u, event_time: t, event_type: e, price: prise}\n")
    log.write_text('{"u": "a", "t": "2025-01-01", "e": "purchase", "price": 1}\n')
    source = sources.from_mapping(mapping)
    collector = SummaryCollector(source)
    for chunk in sources.read_events(log, source):
        collector.add(chunk)
    summary = collector.summary(ParseNotes())
    assert (summary.absent_columns, summary.unread_columns) == (("prise",), ("price",))
    assert _rules(summary) == [("column_absent", 1)]


def test_a_log_of_a_preset_that_derives_columns_misses_none(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country,Extra\n"
        "1,85123A,x,1,2010-12-01 08:26:00,1.5,1,UK,\n"
    )
    source = sources.get_preset("online_retail")
    collector = SummaryCollector(source)
    for chunk in sources.read_events(log, source):
        collector.add(chunk)
    summary = collector.summary(ParseNotes())
    assert (summary.absent_columns, summary.unread_columns, summary.null_fields) == ((), ("Extra",), ())


@pytest.mark.parametrize(
    ("name", "resembled"),
    [
        ("Purchase", "purchase"), ("PURCHASE", "purchase"), ("purchased", "purchase"),
        ("add-to-cart", "add_to_cart"), ("AddToCart", "add_to_cart"), ("refunded", "refund"),
        ("purchase", None), ("view_item_list", None),
        ("page_view", None), ("scroll", None), ("first_visit", None), ("select_item", None), ("login", None),
    ],
)  # fmt: skip
def test_event_types_that_resemble_a_known_one(name: str, resembled: str | None) -> None:
    assert similar_event_type(name) == resembled
