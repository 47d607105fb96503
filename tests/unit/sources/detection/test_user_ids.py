"""Files with several ids of one user: none is left unread without a question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from retail_core.sources.text_cleaning import NULL_MARKERS
from tests.unit.sources.detection.detected import csv_lines, detected, hours, mapping_of, question_of


def _rows(first: str, second: str, *, every: int = 3) -> list[str]:
    """Rows with the id `first` in every third one, and `second` in all."""
    return [
        f"{first.format(row % 9) if row % every == 0 else ''},{second.format(row % 9)},view,{time}"
        for row, time in enumerate(hours(60))
    ]


@pytest.mark.parametrize(
    ("account", "other"),
    [
        ("user_id", "client_id"),
        ("userId", "clientId"),
        ("user_id", "visitor_id"),
        ("customer_id", "visitor_id"),
        ("customerId", "anonymousId"),
        ("user_id", "device_id"),
        ("user_id", "session_id"),
        ("uid", "cookie_id"),
        ("member_id", "fingerprint"),
        ("kundennummer", "besucher_id"),
        ("utilisateur", "visiteur_id"),
        ("user_id", "email"),
    ],
)
def test_a_sparse_account_id_is_the_user_and_the_denser_id_is_linked(
    tmp_path: Path, account: str, other: str
) -> None:
    result = detected(tmp_path, csv_lines(f"{account},{other},event,time", _rows("u{}", "c{}")))
    mapping = mapping_of(result)
    assert (mapping["columns"]["user_id"], mapping["anonymous_id"]) == (account, other)
    assert (result.trial.events, result.trial.refused, result.trial.links) == (60, 0, 20)
    question = question_of(result, "anonymous_id")
    assert f"40 events have no {account}" in question
    assert f"user_id: {account}, without anonymous_id" in question
    assert f"user_id: [{account}, {other}]" in question
    assert result.trial.unread_columns == ()


def test_the_order_of_the_columns_does_not_matter(tmp_path: Path) -> None:
    rows = [",".join(reversed(row.split(","))) for row in _rows("u{}", "c{}")]
    mapping = mapping_of(detected(tmp_path, csv_lines("time,event,client_id,user_id", rows)))
    assert (mapping["columns"]["user_id"], mapping["anonymous_id"]) == ("user_id", "client_id")


def test_an_id_in_every_row_needs_no_other(tmp_path: Path) -> None:
    result = detected(tmp_path, csv_lines("user_id,client_id,event,time", _rows("u{}", "c{}", every=1)))
    assert mapping_of(result)["columns"]["user_id"] == "user_id"
    assert "anonymous_id" not in mapping_of(result)
    assert result.questions == ()


def test_a_client_alone_is_the_user(tmp_path: Path) -> None:
    rows = [f"c{row % 9},view,{time}" for row, time in enumerate(hours(60))]
    result = detected(tmp_path, csv_lines("client_id,event,time", rows))
    assert mapping_of(result)["columns"]["user_id"] == "client_id"
    assert result.questions == ()


@pytest.mark.parametrize("every", [1, 3])
def test_two_ids_of_accounts_are_asked_about_with_both_alternatives(tmp_path: Path, every: int) -> None:
    result = detected(tmp_path, csv_lines("customer_id,user_id,event,time", _rows("k{}", "u{}", every=every)))
    question = question_of(result, "columns.user_id")
    assert "Who is the user" in question
    assert "user_id: customer_id" in question or "user_id: user_id" in question


def test_a_session_is_used_only_where_nothing_lives_longer(tmp_path: Path) -> None:
    rows = [
        f"{f'u{row % 9}' if row % 3 == 0 else ''},c{row % 9},s{row // 2},view,{time}"
        for row, time in enumerate(hours(60))
    ]
    mapping = mapping_of(detected(tmp_path, csv_lines("user_id,client_id,session_id,event,time", rows)))
    assert mapping["anonymous_id"] == "client_id"
    assert mapping["columns"]["session_id"] == "session_id"


def test_ids_inside_of_json_objects(tmp_path: Path) -> None:
    lines = [
        {"user": {"id": f"u{row % 9}"} if row % 3 == 0 else {}, "device": {"id": f"d{row}"}, "event": "view"}
        | {"time": time}
        for row, time in enumerate(hours(60))
    ]
    result = detected(tmp_path, "\n".join(map(json.dumps, lines)) + "\n", "log.jsonl")
    mapping = mapping_of(result)
    assert (mapping["columns"]["user_id"], mapping["anonymous_id"]) == ("user.id", "device.id")
    assert "event_id" not in mapping["columns"]
    assert result.trial.events == 60


def test_the_id_of_a_client_of_a_tracker_is_no_account(tmp_path: Path) -> None:
    result = detected(tmp_path, csv_lines("email_sha256,ga_client_id,event,time", _rows("ab{}", "GA1.2.{}")))
    mapping = mapping_of(result)
    assert (mapping["columns"]["user_id"], mapping["anonymous_id"]) == ("email_sha256", "ga_client_id")


@pytest.mark.parametrize("placeholder", ["guest", "0", "(not set)", "00000000-0000-0000-0000-000000000000"])
def test_a_placeholder_is_asked_about(tmp_path: Path, placeholder: str) -> None:
    rows = [
        f"{f'u{row % 9}' if row % 3 == 0 else placeholder},view,{time}" for row, time in enumerate(hours(60))
    ]
    question = question_of(detected(tmp_path, csv_lines("user_id,event,time", rows)), "nulls")
    assert f"'{placeholder}' in user_id (40 of 60 values) a placeholder?" in question
    assert f"drop: {{user_id: ['{placeholder}']}}" in question
    nulls = next(line for line in question.splitlines() if line.startswith("nulls: "))
    assert yaml.safe_load(nulls) == {"nulls": [placeholder, *NULL_MARKERS]}
