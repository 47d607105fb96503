"""CSV records out of physical lines, such that one broken quotation mark costs one line, not a file."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from retail_core.sources.rules import REMEDIES, Refusal, refusal

_BREAK = re.compile(r"\r\n|\r|\n")
_OPEN = "unexpected end of data"
_STEP = 5_000
_PATIENCE = 200_000
"""Characters an open quotation mark may run on for; beyond it the mark is taken to be the mistake."""


@dataclass
class Records:
    """Records of equal width, the index of each one's first line and how many lines it spans."""

    rows: list[list[str]]
    starts: list[int]
    spans: list[int]
    refused: list[Refusal]


class RecordParser:
    """Splits lines into records of `width` fields.

    `more()` gives further lines of the file (an empty list at its end); they are asked for only while
    a quoted field runs on beyond the lines at hand, and are appended to the caller's list.
    """

    def __init__(self, delimiter: str, width: int, more: Callable[[], list[str]]) -> None:
        self.delimiter = delimiter
        self._width = width
        self._more = more

    def parse(self, lines: list[str], base: int) -> Records:
        """All records of `lines`, the first of which is line `base` + 1 of the file."""
        out, at = Records([], [], [], []), 0
        while at < len(lines):
            at = self._step(lines, at, base, out)
        return out

    def _step(self, lines: list[str], at: int, base: int, out: Records) -> int:
        end = min(at + _STEP, len(lines))
        rows: list[list[str]] = []
        reader = csv.reader(islice(lines, at, end), delimiter=self.delimiter, strict=True)
        error: csv.Error | None = None
        try:
            rows.extend(reader)
        except csv.Error as caught:
            error = caught
        plain = error is None and len(rows) == end - at
        spans = [1] * len(rows) if plain else [_span(row) for row in rows]
        stop = self._misshapen(rows, spans)
        if stop is not None:
            rows, spans, error = rows[:stop], spans[:stop], csv.Error("swallowed lines")
        self._accept(rows, spans, at, lines, base, out)
        at += sum(spans)
        if error is None:
            return at
        if str(error) == _OPEN and (len(lines) > end or self._grow(lines)):
            return self._quoted(lines, at, base, out)
        rule = "too_long" if len(lines[at]) > csv.field_size_limit() else "quotes"
        out.refused.append(refusal(base + at + 1, None, rule, None, lines[at].rstrip("\r\n")))
        return at + 1

    def _misshapen(self, rows: list[list[str]], spans: list[int]) -> int | None:
        """The first record over several lines that is not of the right width: a stray quotation mark."""
        if max(spans, default=1) == 1:
            return None
        pairs = zip(rows, spans, strict=True)
        return next((i for i, (row, span) in enumerate(pairs) if span > 1 and len(row) != self._width), None)

    def _grow(self, lines: list[str]) -> bool:
        further = self._more()
        lines.extend(further)
        return bool(further)

    def _quoted(self, lines: list[str], at: int, base: int, out: Records) -> int:
        """One record that runs over a step's end: read on until it closes, or refuse its first line."""
        end, size = at, 0
        while size < _PATIENCE:
            if end == len(lines) and not self._grow(lines):
                break
            size += len(lines[end])
            end += 1
            if '"' not in lines[end - 1] or end == at + 1:
                continue
            try:
                row = next(csv.reader(lines[at:end], delimiter=self.delimiter, strict=True))
            except csv.Error as error:
                if str(error) == _OPEN:
                    continue
                break
            if len(row) != self._width:
                break
            self._accept([row], [end - at], at, lines, base, out)
            return end
        out.refused.append(refusal(base + at + 1, None, "quotes", None, lines[at].rstrip("\r\n")))
        return at + 1

    def _accept(
        self, rows: list[list[str]], spans: list[int], at: int, lines: list[str], base: int, out: Records
    ) -> None:
        if set(map(len, rows)) <= {self._width} and max(spans, default=1) == 1:
            out.rows.extend(rows)
            out.starts.extend(range(at, at + len(rows)))
            out.spans.extend(spans)
            return
        for row, span in zip(rows, spans, strict=True):
            if len(row) == self._width:
                out.rows.append(row)
                out.starts.append(at)
                out.spans.append(span)
            elif row:
                out.refused.append(self._ragged(row, base + at + 1, lines[at]))
            at += span

    def _ragged(self, row: list[str], line: int, raw: str) -> Refusal:
        value = f"{len(row)} fields where {self._width} are expected"
        return Refusal(line, None, "fields", value, raw.rstrip("\r\n"), REMEDIES["fields"])


def _span(row: list[str]) -> int:
    return 1 + sum(len(_BREAK.findall(text)) for text in row if "\n" in text or "\r" in text)
