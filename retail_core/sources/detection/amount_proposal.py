"""What a mapping says of prices and quantities."""

from __future__ import annotations

import re
from collections.abc import Mapping

from retail_core.sources.detection.amounts import amount_format
from retail_core.sources.detection.column_names import leaf, word_set, words
from retail_core.sources.detection.mapping_builder import MappingBuilder
from retail_core.sources.detection.roles import KNOWN_CURRENCIES, FieldGuess

_CENTS = word_set("cent cents ct pence grosz grosze oere centimes centimos centavos minor hundredths")
"""Words of columns with prices in hundredths."""


def add_amounts(builder: MappingBuilder, fields: Mapping[str, FieldGuess]) -> None:
    """Propose decimal sign, currency, unit and refunds of prices and quantities, and ask what is open."""
    price, quantity = fields.get("price"), fields.get("quantity")
    amounts = [
        value for guess in (price, quantity) if guess for column in guess.columns for value in column.counts
    ]
    if not amounts:
        return
    form = amount_format(amounts)
    if form.decimal:
        builder.set("decimal", form.decimal)
    if form.unsure:
        builder.ask(
            "decimal",
            f"Is {form.unsure!r} a number of thousands or has it decimals? State decimal: '.' or ','.",
        )
    if form.signs:
        builder.set("currency_signs", dict(form.signs))
    if form.negative:
        builder.set("refunds", {"negative": True}, "there are negative amounts")
    if price is not None:
        _add_unit(builder, price)
    if price and not form.signs and "currency" not in fields:
        _add_currency(builder, price)
    _ask_about_totals(builder, price, quantity)


def _ask_about_totals(builder: MappingBuilder, price: FieldGuess | None, quantity: FieldGuess | None) -> None:
    if price and quantity and _is_total(price) and "price_per" not in builder.mapping:
        builder.ask(
            "price_per",
            f"Is {price.names[0]} the price of one piece or of the line? Of the line: add `price_per: line`.",
        )


def _add_unit(builder: MappingBuilder, price: FieldGuess) -> None:
    """Prices in cents by the name of their column, if all are whole numbers."""
    named = _CENTS & {word for name in price.names for word in words(leaf(name))}
    if not named or any(column.integers < 1 for column in price.columns):
        return
    builder.set("price_unit", "hundredths", f"{price.names[0]} has whole numbers of cents by its name")
    builder.ask(
        "price_unit",
        f"Is {price.names[0]} in cents, so that {price.columns[0].values[0]} is read as a hundredth of it?",
        alternatives=("price_unit: whole",),
    )


def _add_currency(builder: MappingBuilder, price: FieldGuess) -> None:
    named = [word.upper() for word in words(leaf(price.names[0])) if word.upper() in KNOWN_CURRENCIES]
    if not named:
        builder.ask(
            "constants.currency", "Which currency are the prices in? Add `constants: {currency: EUR}`."
        )
        return
    constants = builder.mapping.get("constants")
    builder.set("constants", {**(constants if isinstance(constants, dict) else {}), "currency": named[0]})
    builder.ask("constants.currency", f"Are the prices in {named[0]}, as the name {price.names[0]} says?")


def _is_total(price: FieldGuess) -> bool:
    return bool(
        re.search(r"total|revenue|amount|betrag|montant|importe|umsatz|sum", price.names[0], re.IGNORECASE)
    )
