"""The layout of an unknown text file: encoding, delimiter, title lines, comments, header or none."""

from __future__ import annotations

import contextlib
import csv
import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from retail_core.errors import InputError
from retail_core.sources.compressed_files import file_kind
from retail_core.sources.detection.column_names import is_known_name
from retail_core.sources.source_options import Layout
from retail_core.sources.text_encoding import SAMPLE_BYTES, first_bytes, probable_encoding

DELIMITERS = (",", ";", "\t", "|", "^", "\x01", "~")
COMMENTS = ("#", "//", "--", "%")
MAX_PREAMBLE = 30
"""Lines before the header that are looked for."""

_RECORDS = 300
_BREAK = re.compile(r"\r\n|\r|\n")
_NUMBER_OR_TIME = re.compile(r"^[-+$€£]?\d[\d.,:/ TZ+-]*$")
_SEPARATOR_LINE = re.compile(r"^sep=(.)$")


@dataclass(frozen=True)
class FileLayout:
    """What was found about the layout of a file.

    Attributes:
        kind: `csv`, `json lines` or `parquet`.
        layout: how the file is read; of Parquet the defaults.
        encoding_guessed: whether the encoding is a statistical guess.
        reasons: what was found and why, as sentences.
    """

    kind: str
    layout: Layout
    encoding_guessed: bool = False
    reasons: tuple[str, ...] = ()


def file_layout(path: Path) -> FileLayout:
    """The layout of a file.

    Raises:
        InputError: the file is missing, empty, in a format that is not read, no text, or without a delimiter.
    """
    if file_kind(path) == "parquet":
        return FileLayout("parquet", Layout())
    data = first_bytes(path)
    encoding = probable_encoding(data)
    if encoding is None:
        raise InputError(f"{path} is not text.", remedy="name a CSV, JSON lines or Parquet file.")
    text = data.decode(encoding, "replace").removeprefix("\ufeff")
    guessed = encoding not in {"utf-8", "utf-16", "utf-32"}
    reasons = (f"encoding {encoding}: " + ("by the frequency of its letters" if guessed else "exact"),)
    lines = _complete_lines(text, is_complete=len(data) < SAMPLE_BYTES)
    base = Layout(encoding=encoding)
    if not lines:
        raise InputError(f"{path} has no lines.", remedy="fetch the file again.")
    start = _comment(lines)
    content = [line for line in lines if line.strip() and not (start and line.startswith(start))]
    if content and content[0].lstrip().startswith(("{", "[")):
        return _json_layout(path, content[0], FileLayout("json lines", base, guessed, reasons))
    layout, layout_reasons = _csv_layout(path, lines, replace(base, comment=start))
    return FileLayout("csv", layout, guessed, reasons + layout_reasons)


def _complete_lines(text: str, *, is_complete: bool) -> list[str]:
    """Lines of `text`; the last one is left out if it may be cut off."""
    lines = _BREAK.split(text)
    if lines and not lines[-1]:
        lines.pop()
    return lines if is_complete or len(lines) < 2 else lines[:-1]


def _json_layout(path: Path, line: str, layout_guess: FileLayout) -> FileLayout:
    if line.lstrip().startswith("["):
        raise InputError(
            f"{path} is a JSON array.",
            remedy="write one JSON object per line, without brackets: jq -c '.[]' FILE > FILE.jsonl",
        )
    return replace(layout_guess, reasons=(*layout_guess.reasons, "JSON lines: the first line begins with {"))


def _comment(lines: list[str]) -> str | None:
    """The beginning of comment lines: a mark at the beginning of some, but not of most lines."""
    for mark in COMMENTS:
        count = sum(line.startswith(mark) for line in lines)
        if count and count * 2 < len(lines) and not lines[-1].startswith(mark):
            return None if _is_value(lines, mark) else mark
    return None


def _is_value(lines: list[str], mark: str) -> bool:
    """Whether lines with `mark` have as many fields as the others, such as orders named `#1001`."""
    for delimiter in DELIMITERS:
        widths = [line.count(delimiter) for line in lines if line.strip()]
        marked = [line.count(delimiter) for line in lines if line.startswith(mark)]
        usual = Counter(widths).most_common(1)[0][0] if widths else 0
        if usual and all(width >= usual for width in marked):
            return True
    return False


def _csv_layout(path: Path, lines: list[str], layout: Layout) -> tuple[Layout, tuple[str, ...]]:
    rows = lines[: MAX_PREAMBLE + _RECORDS]
    match = next((m for line in rows[:3] if (m := _SEPARATOR_LINE.match(line.strip()))), None)
    delimiter, share = (match[1], 1.0) if match else _delimiter(rows, layout.comment)
    if delimiter is None:
        raise InputError(
            f"No delimiter splits the lines of {path} into equally many fields; line 1 is {rows[0][:80]!r}.",
            remedy="name a CSV, TSV, JSON lines or Parquet file; fields of fixed width have to be converted.",
        )
    skip = _preamble(rows, delimiter, layout.comment)
    records = _records(rows[skip:], delimiter, layout.comment)
    header = None if _has_header(records) else _generated_names(records)
    layout_guess = replace(layout, delimiter=delimiter, skip_lines=skip, header=header)
    reasons = [f"delimiter {delimiter!r}: {share:.0%} of the records have equally many fields"]
    reasons += [f"{skip} lines before the header"] if skip else []
    reasons += [f"lines that begin with {layout.comment} are comments"] if layout.comment else []
    reasons += ["no header: its first line has values like the others"] if header else []
    return layout_guess, tuple(reasons)


def _records(lines: list[str], delimiter: str, comment: str | None) -> list[list[str]]:
    used = [line + "\n" for line in lines if not (comment and line.startswith(comment))]
    used = [line for line in used if not _SEPARATOR_LINE.match(line.strip())]
    records: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        records.extend(row for row in csv.reader(used, delimiter=delimiter) if row)
    return records


def _delimiter(lines: list[str], comment: str | None) -> tuple[str | None, float]:
    """The delimiter by which most records have equally many fields, and the share of those records."""
    best: tuple[float, str | None, float] = (0.0, None, 0.0)
    for delimiter in DELIMITERS:
        widths = [len(row) for row in _records(lines, delimiter, comment)]
        if not widths:
            continue
        width, count = Counter(widths).most_common(1)[0]
        if width == 1:
            wider = Counter(width for width in widths if width > 1).most_common(1)
            width, count = wider[0] if wider else (1, 0)
        share = count / len(widths)
        score = share * (1 + math.log(width) / 10)
        if width > 1 and share >= 0.5 and score > best[0]:
            best = (score, delimiter, share)
    return best[1], best[2]


def _preamble(lines: list[str], delimiter: str, comment: str | None) -> int:
    """Lines before the header; comments and a line `sep=` are skipped without being counted."""
    widths = [len(row) for row in _records(lines, delimiter, comment)]
    usual = Counter(width for width in widths if width > 1).most_common(1)
    title_lines = 0
    for number, line in enumerate(lines[:MAX_PREAMBLE] if usual else ()):
        if (comment and line.startswith(comment)) or _SEPARATOR_LINE.match(line.strip()):
            continue
        if _begins_table(line, delimiter, usual[0][0]):
            return number if title_lines else 0
        title_lines += 1
    return 0


def _begins_table(line: str, delimiter: str, width: int) -> bool:
    """Whether a line has the usual number of fields, at least half of them filled."""
    fields = next(iter(_records([line], delimiter, None)), [])
    is_open = line.count('"') % 2 == 1
    return is_open or (len(fields) == width and sum(map(bool, map(str.strip, fields))) * 2 >= width)


def _has_header(records: list[list[str]]) -> bool:
    """Whether the first record names the columns."""
    if not records:
        return True
    first = [cell.strip() for cell in records[0]]
    if any(_NUMBER_OR_TIME.match(cell) for cell in first if cell):
        return sum(is_known_name(cell) for cell in first) * 2 > len(first)
    known_names = sum(is_known_name(cell) for cell in first)
    if known_names or len(records) == 1:
        return True
    columns = list(zip(*(row for row in records[1:] if len(row) == len(first)), strict=True))
    repeated = sum(first[i] in map(str.strip, column) for i, column in enumerate(columns))
    return repeated == 0


def _generated_names(records: list[list[str]]) -> tuple[str, ...]:
    width = Counter(map(len, records)).most_common(1)[0][0]
    return tuple(f"column{number}" for number in range(1, width + 1))
