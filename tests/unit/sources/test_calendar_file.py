"""Calendar files: what is read, and what is refused with line, column, rule and remedy."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from retail_core.errors import InputError
from retail_core.sources.calendar_file import AnnouncedDay, DayKind, parse_calendar, read_calendar

AT = datetime(2025, 11, 20, 12, tzinfo=UTC)


def parse(text: str) -> list[AnnouncedDay]:
    return parse_calendar(text, "calendar.csv", "Europe/Berlin", AT)


def test_dates_ranges_and_notes_are_read() -> None:
    single = parse("date,kind,note\n2025-12-25,closed,Christmas\n\n2025-11-28,Promotion,\n")
    assert single == [
        AnnouncedDay(date(2025, 11, 28), DayKind.PROMOTION),
        AnnouncedDay(date(2025, 12, 25), DayKind.CLOSED, "Christmas"),
    ]
    ranges = parse(
        "\ufefffirst;last;kind;announced\n".lstrip("\ufeff") + "2025-12-30;2026-01-01;closed;2025-11-01\n"
    )
    assert [entry.day.day for entry in ranges] == [30, 31, 1]
    assert {entry.announced_at for entry in ranges} == {datetime(2025, 10, 31, 23, tzinfo=UTC)}


def test_a_day_of_two_promotions_counts_once() -> None:
    text = "first,last,kind\n2025-11-27,2025-11-28,promotion\n2025-11-28,2025-11-29,promotion\n"
    assert len(parse(text)) == 3


@pytest.mark.parametrize(
    ("text", "issue"),
    [
        ("date,kind\n2025-11-28,sale\n", "line 2, kind 'sale' (rule kind)"),
        ("date,kind\n28.11.2025,closed\n", "line 2, date '28.11.2025' (rule date)"),
        ("date,kind\n,closed\n", "line 2, date '' (rule missing)"),
        ("date,kind\n2025-11-28,\n", "line 2, kind '' (rule missing)"),
        ("date,kind\n2025-11-28\n", "line 2, row '1' (rule fields)"),
        ("first,last,kind\n2025-11-28,2025-11-27,closed\n", "line 2, last '2025-11-27' (rule order)"),
        ("first,last,kind\n2025-11-28,2027-11-27,closed\n", "(rule range)"),
        ("date,kind\n2025-11-28,closed\n2025-11-28,promotion\n", "line 3, kind '2025-11-28 promotion'"),
        ("date,kind,announced\n2025-11-28,closed,2025-11-21\n", "announced '2025-11-21' (rule announced)"),
        ("date,kind,note\n2025-11-28,closed," + "x" * 201 + "\n", "(rule note)"),
        ("day,kind\n2025-11-28,closed\n", "line 1, header 'day, kind' (rule columns)"),
        ("date,first,last,kind\n", "(rule columns)"),
        ("first,kind\n", "(rule columns)"),
        ("", "(rule columns)"),
    ],
)
def test_a_file_with_a_wrong_row_is_refused(text: str, issue: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(text)
    assert issue in refused.value.message
    assert refused.value.remedy


def test_every_issue_is_counted_and_the_first_five_are_shown() -> None:
    rows = "".join(f"2025-11-{day:02d},sale\n" for day in range(1, 9))
    with pytest.raises(InputError, match=r"line 6, .*and 3 more"):
        parse("date,kind\n" + rows)


def test_a_byte_order_mark_is_left_out_and_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "calendar.csv"
    file.write_bytes(b"\xef\xbb\xbfdate,kind\n2025-12-25,closed\n")
    assert len(read_calendar(file, "UTC", AT)) == 1
    file.write_bytes("date,kind\n2025-12-25,closed\n".encode("utf-16"))
    with pytest.raises(InputError, match="utf-16"):
        read_calendar(file, "UTC", AT)
    with pytest.raises(InputError, match="cannot be read"):
        read_calendar(tmp_path / "absent.csv", "UTC", AT)
