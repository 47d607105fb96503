"""Parse tables of a file of users: one row of attributes each, without events.

Every row is stored, refused, or a duplicate of a stored one, so that the rows of the file add up.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.arrow_compute import python_value
from retail_core.schemas import EARLIEST, LATEST, MAX_ID_LENGTH
from retail_core.sources.attribute_parsing import attribute_frame
from retail_core.sources.event_fields import text_field
from retail_core.sources.nested_paths import resolve_paths
from retail_core.sources.parse_notes import ParseNotes, WarningCollector
from retail_core.sources.raw_table import Problems, RawTable
from retail_core.sources.row_rules import filter_rows
from retail_core.sources.source import Chunk, Source, empty_events
from retail_core.sources.text_cleaning import longer_rows, nested_rows
from retail_core.sources.time_parsing import NOT_A_TIME, parse_times


def parse_users(table: RawTable, source: Source) -> Chunk:
    """User attributes of `table`; rows without a usable user id or with an unreadable date are refused.

    `first`, `last` and `header` of the result are those of the table.
    """
    table = resolve_paths(table, source)
    raw_columns = tuple(table.columns)
    table, filtered = filter_rows(table, source)
    warnings, problems = WarningCollector(frozenset({source.valid_from or ""})), Problems()
    users = text_field(table, source, "user_id", warnings)
    since = _valid_from(table, source, problems, warnings)
    _report_users(table, source, users, problems)
    lines = table.lines
    table, accepted = table.refuse(problems)
    owner = {"user_id": users, "valid_from": since}
    columns = {name: column.take(pa.array(accepted)) for name, column in owner.items()}
    refused_rows = np.setdiff1d(np.arange(len(lines)), accepted, assume_unique=True)
    return Chunk(
        events=empty_events(),
        users=attribute_frame(source, dict(table.columns) | columns),
        refused=tuple(sorted(table.refused, key=lambda refused_row: refused_row.line)),
        source_ids=pa.nulls(0, pa.string()),
        lines=np.array([], dtype=np.int64),
        raw=table.raw,
        first=table.first,
        last=table.last,
        header=table.header,
        notes=ParseNotes(warnings.notes(lines, refused_rows), tuple(filtered)),
        mapped_fields=("user_id",),
        absent_columns=source.absent_columns(raw_columns),
        unread_columns=source.unread_columns(raw_columns),
        has_user_rows=True,
    )


def _valid_from(table: RawTable, source: Source, problems: Problems, warnings: WarningCollector) -> pa.Array:
    """Instants in ms since 1970 UTC, null in rows without one."""
    name = source.valid_from
    if name is None or name not in table.columns:
        return pa.nulls(len(table), pa.int64())
    raw = table.columns[name]
    instants, rules = parse_times(raw, source.time, source.timezone, source.nulls)
    problems |= {row: (name, rule, python_value(raw[row])) for row, rule in rules.items()}
    for row in _outside(instants).tolist():
        problems.setdefault(row, (name, "time_range", python_value(raw[row])))
    missing = np.flatnonzero((instants == NOT_A_TIME) & ~np.isin(np.arange(len(table)), list(problems)))
    warnings.add(name, "undated", missing, raw)
    return pa.array(instants, mask=instants == NOT_A_TIME)


def _outside(instants: IntArray) -> IntArray:
    earliest, latest = EARLIEST.value // 10**6, LATEST.value // 10**6
    outside = (instants != NOT_A_TIME) & ((instants < earliest) | (instants >= latest))
    return np.flatnonzero(outside)


def _report_users(table: RawTable, source: Source, users: pa.Array, problems: Problems) -> None:
    name = source.raw_name("user_id")
    rules = {
        "missing": np.flatnonzero(users.is_null().to_numpy(zero_copy_only=False)),
        "length": longer_rows(users, MAX_ID_LENGTH),
        "nested": nested_rows(users) if not table.header else (),
    }
    for rule, rows in rules.items():
        for row in rows:
            problems.setdefault(int(row), (name, rule, users[int(row)].as_py()))
