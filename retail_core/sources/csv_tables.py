"""CSV lines as tables of raw records.

Lines without quotation marks are parsed by Arrow. All others go through `RecordParser`, for which a broken
quotation mark costs one line, not the rest of the file.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import numpy as np
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.arrow_compute import arrow_csv
from retail_core.sources.raw_table import RawTable
from retail_core.sources.refusals import REMEDIES, Refusal, broken_text_rule, refusal
from retail_core.sources.source_options import Layout

_BREAK = re.compile(r"\r\n|\r|\n")
_UNTERMINATED = "unexpected end of data"
_PARSE_LINES = 5_000
_MAX_QUOTED_CHARACTERS = 200_000
"""Longest quoted field that spans lines; beyond it the opening quotation mark is treated as the error."""
_CHECK_ROWS = 1_000


def csv_table(parser: RecordParser, header: tuple[str, ...], lines: list[str], base: int) -> RawTable:
    """Records of CSV `lines`, of which the first is line `base` + 1 of its file."""
    content = "".join(lines)
    columns = _unquoted_columns(content, header, parser, len(lines))
    if columns is None:
        return _parsed_table(parser, header, lines, base)
    return RawTable(
        columns,
        np.arange(base + 1, base + len(lines) + 1, dtype=np.int64),
        lambda row: lines[row].rstrip("\r\n"),
        (),
        base + 1,
        base + len(lines),
        header=header,
    )


def _unquoted_columns(
    content: str, header: tuple[str, ...], parser: RecordParser, count: int
) -> dict[str, pa.Array] | None:
    """Columns by name; None if any line is quoted, ragged, blank or undecodable.

    Arrow parses without holding Python's global interpreter lock.
    """
    is_quoted = parser.quoting != csv.QUOTE_NONE and '"' in content
    if is_quoted or "\x00" in content or len(header) == 1 or not parser.delimiter.isascii():
        return None
    try:
        encoded = content.encode()
        table = arrow_csv.read_csv(
            pa.py_buffer(encoded),
            arrow_csv.ReadOptions(
                use_threads=False, column_names=header, block_size=min(len(encoded) + 1, 1 << 30)
            ),
            arrow_csv.ParseOptions(delimiter=parser.delimiter, quote_char=False, double_quote=False),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
        )
    except (UnicodeEncodeError, pa.ArrowInvalid):
        return None
    if table.num_rows != count:
        return None
    return {name: table.column(position).combine_chunks() for position, name in enumerate(header)}


def _parsed_table(parser: RecordParser, header: tuple[str, ...], lines: list[str], base: int) -> RawTable:
    records = parser.parse(lines, base)
    starts, spans = np.array(records.starts, dtype=np.int64), records.spans

    def raw(row: int) -> str:
        return "".join(lines[starts[row] : starts[row] + spans[row]]).rstrip("\r\n")

    table = rows_table(records.rows, header, starts + base + 1, raw)
    refused = (*records.refused, *table.refused)
    return replace(table, refused=refused, first=base + 1, last=base + len(lines))


def rows_table(
    rows: Sequence[Sequence[str]], header: tuple[str, ...], lines: IntArray, raw: Callable[[int], str]
) -> RawTable:
    """Table of split records; those with undecodable bytes or NUL are refused."""
    broken = _broken_text_rows(rows)
    refused = tuple(refusal(lines[row], None, rule, None, raw(row)) for row, rule in broken.items())
    accepted = np.array([row for row in range(len(rows)) if row not in broken], dtype=np.int64)
    clean = [rows[row] for row in accepted] if broken else rows
    values = zip(*clean, strict=True) if clean else ([] for _ in header)
    columns = {name: pa.array(column, pa.string()) for name, column in zip(header, values, strict=True)}
    return RawTable(
        columns, lines[accepted], lambda row: raw(int(accepted[row])), refused, 1, len(rows), header=header
    )


def _broken_text_rows(rows: Sequence[Sequence[str]]) -> dict[int, str]:
    """Rule (`nul` or `encoding`) by row number of the records that break one."""
    broken: dict[int, str] = {}
    for start in range(0, len(rows), _CHECK_ROWS):
        batch = rows[start : start + _CHECK_ROWS]
        if broken_text_rule("".join(map("".join, batch))):
            rules = {start + offset: broken_text_rule("".join(row)) for offset, row in enumerate(batch)}
            broken |= {row: rule for row, rule in rules.items() if rule}
    return broken


@dataclass
class Records:
    """Split records of equal width.

    Attributes:
        rows: fields of each record.
        starts: index of each record's first line.
        spans: number of lines of each record.
        refused: lines that are no record.
    """

    rows: list[list[str]]
    starts: list[int]
    spans: list[int]
    refused: list[Refusal]


class RecordParser:
    """Splits lines into records of `width` fields.

    While a quoted field continues beyond the given lines, further ones are read with `read_more()` (an empty
    list at the end of the file) and appended to the caller's list.
    """

    def __init__(self, layout: Layout, width: int, read_more: Callable[[], list[str]]) -> None:
        self.delimiter = layout.delimiter
        self.quoting: Literal[0, 3] = csv.QUOTE_NONE if layout.unquoted else csv.QUOTE_MINIMAL
        self._width = width
        self._read_more = read_more

    def parse(self, lines: list[str], base: int) -> Records:
        """Records of `lines`, of which the first is line `base` + 1 of its file."""
        records, at = Records([], [], [], []), 0
        while at < len(lines):
            at = self._parse_batch(lines, at, base, records)
        return records

    def _parse_batch(self, lines: list[str], at: int, base: int, records: Records) -> int:
        end = min(at + _PARSE_LINES, len(lines))
        rows: list[list[str]] = []
        reader = csv.reader(
            islice(lines, at, end), delimiter=self.delimiter, quoting=self.quoting, strict=True
        )
        error: csv.Error | None = None
        try:
            rows.extend(reader)
        except csv.Error as csv_error:
            error = csv_error
        single_lines = error is None and len(rows) == end - at
        spans = [1] * len(rows) if single_lines else [_span(row) for row in rows]
        stop = self._first_misshapen(rows, spans)
        if stop is not None:
            rows, spans, error = rows[:stop], spans[:stop], csv.Error("swallowed lines")
        self._accept(rows, spans, at, lines, base, records)
        at += sum(spans)
        if error is None:
            return at
        if str(error) == _UNTERMINATED and (len(lines) > end or self._append_lines(lines)):
            return self._parse_spanning(lines, at, base, records)
        rule = "too_long" if len(lines[at]) > csv.field_size_limit() else "quotes"
        records.refused.append(refusal(base + at + 1, None, rule, None, lines[at].rstrip("\r\n")))
        return at + 1

    def _first_misshapen(self, rows: list[list[str]], spans: list[int]) -> int | None:
        """Index of the first record that spans lines and has a wrong width: a stray quotation mark."""
        if max(spans, default=1) == 1:
            return None
        pairs = zip(rows, spans, strict=True)
        return next((i for i, (row, span) in enumerate(pairs) if span > 1 and len(row) != self._width), None)

    def _append_lines(self, lines: list[str]) -> bool:
        further = self._read_more()
        lines.extend(further)
        return bool(further)

    def _parse_spanning(self, lines: list[str], at: int, base: int, records: Records) -> int:
        """Parse one record that continues beyond its batch, or refuse its first line if that fails."""
        end, size = at, 0
        while size < _MAX_QUOTED_CHARACTERS:
            if end == len(lines) and not self._append_lines(lines):
                break
            size += len(lines[end])
            end += 1
            if '"' not in lines[end - 1] or end == at + 1:
                continue
            try:
                row = next(csv.reader(lines[at:end], delimiter=self.delimiter, strict=True))
            except csv.Error as error:
                if str(error) == _UNTERMINATED:
                    continue
                break
            if len(row) != self._width:
                break
            self._accept([row], [end - at], at, lines, base, records)
            return end
        records.refused.append(refusal(base + at + 1, None, "quotes", None, lines[at].rstrip("\r\n")))
        return at + 1

    def _accept(
        self, rows: list[list[str]], spans: list[int], at: int, lines: list[str], base: int, records: Records
    ) -> None:
        if set(map(len, rows)) <= {self._width} and max(spans, default=1) == 1:
            records.rows.extend(rows)
            records.starts.extend(range(at, at + len(rows)))
            records.spans.extend(spans)
            return
        for row, span in zip(rows, spans, strict=True):
            if len(row) == self._width:
                records.rows.append(row)
                records.starts.append(at)
                records.spans.append(span)
            elif row:
                records.refused.append(self._ragged(row, base + at + 1, lines[at]))
            at += span

    def _ragged(self, row: list[str], line: int, raw: str) -> Refusal:
        value = f"{len(row)} fields where {self._width} are expected"
        return Refusal(line, None, "fields", value, raw.rstrip("\r\n"), REMEDIES["fields"])


def _span(row: list[str]) -> int:
    return 1 + sum(len(_BREAK.findall(text)) for text in row if "\n" in text or "\r" in text)
