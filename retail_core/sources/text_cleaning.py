"""Raw columns as clean text: trimmed, without null markers, ids without invisible characters and `.0`.

Separate from the parsers of numbers and times, which all start from clean text.
"""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.arrow_compute import pc

NULL_MARKERS = (
    "NA", "N/A", "n/a", "<NA>", r"\N", "NULL", "Null", "null", "None", "none", "NaN", "NAN", "nan", "-",
)  # fmt: skip
"""Text that stands for a missing value unless a mapping says otherwise; letter case matters."""

_PLACEHOLDER_WORDS = (
    "undefined", "null", "nil", "none", "nan", "nat", "na", "unknown", "anonymous", "anon", "guest", "nobody",
    "missing", "deleted",
)  # fmt: skip
_BRACKETS = (("", ""), ("(", ")"), ("<", ">"))
PLACEHOLDERS = (
    *(f"{before}{word}{after}" for word in _PLACEHOLDER_WORDS for before, after in _BRACKETS),
    "(not set)", "not set", "#n/a", "#n/d", "#null!", "#ref!", "#value!", "n/a", "--", "---", "?", "[]", "{}",
    "[object object]", "-1", "00000000-0000-0000-0000-000000000000",
)  # fmt: skip
"""Lower-case ids that stand for no user, beside those of `NULL_MARKERS` in their own letter case."""

INVISIBLE = "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
"""Characters without a glyph: soft hyphen, zero-width spaces, direction marks, byte-order mark."""

_NO_BREAK_AROUND = "^[ \t]*\u00a0|\u00a0[ \t]*$"
_INTEGRAL = r"^(-?\d+)\.0+$"
_SCIENTIFIC = r"^-?\d(?:[.,]\d+[eE][+-]?|[eE]\+)\d{1,3}$"
_PLAIN_SCIENTIFIC = r"^-?\d[eE]\d{1,3}$"
"""It is also how an id of hexadecimal digits or of letters and digits may look."""
_NUMBER = r"^-?\d+(?:[.,]\d+)?(?:[eE][+-]?\d{1,3})?$"
_PLACEHOLDER_SET = pa.array(
    sorted(
        {
            spelling
            for text in PLACEHOLDERS
            for spelling in (text, text.upper(), text.title(), text.capitalize())
        }
    ),
    pa.string(),
)
_NO_TEXT = pa.scalar(None, pa.string())
_EXACT = float(1 << 53)
"""Up to here a float represents every whole number exactly."""


def cleaned_text(column: pa.Array, nulls: tuple[str, ...] = NULL_MARKERS) -> pa.Array:
    """`column` as text without surrounding white space; empty text, `nulls` and NaN are null."""
    text = as_text_column(column)
    if _has_bytes(text, trimmed=True):
        text = pc.utf8_trim_whitespace(text)
    missing = pc.is_in(text, value_set=pa.array(["", *nulls], pa.string()))
    return pc.if_else(missing, _NO_TEXT, text) if missing.true_count else text


def cleaned_ids(column: pa.Array, nulls: tuple[str, ...] = NULL_MARKERS) -> pa.Array:
    """Like `cleaned_text`, without invisible characters; an integral float `17850.0` becomes `17850`."""
    return integral_text(cleaned_text(visible_text(as_text_column(column)), nulls))


def clean_id(value: str) -> str | None:
    """The id that `cleaned_ids` makes of one text.

    >>> clean_id(" 17850.0"), clean_id("0071"), clean_id("NA")
    ('17850', '0071', None)
    """
    cleaned: str | None = cleaned_ids(pa.array([value], pa.string()))[0].as_py()
    return cleaned


def visible_text(text: pa.Array) -> pa.Array:
    """Text without the characters of `INVISIBLE`."""
    if not _has_bytes(text, non_ascii=True):
        return text
    return pc.replace_substring_regex(text, INVISIBLE, "")


def invisible_rows(text: pa.Array) -> IntArray:
    """Rows whose raw text has an invisible character or begins or ends with a no-break space."""
    if not _has_bytes(text, non_ascii=True):
        return np.empty(0, dtype=np.int64)
    return _rows(pc.match_substring_regex(text, f"{INVISIBLE}|{_NO_BREAK_AROUND}"))


def integral_text(text: pa.Array) -> pa.Array:
    """Text in which an integral float is written as an integer; other text is unchanged."""
    if not _has_bytes(text, byte=ord(".")):
        return text
    return pc.replace_substring_regex(text, _INTEGRAL, r"\1")


def scientific_rows(text: pa.Array) -> IntArray:
    """Rows with a number in scientific notation, such as `1.23E+15` or `1e5`: its last digits may be lost.

    `1e5`, without decimals and sign, counts only in a column that has nothing but numbers: `3f2a9c` beside it
    says that it is an id of hexadecimal digits.
    """
    if not _has_exponent(text):
        return np.empty(0, dtype=np.int64)
    scientific = pc.match_substring_regex(text, _SCIENTIFIC)
    plain = pc.match_substring_regex(text, _PLAIN_SCIENTIFIC)
    if plain.true_count and pc.all(pc.match_substring_regex(text, _NUMBER), min_count=0).as_py():
        scientific = pc.or_(scientific, plain)
    return _rows(scientific)


def _has_exponent(text: pa.Array) -> bool:
    """Whether an `e` or `E` follows a digit, anywhere in the column."""
    content = _content_bytes(text)
    if len(content) < 3:
        return False
    is_exponent = (content[1:] | 0x20) == ord("e")
    after_digit = (content[:-1] >= ord("0")) & (content[:-1] <= ord("9"))
    return bool((is_exponent & after_digit).any())


def placeholder_rows(ids: pa.Array) -> IntArray:
    """Rows with an id that stands for no user, such as `undefined`, whatever its letter case."""
    return _rows(pc.is_in(ids, value_set=_PLACEHOLDER_SET))


def nested_rows(text: pa.Array) -> IntArray:
    """Rows with a JSON object or list."""
    if not _has_bytes(text, byte=ord("}")) and not _has_bytes(text, byte=ord("]")):
        return np.empty(0, dtype=np.int64)
    return _rows(pc.match_substring_regex(text, r"(?s)^(\{.*\}|\[.*\])$"))


def longer_rows(text: pa.Array, limit: int) -> IntArray:
    """Rows with more than `limit` characters."""
    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    if len(text) == 0 or np.diff(offsets).max() <= limit:
        return np.empty(0, dtype=np.int64)
    return _rows(pc.greater(pc.utf8_length(text), limit))


def _rows(mask: pa.Array) -> IntArray:
    rows: IntArray = pc.indices_nonzero(pc.fill_null(mask, False)).to_numpy().astype(np.int64)
    return rows


def _has_bytes(
    text: pa.Array, *, trimmed: bool = False, non_ascii: bool = False, byte: int | None = None
) -> bool:
    """Whether the text can have white space (`trimmed`), characters beyond ASCII, or `byte`.

    Looking at the bytes of a column is ten times faster than a string kernel.
    """
    content = _content_bytes(text)
    if not len(content):
        return False
    if byte is not None:
        return bool((content == byte).any())
    beyond_ascii = bool((content >= 0x80).any())
    return beyond_ascii if non_ascii else beyond_ascii or (trimmed and bool((content <= ord(" ")).any()))


def _content_bytes(text: pa.Array) -> npt.NDArray[np.uint8]:
    """The bytes of all texts of a column, one after the other."""
    _, offsets, content = text.buffers()
    if content is None or len(text) == 0:
        return np.empty(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int32)[[text.offset, text.offset + len(text)]]
    return np.frombuffer(content, np.uint8)[bounds[0] : bounds[1]]


def as_text_column(column: pa.Array) -> pa.Array:
    """`column` as text; whole floats without a decimal point, NaN as null, lists and structures as JSON."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_floating(column.type):
        return _float_text(column)
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array(map(_nested_text, column.to_pylist()), pa.string())


def _float_text(column: pa.Array) -> pa.Array:
    """Floats as text, whole numbers without a decimal point: the id 17850.0 is `17850`."""
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    # Pandas and Spark write missing values as NaN.
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    exact = pc.less_equal(pc.abs(column), _EXACT)
    is_whole = pc.fill_null(pc.and_(exact, pc.equal(pc.floor(column), column)), False)
    integers = pc.if_else(is_whole, column, pa.scalar(None, column.type)).cast(pa.int64())
    return pc.coalesce(integers.cast(pa.string()), column.cast(pa.string()))


def _nested_text(value: object) -> str | None:
    """Lists and structures as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
