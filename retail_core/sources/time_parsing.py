"""Parse times; one that cannot be read is reported with the rule it breaks, never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.arrow_compute import pc
from retail_core.schemas import EARLIEST, LATEST
from retail_core.sources.number_parsing import BrokenRules
from retail_core.sources.source_options import TimeFormat
from retail_core.sources.text_cleaning import NULL_MARKERS, as_text_column, cleaned_text

NOT_A_TIME = np.iinfo(np.int64).min
_ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?( ?(Z|z|UTC|GMT|[+-]\d\d(:?\d\d)?))?)?$"
_ZONED = r"(Z|:\d\d([.,]\d+)? ?[+-]\d\d(:?\d\d)?)$"
_UNIX = r"^-?\d{1,17}$"
_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NO_TEXT = pa.scalar(None, pa.string())
_LAST = 253_402_300_799_999
"""The last millisecond of the year 9999."""
_MAX_DIGITS = 20
"""Digits before the decimal point of a Unix time; more cannot be a time."""
_CLOCK = r"^\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?( ?(Z|[+-]\d\d:?\d\d))?$"
_MIDNIGHT_24 = r"(^|[T ])24:00(:00(?:[.,]0+)?)?"
_SAMPLES = (datetime(2003, 4, 5, 6, 7, 8), datetime(2010, 11, 12, 1, 2, 3))  # noqa: DTZ001 - local times
UNIX_UNITS: Mapping[str, Literal["s", "ms", "us"]] = {"unix_s": "s", "unix_ms": "ms", "unix_us": "us"}
"""Unit by the name of a Unix time format in a mapping."""


def parse_times(
    column: pa.Array, form: TimeFormat, zone: str, nulls: tuple[str, ...] = NULL_MARKERS
) -> tuple[IntArray, BrokenRules]:
    """Instants in milliseconds since 1970 UTC, rounded down, and broken rules; `NOT_A_TIME` where missing.

    A local time that a clock change repeats means its first occurrence; one that a clock change skips means
    the instant of the change. `24:00` is the next midnight.

    Args:
        column: text or Arrow times.
        form: format of text.
        zone: IANA zone of times without an offset.
        nulls: text that stands for a missing time.
    """
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return _typed_times(column, zone)
    column = cleaned_text(column, nulls)
    instants = _parse_text(column, form, zone)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    unread = np.flatnonzero((instants == NOT_A_TIME) & ~missing)
    if len(unread) and form.kind != "unix":
        instants[unread] = _parse_midnight_24(column.take(pa.array(unread)), form, zone)
        unread = unread[instants[unread] == NOT_A_TIME]
    out_of_range = np.flatnonzero((np.abs(instants) > _LAST) & (instants != NOT_A_TIME))
    instants[out_of_range] = NOT_A_TIME
    rules = {int(row): "time" for row in unread}
    return instants, rules | {int(row): "time_range" for row in out_of_range}


def _parse_text(column: pa.Array, form: TimeFormat, zone: str, days: int = 0) -> IntArray:
    if form.kind == "unix":
        return _parse_unix(column, form.unit)
    if form.kind == "iso":
        return _parse_iso(column, zone, days)
    return _parse_formats(column, form.formats, zone, days)


def _parse_midnight_24(column: pa.Array, form: TimeFormat, zone: str) -> IntArray:
    """Instants of times written `24:00`, the end of their day; `NOT_A_TIME` for all others."""
    is_midnight = pc.match_substring_regex(column, _MIDNIGHT_24)
    text = pc.if_else(is_midnight, pc.replace_substring_regex(column, _MIDNIGHT_24, r"\100:00\2"), _NO_TEXT)
    return _parse_text(text, form, zone, days=1)


def first_times(
    columns: Sequence[pa.Array], form: TimeFormat, zone: str, nulls: tuple[str, ...] = NULL_MARKERS
) -> tuple[IntArray, BrokenRules, pa.Array]:
    """Instants of the first of several columns with a value, broken rules, and the raw text that was used.

    A column of clock times without a date is joined to the column before it.
    """
    joined = _join_clocks(columns, nulls)
    instants = np.full(len(columns[0]), NOT_A_TIME, dtype=np.int64)
    rules: BrokenRules = {}
    raw = pa.nulls(len(columns[0]), pa.string())
    for column in joined:
        unset = raw.is_null().to_numpy(zero_copy_only=False)
        values, broken = parse_times(column, form, zone, nulls)
        instants = np.where(unset, values, instants)
        rules |= {row: rule for row, rule in broken.items() if unset[row]}
        raw = pc.coalesce(raw, cleaned_text(column, nulls))
    return instants, rules, raw


def _join_clocks(columns: Sequence[pa.Array], nulls: tuple[str, ...]) -> list[pa.Array]:
    joined = [columns[0]]
    for further in columns[1:]:
        column = further
        clock = cleaned_text(column, nulls)
        is_clock = pc.fill_null(pc.match_substring_regex(clock, _CLOCK), False)
        if is_clock.true_count:
            date = pc.replace_substring_regex(cleaned_text(joined[-1], nulls), r"[T ]00:00:00(\.0+)?$", "")
            with_clock = pc.binary_join_element_wise(date, clock, " ")
            joined[-1] = pc.if_else(is_clock, with_clock, as_text_column(joined[-1]))
            column = pc.if_else(is_clock, _NO_TEXT, clock)
        joined.append(column)
    return joined


def ambiguous_formats(formats: Sequence[str]) -> tuple[str, str] | None:
    """Two of `formats` that read the same text as different dates, None if there are none.

    >>> ambiguous_formats(["%d/%m/%Y", "%m/%d/%Y"]), ambiguous_formats(["%d/%m/%Y", "%d.%m.%y"])
    (('%d/%m/%Y', '%m/%d/%Y'), None)
    """
    directives = [form for form in formats if "%" in form]
    return next((pair for pair in combinations(directives, 2) if _is_ambiguous(*pair)), None)


def _is_ambiguous(first: str, second: str) -> bool:
    for sample in _SAMPLES:
        for writer, reader in ((first, second), (second, first)):
            text = sample.strftime(writer)
            try:
                pair = datetime.strptime(text, writer), datetime.strptime(text, reader)  # noqa: DTZ007
            except ValueError:
                continue
            if pair[0].date() != pair[1].date():
                return True
    return False


def localize(naive: pd.Series, zone: str) -> IntArray:
    """Times without offset in `zone` as milliseconds since 1970 UTC; clock changes as in `parse_times`."""
    first = np.ones(len(naive), dtype=bool)
    local = naive.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
    return _milliseconds(local.dt.tz_convert("UTC"))


def _milliseconds(instants: pd.Series) -> IntArray:
    micros = instants.dt.as_unit("us").astype("int64").to_numpy()
    return np.where(instants.isna(), NOT_A_TIME, micros // 1000)


def _typed_times(column: pa.Array, zone: str) -> tuple[IntArray, BrokenRules]:
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    per_second = _PER_SECOND[column.type.unit]
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    ticks = column.cast(pa.int64()).fill_null(0).to_numpy()
    out_of_range = valid & (np.abs(ticks // per_second) > _LAST // 1000)
    valid = valid & ~out_of_range
    ticks = np.where(valid, ticks, 0)
    instants = ticks * 1000 if per_second == 1 else ticks // (per_second // 1000)
    if column.type.tz is None:
        instants = localize(pd.Series(instants.astype("datetime64[ms]")), zone)
    rules = {int(row): "time_range" for row in np.flatnonzero(out_of_range)}
    return np.where(valid, instants, NOT_A_TIME), rules


def _parse_unix(column: pa.Array, unit: str) -> IntArray:
    is_integer = pc.fill_null(pc.match_substring_regex(column, _UNIX), False)
    numbers = pc.if_else(is_integer, column, _NO_TEXT).cast(pa.int64())
    valid = numbers.is_valid().to_numpy(zero_copy_only=False)
    values = numbers.fill_null(0).to_numpy()
    instants = np.where(
        valid, values * 1000 if unit == "s" else values // (1 if unit == "ms" else 1000), NOT_A_TIME
    )
    if unit == "s":
        instants = np.where(valid & (np.abs(values) > 10**14), NOT_A_TIME, instants)
    for row in np.flatnonzero(~valid & column.is_valid().to_numpy(zero_copy_only=False)):
        instants[row] = _parse_decimal_unix(column[int(row)].as_py(), unit)
    return instants


def _parse_decimal_unix(value: str, unit: str) -> int:
    try:
        number = Decimal(value)
        if not number.is_finite() or number.adjusted() > _MAX_DIGITS:
            return NOT_A_TIME
        milliseconds = (number * _UNITS[unit] / 1000).to_integral_value(ROUND_FLOOR)
    except (ArithmeticError, ValueError):
        return NOT_A_TIME
    return int(milliseconds) if abs(milliseconds) < 10**17 else NOT_A_TIME


def _parse_iso(column: pa.Array, zone: str, days: int = 0) -> IntArray:
    is_iso = pc.fill_null(pc.match_substring_regex(column, _ISO), False)
    column = pc.if_else(is_iso, column, _NO_TEXT)
    column = pc.replace_substring_regex(column, r" ?(UTC|GMT|z)$", "Z")
    column = pc.replace_substring_regex(column, r"[.,](\d{1,6})\d*", r".\1")
    zoned = pc.fill_null(pc.match_substring_regex(column, _ZONED), True).to_numpy(zero_copy_only=False)
    series = pd.Series(column.to_pandas(), dtype="str")
    timestamps = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")
    if days:
        timestamps += pd.Timedelta(days=days)
    instants = _milliseconds(timestamps)
    if not zoned.all():
        naive = timestamps[~zoned].dt.tz_localize(None)
        instants[~zoned] = localize(naive, zone)
    return instants


def _parse_formats(column: pa.Array, formats: tuple[str, ...], zone: str, days: int = 0) -> IntArray:
    """Instants by the first format that gives one in the years of events, else by the first that gives any.

    Unix times in seconds, milliseconds and microseconds differ by their number of digits in these years.
    """
    instants = np.full(len(column), NOT_A_TIME, dtype=np.int64)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    for form in formats:
        unread = np.flatnonzero(~_is_event_time(instants) & present)
        if not len(unread):
            break
        text, before = column.take(pa.array(unread)), instants[unread]
        if form in UNIX_UNITS:
            parsed = _parse_unix(text, UNIX_UNITS[form])
        elif form == "iso":
            parsed = _parse_iso(text, zone, days)
        else:
            parsed = _parse_strptime(text, form, zone, days)
        instants[unread] = np.where(_is_event_time(parsed) | (before == NOT_A_TIME), parsed, before)
    return instants


def _is_event_time(instants: IntArray) -> npt.NDArray[np.bool_]:
    """Which instants are in the years that events may have."""
    return (instants >= EARLIEST.value // 10**6) & (instants < LATEST.value // 10**6)


def _parse_strptime(column: pa.Array, form: str, zone: str, days: int) -> IntArray:
    series = pd.Series(column.to_pandas(), dtype="str")
    timestamps = pd.to_datetime(series, format=form, errors="coerce", utc="%z" in form)
    if days:
        timestamps += pd.Timedelta(days=days)
    return _milliseconds(timestamps) if "%z" in form else localize(timestamps, zone)
