"""Parse tables of raw records into valid events, user attributes and refused rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd
import pandera.errors
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core.arrays import IntArray
from retail_core.arrow_compute import pc, python_value
from retail_core.schemas import EVENT_COLUMNS, Event, EventFrame, UserAttributes
from retail_core.sources.event_ids import event_ids, hash_keys, value_keys
from retail_core.sources.identity_text import v1_columns
from retail_core.sources.json_tables import load_object
from retail_core.sources.refusals import Refusal, refusal
from retail_core.sources.source import REQUIRED, Chunk, Problems, RawTable, Source, empty_users
from retail_core.sources.value_parsing import (
    NOT_A_TIME,
    cleaned_text,
    parse_prices,
    parse_quantities,
    parse_times,
)

_TEXTS = (
    "user_id",
    "event_type",
    "item_id",
    "category",
    "brand",
    "currency",
    "session_id",
    "platform",
    "order_id",
)
_CHECKS = (
    ("not_nullable", "missing"),
    ("str_length", "length"),
    ("greater_than_or_equal_to(1990", "time_range"),
    ("less_than(", "time_range"),
    ("less_than_or_equal_to", "too_large"),
)
"""Prefix of the name of a check of the `Event` contract -> rule."""
_NUMBERS = ("price", "quantity")
_RAW_FIELDS = {"price_minor": "price"}
"""Contract column -> event field of a source, where they differ."""


def parse_table(table: RawTable, source: Source) -> Chunk:
    """Events and user attributes of `table`; records that cannot become an event are refused with a rule.

    `first`, `last` and `header` of the result are those of the table.
    """
    raw_names = tuple(table.columns)
    if source.prepare is not None:
        table = source.prepare(table, source)
        raw_names = tuple(table.columns)
    columns, problems = _typed_columns(table, source)
    if problems:
        table, accepted = table.refuse(problems)
        columns = {name: column.take(pa.array(accepted)) for name, column in columns.items()}
    ids = event_ids(columns, table, raw_names, source)
    frame = _event_frame(columns, ids)
    frame, refused, valid = _check_contract(frame, table, source)
    users = empty_users()
    if source.attributes:
        users = attribute_rows(source, table.users or _attribute_columns(table, columns, valid))
    return Chunk(
        events=cast("EventFrame", frame),
        users=users,
        refused=tuple(sorted((*table.refused, *refused), key=lambda refused_row: refused_row.line)),
        source_ids=columns["event_id"].take(pa.array(valid)),
        lines=table.lines[valid],
        raw=lambda row: table.raw(int(valid[row])),
        first=table.first,
        last=table.last,
        header=table.header,
        id_column=source.raw_name("event_id"),
        v1_ids=lambda: _v1_ids(columns, table, raw_names, source, valid),
    )


def _v1_ids(
    columns: Mapping[str, pa.Array],
    table: RawTable,
    raw_names: tuple[str, ...],
    source: Source,
    rows: IntArray,
) -> list[str | None]:
    """Ids of `rows` as release 0.1.0 made them; None where the row has an event id of its own."""
    keys = value_keys(v1_columns(columns, table, raw_names, source), source.name)
    has_id = columns["event_id"].is_valid().to_pylist()
    ids = hash_keys(keys)
    return [None if has_id[row] else ids[row] for row in rows.tolist()]


def _attribute_columns(
    table: RawTable, columns: Mapping[str, pa.Array], rows: IntArray
) -> dict[str, pa.Array]:
    """Raw columns of `rows` with `user_id` and, from the event time, `valid_from`."""
    owner = {"user_id": columns["user_id"], "valid_from": columns["event_time"]}
    return {name: values.take(pa.array(rows)) for name, values in (dict(table.columns) | owner).items()}


def _typed_columns(table: RawTable, source: Source) -> tuple[dict[str, pa.Array], Problems]:
    problems: Problems = {}

    def report(name: str, rules: Mapping[int, str], raw: pa.Array) -> None:
        for row, rule in rules.items():
            problems.setdefault(row, (source.raw_name(name), rule, python_value(raw[row])))

    columns = {name: text_column(table, source, name) for name in ("event_id", *_TEXTS)}
    columns["event_type"] = _translate_event_types(columns["event_type"], source.vocabulary)
    raw_time = time_column(table, source)
    instants, rules = parse_times(raw_time, source.time, source.timezone)
    report("event_time", rules, raw_time)
    columns["event_time"] = pa.array(instants, mask=instants == NOT_A_TIME)
    for name, raw_field, parse in (
        ("price_minor", "price", parse_prices),
        ("quantity", "quantity", parse_quantities),
    ):
        raw = text_column(table, source, raw_field)
        columns[name], rules = parse(raw)
        report(raw_field, rules, raw)
    columns["properties"], rules = _properties(table, source)
    report("properties", rules, table.columns.get("properties"))
    for name in REQUIRED:
        absent = np.flatnonzero(columns[name].is_null().to_numpy(zero_copy_only=False))
        for row in absent:
            problems.setdefault(int(row), (source.raw_name(name), "missing", None))
    return columns, problems


def text_column(table: RawTable, source: Source, name: str) -> pa.Array:
    """Text of an event field: its constant, or per row the first raw column with a value."""
    if name in source.constants:
        return pa.array([source.constants[name]] * len(table), pa.string())
    present = [table.columns[raw] for raw in source.columns.get(name, ()) if raw in table.columns]
    if not present:
        return pa.nulls(len(table), pa.string())
    texts = [cleaned_text(column, keep_nan=name in _NUMBERS) for column in present]
    return pc.coalesce(*texts) if len(texts) > 1 else texts[0]


def time_column(table: RawTable, source: Source) -> pa.Array:
    """The raw event time column, with the type it has in the file."""
    for raw in source.columns.get("event_time", ()):
        if raw in table.columns:
            return table.columns[raw]
    return pa.nulls(len(table), pa.string())


def _translate_event_types(types: pa.Array, vocabulary: Mapping[str, str]) -> pa.Array:
    if not vocabulary:
        return types
    encoded = types.dictionary_encode()
    names = [vocabulary.get(name, name) for name in encoded.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(encoded.indices)


def _property_names(table: RawTable, source: Source) -> list[str]:
    if source.properties is not None:
        return [name for name in source.properties if name in table.columns]
    used = {raw for names in source.columns.values() for raw in names} | set(source.attributes)
    return [name for name in table.columns if name not in used]


def _properties(table: RawTable, source: Source) -> tuple[pa.Array, dict[int, str]]:
    """JSON of the columns without an event field, merged with a JSON column `properties`; broken rules."""
    names = _property_names(table, source)
    if not names:
        return pa.nulls(len(table), pa.string()), {}
    values = [cleaned_text(table.columns[name]).to_pylist() for name in names]
    encoded: list[str | None] = []
    rules: dict[int, str] = {}
    for row, cells in enumerate(zip(*values, strict=True)):
        properties: dict[str, object] = {
            name: cell for name, cell in zip(names, cells, strict=True) if cell is not None
        }
        json_text = _properties_json(properties)
        if json_text is None:
            rules[row] = "properties"
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
    raise ValueError(f"{name} is not JSON")


def _event_frame(columns: Mapping[str, pa.Array], ids: list[str]) -> pd.DataFrame:
    """Frame with the column order and types of the `Event` contract."""
    texts = pa.table(
        {"event_id": pa.array(ids, pa.string())} | {name: columns[name] for name in (*_TEXTS, "properties")}
    )
    frame = texts.to_pandas()
    for name in frame.columns:
        frame[name] = frame[name].astype("str")
    frame["event_time"] = pd.DatetimeIndex(
        np.where(columns["event_time"].is_null(), NOT_A_TIME, columns["event_time"].fill_null(0)).astype(
            "datetime64[ms]"
        )
    ).tz_localize("UTC")
    for name in ("price_minor", "quantity"):
        missing = columns[name].is_null().to_numpy(zero_copy_only=False)
        frame[name] = pd.arrays.IntegerArray(columns[name].fill_null(0).to_numpy().copy(), missing)
    ordered: pd.DataFrame = frame[list(EVENT_COLUMNS)]
    return ordered


def _check_contract(
    frame: pd.DataFrame, table: RawTable, source: Source
) -> tuple[pd.DataFrame, list[Refusal], IntArray]:
    """Rows that satisfy the `Event` contract, refusals of the others, and the row numbers of the former."""
    all_rows = np.arange(len(frame))
    if frame.empty:
        return frame, [], all_rows
    try:
        Event.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        if cases["index"].isna().any():
            raise
        refused = []
        first = cases.drop_duplicates("index").sort_values("index")
        for row, name, check, value in zip(
            first["index"], first["column"], first["check"], first["failure_case"], strict=True
        ):
            rule = rule_of_check(str(check))
            raw_field = source.raw_name(_RAW_FIELDS.get(str(name), str(name)))
            refused.append(refusal(table.lines[row], raw_field, rule, value, table.raw(int(row))))
        valid = np.setdiff1d(all_rows, cases["index"].to_numpy(dtype=np.int64))
        return frame.iloc[valid].reset_index(drop=True), refused, valid
    return frame, [], all_rows


def rule_of_check(check: str) -> str:
    """Rule for a check of the contract, by its Pandera name."""
    return next((rule for prefix, rule in _CHECKS if check.startswith(prefix)), "contract")


def compact_json(value: Mapping[str, object]) -> str:
    """`value` as JSON with sorted keys and no spaces, so that equal objects give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def attribute_rows(source: Source, raw: Mapping[str, pa.Array]) -> DataFrame[UserAttributes]:
    """Rows of `UserAttributes`; of equal attributes of a user the first row is used.

    Args:
        source: kinds of the attributes by raw column.
        raw: columns of equal length: the attributes, `user_id` and `valid_from` (ms since 1970 UTC).
    """
    names = [name for name in source.attributes if name in raw]
    kinds = [source.attributes[name] for name in names]
    cells = [cleaned_text(raw[name]).to_pylist() for name in names]
    encoded = [compact_json(_attribute_values(names, kinds, row)) for row in zip(*cells, strict=True)]
    instants = np.where(raw["valid_from"].is_null(), NOT_A_TIME, raw["valid_from"].fill_null(0))
    frame = pd.DataFrame({"user_id": raw["user_id"].to_pandas(), "attributes": encoded}, dtype="str")
    frame.insert(1, "valid_from", pd.DatetimeIndex(instants.astype("datetime64[ms]")).tz_localize("UTC"))
    first = frame[frame["attributes"] != "{}"].drop_duplicates(["user_id", "attributes"], ignore_index=True)
    return UserAttributes.validate(first)


def _attribute_values(
    names: list[str], kinds: Sequence[str], cells: tuple[str | None, ...]
) -> dict[str, object]:
    triples = zip(names, kinds, cells, strict=True)
    return {name: _attribute_value(cell, kind) for name, kind, cell in triples if cell is not None}


def _attribute_value(value: str, kind: str) -> object:
    if kind == "text":
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else number
