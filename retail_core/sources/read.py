"""Events of a file, window by window, and of rows at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from retail_core.errors import InputError
from retail_core.schemas import EventFrame
from retail_core.sources.json_tables import flat_json_lines, json_lines, object_table
from retail_core.sources.parse import parse
from retail_core.sources.presets import fitting, get
from retail_core.sources.readers import tables
from retail_core.sources.rules import Refusal, text_problem
from retail_core.sources.source import Chunk, Source, Table


def read_events(path: Path, source: Source, *, skip: int = 0) -> Iterator[Chunk]:
    """What `path` holds after line (Parquet: row) `skip`, one window at a time; stores nothing.

    Raises:
        InputError: the file as a whole is missing, empty, unreadable or of another source; or it is cut
            short, after the rows before the cut were given.
    """

    def check(header: tuple[str, ...]) -> None:
        check_header(path, source, header)

    begun = skip > 0
    for table, position in tables(path, source, check, skip=skip):
        if not begun:
            _check_readable(path, source, table)
        chunk = parse(table, source)
        if not begun and source.layout.header is not None and not len(chunk.events) and chunk.refused:
            raise _no_row_fits(path, source, chunk.refused[0])
        begun = True
        yield replace(chunk, position=position)


def check_header(path: Path, source: Source, header: tuple[str, ...]) -> None:
    """Refuse a file whose columns are not those of the source.

    Raises:
        InputError: naming the file, the column, and the preset that fits, if one does.
    """
    _check_names(path, source, header)
    missing = source.missing(header)
    preset = fitting(header)
    if not missing and source.name == "canonical" and preset not in {None, source.name}:
        raise InputError(
            f"{path} is of source {preset}: canonical would keep its event names as they are.",
            remedy=f"use --source {preset}, or a mapping.",
        )
    if not missing:
        return
    raise InputError(
        f"{path} has no column {missing[0]!r}, which source {source.name} needs; "
        f"its columns are {', '.join(header)[:200]}.",
        remedy=f"use --source {preset}." if preset else _advice(header, source),
    )


def _check_names(path: Path, source: Source, header: tuple[str, ...]) -> None:
    if not header:
        raise InputError(
            f"Line 1 of {path} begins as JSON and is no object.", remedy="write one JSON object a line."
        )
    if any(text_problem(name) for name in header):
        raise InputError(
            f"{path} is not {source.layout.encoding} text.",
            remedy="name its encoding in a mapping (utf-16, latin-1, ...), or unpack it where it is packed.",
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(
            f"The header of {path} names column {repeated[0]!r} twice.",
            remedy="give each column one name of its own.",
        )


def _advice(header: tuple[str, ...], source: Source) -> str:
    other = next((mark for mark in ";\t|" if mark in header[0] and mark != source.layout.delimiter), None)
    if other is not None:
        return f"the fields seem to be separated by {other!r}: say delimiter in a mapping."
    return "name the columns in a mapping (--mapping FILE.yaml), or choose the source the file is from."


def _check_readable(path: Path, source: Source, table: Table) -> None:
    """Refuse a file of whose first window not one record could be read, and no header vouches for it."""
    if len(table) or not table.refused:
        return
    first = table.refused[0]
    if all(one.rule == "encoding" for one in table.refused):
        raise InputError(
            f"{path} is not {source.layout.encoding} text.", remedy="name its encoding in a mapping."
        )
    if source.layout.header is not None or not table.header:
        raise _no_row_fits(path, source, first)


def _no_row_fits(path: Path, source: Source, first: Refusal) -> InputError:
    header = tuple(first.raw.split(","))
    preset = fitting(header)
    detail = first.value or first.rule
    return InputError(
        f"No row of {path} can be read as source {source.name}; line {first.line}: {first.rule} ({detail}).",
        remedy=f"use --source {preset}." if preset else "choose the source the file is from, or a mapping.",
    )


def parse_events(
    rows: Sequence[Mapping[str, object]], source: Source | None = None
) -> tuple[EventFrame, list[Refusal]]:
    """Events of rows given as mappings (JSON objects: numbers or text), and the refused ones.

    The default source is `canonical`. A refusal's `line` is the row's place in `rows`, from 1.
    """
    chunk = parse_rows(rows, source or get("canonical"))
    return chunk.events, list(chunk.refused)


def parse_rows(rows: Sequence[Mapping[str, object]], source: Source) -> Chunk:
    """As `parse_events`, with user attributes and the origin of each event."""
    return parse(object_table(rows), source)


def parse_json_lines(lines: list[str], source: Source) -> Chunk:
    """Events of JSON text, one object a line."""
    table = json_lines(lines, 0) if source.layout.kind == "jsonl" else flat_json_lines(lines, 0)
    return parse(table, source)
