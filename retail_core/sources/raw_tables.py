"""Files of every layout (CSV, JSON lines, Parquet) as tables of raw records, one window at a time.

Memory is bounded by the size of a window.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from retail_core.errors import InputError
from retail_core.sources.compressed_files import DecompressedFile, file_kind, looks_utf16
from retail_core.sources.csv_tables import RecordParser, csv_table
from retail_core.sources.file_columns import json_window
from retail_core.sources.json_tables import json_lines, load_object
from retail_core.sources.parquet_tables import CheckHeader, parquet_tables
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source
from retail_core.sources.source_options import Layout
from retail_core.sources.text_encoding import encoding_error

WINDOW_ROWS = 25_000
"""Lines (or Parquet rows) of one window, which is validated, inserted and committed as one."""

WINDOW_CHARACTERS = 1 << 24
"""A window ends after this many characters even if it has fewer lines."""

_SKIP_LINES = 1_000
_SEPARATOR_LINE = re.compile(r"^sep=(.)\r?\n?$")


class TextLines:
    """Reader of the physical lines of a text file, with their line breaks.

    Undecodable bytes become surrogate escapes. The incomplete last line of a truncated file is left out.

    Attributes:
        count: lines read so far.
        is_plain: whether the file is not compressed.
    """

    def __init__(self, path: Path, kind: str, layout: Layout) -> None:
        self._bytes = DecompressedFile(path, kind)
        self.is_plain = kind == "plain"
        encoding = "utf-8-sig" if layout.encoding.lower() in {"utf-8", "utf8"} else layout.encoding
        buffered = io.BufferedReader(self._bytes, 1 << 16)
        self._text = io.TextIOWrapper(buffered, encoding, errors="surrogateescape", newline="")
        self.count = 0

    @property
    def problem(self) -> str | None:
        """After the end, what truncated the file; None if it is complete."""
        return self._bytes.problem

    @property
    def position(self) -> int:
        """Bytes of the (compressed) file read so far."""
        return self._bytes.position

    def take(self, count: int) -> list[str]:
        """At most `count` further lines, fewer if they are long; an empty list only at the end."""
        lines: list[str] = []
        free_characters = WINDOW_CHARACTERS
        for line in islice(self._text, count):
            lines.append(line)
            free_characters -= len(line)
            if free_characters <= 0:
                break
        if lines and self.problem and not lines[-1].endswith(("\n", "\r")):
            lines.pop()
        self.count += len(lines)
        return lines

    def skip(self, last: int) -> None:
        """Read and drop lines up to line `last`."""
        while self.count < last and self.take(min(_SKIP_LINES, last - self.count)):
            pass

    def close(self) -> None:
        """Close the file."""
        self._text.close()


def read_raw_tables(
    path: Path, source: Source, check: CheckHeader, *, skip: int = 0
) -> Iterator[tuple[RawTable, int]]:
    """Tables of a file's windows after line (Parquet: row) `skip`, each with the bytes read so far.

    Raises:
        InputError: the file cannot be read as `source`, or `check` rejects its columns; or it is truncated or
            damaged, which is raised after the tables of the rows before.
    """
    kind = file_kind(path)
    if kind == "parquet":
        tables = parquet_tables(path, check, skip, WINDOW_ROWS)
        if source.layout.kind == "jsonl" and next(tables, None) is not None:
            raise _not_json_lines(path)
        yield from tables
        return
    if kind == "parquet":
        raise InputError(f"{path} is a Parquet file, not JSON lines.", remedy="use a source that reads CSV.")
    if kind == "plain" and looks_utf16(path) and not source.layout.encoding.lower().startswith("utf-16"):
        raise InputError(f"{path} is UTF-16 text.", remedy="set encoding: utf-16 in a mapping.")
    try:
        with closing(TextLines(path, kind, source.layout)) as lines:
            yield from _text_tables(path, lines, source, check, skip)
            if lines.problem:
                raise InputError(
                    f"{path} ends at line {lines.count}: {lines.problem}; the rows up to there are kept.",
                    remedy="ingest a complete copy of the file; rows already stored count as duplicates.",
                )
    except UnicodeError as error:
        raise encoding_error(path, source.layout.encoding) from error


def _text_tables(
    path: Path, lines: TextLines, source: Source, check: CheckHeader, skip: int
) -> Iterator[tuple[RawTable, int]]:
    layout = source.layout
    first = _first_line(path, lines, layout)
    if not first and lines.problem:
        return
    to_table: Callable[[list[str], int], RawTable]
    if first and first[0].lstrip().startswith("{"):
        is_json_source = layout.kind == "jsonl"
        to_table = json_lines if is_json_source else partial(json_window, source=source)
        first, names = _json_keys(first, lines, source)
        # A broken first line of a JSON source is one refused row, not a file of another source.
        check(source.needs if is_json_source and not names else names, complete=False)
    else:
        fields = _plain_fields(first, layout)
        if layout.kind == "jsonl":
            check(fields)
        is_named = layout.header is not None and not source.missing_columns(fields)
        first, header = ([], list(fields)) if is_named else _header(path, lines, first, layout, check)
        check(tuple(header))
        parser = RecordParser(layout, len(header), lambda: lines.take(_SKIP_LINES))
        to_table = partial(_csv_window, partial(csv_table, parser, tuple(header)), lines.is_plain)
    if lines.count < skip:
        lines.skip(skip)
        first = []
    first = first[max(skip - (lines.count - len(first)), 0) :] if skip else first
    while window := first + lines.take(WINDOW_ROWS - len(first)):
        first = []
        base = lines.count - len(window)
        yield to_table(_without_comments(window, layout.comment), base), lines.position


def _csv_window(
    to_table: Callable[[list[str], int], RawTable], is_plain: bool, lines: list[str], base: int
) -> RawTable:
    """The table of a window; if the file ends without a line break, with the line that may be incomplete.

    A compressed file is complete, and so is a row that ends with a quotation mark.
    """
    table = to_table(lines, base)
    is_cut = is_plain and len(table) > 0 and not lines[-1].endswith(("\n", "\r", '"'))
    is_last = is_cut and all(refused.line < table.lines[-1] for refused in table.refused)
    return replace(table, cut_line=int(table.lines[-1])) if is_last else table


def _json_keys(first: list[str], lines: TextLines, source: Source) -> tuple[list[str], tuple[str, ...]]:
    """The lines read so far, and the keys of the first object.

    Exports leave out keys without a value: if the first object lacks a required one, the keys are those of
    the first `_SKIP_LINES` objects.
    """
    names = tuple(load_object(first[0]) or ())
    if not names or not source.missing_columns(names):
        return first, names
    first += lines.take(_SKIP_LINES)
    objects = (load_object(line) or {} for line in first)
    return first, tuple(dict.fromkeys(name for row in objects for name in row))


def _first_line(path: Path, lines: TextLines, layout: Layout) -> list[str]:
    """The line of the header, or of the first record, in a list; empty at the end of the file.

    Raises:
        InputError: a line `sep=` names another delimiter than `layout`.
    """
    if layout.skip_lines:
        lines.skip(layout.skip_lines)
    first = lines.take(1)
    while first and (
        (layout.comment and first[0].startswith(layout.comment)) or _is_separator_line(path, first[0], layout)
    ):
        first = lines.take(1)
    return first


def _is_separator_line(path: Path, line: str, layout: Layout) -> bool:
    """Whether `line` is the `sep=;` that spreadsheets write before the header."""
    match = _SEPARATOR_LINE.match(line)
    if match and match[1] != layout.delimiter:
        raise InputError(
            f"{path} begins with sep={match[1]}, but its source separates fields by {layout.delimiter!r}.",
            remedy=f"set delimiter: {match[1]!r} in a mapping.",
        )
    return match is not None


def _without_comments(lines: list[str], comment: str | None) -> list[str]:
    """`lines` with blank lines in place of comments, which keeps the line numbers."""
    if comment is None:
        return lines
    return ["\n" if line.startswith(comment) else line for line in lines]


def _header(
    path: Path, lines: TextLines, first: list[str], layout: Layout, check: CheckHeader
) -> tuple[list[str], list[str]]:
    """The lines of `first` that are data, not the header, and the column names."""
    if layout.kind == "jsonl":
        raise _not_json_lines(path)
    if layout.header is not None:
        return first, list(layout.header)
    if first and first[0].lstrip().startswith("["):
        raise InputError(
            f"{path} is a JSON array.",
            remedy="write one JSON object per line, without brackets: jq -c '.[]' FILE > FILE.jsonl",
        )
    try:
        record = next(csv.reader(_header_lines(first, lines), delimiter=layout.delimiter, strict=True), [])
    except csv.Error as error:
        check(_plain_fields(first, layout))
        raise InputError(f"The header of {path} cannot be read: {error}.", remedy="correct it.") from error
    names = [name.strip() for name in record]
    if not any(names):
        raise InputError(f"The header of {path} names no column.", remedy="name the columns in line 1.")
    return [], names


def _not_json_lines(path: Path) -> InputError:
    return InputError(f"{path} is not JSON lines.", remedy="use a source that reads CSV.")


def _plain_fields(first: list[str], layout: Layout) -> tuple[str, ...]:
    """Fields of the first line, without quotation marks around them; a quoted delimiter separates too."""
    return tuple(name.strip(' "') for name in "".join(first).rstrip("\r\n").split(layout.delimiter))


def _header_lines(first: list[str], lines: TextLines) -> Iterator[str]:
    yield from first
    for _ in range(100):
        yield from lines.take(1)
