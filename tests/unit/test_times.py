from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_core.errors import InputError
from retail_core.times import iso, last_midnight, midnights, parse_instant

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_a_time_without_a_zone_is_read_in_the_given_one() -> None:
    assert parse_instant("2017-12-03T00:00:00", "Asia/Shanghai") == datetime(2017, 12, 2, 16, tzinfo=UTC)
    assert parse_instant("2017-12-03T00:00:00+08:00", "UTC") == datetime(2017, 12, 2, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2025-13-01",
        "2025-01-01T25:00:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "1970-12-31T23:59:59Z",
        "2200-01-01",
    ],
)
def test_text_that_is_no_time_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(InputError, match="Remedy"):
        parse_instant(text)


@given(
    st.integers(631_152_000_000_000, 4_000_000_000_000_000).map(lambda us: EPOCH + timedelta(microseconds=us))
)
def test_a_formatted_instant_is_parsed_to_the_same_millisecond(instant: datetime) -> None:
    milliseconds = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
    assert parse_instant(iso(instant)) == milliseconds


def test_midnights_follow_the_clock_changes_of_the_zone() -> None:
    days = list(
        midnights(datetime(2025, 3, 29, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC), "Europe/London")
    )
    assert [iso(day) for day in days] == [
        "2025-03-29T00:00:00Z",
        "2025-03-30T00:00:00Z",
        "2025-03-30T23:00:00Z",
        "2025-03-31T23:00:00Z",
    ]


def test_the_last_midnight_is_that_of_the_zone() -> None:
    evening = datetime(2025, 1, 1, 17, tzinfo=UTC)
    assert last_midnight(evening, "Asia/Shanghai") == datetime(2025, 1, 1, 16, tzinfo=UTC)
    assert last_midnight(evening, "UTC") == datetime(2025, 1, 1, tzinfo=UTC)
