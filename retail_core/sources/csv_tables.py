"""Lines of CSV as a table of raw records: quickly where they are plain, with care where they are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from retail_core.arrow_compute import arrow_csv
from retail_core.sources.records import RecordParser
from retail_core.sources.rules import refusal, text_problem
from retail_core.sources.source import Lines, Table

_STEP = 1_000


def csv_maker(parser: RecordParser, header: tuple[str, ...]) -> Callable[[list[str], int], Table]:
    """`csv_table` for one file."""

    def make(lines: list[str], base: int) -> Table:
        return csv_table(parser, header, lines, base)

    return make


def csv_table(parser: RecordParser, header: tuple[str, ...], lines: list[str], base: int) -> Table:
    """The records of CSV lines, of which the first is line `base` + 1 of its file."""
    content = "".join(lines)
    columns = _plain_columns(content, header, parser.delimiter, len(lines))
    if columns is None:
        return _careful_table(parser, header, lines, base)
    return Table(
        columns,
        np.arange(base + 1, base + len(lines) + 1, dtype=np.int64),
        lambda row: lines[row].rstrip("\r\n"),
        (),
        base + 1,
        base + len(lines),
        header=header,
    )


def _plain_columns(
    content: str, header: tuple[str, ...], delimiter: str, count: int
) -> dict[str, pa.Array] | None:
    """The columns of lines where nothing is quoted, ragged, blank or undecodable; else None.

    Arrow reads them without holding Python's lock; whatever is not plain is read with care instead.
    """
    if '"' in content or "\x00" in content or len(header) == 1 or not delimiter.isascii():
        return None
    try:
        packed = content.encode()
        table = arrow_csv.read_csv(
            pa.py_buffer(packed),
            arrow_csv.ReadOptions(
                use_threads=False, column_names=header, block_size=min(len(packed) + 1, 1 << 30)
            ),
            arrow_csv.ParseOptions(delimiter=delimiter, quote_char=False, double_quote=False),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
        )
    except (UnicodeEncodeError, pa.ArrowInvalid):
        return None
    if table.num_rows != count:
        return None
    return {name: table.column(name).combine_chunks() for name in header}


def _careful_table(parser: RecordParser, header: tuple[str, ...], lines: list[str], base: int) -> Table:
    records = parser.parse(lines, base)
    starts, spans = np.array(records.starts, dtype=np.int64), records.spans

    def raw(row: int) -> str:
        return "".join(lines[starts[row] : starts[row] + spans[row]]).rstrip("\r\n")

    table = rows_table(records.rows, header, starts + base + 1, raw)
    refused = (*records.refused, *table.refused)
    return replace(table, refused=refused, first=base + 1, last=base + len(lines))


def rows_table(
    rows: Sequence[Sequence[str]], header: tuple[str, ...], lines: Lines, raw: Callable[[int], str]
) -> Table:
    """Split records as a table; those that are not clean text are refused."""
    bad = _unclean(rows)
    refused = tuple(refusal(lines[row], None, rule, None, raw(row)) for row, rule in bad.items())
    kept = np.array([row for row in range(len(rows)) if row not in bad], dtype=np.int64)
    clean = [rows[row] for row in kept] if bad else rows
    values = zip(*clean, strict=True) if clean else ([] for _ in header)
    columns = {name: pa.array(column, pa.string()) for name, column in zip(header, values, strict=True)}
    return Table(columns, lines[kept], lambda row: raw(int(kept[row])), refused, 1, len(rows), header=header)


def _unclean(rows: Sequence[Sequence[str]]) -> dict[int, str]:
    """Records with bytes the encoding could not read, or with NUL bytes, and which of the two."""
    found: dict[int, str] = {}
    for start in range(0, len(rows), _STEP):
        step = rows[start : start + _STEP]
        if text_problem("".join(map("".join, step))):
            rules = {start + at: text_problem("".join(row)) for at, row in enumerate(step)}
            found |= {row: rule for row, rule in rules.items() if rule}
    return found
