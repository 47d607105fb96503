"""Read events from files, one window at a time, and from rows in memory; explain files of a wrong source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from retail_core.arrays import IntArray
from retail_core.errors import InputError
from retail_core.schemas import EventFrame
from retail_core.sources.event_ids import number_repeats
from retail_core.sources.event_parser import parse_table
from retail_core.sources.file_columns import json_window, with_spelled_columns
from retail_core.sources.joined_files import absent_keys, ambiguous_columns, joined_names
from retail_core.sources.json_tables import json_lines, object_table
from retail_core.sources.order_blocks import NO_BLOCK, BlockRepeatCounter, OrderBlocks
from retail_core.sources.parquet_tables import CheckHeader
from retail_core.sources.presets import get_preset, matching_preset, preset_of_line
from retail_core.sources.raw_paths import has_column
from retail_core.sources.raw_table import RawTable
from retail_core.sources.raw_tables import read_raw_tables
from retail_core.sources.refusals import Refusal, broken_text_rule
from retail_core.sources.row_rules import FillDown
from retail_core.sources.source import Chunk, Source
from retail_core.sources.text_encoding import encoding_error


def read_events(path: Path, source: Source, *, skip: int = 0) -> Iterator[Chunk]:
    """Parsed windows of a file; nothing is stored.

    Args:
        path: CSV, .gz, .zst, Parquet or JSON lines, recognised by content.
        source: dialect of the file.
        skip: lines (Parquet: rows) at the beginning to leave out, the header line included.

    Raises:
        InputError: the file is missing, empty, unreadable or of another source; or it is truncated, which is
            raised after the windows before.
    """
    if source.identity.repeats != "count":
        yield from _parsed_windows(path, source, skip)
        return
    counter = BlockRepeatCounter()
    for chunk in _parsed_windows(path, source, 0):
        numbered = number_repeated_rows(chunk, counter)
        if chunk.last > skip:
            yield numbered


def number_repeated_rows(chunk: Chunk, counter: BlockRepeatCounter) -> Chunk:
    """`chunk` in which the nth equal row of its file, or of its order, is an event of its own.

    Args:
        chunk: the next window of a file.
        counter: the file's.
    """
    ids = chunk.events["event_id"].tolist()
    counted = np.flatnonzero(chunk.source_ids.is_null().to_numpy(zero_copy_only=False))
    blocks = np.full(len(ids), NO_BLOCK, np.int64) if chunk.blocks is None else chunk.blocks
    numbers = np.ones(len(ids), np.int64)
    numbers[counted] = counter.numbers([ids[row] for row in counted.tolist()], blocks[counted])
    return with_repeat_numbers(chunk, numbers)


def _with_blocks(chunk: Chunk, table: RawTable, blocks: IntArray | None) -> Chunk:
    """`chunk` with the block of each event; `blocks` are those of the records of `table`, by line."""
    if blocks is None:
        return chunk
    return replace(chunk, blocks=blocks[np.searchsorted(table.lines, chunk.lines)])


def with_repeat_numbers(chunk: Chunk, numbers: IntArray) -> Chunk:
    """`chunk` with the ids of rows that are the nth of their kind; `numbers` has the n of each event."""
    if not len(numbers) or numbers.max() == 1:
        return chunk
    ids = number_repeats(chunk.events["event_id"].tolist(), numbers)
    events = chunk.events.assign(event_id=pd.Series(ids, dtype="str", index=chunk.events.index))
    earlier = chunk.v1_ids

    def v1_ids() -> list[str | None]:
        """Release 0.1.0 stored the first of several equal rows only."""
        return [
            event_id if number == 1 else None
            for event_id, number in zip(earlier(), numbers.tolist(), strict=True)
        ]

    return replace(chunk, events=events, v1_ids=v1_ids)


def _parsed_windows(path: Path, source: Source, skip: int) -> Iterator[Chunk]:
    def check(header: tuple[str, ...], *, complete: bool = True) -> None:
        check_header(path, source, header, complete=complete)

    recognised = skip > 0
    for table, position, blocks in _filled_tables(path, source, check, skip):
        if not recognised:
            _check_readable(path, source, table)
        chunk = parse_table(table, source)
        if not recognised and source.layout.header is not None and not len(chunk.events) and chunk.refused:
            raise _no_readable_row(path, source, chunk.refused[0])
        recognised = True
        yield replace(_with_blocks(chunk, table, blocks), position=position)


def _filled_tables(
    path: Path, source: Source, check: CheckHeader, skip: int
) -> Iterator[tuple[RawTable, int, IntArray | None]]:
    """Tables of a file after line `skip`, with the columns of orders filled down.

    Each with the bytes read so far and, if repeats are counted, the block of each record. Orders continue
    over windows, so the skipped windows of such a file are read too.
    """
    is_filled, is_counted = source.rules.fill_key is not None, source.identity.repeats == "count"
    filling, order_blocks = FillDown(source), OrderBlocks(source)
    for table, position in read_raw_tables(path, source, check, skip=0 if is_filled else skip):
        is_raw = table.file_columns is None and (is_filled or is_counted)
        spelled = with_spelled_columns(table, source) if is_raw else table
        blocks = order_blocks.numbers(spelled) if is_counted else None
        filled = filling.fill(spelled)
        if table.last > skip:
            yield filled, position, blocks


def check_header(path: Path, source: Source, header: tuple[str, ...], *, complete: bool = True) -> None:
    """Check that a file has the columns of the source.

    Args:
        path: the file.
        source: its dialect.
        header: column names.
        complete: whether `header` has every column; a later JSON object can have further keys.

    Raises:
        InputError: it does not; the message names the column and the matching preset, if there is one.
    """
    _refuse_non_text(path, source, header)
    _check_joins(path, source, header, complete=complete)
    missing = source.missing_columns(tuple(joined_names(source, header)))
    if source.layout.kind == "jsonl" and len(missing) < len(source.needs):
        # One key is enough to recognise the source; an object without the others is a refused row.
        missing = []
    preset = matching_preset(header)
    if not missing or preset is None:
        _check_repeated(path, source, header)
    if not missing and source.name == "canonical" and preset not in {None, source.name}:
        raise InputError(
            f"{path} is of source {preset}: canonical would keep its event names as they are.",
            remedy=f"use --source {preset}, or a mapping.",
        )
    if not missing:
        if complete:
            _check_mapped_columns(path, source, source.spelled(header))
        return
    raise InputError(
        f"{path} has no column {missing[0]!r}, which source {source.name} needs; "
        f"its columns are {', '.join(header)[:200]}.",
        remedy=_wrong_columns_remedy(header, source, missing[0], complete=complete),
    )


def _refuse_non_text(path: Path, source: Source, header: tuple[str, ...]) -> None:
    if not header:
        raise InputError(
            f"Line 1 of {path} begins as JSON but is not an object.",
            remedy="write one JSON object per line.",
        )
    if any(broken_text_rule(name) for name in header):
        raise encoding_error(path, source.layout.encoding)


def _check_repeated(path: Path, source: Source, header: tuple[str, ...]) -> None:
    """Raise InputError if a column that the source reads is named twice."""
    repeated = sorted({name for name in header if header.count(name) > 1})
    used = repeated if source.properties is None else [n for n in repeated if n in source.mapped_columns()]
    if used:
        raise InputError(
            f"The header of {path} names column {used[0]!r} twice, which source {source.name} reads.",
            remedy="give each column one name of its own.",
        )


def _check_mapped_columns(path: Path, source: Source, header: tuple[str, ...]) -> None:
    """Raise InputError if a column that a mapping requires is absent."""
    present = joined_names(source, header)
    absent = [name for name in source.required_columns if not has_column(name, present)]
    if absent:
        names = ", ".join(map(repr, absent))
        close = get_close_matches(absent[0], header, 1)
        hint = f"; it has {close[0]!r}" if close else f"; its columns are {', '.join(header)[:200]}"
        raise InputError(
            f"{path} has no column {names}, which the mapping of source {source.name} names{hint}.",
            remedy=f"correct the name in the mapping, or mark it as optional: '{absent[0]}?'.",
        )


def _check_joins(path: Path, source: Source, header: tuple[str, ...], *, complete: bool) -> None:
    """Raise InputError if a key of a joined file is absent, or a joined column is there already."""
    if complete and (absent := absent_keys(source, header)):
        raise InputError(
            f"{path} has no column {absent[0]!r}, by which a file is joined; its columns are "
            f"{', '.join(header)[:200]}.",
            remedy="correct the name under join: {on: ...} in the mapping.",
        )
    if (repeated := next(ambiguous_columns(source, header), None)) is not None:
        raise InputError(
            f"{path} and a joined file both have a column {repeated!r}.",
            remedy="rename one of them, or leave it out of the columns to join.",
        )


def _wrong_columns_remedy(header: tuple[str, ...], source: Source, absent: str, *, complete: bool) -> str:
    """What to do about a file without column `absent`: use the fitting preset, or correct the mapping."""
    preset, is_mapping = matching_preset(header), bool(source.required_columns)
    close = get_close_matches(absent, header, 1)
    if is_mapping and (close or (complete and len(header) > 1)):
        other = preset if preset not in {None, "canonical", source.name} else None
        hint = f": the file has {close[0]!r}" if close else ""
        alternative = f"; or use --source {other} instead" if other else ""
        return f"correct the name of the column in the mapping{hint}{alternative}."
    return f"use --source {preset}." if preset else _mapping_advice(header, source, complete=complete)


def _mapping_advice(header: tuple[str, ...], source: Source, *, complete: bool) -> str:
    if not complete and len(header) == 1:
        return "if its one key has a list of records, write one of these per line, without the list."
    if complete and (advice := _preset_advice(source.layout.delimiter.join(header))):
        return advice
    separator = next((mark for mark in ";\t|" if mark in header[0] and mark != source.layout.delimiter), None)
    if separator is not None:
        return f"the fields seem to be separated by {separator!r}: set delimiter in a mapping."
    return (
        "choose the source the file is from, or name the columns in a mapping (--mapping FILE.yaml); "
        "`retail sources detect FILE` proposes one."
    )


def _preset_advice(line: str) -> str | None:
    """How to read a file with the preset that fits its first line, whatever the delimiter; None without."""
    fitting = preset_of_line(line)
    if fitting is None:
        return None
    preset, delimiter = fitting
    if delimiter == get_preset(preset).layout.delimiter:
        return f"use --source {preset}."
    return (
        f"it has the columns of {preset}, separated by {delimiter!r}: set delimiter in a mapping with "
        f"`extends: {preset}`."
    )


def _check_readable(path: Path, source: Source, table: RawTable) -> None:
    """Raise InputError if no record of the first window is readable and no header identifies the source."""
    if len(table) or not table.refused:
        return
    first = table.refused[0]
    if all(row.rule == "encoding" for row in table.refused):
        raise encoding_error(path, source.layout.encoding)
    if source.layout.header is not None or not table.header:
        raise _no_readable_row(path, source, first)


def _no_readable_row(path: Path, source: Source, first: Refusal) -> InputError:
    detail = first.value or first.rule
    return InputError(
        f"No row of {path} can be read as source {source.name}; line {first.line}: {first.rule} ({detail}).",
        remedy=_preset_advice(first.raw) or "choose the source the file is from, or a mapping.",
    )


def parse_events(
    rows: Sequence[Mapping[str, object]], source: Source | None = None
) -> tuple[EventFrame, list[Refusal]]:
    """Events of rows in memory, and the refused rows.

    Args:
        rows: JSON objects; values are numbers or text.
        source: dialect of the rows, `canonical` by default.

    Returns:
        A frame of `Event`, and refusals whose `line` is the position in `rows`, from 1.
    """
    chunk = parse_rows(rows, source or get_preset("canonical"))
    return chunk.events, list(chunk.refused)


def parse_rows(rows: Sequence[Mapping[str, object]], source: Source) -> Chunk:
    """Like `parse_events`, with user attributes and the raw row of each event."""
    table = object_table(rows)
    chunk = parse_table(table, source)
    if source.identity.repeats != "count":
        return chunk
    blocks = OrderBlocks(source).numbers(with_spelled_columns(table, source))
    return number_repeated_rows(_with_blocks(chunk, table, blocks), BlockRepeatCounter())


def parse_json_lines(lines: list[str], source: Source) -> Chunk:
    """Events of JSON lines, one object per line."""
    table = json_lines(lines, 0) if source.layout.kind == "jsonl" else json_window(lines, 0, source)
    return parse_table(table, source)
