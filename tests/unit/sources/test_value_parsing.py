"""Times, prices and quantities: every value is exact or refused by a named rule."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from retail_core.sources.number_parsing import minor_units, parse_prices, parse_quantity
from retail_core.sources.source_options import TimeFormat
from retail_core.sources.text_cleaning import cleaned_text
from retail_core.sources.time_parsing import (
    NOT_A_TIME,
    parse_times,
)

ISO = TimeFormat()


def _instants(values: list[str | None], form: TimeFormat = ISO, zone: str = "UTC") -> list[str | None]:
    instants, rules = parse_times(pa.array(values, pa.string()), form, zone)
    assert all(instants[row] == NOT_A_TIME for row in rules)
    return [
        rules.get(row)
        if instant == NOT_A_TIME
        else datetime.fromtimestamp(instant // 1000, UTC)
        .replace(microsecond=instant % 1000 * 1000)
        .isoformat()
        .replace("+00:00", "Z")
        for row, instant in enumerate(instants.tolist())
    ]


def test_iso_times_become_utc_rounded_down_to_milliseconds() -> None:
    assert _instants(
        [
            "2025-01-31T00:00:00Z",
            "2025-01-31 08:00:00+08:00",
            "2019-10-01 00:00:00 UTC",
            "2025-01-31T00:00:00.123999Z",
            "2025-01-31",
            None,
            "1969-12-31T23:59:59.9995Z",
        ]
    ) == [
        "2025-01-31T00:00:00Z",
        "2025-01-31T00:00:00Z",
        "2019-10-01T00:00:00Z",
        "2025-01-31T00:00:00.123000Z",
        "2025-01-31T00:00:00Z",
        None,
        "1969-12-31T23:59:59.999000Z",
    ]


@pytest.mark.parametrize("bad", ["2025-13-01", "20", "2019-10-01 02:5", "yesterday", "2025-02-30T00:00:00Z"])
def test_text_that_is_no_time_is_refused(bad: str) -> None:
    assert _instants([bad]) == ["time"]


def test_a_year_beyond_9999_is_out_of_range() -> None:
    assert _instants(["99999999999999"], TimeFormat("unix", "s")) == ["time_range"]
    assert _instants(["9999-12-31T23:59:59.1234567Z"]) == ["9999-12-31T23:59:59.123000Z"]


def test_repeated_and_skipped_local_times_are_defined() -> None:
    # London: 01:30 on 27 March 2011 does not exist, 01:30 on 30 October 2011 happens twice.
    assert _instants(["2011-03-27 01:30:00", "2011-10-30 01:30:00"], zone="Europe/London") == [
        "2011-03-27T01:00:00Z",
        "2011-10-30T00:30:00Z",
    ]


@pytest.mark.parametrize(
    ("unit", "raw"),
    [("s", "1511544070"), ("ms", "1511544070000"), ("us", "1511544070000999"), ("s", "1511544070.0")],
)
def test_unix_times_in_any_unit(unit: str, raw: str) -> None:
    assert _instants([raw], TimeFormat("unix", unit)) == ["2017-11-24T17:21:10Z"]  # type: ignore[arg-type]


def test_several_formats_are_tried_in_turn_in_the_zone() -> None:
    form = TimeFormat("strptime", formats=("%m/%d/%y %H:%M", "%m/%d/%y"))
    assert _instants(["9/19/23 1:00", "4/29/23", "29/4/23"], form, "Europe/Paris") == [
        "2023-09-18T23:00:00Z",
        "2023-04-28T22:00:00Z",
        "time",
    ]


@pytest.mark.parametrize(
    ("raw", "hundredths"),
    [
        ("35.79", 3579),
        ("0", 0),
        ("0.125", 12),
        ("0.135", 14),
        ("0.12500000000000000000000000000001", 13),
        ("1e3", 100_000),
        ("12345678901.23", 1_234_567_890_123),
        (".5", 50),
        ("1,234.50", "price_separator"),
        ("1.234,50", "price_separator"),
        ("12,50", "price_separator"),
        ("-1", "price_negative"),
        ("NaN", "price_finite"),
        ("-inf", "price_finite"),
        ("£3", "price"),
        ("1e300", "too_large"),
    ],
)
def test_prices_are_exact_or_refused(raw: str, hundredths: int | str) -> None:
    assert minor_units(raw) == hundredths
    values, rules = parse_prices(pa.array([raw, None, "7.5"]))
    assert (rules.get(0, values[0].as_py()), values.to_pylist()[1:]) == (hundredths, [None, 750])


@pytest.mark.parametrize(
    ("raw", "number"),
    [("3", 3), ("3.0", 3), ("2.5", "quantity"), ("-1", "quantity_negative"), ("1e16", "too_large")],
)
def test_quantities_are_whole(raw: str, number: int | str) -> None:
    assert parse_quantity(raw) == number


def test_typed_columns_become_the_text_of_a_csv() -> None:
    assert cleaned_text(pa.array([17850.0, None])).to_pylist() == ["17850", None]
    assert cleaned_text(pa.array([1.5])).to_pylist() == ["1.5"]
    assert cleaned_text(pa.array([" a ", "", "  "])).to_pylist() == ["a", None, None]
    assert parse_times(pa.array([1751328000000000], pa.timestamp("us")), ISO, "Europe/London")[0] == [
        1751324400000
    ]
