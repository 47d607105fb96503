"""MongoDB documents of events: only present fields, naive UTC times, ids as `_id`."""

from __future__ import annotations

from datetime import datetime

from retail_core import sources
from retail_core.ingest.documents import event_documents, user_documents
from retail_core.sources.event_reader import parse_rows


def test_event_documents_have_only_the_fields_of_their_event() -> None:
    time = "2025-01-01T08:00:00.123+08:00"
    events, refused = sources.parse_events(
        [
            {"user_id": "b", "event_time": time, "event_type": "purchase", "price": "1.50", "quantity": 2},
            {"user_id": "a", "event_time": time, "event_type": "search"},
            {"user_id": "c", "event_time": time, "event_type": "purchase", "price": "0"},
        ]
    )
    assert not refused
    required = {"event_time": datetime(2025, 1, 1, 0, 0, 0, 123_000), "source": "shop"}  # noqa: DTZ001
    documents = event_documents(events, "shop")
    assert [document.pop("_id") for document in documents] == events["event_id"].tolist()
    assert documents == [
        required | {"user_id": "b", "event_type": "purchase", "price_minor": 150, "quantity": 2},
        required | {"user_id": "a", "event_type": "search"},
        required | {"user_id": "c", "event_type": "purchase", "price_minor": 0},
    ]


def test_equal_user_attributes_have_equal_ids() -> None:
    row = {"user_id": "1", "first_visit_date": "4/29/23", "age": "66", "screen_list": "", "purchase_date": ""}
    profile = sources.get_preset("app_profile")
    first, second, third = (
        user_documents(parse_rows([row | changed], profile).users, "app_profile")[0]
        for changed in ({}, {"screen_list": "cart"}, {"age": "67"})
    )
    assert first == second
    assert first["_id"] != third["_id"]
    assert first["attributes"] == '{"age":66}'
