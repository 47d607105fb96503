"""Event ids: which rows are the same event, and the rules that ids of earlier releases were made with.

Ids are stored with the events, so every function of this module is frozen: it must give the same id for the
same row in every later release, whatever changes in parsing. A new idea of identity gets a new rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.arrow_compute import pc
from retail_core.schemas import EVENT_COLUMNS
from retail_core.sources.identity import Identity
from retail_core.sources.identity_text import identity_text

if TYPE_CHECKING:
    from retail_core.sources.raw_table import RawTable
    from retail_core.sources.source import Source

_HASHED = tuple(name for name in EVENT_COLUMNS if name != "event_id")


def event_ids(
    columns: Mapping[str, pa.Array],
    table: RawTable,
    raw_names: Iterable[str],
    source: Source,
) -> list[str]:
    """Event ids, 32 hex digits, of the records of a table.

    Args:
        columns: parsed columns by event field; `event_id` is the id in the file, null where there is none.
        table: the records.
        raw_names: columns of the file, without those that parsing added.
        source: dialect of the records; its name is part of every id.
    """
    source_ids = columns["event_id"]
    if not source_ids.null_count:
        return hash_keys(_source_id_keys(source_ids, source.name))
    keys = _row_keys(columns, table, raw_names, source)
    if source_ids.null_count < len(source_ids):
        keys = pc.coalesce(_source_id_keys(source_ids, source.name), keys)
    return hash_keys(keys)


def hash_keys(keys: pa.Array) -> list[str]:
    """Hash of each key, 32 hex digits."""
    digest = hashlib.blake2b
    return [digest(key, digest_size=16).hexdigest() for key in keys.cast(pa.binary()).to_pylist()]


def value_keys(columns: Mapping[str, pa.Array], source: str) -> pa.Array:
    """Keys of the rules `v1` and `values`: all fields of the parsed event."""
    rows = [columns[name].cast(pa.string()) for name in _HASHED]
    return pc.binary_join_element_wise(
        pa.scalar(f"{source}\x1frow"), *rows, "\x1f", null_handling="replace", null_replacement="\x00"
    )


def number_repeats(ids: list[str], numbers: IntArray) -> list[str]:
    """`ids` in which the nth occurrence of an id, n > 1, is an id of its own; `numbers` are the n."""
    return [
        event_id
        if number == 1
        else hashlib.blake2b(f"{event_id}\x1f{number}".encode(), digest_size=16).hexdigest()
        for event_id, number in zip(ids, numbers.tolist(), strict=True)
    ]


class RepeatCounter:
    """Counts how often each id occurred in the windows of a file, in 12 bytes for each distinct id."""

    def __init__(self) -> None:
        self._ids = np.empty(0, np.uint64)
        self._counts = np.empty(0, np.uint32)

    def numbers(self, ids: list[str]) -> IntArray:
        """For each id, which occurrence in the file it is, from 1; counts it."""
        hashes = np.array([int(event_id[:16], 16) for event_id in ids], np.uint64)
        unique, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        positions = np.searchsorted(self._ids, unique)
        counted = np.zeros(len(unique), bool)
        inside = positions < len(self._ids)
        counted[inside] = self._ids[positions[inside]] == unique[inside]
        before = np.zeros(len(unique), np.int64)
        before[counted] = self._counts[positions[counted]]
        self._counts[positions[counted]] += counts[counted].astype(np.uint32)
        self._ids = np.insert(self._ids, positions[~counted], unique[~counted])
        self._counts = np.insert(self._counts, positions[~counted], counts[~counted].astype(np.uint32))
        return before[inverse] + pd.Series(inverse).groupby(inverse).cumcount().to_numpy() + 1


def _source_id_keys(source_ids: pa.Array, source: str) -> pa.Array:
    return pc.binary_join_element_wise(pa.scalar(f"{source}\x1fid"), source_ids, "\x1f")


def _row_keys(
    columns: Mapping[str, pa.Array],
    table: RawTable,
    raw_names: Iterable[str],
    source: Source,
) -> pa.Array:
    identity = source.identity
    if identity.rule == "values":
        return value_keys(columns, source.name)
    keys = pa.nulls(len(table), pa.string())
    if identity.columns:
        present = [name for name in identity.columns if name in table.columns]
        keys = _column_keys(table, present, f"{source.name}\x1fcolumns", identity)
    if keys.null_count:
        names = sorted(set(raw_names) & set(table.columns))
        keys = pc.coalesce(keys, _column_keys(table, names, f"{source.name}\x1fraw"))
    return _number_records(keys, table.lines)


def _column_keys(
    table: RawTable, names: list[str], prefix: str, identity: Identity | None = None
) -> pa.Array:
    """`prefix` and name=value of each column with a value; null where no column has one."""
    identity = identity or Identity()
    fields = []
    for name in names:
        text = identity_text(table.columns[name])
        if name in identity.numbers:
            text = _without_zero_decimals(text)
        fields.append(pc.binary_join_element_wise(pa.scalar(identity.spellings.get(name, name)), text, "="))
    if not fields:
        return pa.nulls(len(table), pa.string())
    joined = pc.binary_join_element_wise(pa.scalar(prefix), *fields, "\x1f", null_handling="skip")
    return pc.if_else(pc.equal(joined, prefix), pa.scalar(None, pa.string()), joined)


def _without_zero_decimals(text: pa.Array) -> pa.Array:
    """`12.50` as `12.5` and `12.0` as `12`: CSV, JSON and Parquet write the same number differently."""
    shortened = pc.replace_substring_regex(text, r"^(-?\d+\.\d*[1-9])0+$", r"\1")
    return pc.replace_substring_regex(shortened, r"^(-?\d+)\.0*$", r"\1")


def _number_records(keys: pa.Array, lines: IntArray) -> pa.Array:
    """`keys` with a number after those of further records of one line with the same key.

    A line gives several records where a list in it is exploded.
    """
    _, inverse, counts = np.unique(lines, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[inverse] > 1)
    if not len(rows):
        return keys
    frame = pd.DataFrame({"key": keys.take(pa.array(rows)).to_pylist(), "line": lines[rows]})
    numbers = np.ones(len(lines), np.int64)
    numbers[rows] = frame.groupby(["line", "key"], dropna=False).cumcount().to_numpy() + 1
    suffixes = pa.array([f"\x1f{number}" if number > 1 else "" for number in numbers.tolist()], pa.string())
    return pc.binary_join_element_wise(keys, suffixes, "")
