"""Rows that are stored and pointed at: ids that stand for no user, and a last line that may be cut."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.sources import Chunk
from retail_core.sources.event_reader import parse_rows, read_events

CANONICAL = sources.get_preset("canonical")
HEADER = "user_id,event_time,event_type,price\n"
ROW = "{},2025-01-01,purchase,{}"


def _rules(chunk: Chunk) -> list[tuple[str | None, str, int]]:
    return [(note.field, note.rule, note.count) for note in chunk.notes.warnings]


def _read(path: Path, content: str | bytes) -> Chunk:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (chunk,) = read_events(path, CANONICAL)
    return chunk


@pytest.mark.parametrize(
    "user", ["undefined", "UNDEFINED", "(null)", "nil", "#N/A", "(not set)", "--", "Guest", "<unknown>"]
)
def test_an_id_that_stands_for_no_user_is_counted_and_stored(tmp_path: Path, user: str) -> None:
    rows = "\n".join(ROW.format(name, 1) for name in (user, "u1", user))
    in_file = _read(tmp_path / "log.csv", f"{HEADER}{rows}\n")
    fields = {"event_time": "2025-01-01", "event_type": "purchase"}
    in_request = parse_rows([fields | {"user_id": name} for name in (user, "u1", user)], CANONICAL)
    for chunk in (in_file, in_request):
        assert _rules(chunk) == [("user_id", "placeholder_user", 2)]
        assert "nulls: [THE ID, 'NA', " in chunk.notes.warnings[0].remedy
        assert chunk.events["user_id"].tolist() == [user, "u1", user]


@pytest.mark.parametrize("user", ["[]", "{}"])
def test_an_empty_list_as_user_is_counted_in_csv_and_refused_in_json(tmp_path: Path, user: str) -> None:
    chunk = _read(tmp_path / "log.csv", HEADER + ROW.format(user, 1) + "\n")
    assert _rules(chunk) == [("user_id", "placeholder_user", 1)]
    fields = {"user_id": json.loads(user), "event_time": "2025-01-01", "event_type": "purchase"}
    assert [refused.rule for refused in parse_rows([fields], CANONICAL).refused] == ["nested"]


@pytest.mark.parametrize("user", ["0", "u1", "nilsson", "guest-7"])
def test_a_plain_id_is_no_placeholder(tmp_path: Path, user: str) -> None:
    assert not _rules(_read(tmp_path / "log.csv", HEADER + ROW.format(user, 1) + "\n"))


def test_a_last_row_without_a_line_break_may_be_cut(tmp_path: Path) -> None:
    content = HEADER + ROW.format("u1", 5) + "\n" + ROW.format("u2", "12.")
    chunk = _read(tmp_path / "log.csv", content)
    assert _rules(chunk) == [("price", "cut_line", 1)]
    assert [(example.line, example.value) for example in chunk.notes.warnings[0].examples] == [(3, "12.")]


@pytest.mark.parametrize(
    "content",
    [
        HEADER + ROW.format("u1", 5) + "\n",
        HEADER + ROW.format("u1", 5) + "\r\n",
        HEADER + ROW.format("u1", '"5"'),
        HEADER + ROW.format("u1", 5) + "\nu2,2025",
        gzip.compress((HEADER + ROW.format("u1", 5)).encode()),
        '{"user_id": "u1", "event_time": "2025-01-01", "event_type": "purchase"}',
    ],
    ids=["line break", "two characters", "quoted", "refused", "compressed", "json"],
)
def test_a_row_that_must_be_complete_is_not_pointed_at(tmp_path: Path, content: str | bytes) -> None:
    assert not _rules(_read(tmp_path / "log.csv", content))
