"""Files without events: identity links and attributes of users."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.sources.detection import Detection
from tests.unit.sources.detection.detected import csv_lines, detected, hours, mapping_of, question_of


def _links(folder: Path, header: str) -> Detection:
    rows = [f"a{row},k{row % 9},{time}" for row, time in enumerate(hours(40))]
    return detected(folder, csv_lines(header, rows))


def test_the_columns_of_the_preset_are_recognised(tmp_path: Path) -> None:
    result = _links(tmp_path, "from_id,to_id,linked_at")
    assert result.preset == "identities"
    assert (result.trial.events, result.trial.links, result.trial.refused) == (0, 40, 0)
    assert result.trial.preview[0]["link"]["to_id"] == "k0"
    assert result.document()["rows_are"] == "links"


@pytest.mark.parametrize(
    "header",
    [
        "anonymous_id,user_id,timestamp",
        "anonymousId,userId,linkedAt",
        "previous_id,new_id,merged_at",
        "old_user_id,new_user_id,date",
        "device_id,kundennummer,zeitstempel",
        "visitor_id,customer_id,first_seen_at",
        "client_id,user_id,created_at",
        "source_id,target_id,time",
    ],
)
def test_two_ids_and_a_time_without_event_types_are_links(tmp_path: Path, header: str) -> None:
    result = _links(tmp_path, header)
    assert result.problem() is None
    assert result.document()["rows_are"] == "links"
    assert (result.trial.events, result.trial.links, result.trial.refused) == (0, 40, 0)
    assert result.trial.preview[0]["link"] == {
        "from_id": "a0",
        "to_id": "k0",
        "linked_at": "2025-01-01T00:00:00.000Z",
    }
    assert "if each row is an act of a user" in question_of(result, "identity_events")


def test_the_proposed_mapping_of_links_is_ingested_as_such(tmp_path: Path) -> None:
    result = _links(tmp_path, "anonymous_id,user_id,timestamp")
    mapping = tmp_path / "links.yaml"
    mapping.write_text(result.text)
    (chunk,) = sources.read_events(tmp_path / "log.csv", sources.from_mapping(mapping))
    assert (len(chunk.links), len(chunk.events), len(chunk.refused)) == (40, 0, 0)


def test_links_in_json_lines(tmp_path: Path) -> None:
    lines = [{"anonymous_id": f"a{row}", "user_id": "k", "at": time} for row, time in enumerate(hours(9))]
    result = detected(tmp_path, "\n".join(map(json.dumps, lines)) + "\n", "links.jsonl")
    assert result.trial.links == 9


def test_links_without_a_time_are_named(tmp_path: Path) -> None:
    result = detected(
        tmp_path, csv_lines("anonymous_id,user_id", [f"a{row},k{row % 5}" for row in range(30)])
    )
    problem = result.problem()
    assert problem is not None
    assert "looks like a file of identity links, but has no column of times" in problem.message


def test_a_log_with_two_ids_and_event_types_is_no_file_of_links(tmp_path: Path) -> None:
    rows = [f"a{row},k{row % 9},view,{time}" for row, time in enumerate(hours(40))]
    result = detected(tmp_path, csv_lines("anonymous_id,user_id,event,time", rows))
    assert result.document()["rows_are"] == "events"
    assert result.trial.events == 40


def test_a_file_of_orders_with_two_ids_is_no_file_of_links(tmp_path: Path) -> None:
    rows = [f"a{row},k{row % 9},{row}.50,{time}" for row, time in enumerate(hours(40))]
    result = detected(tmp_path, csv_lines("anonymous_id,user_id,amount,time", rows))
    assert result.trial.event_types == {"purchase": 40}


def _users(folder: Path, header: str, *extra: str) -> Detection:
    rows = [
        ",".join([f"c{row}", f"{20 + row}", "gold" if row % 3 else "new", *(v.format(row) for v in extra)])
        for row in range(30)
    ]
    return detected(folder, csv_lines(header, rows))


def test_a_file_of_users_gets_a_mapping_of_attributes(tmp_path: Path) -> None:
    result = _users(tmp_path, "customer_id,age,segment,email,signup_date", "m{}@x.test", "2024-01-01")
    assert result.problem() is None
    assert mapping_of(result) == {
        "name": "log",
        "columns": {"user_id": "customer_id"},
        "attributes": {"age": "number", "segment": "text"},
    }
    assert (result.trial.users, result.trial.events, result.trial.refused) == (30, 0, 0)
    assert result.document()["rows_are"] == "users"
    assert "Since when are the values known?" in question_of(result, "valid_from")
    assert "Not proposed as attributes: email, signup_date" in result.document()["notes"][0]


def test_the_time_from_which_attributes_are_known_is_recognised(tmp_path: Path) -> None:
    result = _users(tmp_path, "customer_id,age,segment,updated_at", "2025-01-01T10:00:00Z")
    assert mapping_of(result)["valid_from"] == "updated_at"
    mapping = tmp_path / "users.yaml"
    mapping.write_text(result.text)
    (chunk,) = sources.read_events(tmp_path / "log.csv", sources.from_mapping(mapping))
    assert len(chunk.users) == 30


def test_a_customer_export_with_sums_of_orders_is_no_file_of_purchases(tmp_path: Path) -> None:
    result = _users(tmp_path, "customer_id,age,segment,total_orders,total_spent", "{}", "{}.50")
    assert mapping_of(result)["attributes"] == {"age": "number", "segment": "text"}
    assert "total_orders, total_spent" in result.document()["notes"][0]
