"""Files that are no text, JSON lines or Parquet: recognised by their first bytes and refused by name."""

from __future__ import annotations

import string
import zipfile
from pathlib import Path

from retail_core.errors import InputError

HEAD_BYTES = 1024
"""Bytes at the beginning of a file that suffice to recognise its format."""

_CSV_OF_WORKBOOK = (
    "save the sheet as CSV (UTF-8) and ingest that; check that long ids and dates stay as they are."
)
_DUCKDB = "export the table, for example with DuckDB: COPY (SELECT ...) TO 'log.parquet'."
_UNPACK = "unpack it; .gz and .zst are read as they are."
_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"BZh", "is packed as bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "is packed as xz", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "is packed as 7z", _UNPACK),
    (b"Rar!\x1a\x07", "is packed as rar", _UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Excel workbook (.xls)", _CSV_OF_WORKBOOK),
    (b"SQLite format 3\x00", "is an SQLite database", _DUCKDB),
    (b"Obj\x01", "is an Avro file", _DUCKDB),
    (b"ORC", "is an ORC file", "convert it to Parquet, for example with pyarrow.orc or Spark."),
    (b"%PDF", "is a PDF document", "export the data themselves as CSV, JSON lines or Parquet."),
    (b"ARROW1", "is an Arrow (Feather) file", "write it as Parquet: pyarrow.parquet.write_table."),
)
_PAGE = "open it in a browser: often it is a login or an error page; download the export again, logged in."
_MARKUP: tuple[tuple[bytes, str, str], ...] = (
    (b"<!doctype html", "is an HTML page, not a data file", _PAGE),
    (b"<html", "is an HTML page, not a data file", _PAGE),
    (b"<?xml", "is an XML file", "export CSV, JSON lines or Parquet instead."),
)
_TEXT = string.printable
_MEMBERS: tuple[tuple[str, str, str], ...] = (
    ("xl/", "is an Excel workbook (.xlsx)", _CSV_OF_WORKBOOK),
    ("content.xml", "is an OpenDocument spreadsheet (.ods)", _CSV_OF_WORKBOOK),
)


def refuse_other_formats(path: Path, head: bytes) -> None:
    """Raise InputError if a file that begins with `head` is in a format that is not read.

    Raises:
        InputError: the message names the format, the remedy the way out.
    """
    if head.startswith(b"PK\x03\x04"):
        raise _zip_error(path)
    markup = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    # Three letters also begin words; in an ORC file a byte follows that no text has.
    by_content = () if head.startswith(b"ORC") and head[3:4].decode("latin-1") in _TEXT else _FORMATS
    for content, formats in ((head, by_content), (markup, _MARKUP)):
        for magic, problem, remedy in formats:
            if content.startswith(magic):
                raise InputError(f"{path} {problem}.", remedy=remedy)


def _zip_error(path: Path) -> InputError:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        names = []
    for prefix, problem, remedy in _MEMBERS:
        if any(name.startswith(prefix) for name in names):
            return InputError(f"{path} {problem}.", remedy=remedy)
    files = [name for name in names if not name.endswith("/")]
    if len(files) > 1:
        shown = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
        return InputError(
            f"{path} is packed as zip, with {len(files)} files ({shown}).",
            remedy="unpack it and name the files of the log; .gz files inside are read as they are.",
        )
    return InputError(f"{path} is packed as zip.", remedy=_UNPACK)
