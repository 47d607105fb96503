"""Text columns into typed ones. A value that cannot be read is named with its rule, never guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, InvalidOperation

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from retail_core.arrow_compute import pc
from retail_core.sources.source import TimeFormat

Rules = dict[int, str]
"""Row -> the rule its value breaks."""

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
_PLAIN_PRICE = r"^\d{1,13}(\.\d{1,2})?$"
_CENT = Decimal("0.01")
_EXACT = float(1 << 53)
"""Up to here a float is every whole number."""
_LAST = 253_402_300_799_999
"""The last millisecond of the year 9999."""


def text(column: pa.Array, *, keep_nan: bool = False) -> pa.Array:
    """`column` as text without surrounding white space; empty is null, and NaN unless it is to be kept."""
    if pa.types.is_floating(column.type):
        column = _float_text(column, keep_nan)
    elif not pa.types.is_string(column.type):
        column = _cast_text(column)
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), _NO_TEXT, trimmed)


def _float_text(column: pa.Array, keep_nan: bool) -> pa.Array:
    """Whole numbers without a point, whatever else is in the column: an id 17850.0 is 17850."""
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if not keep_nan:
        # So pandas and Spark write a value that is missing.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    exact = pc.less_equal(pc.abs(column), _EXACT)
    whole = pc.fill_null(pc.and_(exact, pc.equal(pc.floor(column), column)), False)
    integers = pc.if_else(whole, column, pa.scalar(None, column.type)).cast(pa.int64())
    return pc.coalesce(integers.cast(pa.string()), column.cast(pa.string()))


def _cast_text(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array(map(_nested_text, column.to_pylist()), pa.string())


def _nested_text(value: object) -> str | None:
    """Lists and structures as JSON, as a JSON log has them."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def each_distinct(column: pa.Array, read: Callable[[str], int | str]) -> tuple[pa.Array, Rules]:
    """`read` applied once to each distinct text: an int is the value, a str the rule it breaks."""
    encoded = column.dictionary_encode()
    results = [read(value) for value in encoded.dictionary.to_pylist()]
    values = pa.array([result if isinstance(result, int) else None for result in results], pa.int64())
    broken = {code: result for code, result in enumerate(results) if isinstance(result, str)}
    rules: Rules = {}
    if broken:
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(np.isin(codes, list(broken))):
            rules[int(row)] = broken[int(codes[row])]
    return values.take(encoded.indices), rules


def prices(column: pa.Array) -> tuple[pa.Array, Rules]:
    """Decimal text in hundredths, as `minor_units` does it; plain amounts without Python's help."""
    plain = pc.fill_null(pc.match_substring_regex(column, _PLAIN_PRICE), False)
    amounts = pc.if_else(plain, column, _NO_TEXT).cast(pa.decimal128(15, 2))
    values = pc.multiply(amounts, pa.scalar(100, pa.decimal128(3, 0))).cast(pa.int64())
    others, rules = each_distinct(pc.if_else(plain, _NO_TEXT, column), minor_units)
    return pc.coalesce(values, others), rules


def minor_units(value: str) -> int | str:
    """Decimal text in hundredths, exactly, halves to even; or the rule it breaks.

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


def quantities(column: pa.Array) -> tuple[pa.Array, Rules]:
    """Whole numbers of at least 0."""
    return each_distinct(column, whole_number)


def whole_number(value: str) -> int | str:
    """A whole number of at least 0, `3.0` included; or the rule it breaks."""
    if not _NUMBER.match(value):
        return "quantity"
    number = Decimal(value)
    if number < 0 or number != number.to_integral_value():
        return "quantity"
    return int(number) if number <= 10**15 else "too_large"


def times(column: pa.Array, form: TimeFormat, zone: str) -> tuple[npt.NDArray[np.int64], Rules]:
    """Instants as milliseconds since 1970 UTC, cut down to whole ones; `NOT_A_TIME` where missing.

    A local time that a clock change repeats is its first occurrence; one that a clock change leaves
    out is moved to the instant of the change.
    """
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return _typed_times(column, zone)
    column = text(column)
    if form.kind == "unix":
        found = _unix(column, form.unit)
    elif form.kind == "iso":
        found = _iso(column, zone)
    else:
        found = _strptime(column, form.formats, zone)
    far = np.flatnonzero((np.abs(found) > _LAST) & (found != NOT_A_TIME))
    found[far] = NOT_A_TIME
    missing = column.is_null().to_numpy(zero_copy_only=False)
    rules = {int(row): "time" for row in np.flatnonzero((found == NOT_A_TIME) & ~missing)}
    return found, rules | {int(row): "time_range" for row in far}


def localize(naive: pd.Series, zone: str) -> npt.NDArray[np.int64]:
    """Local times of the zone as milliseconds since 1970 UTC; clock changes as in `times`."""
    first = np.ones(len(naive), dtype=bool)
    local = naive.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
    return _milliseconds(local.dt.tz_convert("UTC"))


def _milliseconds(instants: pd.Series) -> npt.NDArray[np.int64]:
    micros = instants.dt.as_unit("us").astype("int64").to_numpy()
    return np.where(instants.isna(), NOT_A_TIME, micros // 1000)


def _typed_times(column: pa.Array, zone: str) -> tuple[npt.NDArray[np.int64], Rules]:
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    per_second = _PER_SECOND[column.type.unit]
    given = column.is_valid().to_numpy(zero_copy_only=False)
    ticks = column.cast(pa.int64()).fill_null(0).to_numpy()
    far = given & (np.abs(ticks // per_second) > _LAST // 1000)
    given = given & ~far
    ticks = np.where(given, ticks, 0)
    found = ticks * 1000 if per_second == 1 else ticks // (per_second // 1000)
    if column.type.tz is None:
        found = localize(pd.Series(found.astype("datetime64[ms]")), zone)
    rules = {int(row): "time_range" for row in np.flatnonzero(far)}
    return np.where(given, found, NOT_A_TIME), rules


def _unix(column: pa.Array, unit: str) -> npt.NDArray[np.int64]:
    plain = pc.fill_null(pc.match_substring_regex(column, _UNIX), False)
    numbers = pc.if_else(plain, column, _NO_TEXT).cast(pa.int64())
    read = numbers.is_valid().to_numpy(zero_copy_only=False)
    values = numbers.fill_null(0).to_numpy()
    found = np.where(
        read, values * 1000 if unit == "s" else values // (1 if unit == "ms" else 1000), NOT_A_TIME
    )
    if unit == "s":
        found = np.where(read & (np.abs(values) > 10**14), NOT_A_TIME, found)
    for row in np.flatnonzero(~read & column.is_valid().to_numpy(zero_copy_only=False)):
        found[row] = _decimal_time(column[int(row)].as_py(), unit)
    return found


def _decimal_time(value: str, unit: str) -> int:
    try:
        milliseconds = Decimal(value) * _UNITS[unit] / 1000
        whole = int(milliseconds.to_integral_value(ROUND_FLOOR))
    except (InvalidOperation, ValueError, OverflowError):
        return NOT_A_TIME
    return whole if abs(whole) < 10**17 else NOT_A_TIME


def _iso(column: pa.Array, zone: str) -> npt.NDArray[np.int64]:
    shaped = pc.fill_null(pc.match_substring_regex(column, _ISO), False)
    column = pc.if_else(shaped, column, _NO_TEXT)
    column = pc.replace_substring_regex(column, r" ?(UTC|GMT|z)$", "Z")
    column = pc.replace_substring_regex(column, r"[.,](\d{1,6})\d*", r".\1")
    zoned = pc.fill_null(pc.match_substring_regex(column, _ZONED), True).to_numpy(zero_copy_only=False)
    series = pd.Series(column.to_pandas(), dtype="str")
    instants = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")
    found = _milliseconds(instants)
    if not zoned.all():
        naive = instants[~zoned].dt.tz_localize(None)
        found[~zoned] = localize(naive, zone)
    return found


def _strptime(column: pa.Array, formats: tuple[str, ...], zone: str) -> npt.NDArray[np.int64]:
    series = pd.Series(column.to_pandas(), dtype="str")
    found = np.full(len(series), NOT_A_TIME, dtype=np.int64)
    for form in formats:
        open_rows = np.flatnonzero((found == NOT_A_TIME) & series.notna().to_numpy())
        if not len(open_rows):
            break
        read = pd.to_datetime(series.iloc[open_rows], format=form, errors="coerce", utc="%z" in form)
        found[open_rows] = _milliseconds(read) if "%z" in form else localize(read, zone)
    return found
