"""How a column writes numbers: decimal sign, grouping, currency signs, negative amounts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from retail_core.sources.number_parsing import plain_number, with_zero_decimals

_CODES = "CHF EUR USD GBP PLN SEK NOK DKK JPY CNY BRL INR CAD AUD"
CURRENCY_SIGNS = {
    "R$": "BRL", "US$": "USD", "$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "zł": "PLN",
    "₽": "RUB", "₺": "TRY", "₩": "KRW", "Kč": "CZK", **{code: code for code in _CODES.split()},
}  # fmt: skip
"""Currency code by the sign or code beside an amount."""

_AMOUNT = re.compile(r"^[-+(]?\s*[-+]?(?P<digits>\d[\d.,' \u00a0\u202f\u2019]*|[.,]\d+)\s*\)?-?$")
_COMMA_DECIMAL = re.compile(r"\d,\d{1,2}$|\d,\d{4,}$|\.\d{3},\d|^,\d")
_POINT_DECIMAL = re.compile(r"\d\.\d{1,2}$|\d\.\d{4,}$|,\d{3}\.\d|^\.\d")
_GROUPED = re.compile(r"^\d{1,3}([.,' \u00a0\u202f\u2019])\d{3}(\1\d{3})*$")


@dataclass(frozen=True)
class AmountFormat:
    """How a column writes amounts.

    Attributes:
        decimal: sign that a mapping has to state; None for a plain decimal point.
        signs: currency by sign, of those that occur.
        negative: whether there are negative amounts.
        unsure: a grouped number whose decimal sign no value reveals, such as `1,299`.
    """

    decimal: str | None = None
    signs: dict[str, str] = field(default_factory=dict)
    negative: bool = False
    unsure: str | None = None


def number_share(values: Sequence[str]) -> float:
    """Share of the values that are numbers, also with a currency sign."""
    return sum(map(is_number, values)) / max(len(values), 1)


def is_number(value: str) -> bool:
    """Whether a text is a number, also grouped by threes, with a decimal comma or a currency sign.

    >>> is_number("1.234,50 €"), is_number("12,10,100")
    (True, False)
    """
    text = strip_sign(value)[0]
    return any(plain_number(text, decimal) is not None for decimal in (None, ".", ","))


def strip_sign(value: str) -> tuple[str, str | None]:
    """An amount without its currency sign, and the sign.

    >>> strip_sign("-$10.00"), strip_sign("10 EUR"), strip_sign("12")
    (('-10.00', '$'), ('10', 'EUR'), ('12', None))
    """
    for sign in CURRENCY_SIGNS:
        if value.count(sign) == 1:
            before, _, after = (text.strip() for text in value.partition(sign))
            if before in {"", "-", "+", "("} or after in {"", "-", ")"}:
                return before + after, sign
    return value, None


def amount_format(values: Sequence[str]) -> AmountFormat:
    """How `values` are written; what no value reveals is left open."""
    amounts: list[str] = []
    signs: dict[str, str] = {}
    negative = False
    for value in values:
        text, sign = strip_sign(value)
        text = with_zero_decimals(text)
        match = _AMOUNT.match(text)
        if match is None:
            continue
        if sign:
            signs[sign] = CURRENCY_SIGNS[sign]
        negative = negative or text.startswith(("-", "(")) or text.endswith("-")
        amounts.append(match["digits"].strip())
    commas = sum(bool(_COMMA_DECIMAL.search(text)) for text in amounts)
    points = sum(bool(_POINT_DECIMAL.search(text)) for text in amounts)
    grouped = [text for text in amounts if _GROUPED.match(text)]
    decimal = "," if commas > points else None
    if decimal is None and points and any("," in text or " " in text or "'" in text for text in amounts):
        decimal = "."
    unsure = grouped[0] if grouped and not commas and not points else None
    return AmountFormat(decimal, signs, negative, unsure)
