"""Parquet of other programs: typed columns, NaN, bytes, nested values and instants beyond the calendar."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from retail_core import sources
from retail_core.arrow_compute import pq
from retail_core.errors import InputError
from retail_core.sources import Chunk
from tests.unit.sources.event_rows import note_rows

USERS = pa.array(["a", "b", "c"])
TYPES = pa.array(["view_item"] * 3)
DAY = pa.array([date(2025, 1, 1)] * 3)


def _read(tmp_path: Path, table: pa.Table) -> Chunk:
    path = tmp_path / "log.parquet"
    pq.write_table(table, path)
    (chunk,) = sources.read_events(path, sources.get_preset("canonical"))
    assert chunk.rows_read == table.num_rows
    return chunk


def _log(**columns: pa.Array) -> pa.Table:
    return pa.table({"user_id": USERS, "event_time": DAY, "event_type": TYPES} | columns)


def _refused(chunk: Chunk) -> list[tuple[int, str | None, str]]:
    return [(refusal.line, refusal.field, refusal.rule) for refusal in chunk.refused]


def test_an_infinite_price_is_left_out_and_nan_is_missing(tmp_path: Path) -> None:
    chunk = _read(tmp_path, _log(price=pa.array([1.10, float("nan"), float("inf")])))
    assert chunk.events["price_minor"].tolist() == [110, pd.NA, pd.NA]
    assert note_rows(chunk.notes) == ["warning: price price_finite 1"]


def test_a_too_large_price_is_left_out(tmp_path: Path) -> None:
    chunk = _read(tmp_path, _log(price=pa.array([1e22, 1e12, 2.0])))
    assert chunk.events["price_minor"].tolist() == [pd.NA, pd.NA, 200]
    assert note_rows(chunk.notes) == ["warning: price too_large 2"]


def test_an_id_that_is_no_number_is_missing(tmp_path: Path) -> None:
    chunk = _read(tmp_path, _log(user_id=pa.array([1.0, float("nan"), 2.0])))
    assert chunk.events["user_id"].tolist() == ["1", "2"]
    assert _refused(chunk) == [(2, "user_id", "missing")]


def test_a_whole_number_is_the_same_id_beside_fractions_and_nulls(tmp_path: Path) -> None:
    chunk = _read(tmp_path, _log(user_id=pa.array([17850.0, 17850.5, None])))
    assert chunk.events["user_id"].tolist() == ["17850", "17850.5"]
    assert _refused(chunk) == [(3, "user_id", "missing")]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_typed_instants_are_exact_in_every_unit(tmp_path: Path, unit: str) -> None:
    instant = datetime(2025, 3, 30, 2, 30, tzinfo=UTC)
    chunk = _read(tmp_path, _log(event_time=pa.array([instant] * 3, pa.timestamp(unit, "UTC"))))
    assert chunk.events["event_time"].tolist() == [instant] * 3


def test_instants_beyond_the_calendar_are_out_of_range(tmp_path: Path) -> None:
    far = pa.array([2**62, -(2**62), 1_735_689_600_000_000], pa.timestamp("us"))
    chunk = _read(tmp_path, _log(event_time=far))
    assert _refused(chunk) == [(1, "event_time", "time_range"), (2, "event_time", "time_range")]
    assert json.loads(chunk.refused[0].raw)["event_time"] == 2**62


def test_a_time_of_day_is_no_instant(tmp_path: Path) -> None:
    chunk = _read(tmp_path, _log(event_time=pa.array([0, 1, 2], pa.time64("us"))))
    assert {rule for _, _, rule in _refused(chunk)} == {"time"}


def test_bytes_are_read_as_text_or_refused(tmp_path: Path) -> None:
    chunk = _read(tmp_path, _log(user_id=pa.array([b"a", b"\xff", b"c\x00"])))
    assert chunk.events["user_id"].tolist() == ["a"]
    assert _refused(chunk) == [(2, "user_id", "encoding"), (3, "user_id", "nul")]


def test_nested_columns_become_json(tmp_path: Path) -> None:
    chunk = _read(tmp_path, _log(tags=pa.array([["x"], None, []])))
    properties = [json.loads(text) if isinstance(text, str) else None for text in chunk.events["properties"]]
    assert properties == [{"tags": '["x"]'}, None, {"tags": "[]"}]


def test_a_repeated_column_name_is_refused(tmp_path: Path) -> None:
    names = ["user_id", "user_id", "event_time", "event_type"]
    table = pa.table([USERS, USERS, DAY, TYPES], names=names)
    with pytest.raises(InputError, match="'user_id' twice"):
        _read(tmp_path, table)
