"""Parse tables of raw records into valid events, user attributes and refused rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd
import pandera.errors
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.schemas import EVENT_COLUMNS, Event, EventFrame
from retail_core.sources.attribute_parsing import attribute_rows
from retail_core.sources.event_fields import TEXT_FIELDS, public_columns, raw_event_types, typed_columns
from retail_core.sources.event_ids import event_ids, hash_keys, value_keys
from retail_core.sources.file_columns import with_file_columns
from retail_core.sources.identity_text import v1_amounts, v1_columns
from retail_core.sources.joined_files import join_columns, joined_user_ids, without_matches
from retail_core.sources.link_parsing import event_ids_of_links, links_of_events, take_identity_events
from retail_core.sources.nested_paths import exploded_lists
from retail_core.sources.parse_notes import ParseNotes, WarningCollector
from retail_core.sources.plain_elements import PLAIN_ELEMENT, take_plain_elements
from retail_core.sources.raw_paths import path_root
from retail_core.sources.raw_table import RawTable
from retail_core.sources.refusals import Refusal, refusal
from retail_core.sources.row_rules import drop_event_types, filter_rows
from retail_core.sources.source import Chunk, Source, empty_users
from retail_core.sources.text_cleaning import as_text_column
from retail_core.sources.time_parsing import NOT_A_TIME
from retail_core.sources.user_parser import parse_users

_CHECKS = (
    ("not_nullable", "missing"),
    ("str_length", "length"),
    ("greater_than_or_equal_to(1990", "time_range"),
    ("less_than(", "time_range"),
    ("less_than_or_equal_to", "too_large"),
)
"""Prefix of the name of a check of the `Event` contract -> rule."""
_RAW_FIELDS = {"price_minor": "price"}
"""Contract column -> event field of a source, where they differ."""


def parse_table(table: RawTable, source: Source) -> Chunk:
    """Events and user attributes of `table`; records that cannot become an event are refused with a rule.

    `first`, `last` and `header` of the result are those of the table.
    """
    if source.rows == "users":
        return parse_users(table, source)
    table = with_file_columns(table, source)
    raw_names = table.file_columns or ()
    raw_columns = tuple(name for name in dict.fromkeys([*raw_names, *table.columns]) if name != PLAIN_ELEMENT)
    path_names = set(raw_columns) - set(raw_names)
    table = join_columns(table, source)
    joined_users = joined_user_ids(table, source)
    table, filtered = filter_rows(table, source)
    if source.prepare is not None:
        table = source.prepare(table, source)
        raw_names = tuple(name for name in table.columns if name != PLAIN_ELEMENT)
    table, types, links, linking = take_identity_events(table, raw_event_types(table, source), source)
    table, types, dropped = drop_event_types(table, types, source)
    table, unmatched = without_matches(table)
    warnings = WarningCollector(public_columns(source))
    if len(unmatched):
        key = source.joins[0].on[0][0]
        keys = table.columns.get(key, pa.nulls(len(table), pa.string()))
        warnings.add(key, "join", unmatched, as_text_column(keys))
    table = take_plain_elements(table, source, warnings)
    _warn_of_cut_line(table, warnings)
    columns, problems = typed_columns(table, types, source, warnings)
    linked_ids = event_ids_of_links(table, source, warnings)
    all_lines, accepted = table.lines, np.arange(len(table))
    if problems:
        table, accepted = table.refuse(problems)
        columns = {name: column.take(pa.array(accepted)) for name, column in columns.items()}
        linked_ids = {name: column.take(pa.array(accepted)) for name, column in linked_ids.items()}
    frame = _event_frame(columns, event_ids(columns, table, raw_names, source))
    frame, refused, valid = _check_contract(frame, table, source)
    refused_rows = np.setdiff1d(np.arange(len(all_lines)), accepted[valid], assume_unique=True)
    users = empty_users()
    if source.attributes:
        users = attribute_rows(source, table.users or _attribute_columns(table, columns, valid))
    all_refused = sorted((*table.refused, *refused), key=lambda refused_row: refused_row.line)
    if table.exploded:
        # A problem of the whole line, such as a missing user, is that of each of its elements.
        all_refused = list(dict.fromkeys(all_refused))
    v1_names = tuple(name for name in raw_names if name not in path_names)
    raw_row, v1_table = table.raw, _v1_table(table, v1_names, source)
    return Chunk(
        events=cast("EventFrame", frame),
        users=users,
        refused=tuple(all_refused),
        source_ids=columns["event_id"].take(pa.array(valid)),
        lines=table.lines[valid],
        raw=lambda row: raw_row(int(valid[row])),
        first=table.first,
        last=table.last,
        header=table.header,
        id_column=source.raw_name("event_id"),
        v1_ids=lambda: _v1_ids(columns, v1_table, v1_names, source, valid),
        notes=ParseNotes(warnings.notes(all_lines, refused_rows), (*filtered, *dropped, *linking)),
        mapped_fields=tuple(
            name for name, raw in source.columns.items() if any(column in table.columns for column in raw)
        ),
        absent_columns=source.absent_columns({*raw_columns, *table.columns}),
        unread_columns=source.unread_columns(raw_columns),
        joined_user_ids=joined_users,
        once_per_order=source.identity.repeats == "once_per_order",
        lines_are_messages=_has_whole_messages(source, raw_columns),
        links=pa.concat_tables([links, links_of_events(linked_ids, columns, valid)]),
    )


def _warn_of_cut_line(table: RawTable, warnings: WarningCollector) -> None:
    if table.cut_line is not None and table.header and table.header[-1] in table.columns:
        name = table.header[-1]
        rows = np.flatnonzero(table.lines == table.cut_line)[:1]
        warnings.add(name, "cut_line", rows, as_text_column(table.columns[name]))


def _has_whole_messages(source: Source, raw_columns: Collection[str]) -> bool:
    """Whether a line has all items of its message: it has a list of them, or `prepare` makes them."""
    paths = [*source.mapped_columns(), *(path for paths in source.nested.values() for path in paths)]
    lists = {path_root(path) for path in exploded_lists(paths)}
    split = {cells.column for cells in source.lists.values() if cells.fields}
    return source.prepare is not None or not (lists | split).isdisjoint(raw_columns)


def _v1_table(table: RawTable, raw_names: tuple[str, ...], source: Source) -> RawTable:
    """`table` with the columns that ids of release 0.1.0 can depend on, without the objects of JSON lines."""
    names = raw_names if source.properties is None else source.mapped_columns()
    columns = {name: table.columns[name] for name in names if name in table.columns}
    return replace(table, columns=columns)


def _v1_ids(
    columns: Mapping[str, pa.Array],
    table: RawTable,
    raw_names: tuple[str, ...],
    source: Source,
    rows: IntArray,
) -> list[str | None]:
    """Ids of `rows` as release 0.1.0 made them; None where the row has an event id of its own."""
    reading = source.v1_reading or source
    if source.v1_reading:
        columns = dict(columns) | v1_amounts(table, raw_names, reading)
    keys = value_keys(v1_columns(columns, table, raw_names, reading), source.name)
    has_id = columns["event_id"].is_valid().to_pylist()
    ids = hash_keys(keys)
    return [None if has_id[row] else ids[row] for row in rows.tolist()]


def _attribute_columns(
    table: RawTable, columns: Mapping[str, pa.Array], rows: IntArray
) -> dict[str, pa.Array]:
    """Raw columns of `rows` with `user_id` and, from the event time, `valid_from`."""
    owner = {"user_id": columns["user_id"], "valid_from": columns["event_time"]}
    return {name: values.take(pa.array(rows)) for name, values in (dict(table.columns) | owner).items()}


def _event_frame(columns: Mapping[str, pa.Array], ids: list[str]) -> pd.DataFrame:
    """Frame with the column order and types of the `Event` contract."""
    texts = pa.table(
        {"event_id": pa.array(ids, pa.string())}
        | {name: columns[name] for name in (*TEXT_FIELDS, "properties")}
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
