"""Parse prices and quantities; a number that cannot be read is reported with the rule it breaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache, partial
from typing import Literal

import numpy as np
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.arrow_compute import pc

BrokenRules = dict[int, str]
"""Rule by row number of the values that break one."""

MAX_PRICE_MINOR = 10**13
MAX_QUANTITY = 10**7
_NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$", re.ASCII)
_SEPARATED = re.compile(r"^[+-]?\d[\d.,' \u00a0\u202f\u2019]*(\d|[.,][-\u2013\u2014]{1,2})$", re.ASCII)
_NEGATIVE = re.compile(r"^(?:\((?P<inside>.+)\)|(?P<before>[^-]+)-)$")
_NO_DECIMALS = re.compile(r"(?<=\d)([.,]) ?[-\u2013\u2014\u2212]{1,2}(?=\)?$)")
_NO_TEXT = pa.scalar(None, pa.string())
_CENT = Decimal("0.01")


@dataclass(frozen=True)
class NumberFormat:
    """How a source writes prices and quantities.

    Attributes:
        decimal: sign between units and decimals. If it is stated, digits may be grouped by threes with the
            other of point and comma, a blank or an apostrophe; None means a point, without grouping.
        currency_signs: currency code by the sign or code that stands before or after a price.
        price_per: `unit`, `line` where the price is that of all pieces of an event together, or `row` where
            it is that of all pieces of all events of a row.
        price_unit: `whole`, or `hundredths` where prices are in cents.
    """

    decimal: Literal[".", ","] | None = None
    currency_signs: Mapping[str, str] = field(default_factory=dict)
    price_per: Literal["unit", "line", "row"] = "unit"
    price_unit: Literal["whole", "hundredths"] = "whole"

    def options(self) -> dict[str, object]:
        """The options for the hash of a source's options; `price_unit`, which came later, only where set."""
        return {name: value for name, value in vars(self).items() if name != "price_unit" or value != "whole"}


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


def parse_prices(column: pa.Array, form: NumberFormat | None = None) -> tuple[pa.Array, BrokenRules]:
    """Decimal text in hundredths of the currency unit (int64), and broken rules; see `minor_units`."""
    decimal = None if form is None else form.decimal
    # Arrow parses simple amounts, Python the rest.
    simple = pc.fill_null(pc.match_substring_regex(column, _simple_price(decimal)), False)
    plain = pc.if_else(simple, column, _NO_TEXT)
    if decimal == ",":
        plain = pc.replace_substring(plain, ",", ".")
    amounts = plain.cast(pa.decimal128(13, 2))
    values = pc.multiply(amounts, pa.scalar(100, pa.decimal128(3, 0))).cast(pa.int64())
    if simple.true_count + column.null_count == len(column):
        return values, {}
    irregular = pc.if_else(simple, _NO_TEXT, column)
    irregular_values, rules = parse_distinct(irregular, partial(minor_units, decimal=decimal))
    return pc.coalesce(values, irregular_values), rules


def _simple_price(decimal: str | None) -> str:
    return rf"^\d{{1,11}}({re.escape(decimal or '.')}\d{{1,2}})?$"


def minor_units(value: str, decimal: str | None = None) -> int | str:
    """Decimal text in hundredths, rounded exactly and half to even; or the rule it breaks.

    >>> minor_units("35.79"), minor_units("0.125"), minor_units("1,234.50")
    (3579, 12, 'price_separator')
    >>> minor_units("1.234,50", ","), minor_units("1,234.50", "."), minor_units("(5)")
    (123450, 123450, 'price_negative')
    """
    number = plain_number(value, decimal)
    if number is None:
        return _price_rule(value)
    amount = Decimal(number)
    if amount < 0:
        return "price_negative"
    if amount * 100 > MAX_PRICE_MINOR:
        return "too_large"
    return int(amount.quantize(_CENT, ROUND_HALF_EVEN) * 100)


def _price_rule(value: str) -> str:
    if value.lower().lstrip("+-") in {"nan", "inf", "infinity"}:
        return "price_finite"
    return "price_separator" if _SEPARATED.match(value) else "price"


def plain_number(value: str, decimal: str | None = None) -> str | None:
    """`value` with a decimal point, without grouping and with a leading minus sign; None if it is no number.

    Negative numbers may also be written `(5)`, `5-` or with the sign U+2212; `5,-` is 5.
    """
    value = with_zero_decimals(value).replace("\N{MINUS SIGN}", "-")
    if match := _NEGATIVE.match(value):
        value = "-" + (match["inside"] or match["before"]).strip()
    if decimal is not None:
        match = _grouped(decimal).match(value)
        if match is None:
            return None
        digits = re.sub(r"\D", "", match["whole"], flags=re.ASCII)
        value = f"{match['sign']}{digits}.{match['decimals'] or '0'}"
    return value if _NUMBER.match(value) else None


def with_zero_decimals(value: str) -> str:
    """An amount whose decimals are a dash with zeros instead; any other text unchanged.

    >>> with_zero_decimals("12,-"), with_zero_decimals("1'299.\N{EN DASH}"), with_zero_decimals("5-")
    ('12,00', "1'299.00", '5-')
    """
    return _NO_DECIMALS.sub(r"\g<1>00", value)


@cache
def _grouped(decimal: str) -> re.Pattern[str]:
    """A number with `decimal` whose digits may be grouped by threes with one sign."""
    point, comma = re.escape(decimal), "," if decimal == "." else r"\."
    groups = rf"\d{{1,3}}(?P<mark>[{comma}' \u00a0\u202f\u2019])\d{{3}}((?P=mark)\d{{3}})*"
    return re.compile(
        rf"^(?P<sign>[+-]?)(?=.*\d)(?P<whole>{groups}|\d*)({point}(?P<decimals>\d*))?$", re.ASCII
    )


def below_cent_rows(text: pa.Array, values: pa.Array) -> IntArray:
    """Rows with a positive price that is stored as 0."""
    is_zero = pc.fill_null(pc.equal(values, 0), False)
    if not is_zero.true_count:
        return np.empty(0, dtype=np.int64)
    positive = pc.fill_null(pc.match_substring_regex(text, "^[^eE]*[1-9]"), False)
    rows: IntArray = pc.indices_nonzero(pc.and_(is_zero, positive)).to_numpy().astype(np.int64)
    return rows


def parse_quantities(column: pa.Array, form: NumberFormat | None = None) -> tuple[pa.Array, BrokenRules]:
    """Whole numbers of at least 0 (int64), and broken rules."""
    return parse_distinct(column, partial(parse_quantity, decimal=None if form is None else form.decimal))


def parse_quantity(value: str, decimal: str | None = None) -> int | str:
    """A whole number of at least 0, also written as `3.0`; or the rule it breaks."""
    text = plain_number(value, decimal)
    if text is None:
        return "quantity"
    number = Decimal(text)
    if number < 0:
        return "quantity_negative"
    if number > MAX_QUANTITY:
        return "too_large"
    return int(number) if number == number.to_integral_value() else "quantity"


def split_currency(column: pa.Array, signs: Mapping[str, str]) -> tuple[pa.Array, pa.Array]:
    """Amounts without a currency sign before or after them, and the currency codes of the signs."""
    encoded = column.dictionary_encode()
    pairs = [_split_sign(value, signs) for value in encoded.dictionary.to_pylist()]
    amounts = pa.array([amount for amount, _ in pairs], pa.string())
    codes = pa.array([code for _, code in pairs], pa.string())
    return amounts.take(encoded.indices), codes.take(encoded.indices)


def _split_sign(value: str, signs: Mapping[str, str]) -> tuple[str, str | None]:
    """Amount and currency code.

    >>> _split_sign("-$10.00", {"$": "USD"}), _split_sign("10 EUR", {"EUR": "EUR"})
    (('-10.00', 'USD'), ('10', 'EUR'))
    """
    for sign in sorted(signs, key=len, reverse=True):
        if value.count(sign) != 1:
            continue
        before, _, after = (text.strip() for text in value.partition(sign))
        if before in {"", "-", "+", "("} or after in {"", "-", ")"}:
            return before + after, signs[sign]
    return value, None


def divide_by_quantity(prices: pa.Array, quantities: pa.Array) -> tuple[pa.Array, BrokenRules]:
    """Unit prices of line totals, rounded half to even; a missing quantity counts as 1, 0 breaks a rule."""
    pieces = pc.fill_null(quantities, 1).to_pylist()
    values: list[int | None] = []
    rules: BrokenRules = {}
    for row, (total, count) in enumerate(zip(prices.to_pylist(), pieces, strict=True)):
        if total is not None and count == 0:
            rules[row] = "price_line"
        values.append(
            None
            if total is None or count == 0
            else int((Decimal(total) / count).to_integral_value(ROUND_HALF_EVEN))
        )
    return pa.array(values, pa.int64()), rules


def pieces_of_rows(quantities: pa.Array, lines: IntArray) -> pa.Array:
    """For each record the pieces of all records of its line together; a missing quantity counts as 1.

    >>> pieces_of_rows(pa.array([2, None, 5]), np.array([7, 7, 8])).to_pylist()
    [3, 3, 5]
    """
    _, groups = np.unique(lines, return_inverse=True)
    pieces = pc.fill_null(quantities, 1).to_numpy(zero_copy_only=False)
    return pa.array(np.bincount(groups, weights=pieces)[groups].astype(np.int64) if len(lines) else pieces)
