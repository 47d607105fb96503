"""Tables of raw records into events that keep the contract, user attributes, and refusals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.errors
import pyarrow as pa

from retail_core.arrow_compute import pc, python_value
from retail_core.schemas import EVENT_COLUMNS, Event, EventFrame
from retail_core.sources.rules import Refusal, refusal
from retail_core.sources.source import REQUIRED, Chunk, Problems, Source, Table, empty_users
from retail_core.sources.users import attribute_rows, compact_json
from retail_core.sources.values import NOT_A_TIME, prices, quantities, text, times

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
_HASHED = tuple(name for name in EVENT_COLUMNS if name != "event_id")
_CHECKS = (
    ("not_nullable", "missing"),
    ("str_length", "length"),
    ("greater_than_or_equal_to(1990", "time_range"),
    ("less_than(", "time_range"),
    ("less_than_or_equal_to", "too_large"),
)
"""How the contract's checks begin -> our rule."""
_NUMBERS = ("price", "quantity")
_RAW_FIELDS = {"price_minor": "price"}
"""Column of the contract -> event field of a source, where they differ."""


def parse(table: Table, source: Source) -> Chunk:
    """The events of `table`; whatever cannot become one is refused with its rule."""
    if source.prepare is not None:
        table = source.prepare(table, source)
    columns, problems = _typed(table, source)
    if problems:
        table, kept = table.without(problems)
        columns = {name: column.take(pa.array(kept)) for name, column in columns.items()}
    frame = _frame(columns, _event_ids(columns, source.name))
    frame, refused, kept = _contract(frame, table, source)
    users = empty_users()
    if source.attributes:
        users = attribute_rows(source, table.users or _profile(table, columns, kept))
    return Chunk(
        events=cast("EventFrame", frame),
        users=users,
        refused=tuple(sorted((*table.refused, *refused), key=lambda one: one.line)),
        given=columns["event_id"].take(pa.array(kept)),
        lines=table.lines[kept],
        raw=lambda row: table.raw(int(kept[row])),
        first=table.first,
        last=table.last,
        header=table.header,
        id_column=source.raw_name("event_id"),
    )


def _profile(
    table: Table, columns: Mapping[str, pa.Array], kept: npt.NDArray[np.int64]
) -> dict[str, pa.Array]:
    """The raw columns of the kept rows, with whose they are and since when they are known."""
    own = {"user_id": columns["user_id"], "valid_from": columns["event_time"]}
    return {name: values.take(pa.array(kept)) for name, values in (dict(table.columns) | own).items()}


def _typed(table: Table, source: Source) -> tuple[dict[str, pa.Array], Problems]:
    problems: Problems = {}

    def note(name: str, rules: Mapping[int, str], raw: pa.Array) -> None:
        for row, rule in rules.items():
            problems.setdefault(row, (source.raw_name(name), rule, python_value(raw[row])))

    columns = {name: column(table, source, name) for name in ("event_id", *_TEXTS)}
    columns["event_type"] = _renamed(columns["event_type"], source.vocabulary)
    raw_time = time_column(table, source)
    instants, rules = times(raw_time, source.time, source.timezone)
    note("event_time", rules, raw_time)
    columns["event_time"] = pa.array(instants, mask=instants == NOT_A_TIME)
    for name, raw_field, read in (("price_minor", "price", prices), ("quantity", "quantity", quantities)):
        raw = column(table, source, raw_field)
        columns[name], rules = read(raw)
        note(raw_field, rules, raw)
    columns["properties"], rules = _properties(table, source)
    note("properties", rules, table.columns.get("properties"))
    for name in REQUIRED:
        absent = np.flatnonzero(columns[name].is_null().to_numpy(zero_copy_only=False))
        for row in absent:
            problems.setdefault(int(row), (source.raw_name(name), "missing", None))
    return columns, problems


def column(table: Table, source: Source, name: str) -> pa.Array:
    """The text of an event field: a constant, or the first of its raw columns that has a value."""
    if name in source.constants:
        return pa.array([source.constants[name]] * len(table), pa.string())
    present = [table.columns[raw] for raw in source.columns.get(name, ()) if raw in table.columns]
    if not present:
        return pa.nulls(len(table), pa.string())
    texts = [text(column, keep_nan=name in _NUMBERS) for column in present]
    return pc.coalesce(*texts) if len(texts) > 1 else texts[0]


def time_column(table: Table, source: Source) -> pa.Array:
    """The raw event time, typed where the file types it."""
    for raw in source.columns.get("event_time", ()):
        if raw in table.columns:
            return table.columns[raw]
    return pa.nulls(len(table), pa.string())


def _renamed(types: pa.Array, vocabulary: Mapping[str, str]) -> pa.Array:
    if not vocabulary:
        return types
    encoded = types.dictionary_encode()
    names = [vocabulary.get(name, name) for name in encoded.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(encoded.indices)


def _property_names(table: Table, source: Source) -> list[str]:
    if source.properties is not None:
        return [name for name in source.properties if name in table.columns]
    used = {raw for names in source.columns.values() for raw in names} | set(source.attributes)
    return [name for name in table.columns if name not in used]


def _properties(table: Table, source: Source) -> tuple[pa.Array, dict[int, str]]:
    """JSON of the columns without a field of their own; a column named `properties` is merged in."""
    names = _property_names(table, source)
    if not names:
        return pa.nulls(len(table), pa.string()), {}
    values = [text(table.columns[name]).to_pylist() for name in names]
    found: list[str | None] = []
    rules: dict[int, str] = {}
    for row, cells in enumerate(zip(*values, strict=True)):
        held: dict[str, object] = {
            name: cell for name, cell in zip(names, cells, strict=True) if cell is not None
        }
        packed = _packed(held)
        if packed is None:
            rules[row] = "properties"
        found.append(packed or None)
    return pa.array(found, pa.string()), rules


def _packed(held: dict[str, object]) -> str | None:
    """JSON of `held`, into which the object under `properties` is merged; None if there is none there.

    Nothing held is empty text. What no JSON reader would take back (NaN, half a surrogate pair) is no
    object.
    """
    if not held:
        return ""
    if "properties" not in held:
        return compact_json(held)
    try:
        inner = json.loads(str(held.pop("properties")), parse_constant=_no_constant)
        if not isinstance(inner, dict):
            return None
        packed = compact_json(held | inner) if held or inner else ""
        packed.encode()
    except (ValueError, RecursionError):
        return None
    return packed


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _event_ids(columns: Mapping[str, pa.Array], source: str) -> list[str]:
    """One id an event: the hash of its given id, or of its canonical row."""
    rows = [columns[name].cast(pa.string()) for name in _HASHED]
    joined = pc.binary_join_element_wise(
        pa.scalar(f"{source}\x1frow"), *rows, "\x1f", null_handling="replace", null_replacement="\x00"
    )
    given = columns["event_id"]
    if given.null_count < len(given):
        named = pc.binary_join_element_wise(pa.scalar(f"{source}\x1fid"), given, "\x1f")
        joined = pc.coalesce(named, joined)
    digest = hashlib.blake2b
    keys = joined.cast(pa.binary()).to_pylist()
    return [digest(key, digest_size=16).hexdigest() for key in keys]


def _frame(columns: Mapping[str, pa.Array], ids: list[str]) -> pd.DataFrame:
    """Columns as the Event contract types them."""
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


def _contract(
    frame: pd.DataFrame, table: Table, source: Source
) -> tuple[pd.DataFrame, list[Refusal], npt.NDArray[np.int64]]:
    """The rows that keep the Event contract, refusals of the others, and which rows were kept."""
    everything = np.arange(len(frame))
    if frame.empty:
        return frame, [], everything
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
            rule, place = rule_of(str(check)), source.raw_name(_RAW_FIELDS.get(str(name), str(name)))
            refused.append(refusal(table.lines[row], place, rule, value, table.raw(int(row))))
        kept = np.setdiff1d(everything, cases["index"].to_numpy(dtype=np.int64))
        return frame.iloc[kept].reset_index(drop=True), refused, kept
    return frame, [], everything


def rule_of(check: str) -> str:
    """Our name for one of the contract's checks."""
    return next((rule for begin, rule in _CHECKS if check.startswith(begin)), "contract")
