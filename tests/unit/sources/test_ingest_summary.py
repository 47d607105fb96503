"""The summary of a file survives storage."""

from datetime import UTC, datetime

from retail_core.sources.ingest_summary import IngestSummary


def test_a_stored_summary_is_read_as_it_was() -> None:
    summary = IngestSummary(
        first_event=datetime(2025, 1, 1, tzinfo=UTC),
        event_types={"view.item": 2, "PURCHASE": 1},
        users=2,
        absent_columns=("brand",),
        similar_event_types={"PURCHASE": "purchase"},
        warnings=({"rule": "price", "field": "price", "count": 1},),
    )
    assert IngestSummary.from_document(summary.document()) == summary
    assert IngestSummary.from_document(summary.document() | {"of_a_later_release": 1}) == summary
    assert IngestSummary.from_document({}) == IngestSummary()
