"""The shop's calendar as a CSV file: announced promotions and days on which the shop is closed.

A file is accepted as a whole or refused as a whole: a calendar of which some rows are missing would be
taken for one in which nothing is announced on those days.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from retail_core.errors import InputError
from retail_core.sources.text_encoding import encoding_error
from retail_core.times import YEARS, parse_instant

COLUMNS = ("date", "first", "last", "kind", "note", "announced")
MAX_DAYS = 10_000
"""Largest number of days of a calendar."""
MAX_RANGE_DAYS = 366
MAX_NOTE = 200
"""Largest length of a note, in characters."""

_SHOWN_ISSUES = 5
_ONE_DAY = timedelta(days=1)


class DayKind(StrEnum):
    """What is announced for a day."""

    PROMOTION = "promotion"
    CLOSED = "closed"


_REMEDIES = {
    "columns": "name the columns date (or first and last), kind and, if wanted, note and announced",
    "fields": "give the row as many fields as the header",
    "missing": "fill in the value",
    "date": f"write dates as 2025-11-28, in the years {YEARS[0]} to {YEARS[-1]}",
    "kind": f"write one of {', '.join(DayKind)}",
    "order": "let the range end on or after its first day",
    "range": f"give a range of at most {MAX_RANGE_DAYS} days, and at most {MAX_DAYS:,} days altogether",
    "note": f"shorten the note to {MAX_NOTE} characters",
    "announced": "write when the day was announced as 2025-11-01 or 2025-11-01T09:00:00Z, not in the future",
    "conflict": "list each day with one kind only",
}
"""Rule -> remedy."""


@dataclass(frozen=True)
class AnnouncedDay:
    """One local day of the shop's calendar.

    Attributes:
        day: in the shop's time zone.
        kind: what is announced.
        note: free text.
        announced_at: since when it is known, UTC; None in a file that does not state it.
        withdrawn_at: since when it is no longer announced, UTC; None while it is.
    """

    day: date
    kind: DayKind
    note: str = ""
    announced_at: datetime | None = None
    withdrawn_at: datetime | None = None


@dataclass(frozen=True)
class CalendarIssue:
    """Why a row of a calendar is refused: physical line, column, rule (key of the remedies) and value."""

    line: int
    field: str
    rule: str
    value: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field} {self.value!r} (rule {self.rule})"


class _RowError(Exception):
    def __init__(self, field: str, rule: str, value: object) -> None:
        super().__init__(field)
        self.field, self.rule, self.value = field, rule, str(value)


def read_calendar(file: Path, zone_name: str, at: datetime) -> list[AnnouncedDay]:
    """The days of a calendar file, ascending.

    Args:
        file: UTF-8 CSV with commas, semicolons or tabs. Columns: `date`, or `first` and `last` (both
            included); `kind`; optionally `note` and `announced` (since when it is known).
        zone_name: IANA zone of `announced` where it has no offset.
        at: present time, aware; `announced` may not lie after it.

    Raises:
        InputError: the file cannot be read, or rows are refused; names line, column, rule and remedy.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise encoding_error(file, "utf-8") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.", remedy="name a CSV file.") from None
    return parse_calendar(text, file.name, zone_name, at)


def parse_calendar(text: str, name: str, zone_name: str, at: datetime) -> list[AnnouncedDay]:
    """As `read_calendar`, from the text of the file called `name`."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    header = [cell.strip().lower() for cell in next(lines, [])]
    issues = _header_issues(header)
    days: dict[date, AnnouncedDay] = {}
    for row in lines if not issues else ():
        if not any(cell.strip() for cell in row):
            continue
        try:
            _add(days, _row_days(header, row, zone_name, at))
        except _RowError as error:
            issues.append(CalendarIssue(lines.line_num, error.field, error.rule, error.value))
    if issues:
        raise _refused(name, issues)
    return [days[day] for day in sorted(days)]


def _delimiter(text: str) -> str:
    """The delimiter of the first line."""
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _header_issues(header: Sequence[str]) -> list[CalendarIssue]:
    is_known = set(header) <= set(COLUMNS) and len(set(header)) == len(header)
    has_days = ("date" in header) != ({"first", "last"} <= set(header))
    has_half_range = ("first" in header) != ("last" in header)
    if is_known and has_days and not has_half_range and "kind" in header:
        return []
    return [CalendarIssue(1, "header", "columns", ", ".join(header))]


def _row_days(header: Sequence[str], row: Sequence[str], zone_name: str, at: datetime) -> list[AnnouncedDay]:
    if len(row) != len(header):
        raise _RowError("row", "fields", len(row))
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    first = _date(cells, "date" if "date" in cells else "first")
    last = first if "date" in cells else _date(cells, "last")
    if last < first:
        raise _RowError("last", "order", last)
    if (last - first).days >= MAX_RANGE_DAYS:
        raise _RowError("last", "range", last)
    note = cells.get("note", "")
    if len(note) > MAX_NOTE:
        raise _RowError("note", "note", note[:MAX_NOTE])
    kind, announced_at = _kind(cells), _announced(cells, zone_name, at)
    count = (last - first).days + 1
    return [AnnouncedDay(first + _ONE_DAY * n, kind, note, announced_at) for n in range(count)]


def _date(cells: Mapping[str, str], field: str) -> date:
    text = cells[field]
    if not text:
        raise _RowError(field, "missing", text)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise _RowError(field, "date", text) from None
    if day.year not in YEARS:
        raise _RowError(field, "date", text)
    return day


def _kind(cells: Mapping[str, str]) -> DayKind:
    text = cells["kind"]
    if not text:
        raise _RowError("kind", "missing", text)
    try:
        return DayKind(text.lower())
    except ValueError:
        raise _RowError("kind", "kind", text) from None


def _announced(cells: Mapping[str, str], zone_name: str, at: datetime) -> datetime | None:
    text = cells.get("announced", "")
    if not text:
        return None
    try:
        announced_at = parse_instant(text, zone_name)
    except InputError:
        raise _RowError("announced", "announced", text) from None
    if announced_at > at:
        raise _RowError("announced", "announced", text)
    return announced_at


def _add(days: dict[date, AnnouncedDay], row_days: Sequence[AnnouncedDay]) -> None:
    """Add the days of a row; days that are listed twice with the same kind are kept once."""
    for entry in row_days:
        if days.setdefault(entry.day, entry).kind != entry.kind:
            raise _RowError("kind", "conflict", f"{entry.day} {entry.kind}")
    if len(days) > MAX_DAYS:
        raise _RowError("row", "range", f"{len(days):,} days")


def _refused(name: str, issues: Sequence[CalendarIssue]) -> InputError:
    shown = "; ".join(map(str, issues[:_SHOWN_ISSUES]))
    more = f"; and {len(issues) - _SHOWN_ISSUES:,} more" if len(issues) > _SHOWN_ISSUES else ""
    remedies = dict.fromkeys(_REMEDIES[issue.rule] for issue in issues[:_SHOWN_ISSUES])
    return InputError(f"{name} was not stored: {shown}{more}.", remedy="; ".join(remedies) + ".")
