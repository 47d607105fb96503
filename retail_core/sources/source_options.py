"""Options of a source: how its files, times and numbers are written, and which rows are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa


@dataclass(frozen=True)
class TimeFormat:
    """How a source writes times.

    Times without an offset are in the source's time zone.

    Attributes:
        kind: `iso` is ISO 8601, also with a trailing " UTC"; `unix` a number since 1970; `strptime` tries
            each of `formats` in turn.
        unit: unit of `unix` times.
        formats: `strptime` formats, `iso`, `unix_s`, `unix_ms` or `unix_us`.
    """

    kind: Literal["iso", "unix", "strptime"] = "iso"
    unit: Literal["s", "ms", "us"] = "s"
    formats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How records are laid out in a text file.

    Attributes:
        kind: `csv` also reads flat JSON lines and Parquet; `jsonl` gives each line to the source as text.
        delimiter: of CSV fields.
        encoding: of text files.
        header: names of the columns of a file without a header line; a first line that names the required
            columns is used as header instead.
        skip_lines: lines before the header.
        comment: beginning of lines that are no records.
        unquoted: whether quotation marks are ordinary characters, as in TSV that never quotes a field.
    """

    kind: Literal["csv", "jsonl"] = "csv"
    delimiter: str = ","
    encoding: str = "utf-8"
    header: tuple[str, ...] | None = None
    skip_lines: int = 0
    comment: str | None = None
    unquoted: bool = False


@dataclass(frozen=True)
class JoinedFile:
    """A second file of a log, of which some columns are joined to each row by a key.

    Attributes:
        name: file name.
        sha256: hash of its content.
        on: pairs of a column of the log and the column of this file that it equals.
        columns: the joined columns, text, shape (rows of this file,).
        row_of_key: row by cleaned key.
    """

    name: str
    sha256: str
    on: tuple[tuple[str, str], ...]
    columns: Mapping[str, pa.Array] = field(repr=False, compare=False)
    row_of_key: Mapping[str, int] = field(repr=False, compare=False)

    def options(self) -> dict[str, object]:
        """What decides the joined values, for the hash of a source's options."""
        return {
            "sha256": self.sha256,
            "on": [list(pair) for pair in self.on],
            "columns": sorted(self.columns),
        }


@dataclass(frozen=True)
class CellList:
    """A column whose cells hold several values.

    Attributes:
        column: raw column.
        separator: between the values of a cell.
        fields: names of the parts of a value, in their order; empty if values have no parts.
        field_separator: between the parts of a value.
        first_of: the cell is the first of these values that it contains, missing without any; empty if the
            cell is a list of values with `fields`.
        strip: characters around a cell and around each value that are left out, such as brackets.
    """

    column: str
    separator: str = ","
    fields: tuple[str, ...] = ()
    field_separator: str = ";"
    first_of: tuple[str, ...] = ()
    strip: str = ""

    def options(self) -> dict[str, object]:
        """The options for the hash of a source's options; `strip`, which came later, only where it is set."""
        return {name: value for name, value in vars(self).items() if name != "strip" or value}

    def values(self, cell: str) -> list[str]:
        """The values of a cell, without white space and `strip` around them."""
        return [value.strip().strip(self.strip) for value in cell.strip(self.strip).split(self.separator)]


@dataclass(frozen=True)
class ColumnValues:
    """A condition on a raw column: its value is one of `values`.

    Attributes:
        column: raw column.
        values: text compared with the whole trimmed value, in which `*` stands for any characters; None
            is a missing value.
    """

    column: str
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class RowRules:
    """Which rows of a file become events, and how rows of one order depend on each other.

    Attributes:
        keep: only rows that meet every condition are used.
        drop: rows that meet any condition are left out.
        fill_key: raw column of the order that the rows of `fill_columns` belong to.
        fill_columns: raw columns that a row inherits from the row before it of the same order.
        refund_if: purchases that meet any condition are refunds.
        negative_refunds: purchases with a negative price or quantity are refunds of the positive amount.
    """

    keep: tuple[ColumnValues, ...] = ()
    drop: tuple[ColumnValues, ...] = ()
    fill_key: str | None = None
    fill_columns: tuple[str, ...] = ()
    refund_if: tuple[ColumnValues, ...] = ()
    negative_refunds: bool = False

    def columns(self) -> tuple[str, ...]:
        """Raw columns that the rules read."""
        conditions = (*self.keep, *self.drop, *self.refund_if)
        filled = (self.fill_key, *self.fill_columns) if self.fill_key else ()
        return tuple(dict.fromkeys([condition.column for condition in conditions] + list(filled)))
