"""Files of any layout as tables of raw records, one window at a time, in bounded memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from retail_core.errors import InputError
from retail_core.sources.csv_tables import csv_maker
from retail_core.sources.files import Unpacked, file_kind, looks_utf16
from retail_core.sources.json_tables import flat_json_lines, json_lines, load_object
from retail_core.sources.parquet_tables import CheckHeader, parquet_tables
from retail_core.sources.records import RecordParser
from retail_core.sources.source import Layout, Source, Table

WINDOW_ROWS = 25_000
"""Lines (or Parquet rows) of one window: what is validated, inserted and committed together."""

_STEP = 1_000
WINDOW_CHARACTERS = 1 << 24
"""Lines of one window stop after so many characters, however few they are; one line may be as long."""


class TextLines:
    """The physical lines of a text file, line breaks included; counts them.

    Bytes that the encoding cannot read come through as surrogate escapes. Where the file is cut
    short, its unfinished last line is left out and `problem` says so.
    """

    def __init__(self, path: Path, kind: str, layout: Layout) -> None:
        self._bytes = Unpacked(path, kind)
        encoding = "utf-8-sig" if layout.encoding.lower() in {"utf-8", "utf8"} else layout.encoding
        buffered = io.BufferedReader(self._bytes, 1 << 16)
        self._text = io.TextIOWrapper(buffered, encoding, errors="surrogateescape", newline="")
        self.count = 0

    @property
    def problem(self) -> str | None:
        """What cut the file short, once its end is reached."""
        return self._bytes.problem

    @property
    def position(self) -> int:
        """Bytes of the file read so far."""
        return self._bytes.position

    def take(self, count: int) -> list[str]:
        """At most `count` further lines, or fewer where they are long; none only at the end."""
        lines: list[str] = []
        room = WINDOW_CHARACTERS
        for line in islice(self._text, count):
            lines.append(line)
            room -= len(line)
            if room <= 0:
                break
        if lines and self.problem and not lines[-1].endswith(("\n", "\r")):
            lines.pop()
        self.count += len(lines)
        return lines

    def skip(self, last: int) -> None:
        """Go on after line `last`."""
        while self.count < last and self.take(min(_STEP, last - self.count)):
            pass

    def close(self) -> None:
        """Close the file."""
        self._text.close()


def tables(path: Path, source: Source, check: CheckHeader, *, skip: int = 0) -> Iterator[tuple[Table, int]]:
    """The tables of a file's windows after line (Parquet: row) `skip`, with the bytes read so far.

    Raises:
        InputError: the file as a whole cannot be read so; or, after the rows before it were given, it is
            cut short or damaged.
    """
    kind = file_kind(path)
    if kind == "parquet" and source.layout.kind == "csv":
        yield from parquet_tables(path, check, skip, WINDOW_ROWS)
        return
    if kind == "plain" and looks_utf16(path) and not source.layout.encoding.lower().startswith("utf-16"):
        raise InputError(f"{path} is UTF-16 text.", remedy="say encoding: utf-16 in a mapping.")
    try:
        with closing(TextLines(path, kind, source.layout)) as lines:
            yield from _text_tables(path, lines, source, check, skip)
            if lines.problem:
                raise InputError(
                    f"{path} ends at line {lines.count}: {lines.problem}; the rows up to there are kept.",
                    remedy="fetch the file again and ingest it; rows already stored count as duplicates.",
                )
    except UnicodeError as error:
        raise InputError(
            f"{path} is not {source.layout.encoding} text.", remedy="name its encoding in a mapping."
        ) from error


def _text_tables(
    path: Path, lines: TextLines, source: Source, check: CheckHeader, skip: int
) -> Iterator[tuple[Table, int]]:
    layout = source.layout
    first = lines.take(1)
    if not first and lines.problem:
        return
    make: Callable[[list[str], int], Table]
    if first and first[0].lstrip().startswith("{"):
        make = json_lines if layout.kind == "jsonl" else flat_json_lines
        check(tuple(load_object(first[0]) or ()) if layout.kind == "csv" else source.needs)
    else:
        first, header = _header(path, lines, first, layout)
        check(tuple(header))
        parser = RecordParser(layout.delimiter, len(header), lambda: lines.take(_STEP))
        make = csv_maker(parser, tuple(header))
    if lines.count < skip:
        lines.skip(skip)
        first = []
    while window := first + lines.take(WINDOW_ROWS):
        first = []
        base = lines.count - len(window)
        yield make(window, base), lines.position


def _header(path: Path, lines: TextLines, first: list[str], layout: Layout) -> tuple[list[str], list[str]]:
    """Lines read too far, and the column names."""
    if layout.kind == "jsonl":
        raise InputError(f"{path} is not JSON lines.", remedy="use a source that reads CSV.")
    if layout.header is not None:
        return first, list(layout.header)
    if first and first[0].lstrip().startswith("["):
        raise InputError(f"{path} is a JSON array.", remedy="write one JSON object a line, without brackets.")
    try:
        record = next(csv.reader(_until_closed(first, lines), delimiter=layout.delimiter, strict=True), [])
    except csv.Error as error:
        raise InputError(f"The header of {path} cannot be read: {error}.", remedy="correct it.") from error
    names = [name.strip() for name in record]
    if not any(names):
        raise InputError(f"The header of {path} names no column.", remedy="name the columns in line 1.")
    return [], names


def _until_closed(first: list[str], lines: TextLines) -> Iterator[str]:
    yield from first
    for _ in range(100):
        yield from lines.take(1)
