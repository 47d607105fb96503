"""Refused rows: the rules a raw row can break, with their remedies, as in `docs/sources.md`."""

from __future__ import annotations

from dataclasses import dataclass

from retail_core.sources.text_cleaning import NULL_MARKERS

_NULLS = ", ".join(f"'{marker}'" for marker in NULL_MARKERS)

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
    "price": "write the price as a decimal number such as 1234.50, or name currency_signs in a mapping",
    "price_separator": "state the decimal sign in a mapping, for example decimal: ','",
    "price_negative": "map refunds: {negative: true}, or write refunds as events of type refund",
    "price_finite": "leave the price empty where it is unknown",
    "price_below_cent": "check the unit of the price; amounts are stored in hundredths, so this one is 0",
    "price_line": "write the number of pieces; the price of a line of 0 pieces has no unit price",
    "quantity": "write the quantity as a whole number of at least 0",
    "quantity_negative": "map refunds: {negative: true}, or write refunds as events of type refund",
    "too_large": "correct the number; it is beyond what one event can hold",
    "properties": "write properties as a JSON object",
    "join": "complete the joined file, or correct the key; the joined columns are missing",
    "undated": "fill in the date since when the values are known; else they count in first-visit rows only",
    "scientific": "export the column as text: a number such as 1.23E+15 has lost its last digits",
    "nested": "write one value, or name the value inside with a path such as user.id in a mapping",
    "list_element": "name the values of the list themselves in the mapping, with a path such as items[]",
    "invisible": "remove the invisible characters from the ids; they were left out",
    "event_type_similar": "map the name to the known event type under event_types, if it means the same",
    "large_user": "check that the id is one person; list a placeholder under nulls, or drop its rows",
    "placeholder_user": "if it is no person, list it under nulls, which replaces the standard list: "
    f"nulls: [THE ID, {_NULLS}]",
    "cut_line": "fetch the file again if it was still being written; a stored row is not replaced later",
    "link_self": "give two different ids; an id is the same person as itself anyway",
    "identity_implausible": "list a placeholder id under nulls, or remove the links; they are not applied",
    "column_absent": "correct the name of the column in the mapping",
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
