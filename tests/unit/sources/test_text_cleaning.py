"""Text, ids and null markers follow one rule in CSV, JSON and Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from retail_core import sources
from retail_core.arrow_compute import pq
from retail_core.sources import Chunk
from retail_core.sources.event_reader import parse_rows
from retail_core.sources.text_cleaning import NULL_MARKERS, clean_id, cleaned_ids, cleaned_text
from tests.unit.sources.event_rows import note_rows

CANONICAL = sources.get_preset("canonical")
ROW: dict[str, object] = {"event_time": "2025-01-01T00:00:00Z", "event_type": "purchase"}


def _as_csv(path: Path, rows: list[dict[str, object]]) -> None:
    names = list(rows[0])
    lines = [names, *([str(row[name]) for name in names] for row in rows)]
    path.write_text("".join(",".join(line) + "\n" for line in lines))


def _as_json_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _as_parquet(path: Path, rows: list[dict[str, object]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


Writer = Callable[[Path, list[dict[str, object]]], None]
WRITERS = pytest.mark.parametrize("write", [_as_csv, _as_json_lines, _as_parquet])


def _read(path: Path) -> Chunk:
    (chunk,) = sources.read_events(path, CANONICAL)
    return chunk


@WRITERS
@pytest.mark.parametrize("marker", [*NULL_MARKERS, "", "   "])
def test_a_null_marker_is_a_missing_value_in_every_format(tmp_path: Path, write: Writer, marker: str) -> None:
    path = tmp_path / "log"
    write(
        path,
        [
            {"user_id": "u", "price": marker, "item_id": marker} | ROW,
            {"user_id": marker, "price": "1", "item_id": "i"} | ROW,
        ],
    )
    chunk = _read(path)
    assert chunk.events["user_id"].tolist() == ["u"]
    assert chunk.events[["price_minor", "item_id"]].isna().all(axis=None)
    assert [(refusal.field, refusal.rule) for refusal in chunk.refused] == [("user_id", "missing")]
    assert not chunk.notes.warnings


def test_null_markers_are_missing_over_the_api() -> None:
    rows = [{"user_id": marker} | ROW for marker in NULL_MARKERS] + [{"user_id": "u", "price": "NULL"} | ROW]
    events, refused = sources.parse_events(rows)
    assert events["user_id"].tolist() == ["u"]
    assert {refusal.rule for refusal in refused} == {"missing"}


def test_letter_case_and_the_whole_value_matter() -> None:
    values = pa.array(["na", "NULLE", "a-b", " NA ", "-"])
    assert cleaned_text(values).to_pylist() == ["na", "NULLE", "a-b", None, None]
    assert cleaned_text(values, ("na",)).to_pylist() == [None, "NULLE", "a-b", "NA", "-"]


@WRITERS
def test_an_integral_float_is_the_integer_id_in_every_format(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "log"
    write(path, [{"user_id": 17850.0} | ROW, {"user_id": 17851.5} | ROW])
    assert _read(path).events["user_id"].tolist() == ["17850", "17851.5"]


def test_ids_that_only_look_like_floats_are_unchanged() -> None:
    values = ["007", "0071.0", "1.0.0", "12.", "1234567890.1735725600", "-5.0", "v1.0"]
    assert cleaned_ids(pa.array(values)).to_pylist() == [
        "007", "0071", "1.0.0", "12.", "1234567890.1735725600", "-5", "v1.0",
    ]  # fmt: skip


@WRITERS
def test_invisible_characters_are_removed_from_ids_and_counted(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "log"
    users = ["u1", "\u200bu1", "u\u200d1", "\ufeffu1", "\u00a0u1\u00a0", "ü1"]
    write(path, [{"user_id": user} | ROW for user in users])
    chunk = _read(path)
    assert chunk.events["user_id"].tolist() == ["u1"] * 5 + ["ü1"]
    assert note_rows(chunk.notes) == ["warning: user_id invisible 4"]


def test_characters_that_shape_a_script_stay_in_categories() -> None:
    events, _ = sources.parse_events([{"user_id": "u", "category": "\u0645\u06cc\u200c\u062e"} | ROW])
    assert events["category"].tolist() == ["\u0645\u06cc\u200c\u062e"]


@WRITERS
@pytest.mark.parametrize("beside", ["17850", "3.0", ""])
@pytest.mark.parametrize(
    "text",
    ["1.23E+15", "1.23457e+17", "1,23E+15", "5E+09", "1.2345678E+7", "1.5e3", "5e+0", "1e5", "1E5", "-2e10"],
)
def test_scientific_notation_is_pointed_at(tmp_path: Path, write: Writer, text: str, beside: str) -> None:
    path, text = tmp_path / "log", text.replace(",", "." if write is _as_csv else ",")
    write(path, [{"user_id": "u", "item_id": item, "price": 1} | ROW for item in (text, beside)])
    chunk = _read(path)
    assert note_rows(chunk.notes) == ["warning: item_id scientific 1"]
    assert chunk.events["item_id"].iloc[0] == text


def test_a_json_number_is_no_other_than_its_text(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"user_id": 1e5, "event_time": "2025-01-01", "event_type": "search"}\n')
    assert note_rows(_read(path).notes) == ["warning: user_id scientific 1"]


@WRITERS
@pytest.mark.parametrize("beside", ["3f2a9c", "4e6b", "A-7", "12c4"])
def test_ids_of_hexadecimal_digits_and_letters_are_no_scientific_notation(
    tmp_path: Path, write: Writer, beside: str
) -> None:
    path = tmp_path / "log"
    rows = [{"user_id": user, "item_id": user} | ROW for user in ("1e5", "2E10", "9e9", "17", beside)]
    write(path, rows)
    assert not _read(path).notes.warnings


@pytest.mark.parametrize("text", ["12E+10", "ab1E+10", "1E-05", "12e5", "1e5f", "e5", "1e"])
def test_codes_with_an_e_are_no_scientific_notation(text: str) -> None:
    chunk = parse_rows([{"user_id": "u", "item_id": text} | ROW], CANONICAL)
    assert not chunk.notes.warnings


def test_sliced_columns_are_cleaned_like_whole_ones() -> None:
    column = pa.array(["é", " NA", "5.0", "x "])
    assert cleaned_ids(column.slice(1, 2)).to_pylist() == [None, "5"]
    assert cleaned_ids(column.slice(4)).to_pylist() == []


def test_one_id_is_cleaned_like_a_column() -> None:
    assert [clean_id(text) for text in (" 5.0", "null", "a\u200b")] == ["5", None, "a"]


@pytest.mark.parametrize("user", [{"id": 1}, ["a"]])
def test_an_object_as_user_id_is_refused(user: object) -> None:
    events, refused = sources.parse_events([{"user_id": user} | ROW, {"user_id": "u", "item_id": user} | ROW])
    assert [(refusal.line, refusal.field, refusal.rule) for refusal in refused] == [(1, "user_id", "nested")]
    assert events["item_id"].isna().tolist() == [True]
