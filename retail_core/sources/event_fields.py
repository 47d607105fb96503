"""Typed columns of events from raw columns, with the problems that refuse a row and those that do not.

A row is refused for a missing or over-long user id or event type, an unreadable time and a negative price or
quantity. Any other value that cannot be read becomes null, and a warning counts it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from retail_core.arrow_compute import pc, python_value
from retail_core.schemas import MAX_ID_LENGTH
from retail_core.sources.attribute_parsing import compact_json
from retail_core.sources.json_tables import load_object
from retail_core.sources.number_parsing import (
    BrokenRules,
    below_cent_rows,
    divide_by_quantity,
    parse_prices,
    parse_quantities,
    pieces_of_rows,
    split_currency,
)
from retail_core.sources.parse_notes import WarningCollector
from retail_core.sources.raw_table import Problems, RawTable
from retail_core.sources.row_rules import matches_any
from retail_core.sources.source import REQUIRED, Source
from retail_core.sources.text_cleaning import (
    cleaned_ids,
    cleaned_text,
    invisible_rows,
    longer_rows,
    nested_rows,
    placeholder_rows,
    scientific_rows,
    visible_text,
)
from retail_core.sources.time_parsing import NOT_A_TIME, first_times, parse_times

ID_FIELDS = ("user_id", "item_id", "session_id", "order_id")
"""Event fields in which an integral float is written as an integer."""

_NAME_FIELDS = ("event_id", "event_type", "currency", "platform")
_MAX_LENGTH = {
    "category": MAX_ID_LENGTH,
    "brand": MAX_ID_LENGTH,
    "currency": 8,
    "platform": 64,
} | dict.fromkeys(("item_id", "session_id", "order_id"), MAX_ID_LENGTH)
TEXT_FIELDS = (
    "user_id", "event_type", "item_id", "category", "brand", "currency", "session_id", "platform", "order_id",
)  # fmt: skip
_PUBLIC_FIELDS = (
    "event_time", "event_type", "item_id", "category", "brand", "price", "quantity", "currency", "platform",
)  # fmt: skip
_PERSONAL_FIELDS = ("event_id", "user_id", "session_id", "order_id")
REFUSING_RULES = frozenset({"price_negative", "quantity_negative"})
"""Rules of prices and quantities that refuse the row: without them a refund would count as a purchase."""
_NO_TEXT = pa.scalar(None, pa.string())
_NO_NUMBER = pa.scalar(None, pa.int64())

Columns = dict[str, pa.Array]


def typed_columns(
    table: RawTable, types: pa.Array, source: Source, warnings: WarningCollector
) -> tuple[Columns, Problems]:
    """Columns of the events of all records, and the problems of the records that are refused.

    Args:
        table: records of a window.
        types: raw event types of the records.
        source: dialect of the records.
        warnings: receives the values that cannot be read or were changed.
    """
    problems: Problems = {}
    columns = {name: text_field(table, source, name, warnings) for name in ("event_id", *TEXT_FIELDS)}
    for row in nested_rows(columns["user_id"]) if not table.header else ():
        problems[int(row)] = (source.raw_name("user_id"), "nested", columns["user_id"][int(row)].as_py())
    users = columns["user_id"]
    warnings.add(source.raw_name("user_id"), "placeholder_user", placeholder_rows(users), users)
    columns["event_type"] = _translate_event_types(types, source.vocabulary)
    columns["event_time"] = _time_field(table, source, problems, warnings)
    columns |= _amount_fields(table, source, columns, problems, warnings)
    columns["properties"], rules = _properties(table, source)
    if rules:
        warnings.add_rules("properties", rules, table.columns["properties"])
    for name in REQUIRED:
        for row in np.flatnonzero(columns[name].is_null().to_numpy(zero_copy_only=False)):
            problems.setdefault(int(row), (source.raw_name(name), "missing", None))
    return columns, problems


def public_columns(source: Source) -> frozenset[str]:
    """Raw columns of times, types, goods and amounts, whose values cannot identify a user."""
    public = {raw for name in _PUBLIC_FIELDS for raw in source.columns.get(name, ())}
    return frozenset(public - {raw for name in _PERSONAL_FIELDS for raw in source.columns.get(name, ())})


def raw_event_types(table: RawTable, source: Source) -> pa.Array:
    """Event types as they are in the file, cleaned."""
    return _first_text(table, source, "event_type")


def _raw_columns(table: RawTable, source: Source, name: str) -> list[pa.Array]:
    names = source.user_columns() if name == "user_id" else source.columns.get(name, ())
    return [table.columns[raw] for raw in names if raw in table.columns]


def _first_text(table: RawTable, source: Source, name: str) -> pa.Array:
    """Text of an event field: its constant, or per row the first raw column with a value."""
    if name in source.constants:
        return pa.array([source.constants[name]] * len(table), pa.string())
    columns = _raw_columns(table, source, name)
    if not columns:
        return pa.nulls(len(table), pa.string())
    texts = [_clean(column, name, source) for column in columns]
    return pc.coalesce(*texts) if len(texts) > 1 else texts[0]


def _clean(column: pa.Array, name: str, source: Source) -> pa.Array:
    if name in ID_FIELDS:
        return cleaned_ids(column, source.nulls)
    if name in _NAME_FIELDS and pa.types.is_string(column.type):
        column = visible_text(column)
    return cleaned_text(column, source.nulls)


def text_field(table: RawTable, source: Source, name: str, warnings: WarningCollector) -> pa.Array:
    """Clean text of an event field; `warnings` receives values that were left out or look damaged."""
    text = _first_text(table, source, name)
    if name in ID_FIELDS or name in _NAME_FIELDS:
        _warn_of_damaged_ids(table, source, name, text, warnings)
    if name in _MAX_LENGTH and not table.header:
        rows = nested_rows(text)
        warnings.add(source.raw_name(name), "nested", rows, text)
        text = _without(text, rows)
    if limit := _MAX_LENGTH.get(name):
        rows = longer_rows(text, limit)
        warnings.add(source.raw_name(name), "length", rows, text)
        text = _without(text, rows)
    return text


def _warn_of_damaged_ids(
    table: RawTable, source: Source, name: str, text: pa.Array, warnings: WarningCollector
) -> None:
    for raw in source.user_columns() if name == "user_id" else source.columns.get(name, ()):
        column = table.columns.get(raw)
        if column is not None and pa.types.is_string(column.type):
            warnings.add(raw, "invisible", invisible_rows(column), column)
    if name in {*ID_FIELDS, "event_id"}:
        warnings.add(source.raw_name(name), "scientific", scientific_rows(text), text)


def _without(column: pa.Array, rows: np.ndarray) -> pa.Array:
    """`column` with null in `rows`."""
    if not len(rows):
        return column
    mask = np.zeros(len(column), dtype=bool)
    mask[rows] = True
    return pc.if_else(pa.array(mask), pa.scalar(None, column.type), column)


def _translate_event_types(types: pa.Array, vocabulary: Mapping[str, str | None]) -> pa.Array:
    if not vocabulary:
        return types
    encoded = types.dictionary_encode()
    names = [vocabulary.get(name) or name for name in encoded.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(encoded.indices)


def event_times(table: RawTable, source: Source, problems: Problems) -> pa.Array:
    """Times of the records in milliseconds since 1970 UTC; `problems` receives those that cannot be read."""
    return _time_field(table, source, problems, WarningCollector(()))


def _time_field(table: RawTable, source: Source, problems: Problems, warnings: WarningCollector) -> pa.Array:
    raw_times = _raw_columns(table, source, "event_time")
    if "event_time" in source.constants or not raw_times:
        raw_times = [_first_text(table, source, "event_time")]
    name, raw = source.raw_name("event_time"), raw_times[0]
    if len(raw_times) > 1:
        instants, rules, raw = first_times(raw_times, source.time, source.timezone, source.nulls)
    else:
        instants, rules = parse_times(raw, source.time, source.timezone, source.nulls)
    for row, rule in rules.items():
        problems.setdefault(row, (name, rule, python_value(raw[row])))
    if pa.types.is_string(raw.type):
        warnings.add(name, "scientific", scientific_rows(raw), raw)
    return pa.array(instants, mask=instants == NOT_A_TIME)


def _amount_fields(
    table: RawTable, source: Source, columns: Columns, problems: Problems, warnings: WarningCollector
) -> Columns:
    """Price, quantity, currency and, where amounts or conditions make a purchase a refund, event type."""
    raw = {"price": _first_text(table, source, "price"), "quantity": _first_text(table, source, "quantity")}
    texts = dict(raw)
    currency = columns["currency"]
    if source.numbers.currency_signs:
        texts["price"], codes = split_currency(raw["price"], source.numbers.currency_signs)
        constant = "currency" in source.constants
        currency = pc.coalesce(codes, currency) if constant else pc.coalesce(currency, codes)
    event_type = _with_refunds(table, source, columns["event_type"], texts)
    values = {}
    for name, parse in (("price", parse_prices), ("quantity", parse_quantities)):
        values[name], rules = parse(texts[name], source.numbers)
        _report(source.raw_name(name), rules, raw[name], problems, warnings)
    rounded = below_cent_rows(texts["price"], values["price"])
    warnings.add(source.raw_name("price"), "price_below_cent", rounded, raw["price"])
    if source.numbers.price_unit == "hundredths":
        hundred = pa.array([100] * len(table), pa.int64())
        values["price"], _ = divide_by_quantity(values["price"], hundred)
    if source.numbers.price_per != "unit":
        is_of_row = source.numbers.price_per == "row"
        pieces = pieces_of_rows(values["quantity"], table.lines) if is_of_row else values["quantity"]
        values["price"], rules = divide_by_quantity(values["price"], pieces)
        _report(source.raw_name("price"), rules, raw["price"], problems, warnings)
    return {
        "price_minor": values["price"],
        "quantity": values["quantity"],
        "currency": currency,
        "event_type": event_type,
    }


def _report(
    name: str, rules: BrokenRules, raw: pa.Array, problems: Problems, warnings: WarningCollector
) -> None:
    """Refuse the rows that break a refusing rule, warn of the others."""
    if not rules:
        return
    for row, rule in rules.items():
        if rule in REFUSING_RULES:
            problems.setdefault(row, (name, rule, python_value(raw[row])))
    warnings.add_rules(name, {row: rule for row, rule in rules.items() if rule not in REFUSING_RULES}, raw)


def _with_refunds(table: RawTable, source: Source, types: pa.Array, texts: Columns) -> pa.Array:
    """Event types after the refund rules; amounts in `texts` lose the sign that made a row a refund."""
    rules = source.rules
    if not (rules.refund_if or rules.negative_refunds):
        return types
    is_purchase = pc.fill_null(pc.equal(types, "purchase"), False)
    is_refund = pc.and_(is_purchase, pa.array(matches_any(table, rules.refund_if, source.nulls)))
    if rules.negative_refunds:
        may_be_negative = pc.or_(is_purchase, pc.fill_null(pc.equal(types, "refund"), False))
        for name, text in texts.items():
            negative = pc.and_(
                pc.fill_null(pc.match_substring_regex(text, _NEGATIVE), False), may_be_negative
            )
            positive = pc.replace_substring_regex(text, r"^[-(\x{2212}]\s*|[-)]$", "")
            texts[name] = pc.if_else(negative, positive, text)
            is_refund = pc.or_(is_refund, pc.and_(negative, is_purchase))
    return pc.if_else(is_refund, pa.scalar("refund"), types)


_NEGATIVE = r"^[-\x{2212}] ?[\d.,]|^\(.*\)$|^\d(.*[^.,-])?-$"
"""Text of a negative amount: `-5`, `(5)` or `5-`; `5,-` is positive."""


def _property_names(table: RawTable, source: Source) -> list[str]:
    if source.properties is not None:
        return [name for name in source.properties if name in table.columns]
    used = {raw for names in source.columns.values() for raw in names} | set(source.attributes)
    return [name for name in table.columns if name not in used]


def _properties(table: RawTable, source: Source) -> tuple[pa.Array, BrokenRules]:
    """JSON of the columns without an event field, merged with a JSON column `properties`; broken rules."""
    names = _property_names(table, source)
    if not names:
        return pa.nulls(len(table), pa.string()), {}
    values = [cleaned_text(table.columns[name], source.nulls).to_pylist() for name in names]
    encoded: list[str | None] = []
    rules: BrokenRules = {}
    for row, cells in enumerate(zip(*values, strict=True)):
        properties: dict[str, object] = {
            name: cell for name, cell in zip(names, cells, strict=True) if cell is not None
        }
        json_text = _properties_json(properties)
        if json_text is None:
            rules[row] = "properties"
            properties.pop("properties", None)
            json_text = compact_json(properties) if properties else None
        encoded.append(json_text or None)
    return pa.array(encoded, pa.string()), rules


def _properties_json(properties: dict[str, object]) -> str | None:
    """JSON of `properties`, merged with the JSON object under its key `properties`; "" if it is empty.

    None if that key has no object that every JSON reader accepts; NaN and lone surrogates are refused.
    """
    if not properties:
        return ""
    if "properties" not in properties:
        return compact_json(properties)
    nested = load_object(str(properties.pop("properties")), parse_float=None, parse_constant=_refuse_constant)
    if nested is None:
        return None
    json_text = compact_json(properties | nested) if properties or nested else ""
    try:
        json_text.encode()
    except UnicodeEncodeError:
        return None
    return json_text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
