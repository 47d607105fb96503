"""Parse raw columns into text, prices, quantities and times.

A value that cannot be parsed is reported with the rule it breaks, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, InvalidOperation

import numpy as np
import pandas as pd
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.arrow_compute import pc
from retail_core.sources.source import TimeFormat

BrokenRules = dict[int, str]
"""Rule by row number of the values that break one."""

NOT_A_TIME = np.iinfo(np.int64).min
_ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?( ?(Z|z|UTC|GMT|[+-]\d\d(:?\d\d)?))?)?$"
_ZONED = r"(Z|:\d\d([.,]\d+)? ?[+-]\d\d(:?\d\d)?)$"
_UNIX = r"^-?\d{1,17}$"
_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_GROUPED = re.compile(
    r"^[+-]?\d{1,3}([,' \u00a0\u202f]\d{3})+([.,]\d+)?$|^[+-]?\d+,\d+$|^[+-]?\d{1,3}(\.\d{3})+,\d+$"
)
_NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$", re.ASCII)
_NO_TEXT = pa.scalar(None, pa.string())
_SIMPLE_PRICE = r"^\d{1,13}(\.\d{1,2})?$"
_CENT = Decimal("0.01")
_EXACT = float(1 << 53)
"""Up to here a float represents every whole number exactly."""
_LAST = 253_402_300_799_999
"""The last millisecond of the year 9999."""


def cleaned_text(column: pa.Array, *, keep_nan: bool = False) -> pa.Array:
    """`column` as text without surrounding white space; empty text is null, as is NaN unless `keep_nan`."""
    if pa.types.is_floating(column.type):
        column = _float_text(column, keep_nan)
    elif not pa.types.is_string(column.type):
        column = _cast_text(column)
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), _NO_TEXT, trimmed)


def _float_text(column: pa.Array, keep_nan: bool) -> pa.Array:
    """Floats as text, whole numbers without a decimal point: the id 17850.0 is `17850`."""
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if not keep_nan:
        # Pandas and Spark write missing values as NaN.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    exact = pc.less_equal(pc.abs(column), _EXACT)
    is_whole = pc.fill_null(pc.and_(exact, pc.equal(pc.floor(column), column)), False)
    integers = pc.if_else(is_whole, column, pa.scalar(None, column.type)).cast(pa.int64())
    return pc.coalesce(integers.cast(pa.string()), column.cast(pa.string()))


def _cast_text(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array(map(_nested_text, column.to_pylist()), pa.string())


def _nested_text(value: object) -> str | None:
    """Lists and structures as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def parse_distinct(column: pa.Array, parse: Callable[[str], int | str]) -> tuple[pa.Array, BrokenRules]:
    """`parse` applied once to each distinct text; it returns the int64 value or the rule that is broken."""
    encoded = column.dictionary_encode()
    results = [parse(value) for value in encoded.dictionary.to_pylist()]
    values = pa.array([result if isinstance(result, int) else None for result in results], pa.int64())
    rule_by_code = {code: result for code, result in enumerate(results) if isinstance(result, str)}
    rules: BrokenRules = {}
    if rule_by_code:
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(np.isin(codes, list(rule_by_code))):
            rules[int(row)] = rule_by_code[int(codes[row])]
    return values.take(encoded.indices), rules


def parse_prices(column: pa.Array) -> tuple[pa.Array, BrokenRules]:
    """Decimal text in hundredths of the currency unit (int64), and broken rules; see `minor_units`."""
    # Arrow parses simple amounts, Python the rest.
    simple = pc.fill_null(pc.match_substring_regex(column, _SIMPLE_PRICE), False)
    amounts = pc.if_else(simple, column, _NO_TEXT).cast(pa.decimal128(15, 2))
    values = pc.multiply(amounts, pa.scalar(100, pa.decimal128(3, 0))).cast(pa.int64())
    irregular_values, rules = parse_distinct(pc.if_else(simple, _NO_TEXT, column), minor_units)
    return pc.coalesce(values, irregular_values), rules


def minor_units(value: str) -> int | str:
    """Decimal text in hundredths, rounded exactly and half to even; or the rule it breaks.

    >>> minor_units("35.79"), minor_units("0.125"), minor_units("1,234.50")
    (3579, 12, 'price_separator')
    """
    if not _NUMBER.match(value):
        if value.lower().lstrip("+-") in {"nan", "inf", "infinity"}:
            return "price_finite"
        return "price_separator" if _GROUPED.match(value) else "price"
    amount = Decimal(value)
    if amount < 0:
        return "price_negative"
    if amount > 10**15:
        return "too_large"
    return int(amount.quantize(_CENT, ROUND_HALF_EVEN) * 100)


def parse_quantities(column: pa.Array) -> tuple[pa.Array, BrokenRules]:
    """Whole numbers of at least 0 (int64), and broken rules."""
    return parse_distinct(column, parse_quantity)


def parse_quantity(value: str) -> int | str:
    """A whole number of at least 0, also written as `3.0`; or the rule it breaks."""
    if not _NUMBER.match(value):
        return "quantity"
    number = Decimal(value)
    if number < 0 or number != number.to_integral_value():
        return "quantity"
    return int(number) if number <= 10**15 else "too_large"


def parse_times(column: pa.Array, form: TimeFormat, zone: str) -> tuple[IntArray, BrokenRules]:
    """Instants in milliseconds since 1970 UTC, rounded down, and broken rules; `NOT_A_TIME` where missing.

    A local time that a clock change repeats means its first occurrence; one that a clock change skips means
    the instant of the change.

    Args:
        column: text or Arrow times.
        form: format of text.
        zone: IANA zone of times without an offset.
    """
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return _typed_times(column, zone)
    column = cleaned_text(column)
    if form.kind == "unix":
        instants = _parse_unix(column, form.unit)
    elif form.kind == "iso":
        instants = _parse_iso(column, zone)
    else:
        instants = _parse_strptime(column, form.formats, zone)
    out_of_range = np.flatnonzero((np.abs(instants) > _LAST) & (instants != NOT_A_TIME))
    instants[out_of_range] = NOT_A_TIME
    missing = column.is_null().to_numpy(zero_copy_only=False)
    rules = {int(row): "time" for row in np.flatnonzero((instants == NOT_A_TIME) & ~missing)}
    return instants, rules | {int(row): "time_range" for row in out_of_range}


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
        milliseconds = Decimal(value) * _UNITS[unit] / 1000
        rounded = int(milliseconds.to_integral_value(ROUND_FLOOR))
    except (InvalidOperation, ValueError, OverflowError):
        return NOT_A_TIME
    return rounded if abs(rounded) < 10**17 else NOT_A_TIME


def _parse_iso(column: pa.Array, zone: str) -> IntArray:
    is_iso = pc.fill_null(pc.match_substring_regex(column, _ISO), False)
    column = pc.if_else(is_iso, column, _NO_TEXT)
    column = pc.replace_substring_regex(column, r" ?(UTC|GMT|z)$", "Z")
    column = pc.replace_substring_regex(column, r"[.,](\d{1,6})\d*", r".\1")
    zoned = pc.fill_null(pc.match_substring_regex(column, _ZONED), True).to_numpy(zero_copy_only=False)
    series = pd.Series(column.to_pandas(), dtype="str")
    timestamps = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")
    instants = _milliseconds(timestamps)
    if not zoned.all():
        naive = timestamps[~zoned].dt.tz_localize(None)
        instants[~zoned] = localize(naive, zone)
    return instants


def _parse_strptime(column: pa.Array, formats: tuple[str, ...], zone: str) -> IntArray:
    series = pd.Series(column.to_pandas(), dtype="str")
    instants = np.full(len(series), NOT_A_TIME, dtype=np.int64)
    for form in formats:
        unparsed = np.flatnonzero((instants == NOT_A_TIME) & series.notna().to_numpy())
        if not len(unparsed):
            break
        timestamps = pd.to_datetime(series.iloc[unparsed], format=form, errors="coerce", utc="%z" in form)
        instants[unparsed] = _milliseconds(timestamps) if "%z" in form else localize(timestamps, zone)
    return instants
