"""Refused rows: the rules a raw row can break, with their remedies, as in `docs/sources.md`."""

from __future__ import annotations

from dataclasses import dataclass

VALUE_LIMIT = 200
"""Stored characters of an offending value; the raw row is stored beside it in full."""

REMEDIES: dict[str, str] = {
    "fields": "give the row as many fields as the header; where the file ends in it, fetch the file again",
    "quotes": "close the quotation mark, or double it inside a quoted field",
    "too_long": "shorten the field to at most 131072 characters",
    "encoding": "name the file's encoding in a mapping, for example encoding: latin-1",
    "nul": "remove the NUL bytes; the file was probably damaged on the way",
    "json": "write one valid JSON object per line",
    "missing": "fill in the value; the field is required",
    "length": "shorten the value, or map another column to this field",
    "time": "write times in the format of the source, or name the format in a mapping",
    "time_range": "correct the time; it must lie in the years 1990 to 2099",
    "price": "write the price as a plain decimal number such as 1234.50",
    "price_separator": "write the price without thousands separators and with a decimal point",
    "price_negative": "write refunds as events of type refund with a positive price",
    "price_finite": "leave the price empty where it is unknown",
    "quantity": "write the quantity as a whole number of at least 0",
    "too_large": "correct the number; it is beyond what one event can hold",
    "properties": "write properties as a JSON object",
    "adjustment": "nothing: it is the shop's own bookkeeping, not something a user did",
    "not_a_product": "nothing: it is the shop's own bookkeeping, not something a user did",
    "conflict": "give each event an id of its own; the one stored first was kept",
    "contract": "compare the row with the contract in retail_core/schemas.py",
}
"""Rule name -> remedy."""


@dataclass(frozen=True)
class Refusal:
    """One row that could not be stored.

    Attributes:
        line: physical line (CSV, JSON lines; the header is line 1) or row number (Parquet, lists), from 1.
        field: raw column, None if the whole row is refused.
        rule: key of `REMEDIES`.
        value: offending value, shortened to `VALUE_LIMIT` characters; None if there is none.
        raw: the row as it is in the file; bytes that cannot be decoded appear as surrogate escapes.
        remedy: what to correct.
    """

    line: int
    field: str | None
    rule: str
    value: str | None
    raw: str
    remedy: str


def refusal(line: int, field: str | None, rule: str, value: object, raw: str) -> Refusal:
    """A refusal with the remedy of `rule` and `value` shortened to `VALUE_LIMIT` characters."""
    shortened = None if value is None else str(value)[:VALUE_LIMIT]
    return Refusal(int(line), field, rule, shortened, raw, REMEDIES[rule])


def broken_text_rule(text: str) -> str | None:
    """`nul` if `text` contains NUL, `encoding` if it has undecodable bytes (surrogate escapes), else None."""
    if "\x00" in text:
        return "nul"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "encoding"
    return None
