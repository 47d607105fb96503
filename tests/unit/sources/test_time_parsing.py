"""Times: every value is exact or breaks a named rule."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import permutations

import pyarrow as pa
import pytest

from retail_core.sources.source_options import TimeFormat
from retail_core.sources.text_cleaning import cleaned_text
from retail_core.sources.time_parsing import (
    NOT_A_TIME,
    ambiguous_formats,
    first_times,
    parse_times,
)

ISO = TimeFormat()


def _formats(*formats: str) -> TimeFormat:
    return TimeFormat("strptime", formats=formats)


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


@pytest.mark.parametrize("order", list(permutations(["unix_s", "unix_ms", "unix_us", "iso"])))
def test_units_of_unix_times_are_told_apart_by_their_range(order: tuple[str, ...]) -> None:
    seconds = (631_152_000, 1_738_317_600, 4_102_444_799)
    values = [f"{second}{zeros}" for second in seconds for zeros in ("", "000", "000000", ".5", "e0")]
    expected = [datetime.fromtimestamp(second, UTC) for second in seconds for _ in range(5)]
    instants, rules = parse_times(pa.array(values, pa.string()), _formats(*order), "UTC")
    assert not rules
    assert [instant // 1000 for instant in instants.tolist()] == [time.timestamp() for time in expected]


def test_a_time_out_of_range_is_read_by_the_next_format() -> None:
    values = ["1012013120", "2025013120", "0001-01-01", "12", "99999999999999999", "x"]
    assert _instants(values, _formats("%Y%m%d%H", "iso", "unix_s")) == [
        "2002-01-26T02:45:20Z", "2025-01-31T20:00:00Z", "0001-01-01T00:00:00Z", "1970-01-01T00:00:12Z",
        "time", "time",
    ]  # fmt: skip


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


def test_typed_columns_become_the_text_of_a_csv() -> None:
    assert cleaned_text(pa.array([17850.0, None])).to_pylist() == ["17850", None]
    assert cleaned_text(pa.array([1.5])).to_pylist() == ["1.5"]
    assert cleaned_text(pa.array([" a ", "", "  "])).to_pylist() == ["a", None, None]
    assert parse_times(pa.array([1751328000000000], pa.timestamp("us")), ISO, "Europe/London")[0] == [
        1751324400000
    ]


@pytest.mark.parametrize(
    ("form", "zone", "raw", "instant"),
    [
        (ISO, "UTC", "2025-01-31T24:00", "2025-02-01T00:00:00Z"),
        (ISO, "UTC", "2025-01-31 24:00:00.000Z", "2025-02-01T00:00:00Z"),
        (ISO, "Europe/Berlin", "2025-03-30T24:00:00", "2025-03-30T22:00:00Z"),
        (ISO, "UTC", "2025-01-31T24:01", "time"),
        (ISO, "UTC", "2025-02-30T24:00", "time"),
        (
            TimeFormat("strptime", formats=("%d.%m.%Y %H:%M",)),
            "UTC",
            "31.12.2024 24:00",
            "2025-01-01T00:00:00Z",
        ),
        (
            TimeFormat("strptime", formats=("%m/%d/%Y %I:%M %p",)),
            "UTC",
            "1/31/2025 12:05 AM",
            "2025-01-31T00:05:00Z",
        ),
        (
            TimeFormat("strptime", formats=("%d.%m.%Y", "iso", "unix_ms")),
            "UTC",
            "1738281600000",
            "2025-01-31T00:00:00Z",
        ),
    ],
)
def test_midnight_half_days_and_mixed_formats(form: TimeFormat, zone: str, raw: str, instant: str) -> None:
    assert _instants([raw], form, zone) == [instant]


@pytest.mark.parametrize("raw", ["1e999999999", "-1e999999999", "1e99999", "1e-999999999", "Infinity"])
def test_a_number_beyond_any_time_is_refused_quickly(raw: str) -> None:
    expected = "1970-01-01T00:00:00Z" if raw == "1e-999999999" else "time"
    assert _instants([raw], TimeFormat("unix", "us")) == [expected]


def test_the_first_of_several_columns_with_a_value_is_used() -> None:
    columns = [pa.array(["2025-01-01", None, "soon"]), pa.array([None, "2025-01-02", "2025-01-03"])]
    instants, rules, raw = first_times(columns, ISO, "UTC")
    assert (instants[:2].tolist(), rules) == ([1_735_689_600_000, 1_735_776_000_000], {2: "time"})
    assert raw.to_pylist() == ["2025-01-01", "2025-01-02", "soon"]


def test_a_column_of_clock_times_is_joined_to_its_date() -> None:
    dates = pa.array([date(2025, 1, 31)] * 4)
    clocks = pa.array(["18:05", None, "6:05:30 PM", "2025-01-01"])
    form = TimeFormat("strptime", formats=("iso", "%Y-%m-%d %I:%M:%S %p"))
    instants, rules, _ = first_times([dates, clocks], form, "UTC")
    midnight = 1_738_281_600_000
    minutes = [(instant - midnight) // 60_000 for instant in instants.tolist()]
    assert (minutes, rules) == ([18 * 60 + 5, 0, 18 * 60 + 5, 0], {})


@pytest.mark.parametrize(
    ("formats", "ambiguous"),
    [
        (["%d/%m/%Y", "%m/%d/%Y"], True),
        (["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"], True),
        (["%y/%m/%d", "%d/%m/%y"], True),
        (["%d/%m/%Y", "%d/%m/%y", "%Y-%m-%d"], False),
        (["%m/%d/%y %H:%M", "%m/%d/%y"], False),
        (["%d.%m.%Y", "%m/%d/%Y", "iso"], False),
    ],
)
def test_formats_that_read_one_text_as_two_dates_are_ambiguous(formats: list[str], ambiguous: bool) -> None:
    assert (ambiguous_formats(formats) is not None) == ambiguous
