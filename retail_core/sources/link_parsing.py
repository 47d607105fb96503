"""Identity links of the raw rows of a window: of events with two ids, and of identity events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.arrow_compute import pc
from retail_core.schemas import EARLIEST, LATEST, MAX_ID_LENGTH
from retail_core.sources.event_fields import event_times
from retail_core.sources.identity_links import link_table, no_links
from retail_core.sources.parse_notes import FilteredRows, WarningCollector
from retail_core.sources.raw_table import Problems, RawTable
from retail_core.sources.source import Source
from retail_core.sources.text_cleaning import cleaned_ids, longer_rows, nested_rows

IDENTITY_RULE = "identity"
"""Rule of the rows that are counted as filtered because they are identity events."""

_NO_TEXT = pa.scalar(None, pa.string())


def event_ids_of_links(table: RawTable, source: Source, warnings: WarningCollector) -> dict[str, pa.Array]:
    """Columns `anonymous` and `known` with the two ids of each record; empty without an anonymous id."""
    if not any(name in table.columns for name in source.links.anonymous):
        return {}
    anonymous = _first_id(table, source, source.links.anonymous)
    unusable = (("nested", _nested(table, anonymous)), ("length", longer_rows(anonymous, MAX_ID_LENGTH)))
    for rule, rows in unusable:
        warnings.add(source.links.anonymous[0], rule, rows, anonymous)
        anonymous = _without(anonymous, rows)
    return {"anonymous": anonymous, "known": _known_ids(table, source)}


def links_of_events(ids: Mapping[str, pa.Array], columns: Mapping[str, pa.Array], rows: IntArray) -> pa.Table:
    """Links of the valid records `rows`, as `LINKS_ARROW`.

    Args:
        ids: result of `event_ids_of_links`, for the records of `columns`.
        columns: parsed columns.
        rows: records that became events, in their order.
    """
    if not ids:
        return no_links()
    used = (ids["anonymous"], ids["known"], columns["event_time"])
    from_ids, to_ids, instants = (column.take(pa.array(rows)) for column in used)
    return link_table(from_ids, to_ids, instants, np.arange(len(rows)))


def take_identity_events(
    table: RawTable, types: pa.Array, source: Source
) -> tuple[RawTable, pa.Array, pa.Table, list[FilteredRows]]:
    """The records without identity events, their types, the links of the latter, and their numbers by type.

    An identity event with an unreadable time or id is moved to `refused`.
    """
    names = list(source.links.events)
    mask = pc.fill_null(pc.is_in(types, value_set=pa.array(names, pa.string())), False) if names else None
    if mask is None or not mask.true_count:
        return table, types, no_links(), []
    is_link = mask.to_numpy(zero_copy_only=False)
    identity_rows = np.flatnonzero(is_link)
    links, problems = _links_of_identity_events(table.take(identity_rows), source)
    read = np.setdiff1d(np.arange(len(identity_rows)), np.fromiter(problems, np.int64), assume_unique=True)
    counts = pc.value_counts(types.take(pa.array(identity_rows[read]))).to_pylist()
    column = source.raw_name("event_type")
    filtered = [FilteredRows(column, IDENTITY_RULE, entry["values"], entry["counts"]) for entry in counts]
    remaining = np.flatnonzero(~is_link)
    refused, _ = table.refuse({int(identity_rows[row]): problem for row, problem in problems.items()})
    return table.take(remaining, refused.refused), types.take(pa.array(remaining)), links, filtered


def _links_of_identity_events(table: RawTable, source: Source) -> tuple[pa.Table, Problems]:
    """Links of identity events, and the problems of those that are refused."""
    problems: Problems = {}
    instants = event_times(table, source, problems)
    instants = _within_range(instants, source, problems)
    user_ids = _known_ids(table, source)
    anonymous, previous = (
        _first_id(table, source, names) for names in (source.links.anonymous, source.links.previous)
    )
    aliased = pc.coalesce(user_ids, anonymous)
    named = [
        (source.raw_name("user_id"), user_ids),
        *zip(source.links.anonymous[:1], [anonymous], strict=False),
        *zip(source.links.previous[:1], [previous], strict=False),
    ]
    for name, ids in named:
        for rule, rows in (("nested", _nested(table, ids)), ("length", longer_rows(ids, MAX_ID_LENGTH))):
            for row in rows.tolist():
                problems.setdefault(row, (name, rule, ids[row].as_py()))
    if source.links.strict:
        _require_ids(named, problems)
        _require_different_ids(source, previous, aliased, problems)
    accepted = np.ones(len(table), dtype=bool)
    accepted[list(problems)] = False
    valid = pa.array(accepted)
    pairs = [(anonymous, user_ids), (previous, aliased)]
    tables = [
        link_table(from_ids.filter(valid), to_ids.filter(valid), instants.filter(valid))
        for from_ids, to_ids in pairs
    ]
    return pa.concat_tables(tables), problems


def _require_ids(named: Sequence[tuple[str, pa.Array]], problems: Problems) -> None:
    for name, ids in named:
        for row in np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False)).tolist():
            problems.setdefault(row, (name, "missing", None))


def _require_different_ids(source: Source, from_ids: pa.Array, to_ids: pa.Array, problems: Problems) -> None:
    for row in pc.indices_nonzero(pc.fill_null(pc.equal(from_ids, to_ids), False)).to_pylist():
        problems.setdefault(row, (source.links.previous[0], "link_self", from_ids[row].as_py()))


def _within_range(instants: pa.Array, source: Source, problems: Problems) -> pa.Array:
    """`instants` with a problem for each that no event may have; missing ones are a problem too."""
    name = source.raw_name("event_time")
    for row in np.flatnonzero(instants.is_null().to_numpy(zero_copy_only=False)).tolist():
        problems.setdefault(row, (name, "missing", None))
    micros = instants.cast(pa.int64()).fill_null(EARLIEST.value // 10**6).to_numpy()
    outside = (micros < EARLIEST.value // 10**6) | (micros >= LATEST.value // 10**6)
    for row in np.flatnonzero(outside).tolist():
        problems.setdefault(row, (name, "time_range", instants[row].as_py()))
    return instants


def _known_ids(table: RawTable, source: Source) -> pa.Array:
    """The logged-in id of each record: the user id without the columns of the anonymous id."""
    if "user_id" in source.constants:
        return pa.array([source.constants["user_id"]] * len(table), pa.string())
    names = [name for name in source.user_columns() if name not in source.links.anonymous]
    return _first_id(table, source, tuple(names))


def _first_id(table: RawTable, source: Source, names: Sequence[str]) -> pa.Array:
    texts = [cleaned_ids(table.columns[name], source.nulls) for name in names if name in table.columns]
    if not texts:
        return pa.nulls(len(table), pa.string())
    return pc.coalesce(*texts) if len(texts) > 1 else texts[0]


def _nested(table: RawTable, ids: pa.Array) -> IntArray:
    return np.empty(0, np.int64) if table.header else nested_rows(ids)


def _without(column: pa.Array, rows: IntArray) -> pa.Array:
    if not len(rows):
        return column
    mask = np.zeros(len(column), dtype=bool)
    mask[rows] = True
    return pc.if_else(pa.array(mask), _NO_TEXT, column)
